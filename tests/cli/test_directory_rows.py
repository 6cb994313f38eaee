"""Files of rows that nothing is imported from: each mistake with its line and a hint, and with nobody's name."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.cli.directories import exported, home_of, import_text, policy_with_directory, recorded
from tests.cli.policies import run

SECRET = "alice@secret.example"

HOMES = "write a zone (eu, cn, rest), an ISO code, or none"
HEADER = "the first line names the columns, such as subject,home or subject,home,from,reason"
COMMAS = "quote fields that hold commas, and write a comma for each that is empty"
OBJECT = 'write one object a line, such as {"subject": "...", "home": "eu"}'
PRINTABLE = "`subject` has a character that is not printable, or not UTF-8, write UTF-8 text that fits on one line"

CSV: dict[str, tuple[str | bytes, list[str]]] = {
    "nothing": ("", [f"1: the file is empty, {HEADER}"]),
    "blank lines": ("\n\n \n", [f"1: the file is empty, {HEADER}"]),
    "no header": (
        f"{SECRET},eu\n",
        [
            f"1: column 1 is none of subject, home, from, reason, {HEADER}",
            f"1: column 2 is none of subject, home, from, reason, {HEADER}",
        ],
    ),
    "a column too little": (f"subject\n{SECRET}\n", [f"1: there is no column `home`, {HEADER}"]),
    "another column": (
        "subject,home,form\n",
        ["1: column 3 is none of subject, home, from, reason, did you mean `from`?"],
    ),
    "a column twice": ("subject,home,home\n", ["1: `home` is there twice, leave one out"]),
    "columns in capitals": (
        "Subject,Home\n",
        [
            "1: column 1 is none of subject, home, from, reason, did you mean `subject`?",
            "1: column 2 is none of subject, home, from, reason, did you mean `home`?",
        ],
    ),
    "an empty column": (
        "subject,home,\n",
        [f"1: column 3 is none of subject, home, from, reason, {HEADER}"],
    ),
    "semicolons": (f"subject;home\n{SECRET};eu\n", ["1: columns are separated by semicolons, separate them by commas"]),
    "tabs": (f"subject\thome\n{SECRET}\teu\n", ["1: columns are separated by tabs, separate them by commas"]),
    "UTF-16": (
        "subject,home\n".encode("utf-16"),
        ["1: the file is not UTF-8 (UTF-16, by its looks), save it as UTF-8"],
    ),
    "UTF-16 without a mark": (
        "subject,home\n".encode("utf-16-le"),
        ["1: the file is not UTF-8 (UTF-16, by its looks), save it as UTF-8"],
    ),
    "a field too few": (
        f"subject,home\n{SECRET}\n",
        [f"2: 1 field where the header names 2, {COMMAS}"],
    ),
    "a field too many": (
        f"subject,home\n{SECRET},eu,\n",
        [f"2: 3 fields where the header names 2, {COMMAS}"],
    ),
    "no home": (f"subject,home\n{SECRET},\n", ["2: `home` is empty, write none where a subject has no home"]),
    "no subject": ("subject,home\n,eu\n", ["2: `subject` is empty, say whose home it is"]),
    "nothing but commas": (
        "subject,home\n,\n",
        [
            "2: `home` is empty, write none where a subject has no home",
            "2: `subject` is empty, say whose home it is",
        ],
    ),
    "no such home": (f"subject,home\n{SECRET},mars\n", [f"2: `home` is no home, {HOMES}"]),
    "columns exchanged": (f"subject,home\neu,{SECRET}\n", [f"2: `home` is no home, {HOMES}"]),
    "almost a zone": (f"subject,home\n{SECRET},rst\n", ["2: `home` is no home, did you mean `rest`?"]),
    "a zone in capitals": (f"subject,home\n{SECRET},REST\n", ["2: `home` is no home, did you mean `rest`?"]),
    "the United Kingdom": (f"subject,home\n{SECRET},UK\n", ["2: `home` is no home, the United Kingdom is GB"]),
    "a union": (f"subject,home\n{SECRET},EEA\n", [f"2: `home` is no home, {HOMES}"]),
    "unknown": (f"subject,home\n{SECRET},unknown\n", [f"2: `home` is no home, {HOMES}"]),
    "a home with white space": (f"subject,home\n{SECRET}, eu\n", ["2: `home` is no home, did you mean `eu`?"]),
    "a subject with white space before": (
        f"subject,home\n {SECRET},eu\n",
        ["2: `subject` has white space around it, remove it"],
    ),
    "a subject with white space behind": (
        f"subject,home\n{SECRET} ,eu\n",
        ["2: `subject` has white space around it, remove it"],
    ),
    "a tab in a subject": (f"subject,home\n{SECRET}\tx,eu\n", [f"2: {PRINTABLE}"]),
    "NUL in a subject": (f"subject,home\nsome {SECRET}\0x,eu\n", [f"2: {PRINTABLE}"]),
    "a line feed in a subject": (
        f'subject,home\n"{SECRET}\nx",eu\nb,mars\n',
        [f"2: {PRINTABLE}", f"4: `home` is no home, {HOMES}"],
    ),
    "a no-break space": (f"subject,home\n{SECRET}\u00a0,eu\n", [f"2: {PRINTABLE}"]),
    "a zero-width space": (f"subject,home\n{SECRET}\u200b,eu\n", [f"2: {PRINTABLE}"]),
    "a byte that is not UTF-8": (b"subject,home\nalice@secret.example\xff,eu\n", [f"2: {PRINTABLE}"]),
    "half a character": (b"subject,home\nalice@secret.example\xe4\xb8,eu\n", [f"2: {PRINTABLE}"]),
    "Latin-1": (b"subject,home\nJ\xf6rg,eu\n", [f"2: {PRINTABLE}"]),
    "a subject of 513 bytes": (f"subject,home\n{'x' * 513},eu\n", ["2: `subject` is too long, keep it to 512 bytes"]),
    "a subject of 257 umlauts": (f"subject,home\n{'ö' * 257},eu\n", ["2: `subject` is too long, keep it to 512 bytes"]),
    "a quote in a field": (
        f'subject,home\n"{SECRET}"x,eu\nb,mars\n',
        [
            "2: a quote in the wrong place, quote the whole field, and double a quote inside",
            f"3: `home` is no home, {HOMES}",
        ],
    ),
    "a quote that is never closed": (
        f'subject,home\nb,mars\n"{SECRET},eu\nc,mars\n',
        [
            f"2: `home` is no home, {HOMES}",
            "3: a quote is opened and not closed, nothing was read from there on; close it",
        ],
    ),
    "a quote that is never closed in a long file": (
        f'subject,home\n"{SECRET},eu\n' + "x,eu\n" * 50_000,
        ["2: a quote is opened and not closed, nothing was read from there on; close it"],
    ),
    "a field beyond all bounds": (
        f"subject,home\n{'x' * 200_000},eu\n",
        ["2: a field is too long, no subject, home or reason is"],
    ),
    "a line beyond all bounds": (
        f"subject,home\n{'x' * (3 << 20)},eu\n",
        ["1: a line is longer than 1 MiB, no row is; end rows with a line feed"],
    ),
    "a day": (
        f"subject,home,from\n{SECRET},eu,2027-01-01\n",
        ["2: `from` is a day, not a moment, add a time and an offset"],
    ),
    "a time without offset": (
        f"subject,home,from\n{SECRET},eu,2027-01-01T00:00:00\n",
        ["2: `from` has no offset, end it with Z or an offset such as +08:00"],
    ),
    "no date": (
        f"subject,home,from\n{SECRET},eu,soon\n",
        ["2: `from` is no time, write it as 2031-12-27T00:00:00Z or with an offset such as +08:00"],
    ),
    "the 30th of February": (
        f"subject,home,from\n{SECRET},eu,2027-02-30T00:00:00Z\n",
        ["2: `from` is no time, there is no such moment in the calendar"],
    ),
    "microseconds": (
        f"subject,home,from\n{SECRET},eu,2027-02-03T00:00:00.000001Z\n",
        ["2: `from` is finer than a millisecond, leave out what is behind the third digit"],
    ),
    "before 1970": (
        f"subject,home,from\n{SECRET},eu,1969-12-31T23:59:59Z\n",
        ["2: `from` is before 1970, homes are dated from then on"],
    ),
    "a reason of two lines": (
        f'subject,home,reason\n{SECRET},eu,"a\nb"\n',
        ["2: `reason` has a character that is not printable, or not UTF-8, write UTF-8 text that fits on one line"],
    ),
    "a reason without end": (
        f"subject,home,reason\n{SECRET},eu,{'x' * 1001}\n",
        ["2: `reason` is too long, keep it to 1000 characters"],
    ),
    "two homes": (
        f"subject,home\n{SECRET},eu\nb,eu\n{SECRET},cn\n",
        ["4: another home than in line 2, a subject has one home at a time; leave one out, or date them"],
    ),
    "two homes by two names of one zone and another": (
        f"subject,home\n{SECRET},DE\n{SECRET},eu\n{SECRET},cn\n",
        ["4: another home than in line 2, a subject has one home at a time; leave one out, or date them"],
    ),
    "two homes at one instant in two offsets": (
        f"subject,home,from\n{SECRET},eu,2027-01-01T00:00:00Z\n{SECRET},cn,2027-01-01T08:00:00+08:00\n",
        ["3: another home than in line 2, a subject has one home at a time; leave one out, or date them"],
    ),
    "mistakes of both kinds, by line": (
        f"subject,home\n{SECRET},eu\n{SECRET},cn\nb,mars\n",
        [
            "3: another home than in line 2, a subject has one home at a time; leave one out, or date them",
            f"4: `home` is no home, {HOMES}",
        ],
    ),
    "the header once more": ("subject,home\na,eu\nsubject,home\n", [f"3: `home` is no home, {HOMES}"]),
}

JSON: dict[str, tuple[str | bytes, list[str]]] = {
    "an array": (f'[{{"subject": "{SECRET}", "home": "eu"}}]\n', [f"1: a JSON array, {OBJECT}"]),
    "half an object": (f'{{"subject": "{SECRET}",\n', [f"1: not JSON, {OBJECT}"]),
    "an object over two lines": (
        f'{{"subject": "{SECRET}",\n"home": "eu"}}\n',
        [f"1: not JSON, {OBJECT}", f"2: not JSON, {OBJECT}"],
    ),
    "two in a line": ('{"subject": "a", "home": "eu"} {"subject": "b", "home": "eu"}\n', [f"1: not JSON, {OBJECT}"]),
    "a number": ('{"subject": "a", "home": "eu"}\n7\n', [f"2: not an object, {OBJECT}"]),
    "a list in it": ('{"subject": "a", "home": "eu"}\n[]\n', [f"2: not an object, {OBJECT}"]),
    "no home": (f'{{"subject": "{SECRET}"}}\n', [f"1: `home` is missing, {OBJECT}"]),
    "no subject": ('{"home": "eu"}\n', [f"1: `subject` is missing, {OBJECT}"]),
    "nothing in it": ("{}\n", [f"1: `subject` is missing, {OBJECT}", f"1: `home` is missing, {OBJECT}"]),
    "a subject that is a number": ('{"subject": 7, "home": "eu"}\n', ["1: `subject` is not text, write it in quotes"]),
    "a home that is null": (
        f'{{"subject": "{SECRET}", "home": null}}\n',
        ["1: `home` is not text, write it in quotes"],
    ),
    "a subject that is an object": (
        f'{{"subject": {{"id": "{SECRET}"}}, "home": "eu"}}\n',
        ["1: `subject` is not text, write it in quotes"],
    ),
    "a date that is a number": (
        f'{{"subject": "{SECRET}", "home": "eu", "from": 1767225600}}\n',
        ["1: `from` is not text, write it in quotes"],
    ),
    "a key twice": (
        f'{{"subject": "{SECRET}", "home": "eu", "home": "cn"}}\n',
        ["1: a key is there twice, leave one out"],
    ),
    "another key": (
        f'{{"subject": "{SECRET}", "home": "eu", "form": "x"}}\n',
        ["1: a key that does not belong here, did you mean `from`?"],
    ),
    "a key that is a subject": (
        f'{{"subject": "a", "home": "eu", "{SECRET}": "x"}}\n',
        ["1: a key that does not belong here, keys are subject, home, from, reason"],
    ),
    "half a surrogate pair": ('{"subject": "a\\ud83d", "home": "eu"}\n', [f"1: {PRINTABLE}"]),
    "an escaped line feed": ('{"subject": "a\\nb", "home": "eu"}\n', [f"1: {PRINTABLE}"]),
    "a byte that is not UTF-8": (b'{"subject": "a\xff", "home": "eu"}\n', [f"1: {PRINTABLE}"]),
    "a number without end": ('{"subject": ' + "9" * 5000 + ', "home": "eu"}\n', [f"1: not JSON, {OBJECT}"]),
    "brackets without end": ('{"subject": ' + "[" * 100_000 + "\n", [f"1: not JSON, {OBJECT}"]),
}

TABLE = {f"CSV, {name}": row for name, row in CSV.items()} | {f"JSON, {name}": row for name, row in JSON.items()}


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return policy_with_directory(tmp_path)


def test_there_are_many() -> None:
    assert len(TABLE) >= 60


@pytest.mark.parametrize(("content", "said"), TABLE.values(), ids=TABLE)
def test_a_bad_file_is_told_line_by_line_and_nothing_of_it_is_imported(
    policy: Path, content: str | bytes, said: list[str]
) -> None:
    import_text(policy, "subject,home\nzoe,eu\n")
    before = exported(policy, "--history")
    file = policy.with_name("rows")
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    for command in ("import", "preview"):
        result = run("directory", command, policy, file)
        assert result.exit_code == 1
        assert result.stdout == ""
        *lines, last = result.stderr.splitlines()
        assert lines == [f"{file}:{line}" for line in said]
        assert last == f"{file}: {len(said)} mistake{'s' * (len(said) != 1)}, nothing is imported"
        assert "secret" not in result.output
        as_json = run("directory", command, policy, file, "--json")
        assert as_json.exit_code == 1
        told = json.loads(as_json.stdout)
        assert [f"{each['line']}: {each['what']}, {each['hint']}" for each in told["mistakes"]] == said
    assert exported(policy, "--history") == before
    assert len(recorded(policy)) == 1


@pytest.mark.parametrize("name", list(TABLE))
def test_one_bad_row_among_good_ones_imports_none_of_them_and_leaves_no_file(policy: Path, name: str) -> None:
    content, _ = TABLE[name]
    file = policy.with_name("rows")
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert run("directory", "import", policy, file).exit_code == 1
    assert sorted(each.name for each in policy.parent.iterdir()) == ["policy.yaml", "rows"]


def test_mistakes_are_bounded_and_all_are_counted(policy: Path) -> None:
    file = policy.with_name("rows")
    file.write_text("subject,home\n" + "a,mars\n" * 12_345)
    result = run("directory", "import", policy, file)
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert len(lines) == 101
    assert lines[99].startswith(f"{file}:101: ")
    assert lines[-1] == f"{file}: 12,345 mistakes, 12,245 not shown, nothing is imported"


GOOD: dict[str, tuple[str | bytes, dict[str, str]]] = {
    "plain": ("subject,home\na,eu\nb,CN\n", {"a": "eu", "b": "cn"}),
    "codes in any case": ("subject,home\na,de\nb,De\nc,DE\n", {"a": "eu", "b": "eu", "c": "eu"}),
    "a country that no zone holds": ("subject,home\na,aq\n", {"a": "AQ"}),
    "a byte-order mark": (b"\xef\xbb\xbfsubject,home\na,eu\n", {"a": "eu"}),
    "CRLF": ("subject,home\r\na,eu\r\nb,cn\r\n", {"a": "eu", "b": "cn"}),
    "CR": ("subject,home\ra,eu\rb,cn\r", {"a": "eu", "b": "cn"}),
    "no line end at the end": ("subject,home\na,eu", {"a": "eu"}),
    "blank lines": ("\n\nsubject,home\n\na,eu\n\n", {"a": "eu"}),
    "columns in another order": ("reason,home,subject\nbecause,eu,a\n", {"a": "eu"}),
    "quotes": ('"subject","home"\n"a,b","eu"\n"say ""hi""",cn\n', {"a,b": "eu", 'say "hi"': "cn"}),
    "a subject of 512 bytes": (f"subject,home\n{'x' * 512},eu\n", {"x" * 512: "eu"}),
    "other scripts": (
        "subject,home\nJörg Müller,eu\n王小明,cn\n😀,rest\n",
        {"Jörg Müller": "eu", "王小明": "cn", "😀": "rest"},
    ),
    "a subject that is a number": ("subject,home\n007,eu\n7,cn\n", {"007": "eu", "7": "cn"}),
    "a subject that begins with a hyphen": ("subject,home\n--help,eu\n", {"--help": "eu"}),
    "case counts": ("subject,home\nA,eu\na,cn\n", {"A": "eu", "a": "cn"}),
    "composed and decomposed are two": ("subject,home\n\u00e9,eu\ne\u0301,cn\n", {"\u00e9": "eu", "e\u0301": "cn"}),
    "the same row twice": ("subject,home\na,eu\na,DE\n", {"a": "eu"}),
    "a header alone": ("subject,home\n", {}),
    "JSON": (
        '{"subject": "a", "home": "eu"}\n{"home": "cn", "subject": "b", "reason": null}\n',
        {"a": "eu", "b": "cn"},
    ),
    "JSON with a mark, CRLF and blank lines": (
        b'\xef\xbb\xbf\r\n{"subject": "a", "home": "eu"}\r\n\r\n{"subject": "b", "home": "cn"}',
        {"a": "eu", "b": "cn"},
    ),
    "JSON with escapes": ('{"subject": "\\u738b\\ud83d\\ude00", "home": "cn"}\n', {"王😀": "cn"}),
    "a past and a future": (
        "subject,home,from\na,eu,2020-01-01T00:00:00+08:00\na,cn,2100-01-01T00:00:00Z\na,rest,2021-01-01T00:00:00.5Z\n",
        {"a": "rest"},
    ),
}


