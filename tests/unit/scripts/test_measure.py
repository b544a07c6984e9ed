# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of `make measure`, with figures that no machine has made."""

from __future__ import annotations

from collections import Counter

import pytest
from ansible_collections.mlplatform.gcp.scripts import measure


def run(seconds=4.0, processor=3.0, requests=30, changed=0):
    return measure.Run(seconds, processor, Counter(run=requests), changed)


def test_a_spread_is_least_median_and_most():
    assert measure.Spread.of([3, 1, 2, 9, 4]) == measure.Spread(1, 3, 9)
    assert measure.Spread.of([1, 2]) == measure.Spread(1, 1.5, 2)


def test_runs_of_several_deployments_are_shared_by_them():
    found = measure.spreads([run(40, 50, 200), run(60, 70, 400)], share=20)
    assert found["seconds"] == measure.Spread(2, 2.5, 3)
    assert found["processor seconds"] == measure.Spread(2.5, 3, 3.5)
    assert found["requests"] == measure.Spread(10, 15, 20)


def test_a_table_of_one_checkout_has_no_ratio():
    text = measure.table("no-op", {"this": [run()]})
    assert "ratio" not in text
    assert text.splitlines()[-1].split() == ["this", *["4.00"] * 3, *["3.00"] * 3, *["30.00"] * 3]


def test_a_table_of_two_ends_with_the_ratios_of_the_medians():
    ours = [run(4, 2, 36), run(5, 3, 36), run(99, 4, 36)]
    other = [run(10, 6, 37), run(10, 6, 37), run(1, 6, 37)]
    text = measure.table("no-op", {"this": ours, "the other": other})
    assert text.splitlines()[-1].split() == ["ratio", "of", "the", "medians", "0.50", "0.50", "0.97"]


def test_there_is_no_ratio_to_nothing():
    assert measure.ratio(3, 0) == "-"


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ([run(requests=15)], []),
        ([run(requests=15, seconds=10_000, processor=10_000)], []),
        ([run(requests=16)], ["16 requests for 5 resources: at most 15 (16 run)"]),
        ([run(requests=3), run(requests=3, changed=2)], ["changed=2 where nothing was to change"]),
    ],
)
def test_requests_and_changes_are_problems_and_seconds_are_not(runs, words):
    assert measure.problems(runs, Counter(buckets=2, secrets=3)) == words


def test_an_inventory_has_as_many_deployments_as_it_should():
    hosts = measure.inventory("p", 20)["all"]["hosts"]
    assert len(hosts) == 20
    assert measure.inventory("p", 20)["all"]["vars"]["gcp_project"] == "p"
