"""Only `decide` makes a permit or a denial."""

import ast
import copy
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

import proxy
from proxy.policy.decide import decide
from proxy.policy.decision import Denial, Permit
from proxy.policy.facts import Facts
from tests.policy.truth_table import MODEL

TREE = Path(proxy.__file__).parent
OUTCOMES = {"Permit", "Denial"}


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
    assert TREE / "policy" / "decide.py" in files
    making = {file.relative_to(TREE).as_posix() for file in files if makings(file.read_text())}
    assert making == {"policy/decide.py", "policy/decision.py"}


def outcomes():
    permit = decide(MODEL, Facts(0, home="eu"))
    denial = decide(MODEL, Facts(0))
    assert isinstance(permit, Permit)
    assert isinstance(denial, Denial)
    return permit, denial


@pytest.mark.parametrize("outcome", outcomes(), ids=["permit", "denial"])
def test_none_can_be_made_or_multiplied_elsewhere(outcome):
    fields = {name: getattr(outcome, name) for name in type(outcome).__dataclass_fields__ if name != "mint"}
    with pytest.raises(TypeError):
        type(outcome)(**fields)
    with pytest.raises(TypeError):
        type(outcome)(**fields, mint=object())
    with pytest.raises((TypeError, ValueError)):
        replace(outcome, home="cn-mainland")
    for multiply in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            multiply(outcome)
    with pytest.raises(AttributeError):
        outcome.home = "cn-mainland"
