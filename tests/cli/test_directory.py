"""`domicile directory`: import, preview, set, get, history, export, undo, as an operator uses them."""

import csv
import hashlib
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.identity.directory.store import open_read_only, open_store
from tests.cli.directories import DIRECTORY, exported, home_of, import_text, policy_with_directory, recorded
from tests.cli.policies import GOOD, run, run_json, write

ROOT = Path(__file__).parents[2]
FUTURE = "2100-01-01T00:00:00Z"


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return policy_with_directory(tmp_path)


def program(*arguments: str | Path, **options: Any) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-W", "error", "-m", "proxy.cli", "directory", *map(str, arguments)]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, **options)


def states(policy: Path, subject: str) -> list[tuple[str | None, str]]:
    shown = run_json("directory", "history", policy, subject, "--json")
    assert shown["subject"] == subject
    return [(change["home"], change["state"]) for change in shown["changes"]]


# Import and preview


def test_what_an_import_and_its_preview_say(policy: Path) -> None:
    import_text(policy, "subject,home\na,eu\nb,eu\nc,cn\nd,rest\n")
    rows = f"subject,home,from\na,cn,\nb,cn,\nc,eu,\nd,rest,\ne,eu,\nd,cn,{FUTURE}\nf,eu,{FUTURE}\n"
    preview = run_json("directory", "preview", policy, "-", "--json", stdin=rows)
    assert re.fullmatch(r"[0-9a-f]{16}", preview.pop("fingerprint"))
    assert preview == {
        "rows": 7,
        "subjects": 6,
        "moved": 4,
        "moves": [{"from": "eu", "to": "cn", "subjects": 2}, {"from": "cn", "to": "eu", "subjects": 1}],
        "new": [{"from": None, "to": "eu", "subjects": 1}],
        "ahead": [
            {"from": None, "to": "eu", "subjects": 1, "first": FUTURE},
            {"from": "rest", "to": "cn", "subjects": 1, "first": FUTURE},
        ],
        "changes": 6,
        "unchanged": 0,
    }
    assert home_of(policy, "a") == "eu"
    written = import_text(policy, rows)
    assert (written.pop("import"), written.pop("refused")) == (2, [])
    assert written == preview
    assert home_of(policy, "a") == "cn"


def test_the_same_in_words(policy: Path) -> None:
    import_text(policy, "subject,home\na,eu\nb,eu\nc,cn\n")
    rows = f"subject,home,from\na,cn,\nb,cn,\nc,cn,\nc,eu,{FUTURE}\nd,none,2020-01-01T00:00:00Z\n"
    result = run("directory", "import", policy, "-", stdin=rows)
    assert result.stdout.splitlines() == [
        "5 rows, 4 subjects",
        "2 move now",
        "  eu -> cn  2",
        "0 get their first home",
        "1 change later",
        f"  cn -> eu  1, from {FUTURE} on",
        "0 stay as they are",
        "imported as number 2",
    ]
    assert result.stderr == ""
    assert run("directory", "import", policy, "-", stdin=rows).stdout.endswith(
        "4 stay as they are\nnothing to import\n"
    )


def test_a_preview_needs_no_file_and_makes_none(policy: Path) -> None:
    assert run("directory", "preview", policy, "-", stdin="subject,home\na,eu\n").exit_code == 0
    assert [each.name for each in policy.parent.iterdir()] == ["policy.yaml"]


def test_unchanged_rows_make_no_history(policy: Path) -> None:
    rows = f"subject,home,from\na,eu,\nb,cn,2020-01-01T00:00:00Z\nb,eu,{FUTURE}\n"
    import_text(policy, rows)
    again = import_text(policy, rows)
    assert (again["changes"], again["unchanged"], again["import"]) == (0, 2, None)
    assert len(recorded(policy)) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--max-moves", "2"), ["3 would move, and --max-moves allows 2"]),
        (("--max-moves", "3"), []),
        (("--only", "eu:cn"), ["1 would move eu -> rest, which --only does not name"]),
        (("--only", "DE:CN", "--only", "eu:rest"), []),
        (
            ("--only", "cn:eu"),
            [
                "2 would move eu -> cn, which --only does not name",
                "1 would move eu -> rest, which --only does not name",
            ],
        ),
        (
            ("--expect", "0" * 16),
            ["not what was previewed, for the file or the directory has changed; preview it again"],
        ),
    ],
)
def test_an_import_can_be_bound_to_what_it_should_move(
    policy: Path, arguments: tuple[str, ...], said: list[str]
) -> None:
    import_text(policy, "subject,home\na,eu\nb,eu\nc,eu\n")
    rows = f"subject,home,from\na,cn,\nb,cn,{FUTURE}\nc,rest,\nnew,cn,\n"
    result = run("directory", "import", policy, "-", *arguments, stdin=rows)
    assert result.exit_code == (1 if said else 0)
    assert sorted(result.stderr.splitlines()) == sorted(f"refused: {each}" for each in said)
    assert home_of(policy, "a") == ("eu" if said else "cn")
    assert len(recorded(policy)) == (1 if said else 2)
    if said:
        assert run("directory", "import", policy, "-", "--json", *arguments, stdin=rows).exit_code == 1


