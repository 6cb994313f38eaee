"""What a decision costs: processor time, under 10, 100 and 1,000 rules, never seen and repeated.

    python -m benchmarks.decide

`never seen` means that no request before had its host, path or client address; in the second column of these its
set of matching rules was not seen before either (an outcome is made), which ends once each set was met.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from statistics import median
from time import process_time

from proxy.policy.countries import COUNTRIES, EEA
from proxy.policy.decide import decide
from proxy.policy.facts import Facts
from proxy.policy.policy import Policy
from proxy.policy.rules import Condition, DataClass, Rule, Term
from proxy.policy.settings import (
    Admin,
    Endpoint,
    GeoIP,
    Limits,
    Log,
    Provider,
    ProviderTimeouts,
    ProviderTls,
    TcpBind,
    Timeouts,
    Zone,
)
from proxy.policy.subject import Subject

_ZONES = (Zone("cn", frozenset({"CN"})), Zone("eu", EEA), Zone("rest", COUNTRIES - EEA - {"CN"}))
_ACTORS = ("subject", "support", "engineer", "unknown")


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of processor time a decision, the median of the rounds."""

    rules: int
    never_seen: float
    never_seen_outcome: float
    repeated: float


def measure(sizes: Sequence[int] = (10, 100, 1000), decisions: int = 2000, rounds: int = 5) -> list[Cost]:
    """The cost under policies of these many rules."""
    return [_measure(size, decisions, rounds) for size in sizes]


def _measure(size: int, decisions: int, rounds: int) -> Cost:
    new, outcomes, repeated = [], [], []
    for turn in range(rounds):
        policy = a_policy(size)
        decide(policy, Facts(time=1e9))  # compiles
        plain = list(_strangers(size, turn, decisions, matching=False))
        for facts in _strangers(size, turn + 1000, len(_ACTORS) * 3 * 8, matching=False):
            decide(policy, facts)  # meets the outcomes, under other names
        new.append(_time(policy, plain, lambda: None))
        epoch = policy.decider.epoch(1e9)
        matching = list(_strangers(size, turn, decisions, matching=True))
        outcomes.append(_time(policy, matching, epoch._outcomes.clear))
        for facts in matching[:200]:
            decide(policy, facts)
        # Facts as each request builds them: equal to earlier ones, and not the same objects.
        again = [facts for _ in range(decisions // 200) for facts in _strangers(size, turn, 200, matching=True)]
        repeated.append(_time(policy, again, lambda: None))
    return Cost(size, median(new), median(outcomes), median(repeated))


def _time(policy: Policy, many: list[Facts], before: Callable[[], None]) -> float:
    before()
    start = process_time()
    for facts in many:
        decide(policy, facts)
    return (process_time() - start) / len(many)


def a_policy(size: int) -> Policy:
    """A policy of this many rules that test every key: a law for each home, the others narrow."""
    rules = [
        Rule(zone.name, Condition(home=frozenset({zone.name})), allow=(Term(zones=frozenset({zone.name})),))
        for zone in _ZONES
    ]
    for i in range(size - len(rules)):
        home = frozenset({_ZONES[i % 3].name})
        forbid = (Term(providers=frozenset({f"p{i % 30}"})),)
        conditions = (
            Condition(home, host=frozenset({f"h{i}.example", f"*.t{i}.example"})),
            Condition(home, path=frozenset({f"/t/{i}/*"}), method=frozenset({"write"})),
            Condition(home, client=frozenset({IPv4Network((i << 16, 24))})),
            Condition(
                home, country=frozenset(sorted(COUNTRIES)[i % 200 : i % 200 + 9]), actor=frozenset({_ACTORS[i % 4]})
            ),
            Condition(home, data_class=frozenset({f"c{i % 10}"}), source=frozenset({"jwt"})),
        )
        unless = Condition(host=frozenset({f"*.u{i}.example"})) if i % 7 == 0 else None
        rules.append(Rule(f"r{i}", conditions[i % 5], unless, forbid=forbid))
    return Policy(
        digest="sha256:",
        zones=_ZONES,
        providers=tuple(_provider(i) for i in range(30)),
        rules=tuple(rules),
        classes=tuple(DataClass(f"c{i}", Condition(path=frozenset({f"/c/{i}/*"}))) for i in range(10)),
        routes=(),
        guarantees=(),
        subject=Subject((), (), (), frozenset(_ACTORS[1:3])),
        geoip=GeoIP(),
        listeners=(),
        limits=Limits(32768, 100, 8192, None, 8, 10000),
        timeouts=Timeouts(10, 60, 75, 3, 30, 60, 30, 30),
        log=Log(Path("log"), False),
        admin=Admin(TcpBind("127.0.0.1", 0)),
    )


def _provider(i: int) -> Provider:
    return Provider(
        f"p{i}",
        f"Operator {i % 7}",
        _ZONES[i % 3].name,
        (Endpoint("https", f"p{i}.example", 443),),
        (),
        "preserve",
        (),
        ProviderTls(),
        ProviderTimeouts(3, 30, 60),
        False,
        None,
    )


def _strangers(size: int, turn: int, count: int, matching: bool) -> Iterator[Facts]:
    """Requests of which no two share host, path or address; `matching` ones run into the rules about these."""
    for i in range(count):
        rule = (i * 7) % size
        yield Facts(
            time=1e9 + i * 1e-3,
            home=_ZONES[i % 3].name,
            country=("CN", "DE", "US", "HK", "BR", "IN", "KR", "RU")[i % 8],
            host=f"x{i}-{turn}.t{rule}.example" if matching else f"x{i}-{turn}.other.example",
            path=f"/t/{rule}/{i}-{turn}" if matching else f"/o/{turn}/{i}",
            method="PUT" if i % 2 else "GET",
            listener="edge",
            client=IPv4Address(
                (rule << 16 if matching else 0xDE000000) + i % 256 + (turn % 256 << 8 if not matching else 0)
            ),
            source="jwt",
            actor=_ACTORS[i % 4],
            ech=False,
        )


def main() -> None:
    print("Microseconds of processor time a decision")
    print(f"{'rules':>6} {'never seen':>12} {'and outcome':>12} {'repeated':>12}")
    for cost in measure():
        times = (cost.never_seen, cost.never_seen_outcome, cost.repeated)
        print(f"{cost.rules:>6} " + " ".join(f"{time * 1e6:>12.2f}" for time in times))


if __name__ == "__main__":
    main()
