"""What a directory's answers are worth, and for how long: clocks are moved, the store is a table in memory."""

import asyncio
import logging
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.identity.answers import Home, Invalid, Pending, Silent, Unavailable
from proxy.identity.directory.reader import Entry
from proxy.identity.directory.source import MOMENT, QUEUE, TRIPS
from tests.identity.directory.stores import CACHE, NOW, Asked, asked

MOVES = NOW + 100


def home(name: str = "eu", until: float | None = NOW + CACHE.refresh, changes_at: float | None = None) -> Home:
    return Home(name, "acct", "unknown", until, changes_at)


async def test_the_first_question_waits_and_the_next_does_not() -> None:
    scene = asked({"acct": Entry("eu")})
    first = scene.answer()
    assert isinstance(first, Pending)
    await first.ready
    assert scene.answer() == scene.answer() == home()
    assert scene.reader.asked == ["acct"]
    assert scene.reader.at == [NOW]
    assert (scene.counts.hits, scene.counts.misses, sum(scene.counts.counts)) == (2, 1, 1)


async def test_who_is_not_known_is_silence_with_an_account() -> None:
    scene = asked()
    answer = await scene.settled()
    assert answer == Silent(until=NOW + CACHE.unknown, account=True)
    scene.reader.homes["acct"] = Entry("eu")
    scene.clocks.pass_(CACHE.unknown - 1)
    assert scene.answer() == answer
    scene.clocks.pass_(1)
    assert isinstance(scene.answer(), Pending)
    assert await scene.settled() == home(until=scene.clocks.wall + CACHE.refresh)


async def test_a_home_in_use_is_asked_for_again_beside_requests() -> None:
    scene = asked({"acct": Entry("eu")})
    await scene.settled()
    scene.reader.homes["acct"] = Entry("cn-mainland")
    scene.clocks.pass_(CACHE.refresh - 1)
    assert scene.answer() == home()
    assert len(scene.reader.asked) == 1
    scene.clocks.pass_(1)
    assert scene.answer() == home()
    assert scene.answer() == home(), "nobody waits"
    await asyncio.sleep(0.01)
    assert scene.answer() == home("cn-mainland", scene.clocks.wall + CACHE.refresh)
    assert len(scene.reader.asked) == 2


async def test_a_subject_that_left_is_no_longer_known() -> None:
    scene = asked({"acct": Entry("eu")})
    await scene.settled()
    del scene.reader.homes["acct"]
    scene.clocks.pass_(CACHE.refresh)
    scene.answer()
    await asyncio.sleep(0.01)
    assert isinstance(scene.answer(), Silent)


async def test_a_subject_moves_at_an_instant() -> None:
    scene = asked({"acct": Entry("eu", MOVES)}, cache=replace(CACHE, refresh=300.0))
    assert await scene.settled() == home(until=MOVES, changes_at=MOVES), "no plan outlives the move either"
    scene.reader.homes["acct"] = Entry("cn-mainland")
    scene.clocks.pass_(99.9)
    assert scene.answer() == home(until=MOVES, changes_at=MOVES)
    scene.clocks.pass_(0.1)
    assert isinstance(scene.answer(), Pending)
    assert await scene.settled() == home("cn-mainland", scene.clocks.wall + 300)
    assert scene.reader.at == [NOW, MOVES]


async def test_an_instant_counts_in_an_outage_too() -> None:
    scene = asked({"acct": Entry("eu", MOVES)})
    await scene.settled()
    scene.reader.fault = "refused"
    scene.clocks.pass_(99.9)
    assert await scene.settled() == home(changes_at=MOVES)
    scene.clocks.pass_(0.1)
    assert isinstance(await scene.settled(), Unavailable)


async def test_an_entry_that_says_it_is_over_is_none() -> None:
    scene = asked({"acct": Entry("eu", NOW)})
    assert await scene.settled() == Unavailable("directory", "lookup")
    assert scene.reader.asked == ["acct"], "and is not asked for again and again"


