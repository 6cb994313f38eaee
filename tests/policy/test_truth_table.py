"""Each line of the truth table, by the fast decision, by the reference and by `explain`."""

import pytest

from proxy.policy.decide import decide
from proxy.policy.decision import Permit
from proxy.policy.explain import explain
from tests.policy import reference
from tests.policy.truth_table import TABLE


def in_words(reason, permitted, laws):
    if reason is None:
        return " ".join(["permit", *permitted])
    return f"{reason}: {' '.join(laws)}" if laws else reason


@pytest.mark.parametrize(("situation", "policy", "facts", "expected"), TABLE, ids=[line[0] for line in TABLE])
def test_a_line(situation, policy, facts, expected):
    decision = decide(policy, facts)
    if isinstance(decision, Permit):
        outcome = None, [provider.name for provider in decision.providers], []
    else:
        outcome = decision.reason, [], decision.laws
    assert in_words(*outcome) == expected
    reason, permitted, _, laws = reference.decide(policy, facts)
    assert in_words(reason, permitted, laws) == expected
    explained = explain(policy, facts)
    assert in_words(explained.reason, explained.permitted, explained.laws) == expected
    assert explained.outcome == ("permit" if expected.startswith("permit") else "denial")
    assert all((say.why_not is None) == say.applies for say in explained.says)


def test_the_table_is_long_and_says_each_thing_once():
    assert len(TABLE) >= 60
    assert len({line[0] for line in TABLE}) == len(TABLE)
    reasons = {line[3].split(":")[0].split()[0] for line in TABLE}
    assert reasons == {"permit", "no-zone", "home-unknown", "no-rule", "no-provider", "conflict", "forbidden"}


def test_the_first_authority_that_the_laws_name_is_the_denials():
    named = {line[0]: line for line in TABLE}
    for situation, authority in [
        ("the corridor is stopped whole", "https://pipc.example"),
        ("British secrets are to be in two places", "https://cnil.example"),
        ("two laws that a date has set against each other", "https://nhs.example"),
        ("support abroad writes", None),
    ]:
        _, policy, facts, _ = named[situation]
        assert decide(policy, facts).authority == authority
