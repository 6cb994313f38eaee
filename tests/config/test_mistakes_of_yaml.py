"""What is wrong before a value means anything: YAML, keys, variables, shapes."""

from pathlib import Path

import pytest

from proxy.config import PolicyRefused, load
from tests.config.marked import assert_marked, completed, refused, write

ROWS = [
    # YAML
    ("zones: [a\nversion▲: 1", "did not find expected ',' or ']', see also line 1"),
    ("zones: {eu: {countries: [EEA]}\n▲version: 1", "did not find expected ',' or '}', see also line 1"),
    ("a: b▲: c", "mapping values are not allowed"),
    ("zones: {eu: {countries: [*▲]}}", 'quote what begins with a star: "*"'),
    ("classes:\n  - {class: p, when: {host: *▲.suffix.example}}", "quote what begins with a star"),
    ("zones:\n▲\teu: {countries: [EEA]}", "indent with spaces"),
    ("log: {path: ▲'a", "while scanning a quoted scalar"),
    ("log: {path: $▲{X}}", "quote what holds a variable"),
    ("log: {path: a▲\x07b}", "U+0007"),
    ("zones: &▲", "did not find expected"),
    # plain YAML only
    ("zones: ▲&all {eu: {countries: [EEA]}, cn: {countries: [CN]}, rest: {countries: [BR]}}", "anchor `&all`"),
    ("log: {path: ▲*all}", "alias `*all`"),
    ("log:\n  ▲<<: {path: x}", "a merge key"),
    ("version: ▲!!str 1", "tag `tag:yaml.org,2002:str`, leave it out"),
    ("log: {path: ▲!secret x}", "tag `!secret`"),
    ("log: ▲!!python/object:os.system {path: x}", "leave it out"),
    ("log:\n  ? ▲[a, b]\n  : c", "a key must be text"),
    ("x: " + "[" * 31 + "▲[" + "]" * 32, "nested too deeply"),
    # keys
    ("log: {path: x, ▲path: y}", "duplicate key `path`, line 1 has it already"),
    (
        "zones: {cn: {countries: [CN]}, rest: {countries: [BR]},\n  eu: {countries: [EEA]}, ▲eu: {countries: [DE]}}",
        "line 2",
    ),
    ("log: {path: x}\n▲log: {path: y}", "duplicate key `log`"),
    ("▲zone: {}", "unknown key `zone`, did you mean `zones`?"),
    ("▲guarantee: []", "did you mean `guarantees`?"),
    ("▲Rules: []", "did you mean `rules`?"),
    ("▲frobnicate: 1", "its keys are version, zones"),
    ("log: {▲pathh: x}", "did you mean `path`?"),
    ("limits: {▲heads: 1KiB}", "did you mean `head`?"),
    ("timeouts: {▲firstbyte: 3s}", "did you mean `first_byte`?"),
    # values
    ("log: {path: ▲}", "a value is missing"),
    ("log:\n  path:▲\n  subject: true", "a value is missing"),
    ("subject:\n  actors:\n  -▲\n  - support", "a value is missing"),
    ("rules:\n  - name: all\n    when:\n      home:▲\n    allow: any", "a value is missing, write one, or leave"),
    ("log: {path: ▲''}", "the text is empty"),
    ("log: {path: ▲[x]}", "expected a single value, found a list"),
    ("log: {path: ▲{x: y}}", "expected a single value, found a mapping"),
    ("log: ▲x", "expected a mapping, found a single value, its keys are path, subject"),
    ("log: ▲[]", "expected a mapping, found a list"),
    ("zones: ▲x\nproviders: {}\nrules:\n  - {name: a, allow: any}", "expected a mapping"),
    ("rules: ▲{name: a, allow: any}", "expected a list, found a mapping"),
    ("rules: ▲all", "expected a list, found a single value"),
    ("rules: ▲[]", "the list is empty"),
    ("rules:\n  - ▲all", "expected a mapping, found a single value"),
    # version
    ("version: ▲2", "version `2` is not one that this program reads, write `version: 1`"),
    ("version: ▲1.0", "version `1.0`"),
    ("version: ▲one", "version `one`"),
    # variables
    ("log: {path: ▲'${NOBODY_SET_IT}'}", "environment variable `NOBODY_SET_IT` is not set"),
    ("log: {path: ▲'x-${SET'}", "`${` without its `}`"),
    ("log: {path: ▲'${a-b}'}", "`${a-b}` names no environment variable"),
    ("log: {path: ▲'${}'}", "names no environment variable"),
    ("log: {▲'${SET}': x}", "unknown key `${SET}`"),
    # known, and not built
    ("▲keys: {}", "`keys` is not available in this version"),
]


@pytest.mark.parametrize(("text", "said"), ROWS, ids=[row[0][:50] for row in ROWS])
def test_each_mistake_is_said_at_its_place(tmp_path: Path, text: str, said: str) -> None:
    assert_marked(tmp_path, text, said, SET="never-to-be-seen")


def test_a_missing_version_is_said_at_the_top(tmp_path: Path) -> None:
    path = write(tmp_path, completed("").replace("version: 1\n", ""))
    with pytest.raises(PolicyRefused) as caught:
        load(path, {}, 0)
    assert [str(note) for note in caught.value.mistakes] == [
        f"{path}:1:1: `version` is missing, add it: The format's version"
    ]