def test_what_was_previewed_is_imported_and_nothing_else(policy: Path) -> None:
    rows = "subject,home\na,eu\n"
    shown = run_json("directory", "preview", policy, "-", "--json", stdin=rows)["fingerprint"]
    assert run("directory", "import", policy, "-", "--expect", shown, stdin=rows + "b,eu\n").exit_code == 1
    assert not (policy.parent / "directory.db").exists()
    assert run("directory", "import", policy, "-", "--expect", shown, stdin=rows).exit_code == 0
    rows = "subject,home\na,cn\n"
    shown = run_json("directory", "preview", policy, "-", "--json", stdin=rows)["fingerprint"]
    assert run("directory", "set", policy, "b", "eu").exit_code == 0
    assert run("directory", "import", policy, "-", "--expect", shown, stdin=rows).exit_code == 1
    assert home_of(policy, "a") == "eu"


def test_the_file_is_for_its_owner_alone(policy: Path) -> None:
    import_text(policy, "subject,home\na,eu\n")
    assert (policy.parent / "directory.db").stat().st_mode & 0o777 == 0o600


# One subject


def test_set_get_and_history(policy: Path) -> None:
    first = run("directory", "set", policy, "alice", "DE", "--reason", "her contract")
    assert (first.exit_code, first.stdout) == (0, "none -> eu from now on, change number 1\n")
    later = run("directory", "set", policy, "alice", "cn", "--from", "2100-01-01T08:00:00+08:00")
    assert later.stdout == f"eu -> cn from {FUTURE} on, change number 2\nnext: cn from {FUTURE} on\n"
    assert run("directory", "set", policy, "alice", "eu").stdout == (
        f"eu already, nothing to change\nnext: cn from {FUTURE} on\n"
    )
    since = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z"
    shown = run("directory", "get", policy, "alice").stdout
    assert re.fullmatch(rf"eu since {since}\nnext: cn from {FUTURE} on\n", shown)
    assert run("directory", "get", policy, "alice", "--at", FUTURE).stdout == f"cn since {FUTURE}\n"
    assert run("directory", "get", policy, "nobody").stdout == "not in the directory\n"
    lines = run("directory", "history", policy, "alice").stdout.splitlines()
    assert re.fullmatch(rf"from {since}  eu  holds, recorded {since} by set 1: her contract", lines[0])
    assert re.fullmatch(rf"from {FUTURE}  cn  ahead, recorded {since} by set 2", lines[1])
    assert len(lines) == 2


def test_get_as_json(policy: Path) -> None:
    import_text(policy, f"subject,home,from\na,eu,2020-01-01T00:00:00.5Z\na,none,{FUTURE}\nb,cn,{FUTURE}\n")
    assert run_json("directory", "get", policy, "a", "--json") == {
        "subject": "a",
        "known": True,
        "home": "eu",
        "since": "2020-01-01T00:00:00.500Z",
        "next": {"home": None, "from": FUTURE},
    }
    assert run_json("directory", "get", policy, "b", "--json") == {
        "subject": "b",
        "known": True,
        "home": None,
        "since": None,
        "next": {"home": "cn", "from": FUTURE},
    }
    assert run_json("directory", "get", policy, "c", "--json")["known"] is False


def test_a_move_holds_from_its_very_instant(policy: Path) -> None:
    import_text(policy, "subject,home,from\na,eu,2020-01-01T00:00:00Z\na,cn,2021-01-01T00:00:00.250Z\n")
    assert home_of(policy, "a", "--at", "2019-12-31T23:59:59.999Z") is None
    assert home_of(policy, "a", "--at", "2020-01-01T00:00:00Z") == "eu"
    assert home_of(policy, "a", "--at", "2021-01-01T00:00:00.249Z") == "eu"
    assert home_of(policy, "a", "--at", "2021-01-01T08:00:00.250+08:00") == "cn"


