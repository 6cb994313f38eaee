"""Two programs and one set of sockets: how the new one asks, and what the old one says."""

import asyncio
import json
import os
import socket
import stat
from pathlib import Path

import pytest

from proxy.policy.settings import Bind, TcpBind, UnixBind
from proxy.server import succession
from proxy.server.binding import Bound
from proxy.server.listening import Key
from proxy.server.succession import ENVIRONMENT, Control, NoPredecessor, Succession, occupied, take_over
from tests.server.staged import until


class Old:
    """The program that runs."""

    def __init__(self, path: Path, why_not: str | None = None) -> None:
        self.why_not = why_not
        self.happened: list[str] = []
        self.sockets: list[tuple[Key, Bound]] = []
        self.admin: tuple[Bind, socket.socket] | None = None
        self.succession = Succession(
            lambda: self.sockets,
            lambda: self.admin,
            lambda: self.why_not,
            lambda: self.happened.append("begun"),
            lambda: self.happened.append("failed"),
            lambda pid: self.happened.append(f"leave {pid}"),
        )
        self.control = Control(path, self.succession.serve)

    def listen(self, key: Key, lent: bool = False) -> int:
        sock = socket.create_server(("127.0.0.1", 0))
        self.sockets.append((key, Bound(TcpBind("127.0.0.1", 0), sock, lent)))
        return int(sock.getsockname()[1])

    def close(self) -> None:
        self.control.close()
        for _, bound in self.sockets:
            bound.sock.close()
        if self.admin is not None:
            self.admin[1].close()


async def test_all_sockets_change_hands_with_their_keys(tmp_path: Path) -> None:
    path = tmp_path / "control"
    old = Old(path)
    keyed: list[Key] = [
        TcpBind("127.0.0.1", 8080),
        ("edge", TcpBind("::1", 0), 1),
        UnixBind(tmp_path / "edge.sock"),
    ]
    ports = {key: [old.listen(key) for _ in range(150)] for key in keyed}
    old.admin = TcpBind("::1", 0), socket.create_server(("127.0.0.1", 0))
    inherited = await take_over(path)
    assert {key: [b.sock.getsockname()[1] for b in bounds] for key, bounds in inherited.sockets.items()} == ports
    assert inherited.admin is not None
    assert inherited.admin[0] == TcpBind("::1", 0)
    assert inherited.admin[1].getsockname() == old.admin[1].getsockname()
    assert old.happened == ["begun"]
    await inherited.serving()
    assert old.happened == ["begun", f"leave {os.getpid()}"]
    inherited.admin[1].close()
    for bounds in inherited.sockets.values():
        for bound in bounds:
            assert not bound.lent
            bound.sock.close()
    with pytest.raises(NoPredecessor, match="another program is taking over already"):
        await take_over(path)
    old.close()
    assert not path.exists()


async def test_a_new_program_that_ends_before_it_serves_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "control"
    old = Old(path)
    inherited = await take_over(path)
    with pytest.raises(NoPredecessor, match="another program is taking over already"):
        await take_over(path)
    inherited._channel.close()
    await until(lambda: old.happened == ["begun", "failed"])
    again = await take_over(path)
    await again.serving()
    assert old.happened[2:] == ["begun", f"leave {os.getpid()}"]
    old.close()


async def test_a_program_that_must_not_leave_says_why(tmp_path: Path) -> None:
    path = tmp_path / "control"
    old = Old(path, "it is reading its policy")
    with pytest.raises(NoPredecessor, match="the program that runs does not give way: it is reading its policy"):
        await take_over(path)
    assert old.happened == []
    old.close()


async def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(NoPredecessor, match="the policy has no `control`"):
        await take_over(None)
    with pytest.raises(NoPredecessor, match=r"nobody answers at .*control: no such file or directory"):
        await take_over(tmp_path / "control")
    assert not occupied(tmp_path / "control")


async def test_a_program_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(succession, "PATIENCE", 0.05)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "control"))
        silent.listen()
        with pytest.raises(NoPredecessor, match="did not answer within"):
            await take_over(tmp_path / "control")


@pytest.mark.parametrize(
    "said", [b"\xff", b"{}", json.dumps({"serving": 1}).encode(), json.dumps({"take": 99}).encode()]
)
async def test_what_makes_no_sense_changes_nothing(tmp_path: Path, said: bytes) -> None:
    path = tmp_path / "control"
    old = Old(path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.send(len(said).to_bytes(4, "big") + b"\0\0" + said)
        await asyncio.sleep(0.02)
    (await take_over(path))._channel.close()
    await until(lambda: old.happened == ["begun", "failed"])
    old.close()


async def test_a_parent_hands_over_through_a_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = Old(tmp_path / "control")
    port = old.listen(TcpBind("127.0.0.1", 1), lent=True)
    ours, theirs = socket.socketpair()
    old.succession.serve(ours)
    monkeypatch.setenv(ENVIRONMENT, str(theirs.detach()))
    inherited = await take_over(None)
    assert ENVIRONMENT not in os.environ
    ((bound,),) = inherited.sockets.values()
    assert bound.sock.getsockname()[1] == port
    assert bound.lent, "whoever opened it for the old program opens it again"
    bound.sock.close()
    await inherited.serving()
    old.close()


async def test_the_control_socket_is_its_owners_alone_and_always_there(tmp_path: Path) -> None:
    path = tmp_path / "control"
    first = Old(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert occupied(path)
    second = Old(path)
    assert os.listdir(tmp_path) == ["control"]
    first.close()
    assert occupied(path), "the successor's file is left alone"
    second.close()
    assert not path.exists()


async def test_a_peer_of_another_user_is_not_spoken_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "control"
    old = Old(path)
    monkeypatch.setattr(succession, "_peer", lambda sock: 65534)
    with pytest.raises(NoPredecessor, match="the program that runs ended meanwhile"):
        await take_over(path)
    assert old.happened == []
    old.close()
