"""The statements of `store_changes`: no value is ever put into their text, only names of ours and numbers."""
# ruff: noqa: S608

UNDATED = -1
"""The instant of a row that holds from whenever it is written."""

NOWHERE = 0
"""The number of no home."""

TABLES = """
CREATE TEMP TABLE incoming (
    line INTEGER PRIMARY KEY, subject TEXT, home INTEGER, effective INTEGER DEFAULT -1, reason TEXT
);
CREATE TEMP TABLE sorted (
    subject TEXT NOT NULL, effective INTEGER NOT NULL, home INTEGER NOT NULL, reason TEXT, line INTEGER NOT NULL,
    PRIMARY KEY (subject, effective)
) WITHOUT ROWID;
CREATE TEMP TABLE changing (
    subject TEXT NOT NULL, effective INTEGER NOT NULL, home INTEGER NOT NULL, reason TEXT,
    PRIMARY KEY (subject, effective)
) WITHOUT ROWID;
"""

# Where the subject of row `r` lives at :now by the store alone. One seek.
STORED = """coalesce((
    SELECT c.home FROM main.changes c WHERE c.subject = r.subject AND c.effective <= {until}
    ORDER BY c.effective DESC, c.batch DESC LIMIT 1), 0)"""

# The same with what is about to be written, which is the last word on its instants.
BOTH = """coalesce((
    SELECT home FROM (
        SELECT * FROM (
            SELECT c.home AS home, c.effective AS effective, 0 AS late FROM main.changes c
            WHERE c.subject = r.subject AND c.effective <= {until} ORDER BY c.effective DESC, c.batch DESC LIMIT 1)
        UNION ALL
        SELECT * FROM (
            SELECT g.home, g.effective, 1 FROM temp.changing g
            WHERE g.subject = r.subject AND g.effective <= {until} ORDER BY g.effective DESC LIMIT 1)
    ) ORDER BY effective DESC, late DESC LIMIT 1), 0)"""

# `LIMIT -1` keeps SQLite from merging the inner query into the outer one, where `was` would be looked up twice.
CHANGE_UNDATED = """
INSERT INTO temp.changing SELECT subject, :now, home, reason FROM (
    SELECT r.subject, r.home, r.reason, {was} AS was FROM temp.sorted r WHERE r.effective < 0 LIMIT -1
) WHERE tally(was, home)"""
CHANGE_UNDATED_ONLY = CHANGE_UNDATED.format(was=STORED.format(until=":now"))
CHANGE_DATED = """
INSERT INTO temp.changing SELECT r.subject, r.effective, r.home, r.reason FROM temp.sorted r
WHERE r.effective >= 0 AND r.home IS NOT (
    SELECT c.home FROM main.changes c WHERE c.subject = r.subject AND c.effective = r.effective
    ORDER BY c.batch DESC LIMIT 1)"""
CHANGE_BACK = f"""
INSERT INTO temp.changing SELECT subject, effective, was, NULL FROM (
    SELECT r.subject, r.effective, r.home, coalesce((
        SELECT c.home FROM main.changes c
        WHERE c.subject = r.subject AND c.effective <= r.effective AND c.batch <> :batch
        ORDER BY c.effective DESC, c.batch DESC LIMIT 1), {NOWHERE}) AS was
    FROM main.changes r
    WHERE r.batch = :batch AND NOT EXISTS (
        SELECT 1 FROM main.changes l
        WHERE l.subject = r.subject AND l.effective = r.effective AND l.batch > :batch)
    LIMIT -1
) WHERE was <> home"""
TALLY_NOW = f"""
SELECT count(*) FROM (
    SELECT {STORED.format(until=":now")} AS was, {BOTH.format(until=":now")} AS becomes
    FROM (SELECT DISTINCT subject FROM temp.changing WHERE effective <= :now) r LIMIT -1
) WHERE tally(was, becomes)"""
TALLY_AHEAD = f"""
SELECT count(*) FROM (
    SELECT {BOTH.format(until="r.effective - 1")} AS was, r.home AS becomes, r.effective AS effective
    FROM temp.changing r WHERE r.effective > :now LIMIT -1
) WHERE tally_ahead(was, becomes, effective)"""
TALLY_FIRST = f"SELECT count(*) FROM temp.sorted WHERE tally({NOWHERE}, home)"
WRITE_CHANGING = """
INSERT INTO main.changes SELECT subject, effective, :batch, home, reason FROM temp.changing
ORDER BY subject, effective"""
WRITE_FIRST = f"""
INSERT INTO main.changes SELECT subject, :now, :batch, home, reason FROM temp.sorted
WHERE home <> {NOWHERE} ORDER BY subject"""
_CLASHES = """
SELECT i.line, s.line FROM temp.incoming i JOIN temp.sorted s ON s.subject = i.subject AND s.effective = i.effective
WHERE i.line <> s.line AND i.home <> s.home ORDER BY i.line"""
COUNT_CLASHES = f"SELECT count(*) FROM ({_CLASHES})"
FIRST_CLASHES = f"{_CLASHES} LIMIT ?"


def renumbered(numbers: dict[int, int]) -> str:
    """Gives homes of the sorted rows other numbers."""
    cases = " ".join(f"WHEN {old} THEN {new}" for old, new in numbers.items())
    return f"UPDATE temp.sorted SET home = CASE home {cases} ELSE home END"