def test_a_correction_is_one_command_and_its_trace_stays(policy: Path) -> None:
    import_text(policy, "subject,home,from\na,eu,2020-01-01T00:00:00Z\na,cn,2021-01-01T00:00:00Z\n", "--reason", "list")
    assert run("directory", "set", policy, "a", "rest", "--from", "2021-01-01T00:00:00Z").exit_code == 0
    assert states(policy, "a") == [("eu", "past"), ("cn", "replaced"), ("rest", "holds")]
    assert home_of(policy, "a") == "rest"
    assert home_of(policy, "a", "--at", "2020-06-01T00:00:00Z") == "eu"


def test_an_import_is_taken_back_in_one_command(policy: Path) -> None:
    import_text(policy, "subject,home\na,eu\nb,eu\n")
    number = import_text(policy, f"subject,home,from\na,cn,\nc,cn,\nb,cn,{FUTURE}\n")["import"]
    result = run("directory", "undo", policy, str(number), "--reason", "wrong list")
    assert result.stdout.splitlines()[-1] == "3 changes taken back as number 3"
    assert exported(policy) == "subject,home\na,eu\nb,eu\n"
    assert home_of(policy, "b", "--at", FUTURE) == "eu"
    assert states(policy, "a") == [("eu", "past"), ("cn", "replaced"), ("eu", "holds")]
    last = recorded(policy)[-1]
    assert (last["by"], last["undoes"], last["reason"], last["changes"]) == ("undo", number, "wrong list", 3)
    assert run("directory", "history", policy).stdout.splitlines()[2].endswith("undo of 2  3 changes: wrong list")
    again = run_json("directory", "undo", policy, str(number), "--json")
    assert (again["undo"], again["changes"]) == (None, 0)
    assert "There is no number 9" in run("directory", "undo", policy, "9").stderr


def test_every_import_with_its_file(policy: Path) -> None:
    rows = "subject,home\na,eu\n"
    import_text(policy, rows, "--reason", "migration")
    (only,) = recorded(policy)
    assert only.pop("recorded").endswith("Z")
    assert only == {
        "number": 1,
        "by": "import",
        "changes": 1,
        "undoes": None,
        "sha256": hashlib.sha256(rows.encode()).hexdigest(),
        "reason": "migration",
    }
    assert run_json("directory", "history", policy, "a", "--json")["changes"][0]["reason"] == "migration"


def test_a_subject_from_standard_input_is_in_no_list_of_processes(policy: Path) -> None:
    assert run("directory", "set", policy, "-", "eu", stdin="alice\n").exit_code == 0
    assert run("directory", "get", policy, "-", stdin="alice\n").stdout.startswith("eu since")
    assert run("directory", "history", policy, "-", stdin="alice\n").stdout.count("\n") == 1


def test_a_home_that_the_policy_no_longer_has_is_told(policy: Path) -> None:
    import_text(policy, "subject,home\na,rest\n")
    write(policy.parent, DIRECTORY.replace("rest", "remainder"))
    result = run("directory", "get", policy, "a")
    assert result.exit_code == 0
    assert "no such zone" in result.stderr
    moved = import_text(policy, "subject,home\na,remainder\n")
    assert moved["moves"] == [{"from": "rest", "to": "remainder", "subjects": 1}]


