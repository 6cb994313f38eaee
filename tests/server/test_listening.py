"""The master's sockets: shares, what stays, what goes, what comes from outside."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.settings import Bind, Listener, TcpBind, UnixBind
from proxy.server.binding import BindError, Bound
from proxy.server.listening import Sockets, by_address, keys, share

LOCAL = TcpBind("127.0.0.1", 0)


def listener(name: str, *binds: Bind) -> Listener:
    return Listener(name, binds or (LOCAL,), "http", (), "1.2")


@contextlib.contextmanager
def sockets(*listeners: Listener, workers: int = 2) -> Iterator[Sockets]:
    found = Sockets(workers)
    found.commit(found.prepare(listeners))
    try:
        yield found
    finally:
        found.close()


def port(found: Sockets, name: str) -> int:
    return int(found.addresses()[name][0].rpartition(":")[2])


def answers(number: int) -> bool:
    with socket.socket() as client:
        client.settimeout(5)
        return client.connect_ex(("127.0.0.1", number)) == 0


def test_each_worker_has_a_socket_of_its_own_on_the_same_port() -> None:
    with sockets(listener("edge"), workers=3) as found:
        (bounds,) = found.all().values()
        assert len({bound.sock.fileno() for bound in bounds}) == 3
        assert {bound.sock.getsockname()[1] for bound in bounds} == {port(found, "edge")}


def test_a_dead_workers_queue_is_kept() -> None:
    with sockets(listener("edge"), workers=2) as found:
        (bounds,) = found.all().values()
        clients = [socket.create_connection(("127.0.0.1", port(found, "edge"))) for _ in range(40)]
        for bound in bounds:
            bound.sock.dup().close()  # a worker that had it died
        met = []
        for bound in bounds:
            with contextlib.suppress(BlockingIOError):
                while True:
                    met.append(bound.sock.accept()[0])
        assert len(met) == 40
        for each in (*clients, *met):
            each.close()


def test_a_reload_keeps_what_stays_and_closes_what_goes() -> None:
    with sockets(listener("stays"), listener("goes")) as found:
        stays, goes = port(found, "stays"), port(found, "goes")
        found.commit(found.prepare([listener("stays"), listener("comes")]))
        assert port(found, "stays") == stays
        assert answers(stays)
        assert answers(port(found, "comes"))
        assert not answers(goes)


def test_what_was_prepared_and_abandoned_is_closed() -> None:
    with sockets(listener("edge")) as found:
        prepared = found.prepare([listener("edge"), listener("new")])
        number = prepared.plan["new", LOCAL, 0][1][0].sock.getsockname()[1]
        assert answers(number)
        prepared.abandon()
        assert not answers(number)
        assert answers(port(found, "edge"))


def test_a_bind_that_fails_opens_nothing() -> None:
    with sockets(listener("edge")) as found:
        taken = TcpBind("127.0.0.1", port(found, "edge"))
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(BindError, match=r"listener new: cannot bind .*: address already in use"):
            found.prepare([listener("edge"), listener("new", LOCAL, taken)])
        assert len(os.listdir("/proc/self/fd")) == before


def test_two_that_want_the_same() -> None:
    one = TcpBind("127.0.0.1", 1)
    with pytest.raises(BindError, match=r"listener two: cannot bind 127\.0\.0\.1:1: listener one has it"):
        keys([listener("one", one), listener("two", one)])
    assert len(keys([listener("one", LOCAL, LOCAL), listener("two", LOCAL)])) == 3


@given(st.integers(1, 12), st.integers(1, 12))
def test_every_socket_is_served_and_every_worker_serves(many: int, workers: int) -> None:
    bounds = tuple(Bound(LOCAL, None) for _ in range(many))  # type: ignore[arg-type]
    shares = [share({LOCAL: ("edge", bounds)}, each, workers)[LOCAL] for each in range(workers)]
    assert {id(bound) for each in shares for bound in each} == set(map(id, bounds))
    assert all(shares)
    if many >= workers:
        assert sum(map(len, shares)) == many


def test_inherited_sockets_serve_and_the_rest_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "edge.sock"
    with sockets(listener("edge"), listener("gone"), listener("local", UnixBind(path)), workers=2) as old:
        given_over = {
            key: [Bound(bound.bind, bound.sock.dup()) for bound in bounds] for key, bounds in old.all().items()
        }
        edge, gone = port(old, "edge"), port(old, "gone")
        new = Sockets(3, given_over)
        new.commit(new.prepare([listener("edge"), listener("local", UnixBind(path))]))
        old.release()
        assert port(new, "edge") == edge
        assert len(new.all()["edge", LOCAL, 0]) == 3, "one more was opened for the third worker"
        assert answers(edge)
        assert not answers(gone)
        with socket.socket(socket.AF_UNIX) as client:
            assert client.connect_ex(str(path)) == 0
        new.close()
    assert not path.exists()
    assert not answers(edge)


def test_a_socket_from_outside_that_does_not_share_its_port_is_shared_by_all() -> None:
    outside = socket.create_server(("127.0.0.1", 0))
    bind = by_address(outside)
    assert isinstance(bind, TcpBind)
    found = Sockets(4, {bind: [Bound(bind, outside, lent=True)]})
    found.commit(found.prepare([listener("edge", bind)]))
    assert len(found.all()[bind]) == 1
    assert answers(bind.port)
    found.close()


def test_another_program_on_the_port_is_noticed_though_it_would_share() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(BindError, match="address already in use"):
            Sockets(2).prepare([listener("edge", TcpBind("127.0.0.1", other.getsockname()[1]))])


def test_addresses_of_sockets_from_outside(tmp_path: Path) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as six:
        assert by_address(six) == TcpBind("::1", six.getsockname()[1])
    with socket.socket(socket.AF_UNIX) as unix:
        assert by_address(unix) is None
        unix.bind(str(tmp_path / "s"))
        assert by_address(unix) == UnixBind(tmp_path / "s")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
        assert by_address(datagram) is None


def test_a_unix_socket_of_a_supervisor_keeps_its_file(tmp_path: Path) -> None:
    path = tmp_path / "edge.sock"
    outside = socket.socket(socket.AF_UNIX)
    outside.bind(str(path))
    outside.listen()
    found = Sockets(2, {UnixBind(path): [Bound(UnixBind(path), outside, lent=True)]})
    found.commit(found.prepare([listener("edge", UnixBind(path))]))
    found.close()
    assert path.exists()
