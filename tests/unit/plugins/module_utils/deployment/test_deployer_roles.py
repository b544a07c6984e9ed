# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import functools
import importlib.util
import itertools
import pathlib
import random
import shlex

import pytest
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment import permissions
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment._predefined_roles import ROLES
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.deployer_roles import (
    RoleSet,
    commands,
    member,
    smallest,
)
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.targets import TARGETS as REGISTRY

TARGETS = {name: target.permissions for name, target in REGISTRY.items()}
ROOT = pathlib.Path(__file__).resolve().parents[5]
OFFERS = {
    "roles/a.small": (2, "a.x a.y"),
    "roles/a.large": (9, "a.x a.y a.z"),
    "roles/b.one": (4, "b.x"),
    "roles/b.two": (4, "b.x"),
    "roles/ab.both": (50, "a.x b.x"),
}


@pytest.mark.parametrize(
    ("wanted", "roles", "excess"),
    [
        ([], (), 0),
        (["a.x"], ("roles/a.small",), 1),  # the least excess
        (["a.x", "a.z"], ("roles/a.large",), 7),
        (["b.x"], ("roles/b.one",), 3),  # the first by name
        (["a.x", "b.x"], ("roles/ab.both",), 48),  # one role before two with less excess
        (["a.y", "b.x"], ("roles/a.small", "roles/b.one"), 4),
        (["a.x", "a.z", "b.x"], ("roles/a.large", "roles/b.one"), 10),
    ],
)
def test_takes_the_fewest_roles_with_the_least_excess(wanted, roles, excess):
    assert smallest(wanted, offers=OFFERS) == RoleSet(roles, (), excess)


def test_a_granted_permission_needs_no_role():
    assert smallest(["a.x", "a.z", "b.x"], ["a.x", "a.z"], offers=OFFERS).roles == ("roles/b.one",)


def test_a_permission_of_no_role_is_uncovered():
    assert smallest(["c.y", "a.y", "c.x"], offers=OFFERS) == RoleSet(("roles/a.small",), ("c.x", "c.y"), 1)


def by_trying_all(wanted, offers):
    """The answer by its definition."""
    held = {name: set(text.split()) & wanted for name, (_size, text) in offers.items()}
    reachable = set().union(*held.values())
    names = sorted(name for name in held if held[name])
    for count in range(len(names) + 1):
        found = [
            (sum(offers[name][0] - len(held[name]) for name in chosen), chosen)
            for chosen in itertools.combinations(names, count)
            if set().union(*(held[name] for name in chosen)) == reachable
        ]
        if found:
            excess, roles = min(found)
            return RoleSet(roles, tuple(sorted(wanted - reachable)), excess)
    raise AssertionError


@pytest.mark.parametrize("seed", range(60))
def test_is_exact(seed):
    chance = random.Random(seed)
    names = [f"s.p{number}" for number in range(chance.randint(1, 12))]
    offers = {}
    for number in range(chance.randint(1, 10)):
        held = chance.sample(names, chance.randint(1, min(5, len(names))))
        offers[f"roles/r{number}"] = (len(held) + chance.randint(0, 3), " ".join(held))
    wanted = set(chance.sample(names, chance.randint(1, len(names))))
    assert smallest(wanted, offers=offers) == by_trying_all(wanted, offers)


def test_the_order_of_the_input_does_not_matter():
    wanted = list(permissions.needed("deploy", TARGETS["cloudrun"], iap=True))
    expected = smallest(wanted)
    backwards = dict(reversed(ROLES.items()))
    assert smallest(reversed(wanted), offers=backwards) == expected


@pytest.mark.parametrize("action", permissions.ACTIONS)
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_the_roles_of_a_deployer_hold_what_it_needs_and_none_can_be_left_out(action, target):
    needed = set(permissions.needed(action, target, iap=True, custom_client=True, retires=tuple(TARGETS.values())))
    found = smallest(needed)
    held = [set(ROLES[name][1].split()) for name in found.roles]
    assert found.uncovered == ()
    assert set().union(*held) >= needed
    for left_out in range(len(held)):
        assert not needed <= set().union(*held[:left_out], *held[left_out + 1 :])


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_one_missing_role_is_the_answer(target):
    needed = permissions.needed("deploy", target, iap=True)
    roles = smallest(needed).roles
    for role in roles:
        granted = itertools.chain(*(ROLES[name][1].split() for name in roles if name != role))
        assert smallest(needed, granted).roles == (role,)


@pytest.mark.parametrize(
    ("email", "expected"),
    [
        ("d@p.iam.gserviceaccount.com", "serviceAccount:d@p.iam.gserviceaccount.com"),
        ("a@example.com", "user:a@example.com"),
        ("", "MEMBER"),
        (None, "MEMBER"),
    ],
)
def test_a_caller_is_a_member(email, expected):
    assert member(email) == expected


def test_commands_are_complete():
    role_set = RoleSet(("roles/run.admin",), ("x.y.z", "x.y.a"), 0)
    assert commands("my-project", "serviceAccount:d@p.iam.gserviceaccount.com", role_set) == [
        "gcloud projects add-iam-policy-binding my-project --member=serviceAccount:d@p.iam.gserviceaccount.com"
        " --role=roles/run.admin --condition=None",
        "gcloud iam roles create mlflowDeployer --project=my-project '--title=MLflow deployer'"
        " --permissions=x.y.z,x.y.a",
        "gcloud projects add-iam-policy-binding my-project --member=serviceAccount:d@p.iam.gserviceaccount.com"
        " --role=projects/my-project/roles/mlflowDeployer --condition=None",
    ]
    assert commands("my-project", "user:a@example.com", RoleSet()) == []


def test_commands_can_be_pasted_into_a_shell():
    pool = "principalSet://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/attribute.x/it's $1"
    (line,) = commands("p", pool, RoleSet(("roles/run.admin",)))
    assert shlex.split(line)[4] == f"--member={pool}"


@functools.cache
def script():
    """The script as a module; its name is that of the module of permissions."""
    spec = importlib.util.spec_from_file_location("permissions_script", ROOT / "scripts" / "permissions.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date():
    assert script().main(["--check"]) == 0, "run scripts/permissions.py"


def test_an_outdated_page_is_noticed(tmp_path, monkeypatch, capsys):
    page = tmp_path / "permissions.md"
    monkeypatch.setattr(script(), "ROOT", tmp_path)
    monkeypatch.setattr(script(), "PAGE", page)
    assert script().main(["--check"]) == 1
    page.write_text("older\n")
    assert script().main(["--check"]) == 1
    assert "permissions.md is out of date" in capsys.readouterr().out
    assert page.read_text() == "older\n"
    assert script().main([]) == 0
    assert script().main(["--check"]) == 0


def test_the_page_has_every_command():
    text = script().PAGE.read_text()
    for action, target in itertools.product(permissions.ACTIONS, TARGETS.values()):
        for command in commands("PROJECT", "MEMBER", smallest(permissions.needed(action, target, iap=True))):
            assert f"\n{command}\n" in text


def test_the_predefined_roles_are_those_of_google():
    if not script().SOURCE.is_file():
        pytest.skip("../shared/iam/roles.json does not exist: Google's roles are compared where it is")
    assert script().module() == script().DATA.read_text(), "run scripts/permissions.py --update"


@pytest.mark.parametrize("name", ROLES)
def test_no_role_is_basic_or_an_agent_of_google(name):
    assert name.count(".") >= 1
    assert not name.lower().endswith("serviceagent")
