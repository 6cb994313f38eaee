"""Listening sockets of every kind, and what stands in their way."""

import os
import socket
import stat
from pathlib import Path

import pytest

from proxy.policy.settings import Bind, TcpBind, UnixBind
from proxy.server.binding import BindError, open_bind


def reaches(family: socket.AddressFamily, address: str | tuple[str, int]) -> bool:
    with socket.socket(family) as client:
        client.settimeout(5)
        return client.connect_ex(address) == 0


@pytest.mark.parametrize(
    ("bind", "text"),
    [
        (TcpBind("0.0.0.0", 8443), "0.0.0.0:8443"),
        (TcpBind("::", 443), "[::]:443"),
        (UnixBind(Path("/run/edge.sock")), "unix:/run/edge.sock"),
    ],
)
def test_binds_read_as_in_the_policy(bind: Bind, text: str) -> None:
    assert str(bind) == text


def test_port_0_tells_what_the_kernel_chose() -> None:
    (bound,) = open_bind("edge", TcpBind("127.0.0.1", 0))
    port = bound.sock.getsockname()[1]
    assert bound.text() == f"127.0.0.1:{port}"
    assert reaches(socket.AF_INET, ("127.0.0.1", port))
    bound.close()
    assert not reaches(socket.AF_INET, ("127.0.0.1", port))


def test_ipv6_is_ipv6_alone() -> None:
    (bound,) = open_bind("edge", TcpBind("::", 0))
    port = bound.sock.getsockname()[1]
    assert reaches(socket.AF_INET6, ("::1", port))
    assert not reaches(socket.AF_INET, ("127.0.0.1", port))
    (both,) = open_bind("edge", TcpBind("0.0.0.0", port))
    both.close()
    bound.close()


def test_a_bind_that_was_just_closed_opens_again() -> None:
    (bound,) = open_bind("edge", TcpBind("127.0.0.1", 0))
    port = bound.sock.getsockname()[1]
    with socket.create_connection(("127.0.0.1", port)):
        met, _ = bound.sock.accept()
        met.close()
        bound.close()
        open_bind("edge", TcpBind("127.0.0.1", port))[0].close()


def test_a_taken_port_is_told_with_listener_and_bind() -> None:
    (bound,) = open_bind("edge", TcpBind("127.0.0.1", 0))
    port = bound.sock.getsockname()[1]
    with pytest.raises(BindError) as caught:
        open_bind("inner", TcpBind("127.0.0.1", port))
    assert str(caught.value) == f"listener inner: cannot bind 127.0.0.1:{port}: address already in use"
    bound.close()


def test_an_address_of_another_machine() -> None:
    with pytest.raises(BindError, match=r"listener edge: cannot bind 192\.0\.2\.1:0: cannot assign requested address"):
        open_bind("edge", TcpBind("192.0.2.1", 0))


def test_unix_sockets_are_for_owner_and_group(tmp_path: Path) -> None:
    path = tmp_path / "edge.sock"
    before = os.umask(0o077)
    try:
        (bound,) = open_bind("edge", UnixBind(path))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert reaches(socket.AF_UNIX, str(path))
    bound.close()
    assert not path.exists()


def test_a_socket_left_by_a_dead_program_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "edge.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    assert path.exists()
    (bound,) = open_bind("edge", UnixBind(path))
    assert reaches(socket.AF_UNIX, str(path))
    bound.close()


def test_a_socket_that_answers_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "edge.sock"
    (bound,) = open_bind("edge", UnixBind(path))
    with pytest.raises(BindError, match="address already in use"):
        open_bind("edge", UnixBind(path))
    assert reaches(socket.AF_UNIX, str(path))
    bound.close()


def test_another_kind_of_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "edge.sock"
    path.write_text("precious")
    with pytest.raises(BindError, match="address already in use"):
        open_bind("edge", UnixBind(path))
    assert path.read_text() == "precious"


def test_closing_leaves_the_successors_file(tmp_path: Path) -> None:
    path = tmp_path / "edge.sock"
    (bound,) = open_bind("edge", UnixBind(path))
    path.unlink()
    (successor,) = open_bind("edge", UnixBind(path))
    bound.close()
    assert reaches(socket.AF_UNIX, str(path))
    successor.close()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BindError, match="no such file or directory"):
        open_bind("edge", UnixBind(tmp_path / "gone" / "edge.sock"))
