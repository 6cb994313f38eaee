"""Several workers' counts as one, against one set of counts that saw everything."""

import pickle
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families as read_text

from proxy.telemetry import families
from proxy.telemetry.exposition import SLICE
from proxy.telemetry.families import FAMILIES, Family, Layout
from proxy.telemetry.fleet import EndpointReport, FleetReport
from proxy.telemetry.merged import Merged
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.snapshot import Snapshot
from proxy.telemetry.sources import LookUps, SourceReport
from proxy.telemetry.words import (
    ATTEMPTS,
    CHECKS,
    HINDRANCES,
    NAME_ANSWERS,
    OUTCOMES,
    REASONS,
    STATES,
    VERDICTS,
    WAITED,
    State,
    Verdict,
)

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

PLACES = (("own-eu", "eu"), ("own-cloud", "elsewhere"), ("none", "none"))
LISTENERS = ("edge", "pass")
RULES = ("mainland", "europe", "everyone-else")


def samples(shown: Iterable[Family]) -> Samples:
    """All samples; each must come once."""
    found: Samples = {}
    for _, each in shown:
        for sample in each:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


@dataclass
class Process:
    """What counts in one process, what others know there among it."""

    metrics: Metrics = field(default_factory=Metrics)
    refused: defaultdict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    answers: defaultdict[tuple[str, ...], float] = field(default_factory=lambda: defaultdict(int))
    cache: defaultdict[tuple[str, ...], float] = field(default_factory=lambda: defaultdict(int))
    look_ups: list[int] = field(default_factory=lambda: [0, 0, 0])
    waited: float = 0.0
    replaced: defaultdict[tuple[str, ...], float] = field(default_factory=lambda: defaultdict(int))
    dropped: int = 0
    held: list[object] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.metrics.refused(lambda: [(*labels, count) for labels, count in self.refused.items()])
        self.metrics.log_dropped(lambda: self.dropped)
        self.metrics.sources(
            lambda: SourceReport(
                answers=self.answers.items(),
                cache=self.cache.items(),
                look_ups=[LookUps("directory", (0.1, 1.0), self.look_ups, self.waited)],
                replaced=self.replaced.items(),
            )
        )


Event = Callable[[Process], None]


def of_request(listener: str, place: tuple[str, str], status: int, size: int) -> Event:
    def happen(process: Process) -> None:
        cell = process.metrics.requests(listener, *place)
        cell.status[status] += 1
        cell.to_provider += size
        cell.to_client += 2 * size

    return happen


def of_duration(place: tuple[str, str], which: str, eighths: int) -> Event:
    return lambda process: getattr(process.metrics.timings(*place), which).observe(eighths / 8)


def of_lag(eighths: int) -> Event:
    return lambda process: process.metrics.loop_lag.observe(eighths / 8)


def of_cell(name: str, *labels: str) -> Event:
    def happen(process: Process) -> None:
        getattr(process.metrics, name)(*labels).count += 1

    return happen


def of_decision(rules: tuple[str, ...], count: int, keep: bool) -> Event:
    def happen(process: Process) -> None:
        cell = process.metrics.rules(rules)
        cell.count += count
        if keep:
            process.held.append(cell)

    return happen


def of_others(name: str, labels: tuple[str, ...]) -> Event:
    def happen(process: Process) -> None:
        getattr(process, name)[labels] += 1

    return happen


def of_look_up(bucket: int) -> Event:
    def happen(process: Process) -> None:
        process.look_ups[bucket] += 1
        process.waited += bucket / 4

    return happen


def of_drop(process: Process) -> None:
    process.dropped += 1


def of_policy(process: Process) -> None:
    process.metrics.policy("sha256:00", RULES)


listeners, places = st.sampled_from(LISTENERS), st.sampled_from(PLACES)
providers = places.map(lambda place: place[0])


endpoints = places.map(lambda place: (*place, f"{place[0]}.example:443"))


def placed(name: str, labels: st.SearchStrategy[tuple[str, ...]], *words: str) -> st.SearchStrategy[Event]:
    word = [st.sampled_from(words)] if words else []
    return labels.flatmap(lambda those: cells(name, *map(st.just, those), *word))