def test_a_second_document(tmp_path: Path) -> None:
    path = write(tmp_path, completed("") + "---\nversion: 1\n")
    line = completed("").count("\n") + 1
    assert_refused(path, f"{path}:{line}:1: a second document, one file holds one policy")


@pytest.mark.parametrize("data", [b"", b"\n\n", b"# only a comment\n", b"---\n"])
def test_an_empty_file_is_said_so(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "policy.yaml"
    path.write_bytes(data)
    assert_refused(path, "empty" if b"---" not in data else "a value is missing")


def test_bytes_that_are_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_bytes(b"version: 1\nlog: {path: \xff}\n")
    assert_refused(path, f"{path}:2:13: the file is not UTF-8")


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + completed("").encode())
    load(path, {}, 0)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert_refused(tmp_path / "none.yaml", "none.yaml:1:1: cannot be read: No such file or directory")
    assert_refused(tmp_path, "cannot be read: Is a directory")
    assert_refused(tmp_path / "a\0b", "cannot be read: not a file's name")


def test_a_file_of_any_size_is_bounded() -> None:
    assert_refused(Path("/dev/zero"), "larger than 16 MiB")


def assert_refused(path: Path, said: str) -> None:
    with pytest.raises(PolicyRefused) as caught:
        load(path, {}, 0)
    assert len(caught.value.mistakes) == 1
    assert said in str(caught.value.mistakes[0])


def test_everything_at_once_and_in_the_files_order(tmp_path: Path) -> None:
    text = """\
version: ▲2
▲zonez: {}
zones:
  ▲EU: {countries: [EEA, ▲de, ▲XX]}
  fr: {countries: [▲FR]}
  x: {countries: ["*"], ▲excpt: [DE]}
  y: {countries: [▲"*"]}
providers:
  a: {operator: A, zone: ▲uropa, endpoints: [▲"http://a.example", ▲"https://b/x"], host: ▲foo, ▲seal: {}}
rules:
  - name: a
    when: {home: ▲qq, country: ▲no, path: ▲/a/../b, client: ▲10.0.0.1/8}
    allow: {▲zone: fr}
    from: ▲2020-01-01
  - {name: ▲a, only: ▲[]}
guarantees:
  - ▲{only: fr, never: any}
timeouts: {head: ▲3, idle: ▲'${MISSING}'}
"""
    assert_marked(
        tmp_path,
        text,
        "version `2`",
        "unknown key `zonez`",
        "`EU` is no name",
        "write DE",
        "`XX` is no country code",
        "`FR` is in zone `EU` already",
        "did you mean `except`?",
        "a second zone for whatever",
        "`uropa` is no zone",
        "is not encrypted",
        "has a path",
        "`foo` is not among the choices",
        "`seal` is not available in this version",
        "`qq` is no zone",
        "write NO",
        "has two readings",
        "write 10.0.0.0/8",
        "did you mean `zones`?",
        "is a day, not a moment",
        "duplicate rule `a`",
        "the list is empty",
        "has both `only` and `never`",
        "`3` is no duration",
        "`MISSING` is not set",
    )


def test_secrets_are_never_shown_whatever_is_wrong_with_them(tmp_path: Path) -> None:
    secret = "hunter2-and-more"
    spots = [
        "log: {path: x, subject: '${S}'}",
        "limits: {head: '${S}'}",
        "timeouts: {head: '${S}'}",
        "admin: {bind: '${S}'}",
        "version: '${S}'",
        "workers: '${S}'",
        "geoip: {database: '${S}'}",
        "rules:\n  - {name: '${S} ', allow: '${S}', from: '${S}', when: {home: '${S}', path: '${S}'}}",
        "rules:\n  - {name: a, authority: '${S}', because: '${S}', only: [{providers: '${S}'}]}",
        "rules:\n  - {name: a, allow: {operators: '${S}'}, when: {host: '${S}/', client: '${S}', country: '${S}'}}",
        "providers:\n  a: {operator: A, zone: '${S}', endpoints: ['https://u:${S}@x', 'http://${S}.example', '${S}']}",
        "providers:\n  a: {operator: ' ', zone: eu, endpoints: ['https://x'], headers: {A: '${S}\\n', B: \"${S}\\n\"}}",
        "providers:\n  a: {operator: A, zone: eu, endpoints: ['https://x'], tls: {ca: '${S}', pins: '${S}'}}",
        "subject:\n  actors: ['${S}!']\n  sources: [{jwt: {jwks: '${S}', issuer: '${S}', audience: a}}]",
        "listeners:\n  - {name: a, bind: ['${S}', '127.0.0.1:${S}'], protocol: '${S}'}",
        "classes:\n  - {class: '${S}', when: {listener: x}}\n  - {class: '${S}', when: {listener: x}}",
    ]
    for text in spots:
        for value in (secret, f"{secret}\r\n", f"/{secret}", f"{secret}.example:99999", secret.upper()):
            notes = refused(tmp_path, text, S=value)
            shown = "\n".join(map(str, notes)) + repr(notes)
            assert "hunter2" not in shown.lower(), text
            assert "${S}" in shown or "value" in shown or "text" in shown or "no such" in shown.lower() or shown