# What is refused


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("set", "a", "mars"), "HOME: `mars` is no home, write a zone (eu, cn, rest), an ISO code, or none"),
        (("set", "", "eu"), "SUBJECT: `subject` is empty"),
        (("set", "a ", "eu"), "SUBJECT: `subject` has white space around it"),
        (("set", "a\u200b", "eu"), "SUBJECT: `subject` has a character that is not printable"),
        (("set", "a", "eu", "--from", "2027-01-01"), "--from: `2027-01-01` is a day, not a moment"),
        (("set", "a", "eu", "--from", "tomorrow"), "--from: `tomorrow` is no time"),
        (("set", "a", "eu", "--reason", "a\nb"), "--reason: it has a character that is not printable"),
        (("set", "a"), "Missing argument 'HOME'"),
        (("get", "a", "--at", "now"), "--at: `now` is no time"),
        (("get",), "Missing argument 'SUBJECT'"),
        (("import",), "Missing argument 'FILE'"),
        (("import", "-", "--only", "eu"), "--only: `eu` is no move, write two homes as FROM:TO"),
        (("import", "-", "--only", "eu:mars"), "is no home"),
        (("import", "-", "--max-moves", "-1"), "--max-moves"),
        (("export", "-", "--history", "--at", FUTURE), "--at goes without it"),
        (("export", "no/such/folder"), "cannot be written: No such file"),
        (("export", "-", "--format", "xml"), "--format"),
        (("undo", "0"), "NUMBER"),
    ],
)
def test_usage(policy: Path, arguments: tuple[str, ...], said: str) -> None:
    import_text(policy, "subject,home\na,eu\n")
    command, *more = arguments
    result = run("directory", command, policy, *more)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""
    assert len(recorded(policy)) == 1


COMMANDS = (
    ("import", "-"),
    ("preview", "-"),
    ("set", "alice@secret.example", "eu"),
    ("get", "alice@secret.example"),
    ("history", "alice@secret.example"),
    ("history",),
    ("export",),
    ("undo", "1"),
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD, "it has no directory, add"),
        (
            DIRECTORY.replace("sqlite: directory.db", 'http: {url: "https://a.example/{}"}'),
            "its directory is kept elsewhere",
        ),
        (
            DIRECTORY.replace("sources: [", "sources: [{directory: {sqlite: b.db, key: {header: X-B}}}, "),
            "it has several SQLite directories",
        ),
        ("version: 2\n", "policy.yaml:1:10: version `2`"),
    ],
)
@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_policy_without_a_file_to_write_exits_1(
    tmp_path: Path, text: str, said: str, arguments: tuple[str, ...]
) -> None:
    policy = write(tmp_path, text)
    command, *more = arguments
    result = run("directory", command, policy, *more, stdin="subject,home\na,eu\n")
    assert result.exit_code == 1
    assert said in result.stderr
    assert result.stdout == ""
    assert "secret" not in result.stderr


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_file_that_is_no_directory_exits_1_and_stays_as_it_is(policy: Path, arguments: tuple[str, ...]) -> None:
    file = policy.parent / "directory.db"
    file.write_bytes(b"subject,home\n" * 500)
    command, *more = arguments
    result = run("directory", command, policy, *more, stdin="subject,home\na,eu\n")
    assert result.exit_code == 1
    assert result.stderr == f"{file}: not an SQLite file, name another one\n"
    assert file.read_bytes() == b"subject,home\n" * 500


@pytest.mark.parametrize("arguments", COMMANDS[3:], ids=" ".join)
def test_what_only_reads_needs_a_file(policy: Path, arguments: tuple[str, ...]) -> None:
    command, *more = arguments
    result = run("directory", command, policy, *more)
    assert result.exit_code == 1
    assert "cannot be opened: No such file or directory" in result.stderr
    assert [each.name for each in policy.parent.iterdir()] == ["policy.yaml"]


def test_serve_says_how_a_missing_file_is_made(policy: Path) -> None:
    command = [sys.executable, "-m", "proxy.cli", "serve", str(policy)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
    assert done.returncode == 1
    assert f"{policy.parent}/directory.db: not there, make it with `domicile directory import`" in done.stderr


# Export


TEXT = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20)
REASON = st.one_of(
    st.just(""), st.text(st.characters(exclude_categories=["C", "Z"], include_characters=" "), max_size=20)
)
INSTANTS = st.integers(0, 4_102_444_800_000)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.tuples(TEXT, st.one_of(st.none(), INSTANTS)),
        st.tuples(st.sampled_from(["eu", "cn", "rest", "AQ", "none", "fr"]), REASON),
        max_size=12,
    ),
    st.sampled_from(["csv", "jsonl"]),
)
def test_what_is_exported_can_be_imported_and_is_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    rows: dict[tuple[str, int | None], tuple[str, str]],
    form: str,
) -> None:
    policy = policy_with_directory(tmp_path_factory.mktemp("one"))
    other = policy_with_directory(tmp_path_factory.mktemp("other"))
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow(("subject", "home", "from", "reason"))
    for (subject, instant), (home, reason) in rows.items():
        date = "" if instant is None else f"{_date(instant)}"
        writer.writerow((subject, home, date, reason))
    imported = import_text(policy, written.getvalue())
    if not imported["changes"]:
        return
    whole = exported(policy, "--history", "--format", form)
    assert import_text(policy, whole)["changes"] == 0
    import_text(other, whole)
    assert exported(other, "--history", "--format", form) == whole
    now = exported(policy, "--format", form)
    assert exported(other, "--format", form) == now
    if len(now.splitlines()) > (form == "csv"):  # an empty file of JSON lines has nothing to import
        assert import_text(policy, now)["changes"] == 0