def cells(name: str, *words: st.SearchStrategy[str]) -> st.SearchStrategy[Event]:
    return st.builds(of_cell, st.just(name), *words)


EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(of_request, listeners, places, st.integers(0, 5), st.integers(0, 2**40)),
    st.builds(of_duration, places, st.sampled_from(["request", "first_byte", "connect"]), st.integers(0, 1000)),
    cells("connections", listeners),
    cells("denials", listeners, st.sampled_from(REASONS)),
    cells("withdrawn", listeners, providers),
    placed("retries", places),
    placed("attempts", places, *ATTEMPTS),
    placed("hedges", places),
    placed("queue_ended", places, *WAITED),
    placed("name_answers", places, *NAME_ANSWERS),
    placed("breaker_trips", endpoints),
    placed("checks", endpoints, *CHECKS),
    cells("retries_refused", st.sampled_from(HINDRANCES)),
    cells("shed", listeners),
    cells("rate_limited", listeners, st.sampled_from(["uploads", "everyone"])),
    st.builds(of_lag, st.integers(0, 1000)),
    places.flatmap(lambda place: cells("passed", listeners, *map(st.just, place), st.sampled_from(OUTCOMES))),
    st.builds(of_decision, st.sets(st.sampled_from(RULES)).map(tuple), st.integers(0, 9), st.booleans()),
    st.builds(of_others, st.just("refused"), st.tuples(listeners, st.sampled_from(["too-slow", "not-tls"]))),
    st.builds(of_others, st.just("answers"), st.tuples(st.just("jwt"), st.sampled_from(["home", "silent"]))),
    st.builds(of_others, st.just("cache"), st.tuples(st.just("jwt"), st.sampled_from(["hit", "miss"]))),
    st.builds(of_others, st.just("replaced"), st.tuples(st.just("country.mmdb"), st.just("loaded"))),
    st.builds(of_look_up, st.integers(0, 2)),
    st.just(of_drop),
    st.just(of_policy),
)


@given(st.lists(st.tuples(st.integers(0, 3), EVENTS), max_size=60))
def test_workers_together_are_one_that_counted_everything(happened):
    alone, master, workers = Process(), Process(), [Process() for _ in range(3)]
    merged = Merged()
    for which, event in happened:
        event(alone)
        event((*workers, master)[which])
    for number, worker in enumerate(workers):
        merged.take(number, worker.metrics.snapshot())

    assert samples(merged.families(master.metrics.snapshot())) == samples(alone.metrics.families())
    assert merged.snapshot(master.metrics.snapshot()).tables == {
        **{layout.name: {} for layout in FAMILIES},
        **alone.metrics.snapshot().tables,
    }


@given(st.lists(st.tuples(st.integers(0, 2), EVENTS), max_size=40), st.sets(st.integers(0, 2)))
def test_what_a_worker_counted_stays_when_it_is_gone_and_its_gauges_go(happened, dead):
    alone, workers = Process(), [Process() for _ in range(3)]
    merged = Merged()
    for which, event in happened:
        event(alone)
        event(workers[which])
    for number, worker in enumerate(workers):
        merged.take(number, worker.metrics.snapshot())
    for number in dead:
        merged.gone(number)

    together, one = samples(merged.families(Snapshot({}))), samples(alone.metrics.families())
    gauges = {"domicile_connections", "domicile_policy_info"}
    assert {k: v for k, v in together.items() if k[0] not in gauges} == {
        k: v for k, v in one.items() if k[0] not in gauges
    }
    for listener in LISTENERS:
        living = [w.metrics.connections(listener).count for n, w in enumerate(workers) if n not in dead]
        key = ("domicile_connections", frozenset({("listener", listener)}))
        assert together.get(key, 0) == sum(living)


COUNTING = tuple(layout for layout in FAMILIES if layout.counts)


