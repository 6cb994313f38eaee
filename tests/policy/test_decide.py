"""The fast decision against the reference, and the laws that hold whatever the policy."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.policy.decide import decide, looks_at_path, next_change, stated_home
from proxy.policy.decision import Denial, Permit
from proxy.policy.facts import UNKNOWN, Facts
from proxy.policy.routes import preferred
from proxy.policy.rules import Condition, DataClass, Route, Rule, StatedHome
from proxy.policy.subject import Subject
from tests.policy import reference, strategies
from tests.policy.samples import ANY, a_policy, provider, the_same, when, zone

MANY = settings(max_examples=150, deadline=None)


def outcome(policy, facts):
    decision = decide(policy, facts)
    if isinstance(decision, Permit):
        return None, [p.name for p in decision.providers], list(decision.rules), []
    return decision.reason, [], list(decision.rules), list(decision.laws)


def permitted(policy, facts):
    return set(outcome(policy, facts)[1])


@MANY
@given(strategies.policies(), st.lists(strategies.facts, min_size=1, max_size=12))
def test_it_decides_as_the_text_says(policy, many):
    for facts in many:
        expected = reference.decide(policy, facts)
        assert outcome(policy, facts) == expected
        assert outcome(policy, facts) == expected  # and again, from what it remembers


@MANY
@given(strategies.policies(most=2, routes=st.lists(strategies.routes, max_size=4).map(tuple)), strategies.facts)
def test_the_first_route_that_surely_matches_orders_the_permitted_and_adds_nothing(policy, facts):
    policy = the_same(policy, rules=(*policy.rules, Rule("all", Condition(home=frozenset({UNKNOWN, "eu"})), allow=ANY)))
    permit = decide(policy, facts)
    if isinstance(permit, Denial):
        return
    place = reference.route_of(policy, facts)
    found = preferred(policy, permit, facts)
    if place is None:
        assert (found.listed, found.weights, found.rest) == ((), None, permit.providers)
        return
    route = policy.routes[place]
    usable = [p for p in permit.providers if route.only is None or reference.fits(route.only, p, facts.time)]
    order = {each.provider: i for i, each in enumerate(route.prefer)}
    assert found.listed == tuple(sorted((p for p in usable if p.name in order), key=lambda p: order[p.name]))
    assert found.rest == (() if route.strict else tuple(p for p in usable if p.name not in order))
    weights = {each.provider: each.weight for each in route.prefer}
    if found.weights is not None:
        assert found.weights == tuple(weights[p.name] for p in found.listed)
    else:
        assert all(weights[p.name] is None for p in found.listed)


@MANY
@given(strategies.policies(), strategies.facts, st.randoms(use_true_random=False))
def test_the_order_of_rules_never_matters(policy, facts, random):
    shuffled = list(policy.rules)
    random.shuffle(shuffled)
    other = the_same(policy, rules=tuple(shuffled))
    reason, names, applied, laws = outcome(policy, facts)
    other_reason, other_names, other_applied, other_laws = outcome(other, facts)
    assert (reason, names) == (other_reason, other_names)
    assert (set(applied), set(laws)) == (set(other_applied), set(other_laws))


@MANY
@given(strategies.policies(), strategies.rules(), strategies.facts)
def test_once_some_rule_allows_another_rule_only_narrows(policy, rule, facts):
    more = the_same(policy, rules=(*policy.rules, replace(rule, name="added")))
    if outcome(policy, facts)[0] not in ("home-unknown", "no-rule", "no-provider"):
        assert permitted(more, facts) <= permitted(policy, facts)


@MANY
@given(
    strategies.policies(),
    strategies.facts,
    st.sets(st.sampled_from(["host", "path", "method", "listener", "client", "source", "ech", "country"]), min_size=1),
)
def test_not_knowing_never_permits_more(policy, facts, forgotten):
    everything = [*policy.rules, *policy.classes]
    conditions = [c for each in everything for c in (each.when, each.unless) if c is not None]
    if any(c.country is not None and UNKNOWN in c.country for c in conditions):
        forgotten = forgotten - {"country"}
    less = replace(facts, **{key: UNKNOWN if key == "country" else None for key in forgotten})
    assert permitted(policy, less) <= permitted(policy, facts)


@MANY
@given(strategies.policies(), strategies.facts)
def test_says_agree_with_the_outcome(policy, facts):
    decision = decide(policy, facts)
    says = decision.says()
    assert [say.rule for say in says] == [rule.name for rule in policy.rules]
    assert [say.rule for say in says if say.applies] == list(decision.rules)
    granted = {name for say in says for name in say.granted}
    taken = {name for say in says for name in (*say.narrowed, *say.forbade)}
    assert permitted(policy, facts) == granted - taken


def test_one_outcome_is_one_object():
    policy = a_policy(
        strategies.ZONES, strategies.PROVIDERS, [Rule("eu", when(home="eu", path="/a/*"), allow=zone("eu"))]
    )
    permits = {id(decide(policy, Facts(time=i, home="eu", path=f"/a/{i}"))) for i in range(50)}
    assert len(permits) == 1
    denials = {id(decide(policy, Facts(time=i, home="eu", path=f"/b/{i}"))) for i in range(50)}
    assert len(denials) == 1


def test_what_is_remembered_is_bounded():
    laws = [Rule(f"r{i}", when(path=f"/{i}/*"), only=zone("eu")) for i in range(20)]
    policy = a_policy(strategies.ZONES, strategies.PROVIDERS, [*laws, Rule("eu", when(home="eu"), allow=zone("eu"))])
    for i in range(10000):
        decide(policy, Facts(time=0, home="eu", path=f"/{i % 20}/{i}"))
    epoch = policy.decider.epoch(0)
    assert 0 < len(epoch.looks) <= 4096
    decide(policy, Facts(time=0, home="eu", path="/" + "x" * 10000))
    assert all(len(str(key)) < 1000 for key in epoch.looks)


def test_a_permit_ends_where_the_dates_may_change_the_answer():
    law = Rule("eu", when(home="eu"), allow=(*zone("eu"), *zone("rest", until=20.0)), from_=10.0)
    policy = a_policy(strategies.ZONES, strategies.PROVIDERS, [law])
    before, during, after = (decide(policy, Facts(time=t, home="eu")) for t in (9.99, 10.0, 20.0))
    assert isinstance(before, Denial)
    assert before.reason == "no-rule"
    assert (before.until, during.until, after.until) == (10.0, 20.0, None)
    assert [p.name for p in during.providers] == ["own-eu", "own-us"]
    assert [p.name for p in after.providers] == ["own-eu"]
    assert [next_change(policy, t) for t in (0.0, 10.0, 19.0, 20.0)] == [10.0, 20.0, 20.0, None]


def test_a_routes_dates_are_changes_too():
    route = Route(Condition(), only=zone("eu", until=50.0))
    assert next_change(a_policy(routes=(route,)), 0.0) == 50.0


def test_a_permit_covers_its_own_providers_as_they_are_defined():
    policy = a_policy(strategies.ZONES, strategies.PROVIDERS, [Rule("eu", when(home="eu"), allow=zone("eu"))])
    permit = decide(policy, Facts(time=0, home="eu"))
    own_eu = next(p for p in policy.providers if p.name == "own-eu")
    assert permit.covers(own_eu)
    assert not permit.covers(replace(own_eu, plaintext=True))
    assert not permit.covers(policy.providers[0])


def test_looks_at_path_sees_every_place_where_a_path_may_be_tested():
    path, none = when(path="/p/*"), Condition()
    assert not looks_at_path(a_policy(rules=[Rule("r", none, only=ANY)]))
    assert looks_at_path(a_policy(rules=[Rule("r", path, only=ANY)]))
    assert looks_at_path(a_policy(rules=[Rule("r", none, path, only=ANY)]))
    assert looks_at_path(a_policy(classes=(DataClass("c", path),)))
    assert looks_at_path(a_policy(routes=(Route(none, path, prefer=()),)))
    assert looks_at_path(a_policy(subject=Subject((), (), (StatedHome("eu", path),), frozenset())))


def stating(*stated, **changes):
    return a_policy(strategies.ZONES, subject=Subject((), (), stated, frozenset()), **changes)


def test_stated_homes_need_a_sure_match_and_the_first_wins():
    policy = stating(
        StatedHome("eu", when(listener="edge"), when(path="/cn/*")),
        StatedHome("cn", when(listener="edge")),
    )
    assert stated_home(policy, Facts(0, listener="edge", path="/x")) == "eu"
    assert stated_home(policy, Facts(0, listener="edge", path="/cn/x")) == "cn"
    assert stated_home(policy, Facts(0, listener="edge")) == "cn"  # the first is not sure: its `unless` may hold
    assert stated_home(policy, Facts(0, listener="inner", path="/x")) is None
    assert stated_home(policy, Facts(0)) is None
    assert stated_home(a_policy(), Facts(0, listener="edge")) is None


def test_what_the_sources_have_yet_to_say_is_not_known_to_stated_homes():
    facts = Facts(0, home="unknown", actor="unknown", source="none")
    for test in (when(home="unknown"), when(actor="unknown"), when(source="none")):
        assert stated_home(stating(StatedHome("eu", test)), facts) is None
        assert stated_home(stating(StatedHome("eu", Condition(), test)), facts) is None
    by_class = stating(
        StatedHome("eu", when(data_class="payment")), classes=(DataClass("payment", when(path="/pay/*")),)
    )
    assert stated_home(by_class, Facts(0, path="/pay/x")) == "eu"
    assert stated_home(by_class, Facts(0, path="/x")) is None


def test_a_permit_of_another_policy_is_ordered_without_adding_to_it():
    route = Route(Condition(), prefer=())
    laws = [Rule("eu", when(home="eu"), allow=zone("eu", "rest"))]
    old = a_policy(strategies.ZONES, strategies.PROVIDERS, laws)
    new = a_policy(
        strategies.ZONES, strategies.PROVIDERS, [Rule("eu", when(home="eu"), allow=provider("ct"))], routes=(route,)
    )
    permit = decide(old, Facts(0, home="eu"))
    assert set(preferred(new, permit, Facts(0, home="eu")).rest) == set(permit.providers)