@pytest.mark.parametrize(("content", "homes"), GOOD.values(), ids=GOOD)
def test_a_good_file_is_imported(policy: Path, content: str | bytes, homes: dict[str, str]) -> None:
    file = policy.with_name("rows")
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    result = run("directory", "import", policy, file)
    assert result.exit_code == 0, result.output
    if not homes:
        assert "nothing to import" in result.stdout
        return
    for subject, home in homes.items():
        assert home_of(policy, subject) == home
    assert len(exported(policy).splitlines()) == len(homes) + 1


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
@example(b'subject,home\n"')
@example(b"{")
@example(b"\xff\xfe")
def test_whatever_the_bytes_there_is_no_traceback(policy: Path, content: bytes) -> None:
    file = policy.with_name("rows")
    for beginning in (b"", b"subject,home\n", b"subject,home,from,reason\n", b'{"subject": "a", "home": "eu"}\n'):
        file.write_bytes(beginning + content)
        result = run("directory", "preview", policy, file)
        assert result.exit_code in (0, 1)
        assert ("mistake" in result.stderr) == (result.exit_code == 1)


@pytest.mark.parametrize("file", ["none.csv", ".", "a\0b"])
def test_a_file_that_cannot_be_read_is_usage(policy: Path, file: str) -> None:
    for command in ("import", "preview"):
        result = run("directory", command, policy, str(policy.parent / file))
        assert result.exit_code == 2
        assert "cannot be read" in result.stderr