def counters(merged: Merged) -> Samples:
    rising = tuple(layout.name for layout in COUNTING)
    return {key: value for key, value in samples(merged.families(Snapshot({}))).items() if key[0].startswith(rising)}


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["count", "take", "take", "gone", "anew", "forget"]), EVENTS),
        max_size=60,
    )
)
def test_no_counter_ever_falls_or_goes_whatever_workers_do(steps):
    # anew: another process under the number, whose predecessor's end nobody saw. forget: a listener was taken out of
    # the policy, and its door's counts with it.
    merged, workers = Merged(), [Process() for _ in range(3)]
    before = counters(merged)
    for which, step, event in steps:
        event(workers[which])
        if step == "take":
            merged.take(which, pickle.loads(pickle.dumps(workers[which].metrics.snapshot())))
        elif step == "gone":
            merged.gone(which)
            workers[which] = Process()
        elif step == "anew":
            workers[which] = Process()
        elif step == "forget":
            workers[which].refused.clear()
        after = counters(merged)
        assert before.keys() <= after.keys()
        assert all(after[key] >= value for key, value in before.items())
        before = after


def showing(healthy: bool, age: float, digest: str, expiry: float) -> Metrics:
    metrics = Metrics()
    metrics.healthy(lambda: [("own-eu", "eu", healthy)])
    metrics.sources(lambda: SourceReport(key_sets=[(("https://id.example",), age)], databases=[(("mmdb",), age)]))
    metrics.policy(digest)
    metrics.certificates({"edge.pem": expiry})
    return metrics


def test_gauges_join_as_their_families_say():
    merged = Merged()
    merged.take(0, showing(True, 5, "sha256:01", 1.0).snapshot())
    merged.take(1, showing(False, 9, "sha256:02", 2.0).snapshot())
    own = Metrics()
    own.workers(lambda: 2)

    shown = {name: value for (name, _), value in samples(merged.families(own.snapshot())).items()}
    assert shown["domicile_provider_healthy"] == 0
    assert shown["domicile_key_set_age_seconds"] == 9
    assert shown["domicile_geoip_age_seconds"] == 9
    assert shown["domicile_certificate_expiry_timestamp_seconds"] == 1
    assert shown["domicile_workers"] == 2


def looking(state: State, verdict: Verdict | None, rtt: float | None, waiting: int, load: tuple[int, int]) -> Snapshot:
    metrics = Metrics()
    endpoint = EndpointReport("own-eu", "eu", "eu.example:443", state, verdict, rtt)
    metrics.fleet(lambda: FleetReport([endpoint], [("own-eu", "eu", waiting)]))
    metrics.overload(lambda: load)
    return metrics.snapshot()


LOOKS = st.builds(
    looking,
    st.sampled_from(STATES),
    st.none() | st.sampled_from(VERDICTS),
    st.none() | st.integers(1, 64).map(lambda number: number / 1024),
    st.integers(0, 9),
    st.tuples(st.integers(16, 99), st.integers(0, 16)),
)


@given(st.lists(LOOKS, min_size=1, max_size=4))
def test_of_what_workers_see_the_worst_stands_and_the_shortest_way(looks):
    merged = Merged()
    for number, look in enumerate(looks):
        merged.take(number, look)

    shown = samples(merged.families(Metrics().snapshot()))

    def column(family: Layout) -> list[float]:
        return [row[0] for look in looks for row in look.table(family.name).values()]

    def only(name: str, words: tuple[str, ...], label: str) -> list[str]:
        place = {("provider", "own-eu"), ("zone", "eu"), ("endpoint", "eu.example:443")}
        return [word for word in words if shown.get((name, frozenset({*place, (label, word)}))) == 1]

    assert only("domicile_endpoint_state", STATES, "state") == [STATES[int(max(column(families.ENDPOINT_STATE)))]]
    verdicts = column(families.EVIDENCE)
    assert only("domicile_evidence", VERDICTS, "verdict") == ([VERDICTS[int(max(verdicts))]] if verdicts else [])
    rtts = [value for (name, _), value in shown.items() if name == "domicile_check_rtt_seconds"]
    assert rtts == ([min(column(families.CHECK_RTT))] if column(families.CHECK_RTT) else [])
    plain = {name: value for (name, _), value in shown.items()}
    assert plain["domicile_queue_waiting"] == sum(column(families.QUEUE_WAITING))
    assert plain["domicile_concurrency_limit"] == sum(column(families.CONCURRENCY_LIMIT))
    assert plain["domicile_under_way"] == sum(column(families.UNDER_WAY))


