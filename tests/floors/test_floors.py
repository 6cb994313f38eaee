"""The shape of the code, held by reading it: floors, what floor 0 may know, names, lengths.

Imports point down only, and packages of one floor do not import each other. All imports count, those inside
functions and under TYPE_CHECKING too: a type that is needed is a dependency.
"""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.floors.reading import ROOT, Import, all_imports, imports_of, parsed, sources

FLOORS = {
    "policy": 0,
    "config": 1,
    "wire": 1,
    "identity": 1,
    "providers": 1,
    "seal": 1,
    "telemetry": 1,
    "http1": 2,
    "tcp": 2,
    "admin": 2,
    "server": 3,
    "cli": 4,
}

# No clock, socket, file or randomness of its own, and none of the libraries that bring them.
NOT_ON_FLOOR_0 = frozenset(
    (
        *("asyncio", "socket", "ssl", "select", "selectors", "threading", "multiprocessing", "concurrent"),
        *("subprocess", "signal", "time", "random", "secrets", "uuid"),
        *("aiohttp", "uvloop", "httptools", "yaml", "pydantic", "prometheus_client", "click", "rich", "plotext"),
        *("cryptography", "jwt", "maxminddb", "iptocc"),
    )
)

NAMES_THAT_SAY_NOTHING = frozenset(
    ("util", "utils", "helper", "helpers", "common", "manager", "managers", "base", "misc", "shared")
)

WORDS_NOT_OURS = frozenset({"upstream", "upstreams", "backend", "backends", "region", "regions"})

LISTED_ABOVE, REFUSED_ABOVE = 350, 450
"""Lines of a file."""


def package_of(module: str) -> str | None:
    """The package under proxy/ that holds a module; None for what is not ours, and for proxy itself."""
    parts = module.split(".")
    return parts[1] if parts[0] == "proxy" and len(parts) > 1 else None


def breaks_the_floors(found: Import) -> bool:
    importer, imported = package_of(found.importer), package_of(found.imported)
    if imported not in FLOORS or imported == importer:
        return False
    return importer is None or FLOORS[imported] >= FLOORS[importer]


@pytest.mark.parametrize(
    ("importer", "statement", "wrong"),
    [
        ("proxy.wire.head", "from proxy.policy.facts import Facts", False),
        ("proxy.policy.facts", "from proxy.wire import head", True),
        ("proxy.wire.head", "import proxy.identity.evidence", True),
        ("proxy.wire.head", "from ..http1 import plane", True),
        ("proxy.wire.head", "from . import fields", False),
        ("proxy.wire.head", "if TYPE_CHECKING:\n    from proxy.cli import serve", True),
        ("proxy.wire.head", "def late():\n    from proxy.cli import serve", True),
        ("proxy.cli.serve", "from proxy.server import run", False),
        ("proxy", "from proxy.policy import decide", True),
        ("proxy.wire.head", "from proxy import http1", True),
        ("proxy.wire.head", "from proxy import __version__", False),
    ],
)
def test_the_reader_sees_what_breaks_the_floors(importer: str, statement: str, wrong: bool) -> None:
    found = list(imports_of(importer, ast.parse(statement), package=False))
    assert found
    assert any(breaks_the_floors(one) for one in found) is wrong


def test_every_package_has_a_floor() -> None:
    packages = {path.name for path in (ROOT / "proxy").iterdir() if path.is_dir() and any(path.rglob("*.py"))}
    assert "policy" in packages
    assert packages <= set(FLOORS)
    assert {path.name for path in (ROOT / "proxy").glob("*.py")} <= {"__init__.py", "__main__.py"}


def test_imports_point_down_only() -> None:
    assert [str(found) for found in all_imports() if breaks_the_floors(found)] == []


def test_floor_0_knows_no_clock_socket_file_format_or_chance() -> None:
    floor_0 = [found for found in all_imports() if FLOORS.get(package_of(found.importer) or "") == 0]
    assert floor_0
    assert [str(found) for found in floor_0 if found.imported.split(".")[0] in NOT_ON_FLOOR_0] == []


_IMPORT_EACH = """
import importlib, json, os, sys, traceback
libraries, modules = json.load(sys.stdin)
for library in libraries:
    importlib.import_module(library)
assert not any(name.partition(".")[0] == "proxy" for name in sys.modules)
failures = {}
for module in modules:
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            importlib.import_module(module)
        except BaseException:
            os.write(writing, traceback.format_exc()[-2000:].encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    if said:
        failures[module] = said.decode()
json.dump(failures, sys.stdout)
"""


def test_each_module_imports_alone_with_warnings_as_errors() -> None:
    # One interpreter that has loaded the libraries and nothing of ours, forked once a module: as good as a fresh
    # one each for finding cycles, in a tenth of the time.
    imported = {found.imported.split(".")[0] for found in all_imports()}
    libraries = sorted(imported - set(sys.stdlib_module_names) - {"proxy"})
    modules = [name for name in sources() if not name.endswith(".__main__")]
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", _IMPORT_EACH],
        cwd=ROOT,
        input=json.dumps([libraries, modules]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == {}


def test_no_module_has_a_name_that_says_nothing() -> None:
    parts = {(name, part.lower()) for name in sources() for part in name.split(".")}
    assert [name for name, part in sorted(parts) if part in NAMES_THAT_SAY_NOTHING] == []


def defined_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """What a module names itself: functions, classes, arguments, variables, attributes that it sets."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


def test_one_word_for_one_thing() -> None:
    wrong = [
        f"{name}, line {line}: {identifier}"
        for name, path in sources().items()
        for line, identifier in defined_names(parsed(path))
        if WORDS_NOT_OURS & set(identifier.lower().split("_"))
    ]
    assert wrong == []


def test_files_are_short(capsys: pytest.CaptureFixture[str]) -> None:
    paths = [path for folder in ("proxy", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in paths}
    long = {name: length for name, length in sorted(lengths.items()) if length > LISTED_ABOVE}
    if long:
        with capsys.disabled():
            print(f"\nover {LISTED_ABOVE} lines: " + ", ".join(f"{name} ({length})" for name, length in long.items()))
    assert {name: length for name, length in long.items() if length > REFUSED_ABOVE} == {}