def _date(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:03}Z"


def test_an_export_to_a_file_is_whole_and_for_its_owner_alone(policy: Path) -> None:
    import_text(policy, "subject,home\nb,cn\na,eu\nc,none\n")
    to = policy.parent / "out.jsonl"
    result = run("directory", "export", policy, to)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "2 subjects\n")
    assert to.read_text() == '{"subject": "a", "home": "eu"}\n{"subject": "b", "home": "cn"}\n'
    assert to.stat().st_mode & 0o777 == 0o600
    run("directory", "set", policy, "a", "cn")
    assert run("directory", "export", policy, to, "--format", "csv").exit_code == 0
    assert to.read_text() == "subject,home\na,cn\nb,cn\n"
    assert sorted(each.name for each in policy.parent.iterdir() if "out" in each.name) == ["out.jsonl"]


def test_who_lived_where_at_a_moment(policy: Path) -> None:
    import_text(policy, f"subject,home,from\na,eu,2020-01-01T00:00:00Z\nb,cn,2021-01-01T00:00:00Z\na,cn,{FUTURE}\n")
    assert exported(policy, "--at", "2020-06-01T00:00:00Z") == "subject,home\na,eu\n"
    assert exported(policy, "--at", FUTURE) == "subject,home\na,cn\nb,cn\n"


def test_a_closed_pipe_is_no_traceback(policy: Path) -> None:
    import_text(policy, "subject,home\n" + "".join(f"subject-{n:06},eu\n" for n in range(50_000)))
    command = f"{sys.executable} -m proxy.cli directory export {policy} | head -n 2"
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, env=environ, check=False)
    assert done.stdout == "subject,home\nsubject-000000,eu\n"
    assert "Traceback" not in done.stderr


# As a process


def many(count: int, home: str) -> bytes:
    return b"subject,home\n" + b"".join(b"subject-%06d,%s\n" % (n, home.encode()) for n in range(count))


