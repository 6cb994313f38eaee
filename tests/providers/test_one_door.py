"""One function in the tree opens provider sockets, and no other permit than traffic's reaches a pool.

(What aiohttp opens, key sets and the like, is no provider.)
"""

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

# Who may hold a permit for checks: the floor that mints it, what opens a socket with it, and what checks.
HOLDERS = {
    "policy/decision.py",
    "providers/connect.py",
    "providers/dial.py",
    "providers/checking.py",
    "providers/probing.py",
}
POOLING = {"take", "give", "pool", "Pool"}

ROOT = Path(proxy.__file__).parent


def mentions(source, wanted=OPENERS):
    """What of these a module names in any way: called, passed on, imported."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in wanted:
            yield node.attr
        elif isinstance(node, ast.Name) and node.id in wanted:
            yield node.id
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names if alias.name in wanted)
        elif isinstance(node, ast.Constant) and node.value in wanted:
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
    # `domicile status` is another process than the proxy, and asks its admin endpoints.
    assert found.pop("cli/watching/admin.py") == Counter(HTTPConnection=3, HTTPSConnection=1)
    # The dial makes transports of what `connect` opened.
    assert found == {
        "providers/connect.py": Counter(connect_ex=1),
        "providers/dial.py": Counter(create_connection=1, start_tls=1),
    }


def test_a_permit_for_checks_is_held_by_checks_alone_which_know_no_pool():
    holders = {
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.py")
        if any(mentions(path.read_text(), {"ProbePermit", "probe_permits"}))
    }
    # Whoever puts the two together when a policy is loaded asks for permits and hands them on, unseen.
    assert {each for each in holders if not each.startswith("server/")} <= HOLDERS
    for each in holders - {"policy/decision.py"}:
        if each.startswith("providers/"):
            assert not set(mentions((ROOT / each).read_text(), POOLING)), each
