"""The parts without sockets: deadlines, and what is told at which of them."""

from dataclasses import dataclass

import hypothesis.strategies as st
from hypothesis import given

from proxy.tcp.deadlines import PERIOD, Deadlines


@dataclass(eq=False)
class Item:
    slot: int | None = None


TIMES = st.floats(0, 100, allow_nan=False)


@given(st.lists(TIMES, min_size=1), st.lists(st.floats(0, 1), min_size=1))
def test_each_is_due_once_and_never_early(whens: list[float], steps: list[float]) -> None:
    deadlines: Deadlines[Item] = Deadlines(0.0)
    items = {Item(): when for when in whens}
    for item, when in items.items():
        deadlines.put(item, when)
    now, seen = 0.0, set()
    for step in [*steps, 200.0]:
        now += step
        for item in deadlines.due(now):
            assert item not in seen
            assert items[item] <= now
            assert item.slot is None
            seen.add(item)
        assert all(item in seen or items[item] > now - 2 * PERIOD for item in items)
    assert seen == set(items)


@given(st.lists(st.tuples(st.integers(0, 4), st.one_of(st.none(), TIMES)), max_size=30))
def test_the_last_word_counts(words: list[tuple[int, float | None]]) -> None:
    deadlines: Deadlines[Item] = Deadlines(0.0)
    items = [Item() for _ in range(5)]
    last: dict[int, float | None] = {}
    for number, when in words:
        if when is None:
            deadlines.drop(items[number])
        else:
            deadlines.put(items[number], when)
        last[number] = when
    expected = {items[number] for number, when in last.items() if when is not None}
    assert set(deadlines.due(1000.0)) == expected
    assert list(deadlines.due(2000.0)) == []
    assert not deadlines._slots


def test_what_is_late_already_is_due_at_the_next_look() -> None:
    deadlines: Deadlines[Item] = Deadlines(50.0)
    deadlines.due(50.0)
    late = Item()
    deadlines.put(late, 10.0)
    assert list(deadlines.due(50.0 + PERIOD)) == [late]