async def test_a_first_home_that_is_dated_ahead_is_not_late() -> None:
    scene = asked({"acct": Entry(None, NOW + 10)})
    assert await scene.settled() == Silent(until=NOW + 10, account=True, changes_at=NOW + 10)
    scene.reader.homes["acct"] = Entry("eu")
    scene.clocks.pass_(10)
    assert await scene.settled() == home(until=NOW + 10 + CACHE.refresh)


async def test_an_outage_is_bridged_up_to_the_age_and_never_beyond() -> None:
    scene = asked({"acct": Entry("eu")})
    await scene.settled()
    scene.reader.fault = "unreachable"
    while scene.clocks.wall < NOW + CACHE.max_age - 1:
        scene.clocks.pass_(1)
        assert await scene.settled() == home()
        await asyncio.sleep(0)
    scene.clocks.pass_(1)
    assert await scene.settled() == Unavailable("directory", "lookup")
    scene.reader.fault = None
    scene.clocks.pass_(MOMENT)
    assert await scene.settled() == home(until=scene.clocks.wall + CACHE.refresh)


async def test_the_age_counts_from_the_question_and_by_a_clock_that_nobody_sets() -> None:
    scene = asked({"acct": Entry("eu")}, cache=replace(CACHE, refresh=300.0))
    scene.reader.held = True
    pending = scene.answer()
    assert isinstance(pending, Pending)
    await asyncio.sleep(0)
    scene.clocks.pass_(10)
    scene.reader.go()
    await pending.ready
    assert isinstance(scene.answer(), Home)
    scene.clocks.wall -= 86400  # set back by a day
    scene.clocks.steady += 289
    assert isinstance(scene.answer(), Home)
    scene.clocks.steady += 1
    assert isinstance(scene.answer(), Pending)
    await scene.settled()


async def test_a_stampede_asks_once() -> None:
    scene = asked({"acct": Entry("eu")})
    scene.reader.held = True
    waiting = [scene.answer() for _ in range(200)]
    assert all(each is waiting[0] and isinstance(each, Pending) for each in waiting)
    scene.reader.go()
    assert await asyncio.gather(*(scene.settled() for _ in range(200))) == [home()] * 200
    assert scene.reader.asked == ["acct"]


async def test_so_many_look_ups_at_once_and_so_many_in_the_queue() -> None:
    scene = asked({f"a{i}": Entry("eu") for i in range(1000)}, lookups=3)
    scene.reader.held = True
    answers = [scene.answer(f"a{i}") for i in range(200)]
    most = 3 * (QUEUE + 1)
    assert [isinstance(each, Pending) for each in answers] == [True] * most + [False] * (200 - most)
    assert answers[-1] == Unavailable("directory", "lookup")
    await asyncio.sleep(0.01)
    assert scene.reader.running == 3
    scene.reader.go()
    found = await asyncio.gather(*(scene.settled(f"a{i}") for i in range(most)))
    assert all(isinstance(each, Home) for each in found)
    assert scene.reader.most == 3


async def test_who_waits_in_the_queue_waits_no_longer_than_the_limit() -> None:
    scene = asked(lookups=1, timeout=0.05)
    scene.reader.held = scene.reader.deaf = True
    waiting = [scene.answer(f"a{i}") for i in range(5)]
    for each in waiting:
        assert isinstance(each, Pending)
        await each.ready
    assert [scene.answer(f"a{i}") for i in range(5)] == [Unavailable("directory", "lookup")] * 5
    assert scene.reader.asked == ["a0"], "the others never had a turn"
    scene.reader.go()
    await asyncio.sleep(0.01)
    assert scene.reader.running == 0


