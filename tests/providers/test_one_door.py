"""One function in the tree opens provider sockets. (What aiohttp opens, key sets and the like, is no provider.)"""

import ast
from collections import Counter
from pathlib import Path

import proxy

OPENERS = {
    "create_connection",
    "create_unix_connection",
    "create_datagram_endpoint",
    "open_connection",
    "open_unix_connection",
    "sock_connect",
    "connect_ex",
    "start_tls",
    "subprocess_exec",
    "HTTPConnection",
    "HTTPSConnection",
    "urlopen",
}

ROOT = Path(proxy.__file__).parent


def mentions(source):
    """The openers that a module names in any way: called, passed on, imported."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in OPENERS:
            yield node.attr
        elif isinstance(node, ast.Name) and node.id in OPENERS:
            yield node.id
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names if alias.name in OPENERS)
        elif isinstance(node, ast.Constant) and node.value in OPENERS:
            yield node.value


def test_the_search_finds_them_however_they_are_written():
    assert list(mentions("async def f(loop): await loop.create_connection(1)")) == ["create_connection"]
    assert list(mentions("from asyncio import open_connection as o")) == ["open_connection"]
    assert list(mentions("getattr(loop, 'sock_connect')")) == ["sock_connect"]
    assert list(mentions("sock.getpeername()")) == []


def test_only_connect_opens_connections():
    found = {
        str(path.relative_to(ROOT)): Counter(mentions(path.read_text()))
        for path in ROOT.rglob("*.py")
        if any(mentions(path.read_text()))
    }
    # The demonstration plays the clients: what it connects to is the proxy.
    assert found.pop("cli/demonstration/client.py") == Counter(open_connection=1)
    # The dial makes transports of what `connect` opened.
    assert found == {
        "providers/connect.py": Counter(connect_ex=1),
        "providers/dial.py": Counter(create_connection=1, start_tls=1),
    }
