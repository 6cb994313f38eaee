"""What rows change, against a model that is a list: imports, undone ones, and what is told of them beforehand."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.identity.directory.store import Store, StoreRefused, open_store
from proxy.identity.directory.store_changes import Effect, Staged
from proxy.identity.directory.store_export import residents, stays
from proxy.identity.directory.store_sql import UNDATED

Row = tuple[str, str | None, int]
Change = tuple[str, int, int, str | None]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "directory.db", create=True)
    yield opened
    opened.close()


def stage(staged: Staged, rows: list[Row]) -> None:
    staged.add([(line, who, staged.number(home), at, None) for line, (who, home, at) in enumerate(rows, 1)])


def take(store: Store, rows: list[Row], now: float) -> tuple[Effect, int | None]:
    with Staged(store) as staged:
        stage(staged, rows)
        assert staged.sort(1)[0] == 0
        effect = staged.compare(lambda: now, hold=True)
        return effect, staged.write("import")


@dataclass
class Model:
    """A list of changes: subject, instant, batch, home."""

    changes: list[Change] = field(default_factory=list)

    def home(self, who: str, now: int, without: int = 0) -> str | None:
        came = [each for each in self.changes if each[0] == who and each[1] <= now and each[2] != without]
        return max(came, key=lambda each: each[1:3])[3] if came else None

    def take(self, rows: list[Row], now: int, batch: int) -> list[Change]:
        new = []
        for who, home, at in rows:
            same = [each for each in self.changes if each[:2] == (who, at)]
            if at != UNDATED and (not same or same[-1][3] != home):
                new.append((who, at, batch, home))
        after = Model(self.changes + new)
        new += [(who, now, batch, home) for who, home, at in rows if at == UNDATED and after.home(who, now) != home]
        return new


SUBJECTS = ("a", "b", "c")
HOMES = ("eu", "cn", "us", None)
ROWS = st.dictionaries(
    st.tuples(st.sampled_from(SUBJECTS), st.sampled_from([UNDATED, UNDATED, 1500, 2500, 3500, 4500])),
    st.sampled_from(HOMES),
    max_size=8,
).map(lambda found: [(who, home, at) for (who, at), home in found.items()])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(ROWS, st.booleans()), min_size=1, max_size=5))
def test_imports_and_undone_ones_do_what_a_list_of_changes_does(acts: list[tuple[list[Row], bool]]) -> None:
    model = Model()
    with TemporaryDirectory() as folder:
        store = open_store(Path(folder) / "directory.db", create=True)
        batch = 0
        for ordinal, (rows, undone) in enumerate(acts, 1):
            now = ordinal * 1000
            new = model.take(rows, now, batch + 1)
            before = {who: model.home(who, now) for who in SUBJECTS}
            effect, written = take(store, rows, now / 1000)
            assert (written is None) == (not new)
            model.changes += new
            batch += bool(new)
            assert effect.changes == len(new)
            assert effect.subjects == len({who for who, _, _ in rows})
            assert effect.unchanged == effect.subjects - len({each[0] for each in new})
            told = {(move.was, move.becomes): move.subjects for move in (*effect.moves, *effect.new)}
            came = Counter((before[who], model.home(who, now)) for who in SUBJECTS)
            assert told == {pair: count for pair, count in came.items() if pair[0] != pair[1]}
            later = Counter((model.home(each[0], each[1] - 1), each[3]) for each in new if each[1] > now)
            assert {(move.was, move.becomes): move.subjects for move in effect.ahead} == {
                pair: count for pair, count in later.items() if pair[0] != pair[1]
            }
            if undone and new:
                _undo(store, model, batch, now)
                batch = max(each[2] for each in model.changes)
            _agree(store, model)
        store.close()


def _undo(store: Store, model: Model, batch: int, now: int) -> None:
    back = []
    for who, at, number, home in model.changes:
        if number == batch and (was := model.home(who, at, without=batch)) != home:
            back.append((who, at, batch + 1, was))
    with Staged(store) as staged:
        effect = staged.take_back(batch, lambda: now / 1000)
        assert effect.changes == len(back)
        assert (staged.write("undo") is None) == (not back)
    model.changes += back


def _agree(store: Store, model: Model) -> None:
    for now in (0, 999, 1000, 1499, 1500, 2000, 2499, 2500, 3000, 3500, 4000, 4499, 4500, 5000, 9000):
        told = {who: home for piece in residents(store, now) for who, home in piece}
        assert told == {who: home for who in SUBJECTS if (home := model.home(who, now)) is not None}
        for who in SUBJECTS:
            found = store.standing(who, now)
            assert (None if found is None else found.home) == model.home(who, now)
            ahead = [each[1] for each in model.changes if each[0] == who and each[1] > now]
            assert (None if found is None else found.until) == min(ahead, default=None)
    standing = [(who, at, home) for piece in stays(store) for who, home, at, _ in piece]
    instants = sorted({each[:2] for each in model.changes})
    assert standing == [(who, at, model.home(who, at)) for who, at in instants]
    assert [
        (who, each.effective, each.batch, each.home) for who in SUBJECTS for each in store.history(who, 0)
    ] == sorted(model.changes, key=lambda each: each[:3])


def test_the_same_rows_again_make_no_history(store: Store) -> None:
    rows: list[Row] = [("a", "eu", UNDATED), ("b", "cn", 500), ("b", "eu", 9000)]
    assert take(store, rows, 1.0)[0].changes == 3
    effect, written = take(store, rows, 2.0)
    assert (effect.changes, effect.unchanged, written) == (0, 2, None)
    assert len(store.batches()) == 1


def test_a_row_that_agrees_only_until_another_one_of_the_file_is_a_change(store: Store) -> None:
    take(store, [("a", "eu", 1000)], 1.0)
    # The first alone would change nothing; left out, the second would leave the subject in cn for good.
    effect, _ = take(store, [("a", "eu", 3000), ("a", "cn", 2000)], 4.0)
    assert (effect.changes, effect.unchanged, effect.moves) == (2, 0, ())
    assert [each.home for each in store.history("a", 4000)] == ["eu", "cn", "eu"]


def test_rows_without_and_with_this_very_instant(store: Store) -> None:
    effect, _ = take(store, [("a", "eu", UNDATED), ("a", "cn", 1000)], 1.0)
    assert effect.changes == 2
    assert [(each.effective, each.home) for each in store.history("a", 1000)] == [(999, "eu"), (1000, "cn")]


def test_contradictions_are_found_with_both_lines_and_counted(store: Store) -> None:
    with Staged(store) as staged:
        stage(staged, [("a", "eu", UNDATED), ("b", "eu", UNDATED), ("a", "cn", UNDATED), ("b", "eu", UNDATED)])
        stage_more = [(9, "a", staged.number("us"), UNDATED, None), (8, "b", staged.number("cn"), UNDATED, None)]
        staged.add(stage_more)
        assert staged.sort(2) == (3, [(3, 1), (8, 2)])
    assert store.batches() == []


def test_equal_rows_are_one(store: Store) -> None:
    effect, _ = take(store, [("a", "eu", UNDATED), ("a", "eu", UNDATED)], 1.0)
    assert (effect.rows, effect.subjects, effect.changes) == (2, 1, 1)


def test_a_preview_shows_the_same_and_writes_nothing(store: Store) -> None:
    take(store, [("a", "eu", UNDATED), ("b", "eu", UNDATED)], 1.0)
    rows: list[Row] = [("a", "cn", UNDATED), ("b", "eu", UNDATED), ("c", "us", 9000), ("b", None, 9000)]
    with Staged(store) as staged:
        stage(staged, rows)
        staged.sort(1)
        shown = staged.compare(lambda: 2.0, hold=False)
    assert len(store.batches()) == 1
    assert take(store, rows, 2.0)[0] == shown
    assert (shown.moved, shown.unchanged) == (2, 0)


def test_homes_that_somebody_else_wrote_meanwhile_keep_their_numbers(store: Store) -> None:
    other = open_store(store.path)
    with Staged(store) as staged:
        stage(staged, [("a", "us", UNDATED), ("b", "eu", UNDATED), ("c", "fr", UNDATED)])
        staged.sort(1)
        take(other, [("x", "fr", UNDATED), ("y", "eu", UNDATED)], 1.0)
        effect = staged.compare(lambda: 2.0, hold=True)
        assert {move.becomes: move.subjects for move in effect.new} == {"us": 1, "eu": 1, "fr": 1}
        staged.write("import")
    told = dict(row for piece in residents(store, 2000) for row in piece)
    assert told == {"a": "us", "b": "eu", "c": "fr", "x": "fr", "y": "eu"}
    other.close()


def test_a_clock_behind_the_last_change_is_refused_where_it_would_matter(store: Store) -> None:
    take(store, [("a", "eu", UNDATED)], 10.0)
    with pytest.raises(StoreRefused, match=r"the clock is 1\.000 s behind"):
        take(store, [("a", "cn", UNDATED)], 9.0)
    assert take(store, [("a", "cn", 9_500)], 9.0)[1] == 2
    assert take(store, [("a", "cn", UNDATED)], 10.0)[1] == 3


def test_what_was_corrected_since_stays_when_an_import_is_undone(store: Store) -> None:
    take(store, [("a", "eu", UNDATED), ("b", "eu", UNDATED)], 1.0)
    _, wrong = take(store, [("a", "cn", UNDATED), ("b", "cn", UNDATED), ("c", "cn", UNDATED)], 2.0)
    take(store, [("a", "us", 2000)], 3.0)
    with Staged(store) as staged:
        effect = staged.take_back(wrong or 0, lambda: 4.0)
        assert [(each.was, each.becomes, each.subjects) for each in effect.moves] == [("cn", None, 1), ("cn", "eu", 1)]
        staged.write("undo", reason="wrong list")
    assert dict(row for piece in residents(store, 4000) for row in piece) == {"a": "us", "b": "eu"}
    assert [(each.home, each.state) for each in store.history("b", 4000)] == [
        ("eu", "past"),
        ("cn", "replaced"),
        ("eu", "holds"),
    ]
    assert store.batches()[-1].undoes == wrong


def test_writers_wait_for_each_other_and_not_for_ever(store: Store) -> None:
    other = open_store(store.path)
    other.connection.execute("PRAGMA busy_timeout = 10")
    with Staged(store) as staged:
        stage(staged, [("a", "eu", UNDATED)])
        staged.sort(1)
        staged.compare(lambda: 1.0, hold=True)
        with pytest.raises(StoreRefused, match="locked by another import or set"):
            take(other, [("a", "cn", UNDATED)], 1.0)
    assert take(other, [("a", "cn", UNDATED)], 1.0)[1] == 1
    other.close()