async def test_a_look_up_that_will_not_end_keeps_nobody() -> None:
    scene = asked({"acct": Entry("eu")}, timeout=0.05)
    scene.reader.held = scene.reader.deaf = True
    assert await scene.settled() == Unavailable("directory", "lookup")
    assert scene.reader.running == 1
    scene.reader.go()
    await asyncio.sleep(0.01)
    assert scene.reader.running == 0
    assert scene.answer() == Unavailable("directory", "lookup"), "what came too late is not used"
    scene.clocks.pass_(MOMENT)
    assert await scene.settled() == home(until=scene.clocks.wall + CACHE.refresh)


async def test_a_failure_is_remembered_for_a_moment_and_for_its_key() -> None:
    scene = asked({"acct": Entry("eu"), "other": Entry("eu")})
    scene.reader.fault = "store"
    assert await scene.settled() == Unavailable("directory", "lookup")
    scene.reader.fault = None
    assert scene.answer() == Unavailable("directory", "lookup")
    assert isinstance(await scene.settled("other"), Home)
    assert scene.reader.asked == ["acct", "other"]
    scene.clocks.pass_(MOMENT)
    assert isinstance(await scene.settled(), Home)


async def test_an_outage_does_not_multiply() -> None:
    scene = asked({f"a{i}": Entry("eu") for i in range(1000)})
    scene.reader.fault = "refused"
    for i in range(100):
        assert await scene.settled(f"a{i}") == Unavailable("directory", "lookup")
    assert len(scene.reader.asked) == TRIPS
    scene.clocks.pass_(MOMENT)
    answers = [scene.answer(f"b{i}") for i in range(100)]
    assert [isinstance(each, Pending) for each in answers] == [True] + [False] * 99, "one tries"
    await asyncio.sleep(0.01)
    assert len(scene.reader.asked) == TRIPS + 1
    scene.reader.fault = None
    scene.clocks.pass_(MOMENT)
    assert isinstance(await scene.settled("a500"), Home)
    answers = [scene.answer(f"a{i}") for i in range(100, 200)]
    assert all(isinstance(each, Pending) for each in answers), "it is back for all"
    await asyncio.sleep(0.01)


async def test_an_answer_that_makes_no_sense_is_no_outage() -> None:
    scene = asked({"acct": Entry("eu")})
    scene.reader.fault = "protocol"
    for i in range(TRIPS * 3):
        await scene.settled(f"a{i}")
    assert len(scene.reader.asked) == TRIPS * 3
    scene.reader.fault = None
    assert isinstance(await scene.settled(), Home)


async def test_outage_and_return_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "domicile")
    scene = asked({"acct": Entry("eu")})
    scene.reader.fault = "login"
    for i in range(5):
        await scene.settled(f"someone-{i}")
    scene.reader.fault = None
    scene.clocks.pass_(MOMENT)
    await scene.settled()
    assert [record.getMessage() for record in caplog.records] == [
        "directory cannot be asked: login",
        "directory answers again",
    ]


async def test_a_readers_mistake_is_told_by_type_alone(caplog: pytest.LogCaptureFixture) -> None:
    scene = asked()
    scene.reader.bug = RuntimeError("acct-secret")
    assert await scene.settled("acct-secret") == Unavailable("directory", "lookup")
    assert "RuntimeError" in caplog.text
    assert "acct-secret" not in caplog.text


async def test_made_up_keys_push_no_home_out() -> None:
    scene = asked({"acct": Entry("eu")})
    await scene.settled()
    for i in range(5000):
        await scene.settled(f"made-up-{i}")
    assert scene.answer() == home()
    table = scene.source._table
    assert len(table) <= CACHE.size + CACHE.size // 4


async def test_no_more_homes_are_kept_than_the_policy_says() -> None:
    scene = asked({f"a{i}": Entry("eu") for i in range(3000)})
    for i in range(3000):
        await scene.settled(f"a{i}")
    assert len(scene.source._table) == CACHE.size
    assert scene.answer("a2999") == Home("eu", "a2999", "unknown", NOW + CACHE.refresh)
    assert isinstance(scene.answer("a1"), Pending)
    await asyncio.sleep(0.01)


