# SPDX-License-Identifier: Apache-2.0
"""The grammar of filters, etags and ports: what services share beyond requests."""

from __future__ import annotations

import pytest
from gcp_sandbox.gateway import etags, filters
from gcp_sandbox.gateway.errors import ApiError, invalid
from gcp_sandbox.gateway.ports import BucketProvider, Ports, SecretReader

BODY = {"name": "one two", "state": "ON", "labels": {"Team.x": "red", "b": "1"}}


def fits(text, **options):
    """Whether BODY fits; fields are compared with = and !=, a bare word is looked for in the name."""

    def restriction(term):
        if not term.field:
            return lambda body: term.value in body["name"]
        if term.operator not in ("=", "!="):
            return None
        return lambda body: (filters.value_at(body, term.field) == term.value) == (term.operator == "=")

    return filters.compile(text, restriction, lambda rest: invalid(f"rest: {rest}"), **options)(BODY)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("  ", True),
        ("state=ON", True),
        ("state = ON", True),
        ("state!=ON", False),
        ('name="one two"', True),
        (r'name="one\ two"', True),
        ('"one two"', True),
        ("two", True),
        ("three", False),
        ("NOT three", True),
        ("-three", True),
        ("-state=ON", False),
        ("state=ON two", True),
        ("state=ON AND NOT two", False),
        ("(state=OFF OR two) AND one", True),
        ("state=ON AND (three OR four)", False),
        ("labels.b=1", True),
        ("NOT (state=ON AND three)", True),
        ("NOTE", False),
    ],
)
def test_a_filter(text, expected):
    assert fits(text) is expected


def test_or_binds_more_tightly_than_and_unless_a_service_has_it_otherwise():
    text = "state=ON OR three AND four"
    assert fits(text) is False  # (ON or three) and four
    assert fits(text, or_first=False) is True  # ON or (three and four)


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("state>ON", "state>ON"),
        ("state=ON AND", ""),
        ("state=ON )", ")"),
        ("(state=ON", ""),
        ("state=", "state="),
        ("AND two", "AND two"),
        ("OR", "OR"),
        ('"open', '"open'),
    ],
)
def test_an_unreadable_filter_is_refused_with_its_rest(text, rest):
    with pytest.raises(ApiError) as failure:
        fits(text)
    assert failure.value.message == f"rest: {rest}"


@pytest.mark.parametrize("text", ["one AND two", "one two", "one OR two", "NOT one", "-one"])
def test_a_service_without_words_takes_one_restriction(text):
    assert fits("one", words=()) is True
    with pytest.raises(ApiError):
        fits(text, words=())


def test_a_service_with_and_only():
    assert fits("one AND two", words=("AND",)) is True
    assert fits("one two", words=("AND",)) is True
    with pytest.raises(ApiError):
        fits("one OR two", words=("AND",))


def test_fields_and_wildcards():
    assert filters.value_at(BODY, "labels.b") == "1"
    assert filters.value_at(BODY, "LABELS.B", any_case=True) == "1"
    assert filters.value_at(BODY, "labels.b.c") is None and filters.value_at(BODY, "none.b") is None
    assert filters.wildcard("a*c").fullmatch("a.b\nc") and not filters.wildcard("a.c").fullmatch("abc")
    assert filters.wildcard("A*", any_case=True).fullmatch("abc")


def test_etags_match_whatever_shells_and_encoders_did_to_them():
    assert etags.matches(None, '"abc"') and etags.matches("", '"abc"')
    assert etags.matches("abc", '"abc"') and etags.matches('"abc"', '"abc"')
    assert etags.matches("a-b_c", "a+b/c==")
    assert not etags.matches("abd", '"abc"')


def test_a_digest_changes_with_the_content_and_not_with_its_order():
    assert etags.digest({"a": 1, "b": [2]}) == etags.digest({"b": [2], "a": 1}) != etags.digest({"a": 1, "b": [3]})


def test_a_port_that_no_service_offers_is_a_501():
    ports = Ports()
    reader = object()
    ports.offer(SecretReader, reader)
    assert ports.get(SecretReader) is reader
    with pytest.raises(ApiError, match="BucketProvider") as failure:
        ports.get(BucketProvider)
    assert failure.value.code == 501
