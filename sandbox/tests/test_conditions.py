# SPDX-License-Identifier: Apache-2.0
"""Conditions of bindings: the examples of IAM's documentation, and expressions that it refuses."""

import datetime

import pytest
from gcp_sandbox.gateway import conditions

NOW = datetime.datetime(2026, 11, 20, 15, 30, tzinfo=datetime.UTC)  # a Friday
CONTEXT = {
    "resource": {
        "name": "projects/_/buckets/models/objects/prod/run/1",
        "type": "storage.googleapis.com/Object",
        "service": "storage.googleapis.com",
    },
    "request": {"time": NOW},
    "api": {"storage.googleapis.com/objectListPrefix": "prod/"},
}


@pytest.mark.parametrize(
    "expression, expected",
    [
        ('request.time < timestamp("2027-01-01T00:00:00Z")', True),
        ('request.time > timestamp("2027-01-01T00:00:00Z")', False),
        ('request.time < timestamp("2026-11-20T15:00:00Z") + duration("1h")', True),
        ('request.time.getHours("Europe/Berlin") == 16', True),
        ('request.time.getDayOfWeek("UTC") >= 1 && request.time.getDayOfWeek("UTC") <= 5', True),
        ('resource.name.startsWith("projects/_/buckets/models/objects/prod/")', True),
        ("resource.name.startsWith('projects/_/buckets/models/objects/dev/')", False),
        ('resource.name.endsWith("/1")', True),
        ('resource.type == "storage.googleapis.com/Object" && resource.service != "run.googleapis.com"', True),
        ('!(resource.type == "storage.googleapis.com/Bucket") || false', True),
        ('resource.type != "storage.googleapis.com/Object" || resource.name.contains("/prod/")', True),
        ('resource.name.extract("objects/{stage}/") == "prod"', True),
        ('resource.name.extract("secrets/{name}/") == ""', True),
        ('api.getAttribute("storage.googleapis.com/objectListPrefix", "").startsWith("prod/")', True),
        ('api.getAttribute("other", "none") == "none"', True),
        ('resource.service in ["storage.googleapis.com", "run.googleapis.com"]', True),
        ('resource.name.matches("models/objects/(prod|stage)/")', True),
        ('"a" == "a" ? true : false', True),
        ("1 + 2 * 3 == 7", True),
        ('resource.name + "x"', False),  # no boolean
        ("resource.name < 3", False),  # an error counts as false
    ],
)
def test_evaluates(expression, expected):
    assert conditions.evaluate(expression, CONTEXT) is expected


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "resource.name.startsWith(",
        'resource.nome == "x"',
        'resource.name == "x" &&',
        "resourcename",
        'resource.name.frobnicate("x")',
        "now() > 3",
        'resource.name == "unclosed',
        "true false",
        "true @ false",
    ],
)
def test_refuses(expression):
    with pytest.raises(conditions.InvalidExpression):
        conditions.check(expression)
    assert conditions.evaluate(expression, CONTEXT) is False