def test_killed_while_it_reads_nothing_is_imported(policy: Path) -> None:
    import_text(policy, "subject,home\nsubject-000000,eu\n")
    process = program("import", policy, "-", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.stdin is not None
    process.stdin.write(many(100_000, "cn"))  # more than a pipe holds: it has read most of it by now
    process.kill()
    process.stdin.close()
    assert process.wait() == -signal.SIGKILL
    assert exported(policy) == "subject,home\nsubject-000000,eu\n"
    assert import_text(policy, "subject,home\nsubject-000000,cn\n")["import"] == 2


def test_killed_while_it_writes_all_or_nothing_is_imported(policy: Path) -> None:
    import_text(policy, "subject,home\nsubject-000000,eu\n")
    rows = policy.parent / "rows.csv"
    rows.write_bytes(many(100_000, "cn"))
    log = policy.parent / "directory.db-wal"
    process = program("import", policy, rows, stdout=subprocess.DEVNULL)
    while process.poll() is None and (not log.exists() or log.stat().st_size < 100_000):
        time.sleep(0.001)
    process.kill()
    process.wait()
    store = open_store(policy.parent / "directory.db")
    assert store.connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    (count,) = store.connection.execute("SELECT count(*) FROM changes").fetchone()
    assert (count, len(store.batches())) in ((1, 1), (100_001, 2))
    store.close()
    again = import_text(policy, rows.read_text())
    assert again["changes"] == (100_000 if count == 1 else 0)


def test_ctrl_c_imports_nothing(policy: Path) -> None:
    import_text(policy, "subject,home\nsubject-000000,eu\n")
    heeded = signal.getsignal(signal.SIGINT)
    # A shell starts what it puts in the background deaf to SIGINT, and its children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = program("import", policy, "-", stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    finally:
        signal.signal(signal.SIGINT, heeded)
    assert process.stdin is not None
    process.stdin.write(many(100_000, "cn"))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 1
    assert b"Aborted" in said
    assert b"Traceback" not in said
    assert exported(policy) == "subject,home\nsubject-000000,eu\n"


def test_who_reads_during_an_import_sees_the_old_and_then_the_new(policy: Path) -> None:
    import_text(policy, many(100_000, "eu").decode())
    reading = open_read_only(policy.parent / "directory.db")
    rows = policy.parent / "rows.csv"
    rows.write_bytes(many(100_000, "cn"))
    process = program("import", policy, rows, stdout=subprocess.DEVNULL)
    seen = []
    now = 4_102_444_800_000
    while process.poll() is None:
        # One statement is one snapshot: the first and the last row of the import are there together or not at all.
        homes = reading.connection.execute(
            "SELECT subject, count(*) FROM changes WHERE subject IN (?, ?) GROUP BY subject",
            ("subject-000000", "subject-099999"),
        ).fetchall()
        assert [count for _, count in homes] in ([1, 1], [2, 2])
        found = reading.standing("subject-050000", now)
        assert found is not None
        if seen[-1:] != [found.home]:
            seen.append(found.home)
    assert process.returncode == 0
    found = reading.standing("subject-050000", now)
    assert found is not None
    assert [*dict.fromkeys([*seen, found.home])] == ["eu", "cn"]
    reading.close()


def test_two_imports_at_once_come_one_after_the_other(policy: Path) -> None:
    import_text(policy, "subject,home\nz,eu\n")
    files = []
    for home in ("cn", "rest"):
        files.append(policy.parent / f"{home}.csv")
        files[-1].write_bytes(many(20_000, home))
    processes = [program("import", policy, file, "--json", stdout=subprocess.PIPE) for file in files]
    told = [json.loads(process.communicate()[0]) for process in processes]
    assert sorted(each["import"] for each in told) == [2, 3]
    assert sorted(each["moved"] for each in told) == [0, 20_000]


def test_a_bar_in_a_terminal_and_nowhere_else(policy: Path) -> None:
    rows = policy.parent / "rows.csv"
    rows.write_bytes(many(1000, "cn"))
    piped = program("import", policy, rows, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, said = piped.communicate()
    assert piped.returncode == 0
    assert said == b""
    assert b"\x1b" not in out
    leader, follower = pty.openpty()
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLUMNS": "100"}
    process = subprocess.Popen(
        [sys.executable, "-m", "proxy.cli", "directory", "import", str(policy), str(rows)],
        stdout=subprocess.PIPE,
        stderr=follower,
        env=environ,
    )
    os.close(follower)
    drawn = b""
    try:
        while piece := os.read(leader, 65536):
            drawn += piece
    except OSError:
        pass  # Linux reports the other side's end as EIO
    os.close(leader)
    out, _ = process.communicate()
    assert process.returncode == 0
    assert "reading" in drawn.decode()
    assert b"\x1b[" in drawn
    assert b"nothing to import" in out
    assert b"subject-0" not in drawn


def test_memory_does_not_grow_with_the_file(policy: Path) -> None:
    peaks = []
    for count in (20_000, 400_000):
        rows = policy.parent / "rows.csv"
        rows.write_bytes(many(count, "eu"))
        code = (
            "import re, sys\nfrom pathlib import Path\nfrom proxy.cli import domicile\n"
            "from proxy.identity.directory import store_changes\nstore_changes._MEMORY = 1024\n"
            "domicile(sys.argv[1:], standalone_mode=False)\n"
            # Not ru_maxrss, which knows what the process was forked from.
            "print(re.search(r'VmHWM:\\s*(\\d+)', Path('/proc/self/status').read_text())[1], file=sys.stderr)\n"
        )
        command = [sys.executable, "-c", code, "directory", "preview", str(policy), str(rows)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        peaks.append(int(done.stderr))
    # 380,000 rows more would be some 60 MB as Python objects. Page caches, which are bounded too, are made small.
    assert peaks[1] - peaks[0] < 16 << 10


def test_no_event_loop_is_started(policy: Path) -> None:
    code = (
        "import sys\nfrom proxy.cli import domicile\n"
        "domicile(sys.argv[1:], standalone_mode=False)\n"
        "loaded = {'uvloop', 'aiohttp', 'asyncio', 'rich', 'redis', 'asyncpg'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    command = [sys.executable, "-c", code, "directory", "set", str(policy), "a", "eu"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