def test_of_a_certificate_that_workers_saw_differently_the_first_end_stands():
    merged, own = Merged(), Metrics()
    for worker, seen in enumerate(({"own-eu eu.example:443": 5.0}, {"own-eu eu.example:443": 4.0}, {})):
        metrics = Metrics()
        metrics.certificates({"edge.pem": 9.0})
        metrics.seen_certificates(lambda seen=seen: seen)
        merged.take(worker, metrics.snapshot())

    shown = {dict(labels).get("name"): value for (_, labels), value in samples(merged.families(own.snapshot())).items()}
    assert (shown["edge.pem"], shown["own-eu eu.example:443"]) == (9, 4)


def test_one_policy_is_shown_and_the_masters_first():
    merged = Merged()
    merged.take(0, showing(True, 5, "sha256:01", 1.0).snapshot())
    merged.take(1, showing(True, 5, "sha256:02", 2.0).snapshot())
    own = Metrics()

    def digests() -> list[frozenset[tuple[str, str]]]:
        return [labels for name, labels in samples(merged.families(own.snapshot())) if name == "domicile_policy_info"]

    assert digests() == [frozenset({("digest", "sha256:01")})]
    own.policy("sha256:02")
    assert digests() == [frozenset({("digest", "sha256:02")})]


def test_processor_time_of_the_dead_stays_and_their_memory_goes():
    merged = Merged()
    snapshot = Metrics(worker=True).snapshot()
    merged.take(0, snapshot)
    merged.take(1, snapshot)
    place = frozenset[tuple[str, str]]()
    both = samples(merged.families(Metrics().snapshot()))
    assert both["domicile_worker_processor_seconds_total", place] > 0
    assert both["domicile_worker_resident_bytes", place] > 2 * 2**20

    merged.gone(1)

    one = samples(merged.families(Metrics().snapshot()))
    name = "domicile_worker_processor_seconds_total"
    assert one[name, place] == both[name, place]
    assert one["domicile_worker_resident_bytes", place] == both["domicile_worker_resident_bytes", place] / 2
    merged.gone(0)
    assert "domicile_worker_resident_bytes" not in {name for name, _ in samples(merged.families(Snapshot({})))}


def test_a_scrape_shows_what_was_when_it_began():
    # A worker goes, others report and a reload brings names between its pieces: nothing is doubled, lost or torn.
    merged, processes = Merged(), [Process() for _ in range(2)]
    for number, process in enumerate(processes):
        for provider in range(2 * SLICE):
            of_request("edge", (f"provider-{provider}", "eu"), 2, 1)(process)
            of_duration((f"provider-{provider}", "eu"), "connect", 8)(process)
        merged.take(number, process.metrics.snapshot())
    own = Metrics().snapshot()
    _, quiet = merged.pieces(own, "", [])
    wanted = b"".join(quiet)

    _, parts = merged.pieces(own, "", [])
    text = b""
    for number, part in enumerate(parts):
        text += part
        merged.gone(number % 2)
        of_request(f"listener-{number}", PLACES[0], 2, 1)(processes[1])
        processes[1].metrics.policy(f"sha256:{number}", [f"rule-{number}"])
        merged.take(1, processes[1].metrics.snapshot())

    assert text == wanted
    assert number > 10
    assert "domicile_connect_duration_seconds" in {family.name for family in read_text(text.decode())}


def test_a_snapshot_holds_every_family_and_goes_through_a_pickle():
    snapshot = Metrics(worker=True).snapshot()

    assert set(snapshot.tables) == {layout.name for layout in FAMILIES}
    assert pickle.loads(pickle.dumps(snapshot)) == snapshot
