"""Only `decide` makes a permit or a denial, and only the policy a permit for checks."""

import ast
import copy
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

import proxy
from proxy.policy.decide import decide
from proxy.policy.decision import Denial, Permit, probe_permits
from proxy.policy.facts import Facts
from proxy.policy.health import HealthCheck
from tests.policy.samples import a_policy, a_provider, some_zones
from tests.policy.truth_table import MODEL

TREE = Path(proxy.__file__).parent
OUTCOMES = {"Permit", "Denial", "ProbePermit"}


def makings(source):
    """Where a module calls an outcome's class, under whatever name it has it, or touches what mints one."""
    tree = ast.parse(source)
    names = set(OUTCOMES)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names |= {alias.asname for alias in node.names if alias.name in OUTCOMES and alias.asname}
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name) and node.value.id in names:
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func
            name = (
                called.id if isinstance(called, ast.Name) else called.attr if isinstance(called, ast.Attribute) else ""
            )
            if name in names or (
                name == "__new__" and any(isinstance(a, ast.Name) and a.id in names for a in node.args)
            ):
                found.append((node.lineno, name))
        if isinstance(node, (ast.Name, ast.alias, ast.Attribute)):
            name = getattr(node, "id", None) or getattr(node, "name", None) or getattr(node, "attr", None)
            if name == "_MINT":
                found.append((node.lineno, name))
    return found


def test_the_walk_sees_every_way_to_make_one():
    for source in (
        "Permit(1)",
        "decision.Denial(1)",
        "ProbePermit(1)",
        "from proxy.policy.decision import Permit as P\nP(1)",
        "P = Permit\nP(1)",
        "object.__new__(Permit)",
        "from proxy.policy.decision import _MINT",
        "decision._MINT",
    ):
        assert makings(source), source
    assert not makings("isinstance(found, Permit)\ndef take(permit: Permit) -> Denial | None: ...")


def test_only_decide_makes_one():
    files = sorted(TREE.rglob("*.py"))
    assert TREE / "policy" / "epoch.py" in files
    making = {file.relative_to(TREE).as_posix() for file in files if makings(file.read_text())}
    assert making == {"policy/epoch.py", "policy/decision.py"}


CHECKED = a_provider("checked", "Example Inc", "eu", health=HealthCheck())
UNCHECKED = a_provider("unchecked", "Example Inc", "eu")


def probes(*providers):
    return probe_permits(a_policy(some_zones(eu=("EEA",), elsewhere="*"), providers))


def outcomes():
    permit = decide(MODEL, Facts(0, home="eu"))
    denial = decide(MODEL, Facts(0))
    assert isinstance(permit, Permit)
    assert isinstance(denial, Denial)
    return permit, denial, *probes(CHECKED)


@pytest.mark.parametrize("outcome", outcomes(), ids=["permit", "denial", "probe"])
def test_none_can_be_made_or_multiplied_elsewhere(outcome):
    fields = {name: getattr(outcome, name) for name in type(outcome).__dataclass_fields__ if name != "mint"}
    with pytest.raises(TypeError):
        type(outcome)(**fields)
    with pytest.raises(TypeError):
        type(outcome)(**fields, mint=object())
    for changes in ({}, {"home": "cn-mainland"}, {"provider": UNCHECKED}):
        with pytest.raises((TypeError, ValueError)):
            replace(outcome, **changes)
    for multiply in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            multiply(outcome)
    for name in fields:
        with pytest.raises(AttributeError):
            setattr(outcome, name, fields[name])


def test_checks_are_permitted_where_the_policy_wants_them_whatever_its_rules_say():
    second = replace(CHECKED, name="second")
    assert [each.provider.name for each in probes(CHECKED, UNCHECKED, second)] == ["checked", "second"]
    assert probes(UNCHECKED) == ()


@pytest.mark.parametrize("changes", [{"zone": "elsewhere"}, {"operator": "Other Inc"}, {"health": None}, {"name": "a"}])
def test_a_permit_for_checks_covers_one_provider_as_it_is_defined(changes):
    (permit,) = probes(CHECKED)
    assert permit.covers(CHECKED)
    assert permit.covers(replace(CHECKED)), "an equal definition of a later policy is the same provider"
    assert not permit.covers(replace(CHECKED, **changes))


def test_a_permit_for_checks_is_no_permit_for_traffic():
    (permit,) = probes(CHECKED)
    assert not isinstance(permit, Permit)
    assert not hasattr(permit, "names"), "it keeps no connection alive on reload"