async def test_who_was_verified_stays_who_is_known() -> None:
    scene = asked({"acct": Entry("eu")})
    verified = Silent("token-subject", "support", source="jwt")
    assert await scene.settled(known=verified) == Home("eu", None, "unknown", NOW + CACHE.refresh)
    assert scene.answer() == home()


async def test_closing_ends_what_waits() -> None:
    scene = asked({"acct": Entry("eu"), "other": Entry("eu")})
    await scene.settled("other")
    scene.reader.held = True
    pending = scene.answer()
    assert isinstance(pending, Pending)
    await asyncio.sleep(0)
    await scene.source.close()
    await pending.ready
    assert scene.answer() == Unavailable("directory", "lookup")
    assert isinstance(scene.answer("other"), Home), "what it knows it still says"
    scene.clocks.pass_(10)
    assert scene.answer("new") == Unavailable("directory", "lookup")
    assert (scene.reader.closed, scene.reader.cancelled, scene.reader.running) == (1, 1, 0)


async def test_a_waiting_client_that_leaves_takes_nothing_with_it() -> None:
    scene = asked({"acct": Entry("eu")})
    scene.reader.held = True

    async def wait() -> None:
        answer = scene.answer()
        assert isinstance(answer, Pending)
        await asyncio.shield(asyncio.ensure_future(answer.ready))

    waiters = [asyncio.create_task(wait()) for _ in range(10)]
    await asyncio.sleep(0.01)
    for waiter in waiters[:9]:
        waiter.cancel()
    scene.reader.go()
    await waiters[9]
    assert scene.answer() == home()
    assert scene.source._flights == {}
    assert scene.source._tasks == set()


def test_a_key_that_cannot_be_looked_up_is_invalid_and_never_asked() -> None:
    scene = asked()
    for key, cause in (("a" * 513, "oversize"), ("é" * 257, "oversize"), ("a\tb", "malformed"), ("a\x7f", "malformed")):
        assert scene.answer(key) == Invalid("directory", cause)
    assert scene.reader.asked == []


Step = tuple[str, float]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("pass"), st.floats(0.1, 200)),
            st.tuples(st.sampled_from(["down", "up", "ask", "move", "leave"]), st.just(0.0)),
        ),
        max_size=40,
    )
)
@settings(max_examples=150, deadline=None)
def test_nothing_is_ever_answered_that_was_not_so_within_the_age(steps: list[Step]) -> None:
    asyncio.run(_walk(steps))


async def _walk(steps: list[Step]) -> None:
    """Against a history of what the store said when: each answer was its answer at most `max_age` ago."""
    scene: Asked = asked({"acct": Entry("h0")})
    history: list[tuple[float, str | None]] = [(scene.clocks.wall, "h0")]
    moves = 0
    for what, seconds in steps:
        if what == "pass":
            scene.clocks.pass_(seconds)
        elif what in ("down", "up"):
            scene.reader.fault = "refused" if what == "down" else None
        elif what == "move":
            moves += 1
            scene.reader.homes["acct"] = Entry(f"h{moves}")
            history.append((scene.clocks.wall, f"h{moves}"))
        elif what == "leave":
            scene.reader.homes.pop("acct", None)
            history.append((scene.clocks.wall, None))
        else:
            answer = await scene.settled()
            await asyncio.sleep(0)
            now = scene.clocks.wall
            ends = [until for until, _ in history[1:]] + [now + 1]
            oldest = CACHE.max_age if isinstance(answer, Home) else CACHE.unknown
            allowed = [said for (_, said), end in zip(history, ends, strict=True) if end > now - oldest]
            if isinstance(answer, Home):
                assert answer.home in allowed
            elif isinstance(answer, Silent):
                assert None in allowed
            else:
                assert isinstance(answer, Unavailable)
    await scene.source.close()
