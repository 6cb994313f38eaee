"""`domicile status`: what it makes of answers, and the whole program against a proxy that runs."""

import codecs
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from proxy.admin import Status
from proxy.cli import domicile
from proxy.cli.watching import figures
from proxy.cli.watching.admin import Admin, admin_of, read_admin
from proxy.cli.watching.history import KEPT, History
from proxy.cli.watching.view import picture
from proxy.policy.settings import TcpBind, UnixBind
from tests.admin.samples import CHINA, OWN, STATUS, durations
from tests.running import ROOT, Running, start
from tests.server.provided import Provider, get, provider

PATIENCE = 30.0

# -- what happened between answers


def later(status: Status, seconds: float, requests: int, to_client: int = 0, slow: int = 0) -> Status:
    """So many seconds and requests on; slow: how many of them took 0.5 s, the others 5 ms."""
    before = status.providers[0]
    came = durations(ms_5=requests - slow, ms_500=slow).counts
    counts = tuple(then + now for then, now in zip(before.first_byte.counts, came, strict=True))
    after = replace(
        before,
        requests=before.requests + requests,
        to_client=before.to_client + to_client,
        first_byte=replace(before.first_byte, counts=counts),
    )
    load = replace(
        status.load, requests=status.load.requests + requests, denials={**status.load.denials, "no-rule": 10 + requests}
    )
    return replace(status, uptime=status.uptime + seconds, providers=(after, *status.providers[1:]), load=load)


def test_the_first_answer_gives_figures_since_the_start():
    history = History()
    history.add(STATUS)

    assert history.seconds is None
    assert history.provider_rate("china-telecom", lambda each: each.requests) == 200 / 12.5
    assert history.first_byte("china-telecom").p50 == CHINA.first_byte.p50
    assert history.medians("china-telecom") == []


def test_the_second_gives_figures_of_the_time_between():
    history = History()
    history.add(STATUS)
    history.add(later(STATUS, 2.0, 100, 3000, slow=100))

    assert history.seconds == 2.0
    assert history.rate(lambda each: each.load.requests) == 50
    assert history.provider_rate("china-telecom", lambda each: each.to_client) == 1500
    assert history.provider_rate("own-eu", lambda each: each.to_client) == 0
    quantiles = history.first_byte("china-telecom")
    assert quantiles.p50 is not None
    assert 0.2 < quantiles.p50 <= 0.5
    assert history.first_byte("own-eu").p50 is None
    assert history.loop_lag().p99 is None


def test_medians_are_of_each_interval():
    history = History()
    status = STATUS
    for slow in (0, 0, 10):
        history.add(status)
        status = later(status, 1.0, 10, slow=slow)
    history.add(status)

    one, two, three = history.medians("china-telecom")
    assert one == two
    assert one is not None
    assert three is not None
    assert three > 10 * one


def test_another_program_begins_anew():
    history = History()
    history.add(STATUS)
    history.add(later(STATUS, 5, 10))
    history.add(replace(STATUS, uptime=1.0))

    assert history.seconds is None


def test_a_provider_that_is_new_had_counted_nothing():
    history = History()
    history.add(replace(STATUS, providers=(OWN,)))
    history.add(later(STATUS, 1.0, 10))

    assert history.provider_rate("china-telecom", lambda each: each.requests) == 210
    assert history.first_byte("china-telecom").p50 is not None
    assert history.provider_rate("gone", lambda each: each.requests) == 0


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=2 * KEPT))
def test_a_rate_is_that_of_the_answers_that_are_kept(steps):
    history, status = History(), STATUS
    history.add(status)
    for requests in steps:
        status = later(status, 0.5, requests)
        history.add(status)

    kept = steps[-(KEPT - 1) :]
    assert history.rate(lambda each: each.load.requests) == pytest.approx(sum(kept) / (len(kept) / 2))
    assert len(history.medians("china-telecom")) == len(kept)


# -- how it looks

PICTURE = """\
Domicile 0.1.0  up 20 s  2 of 4 workers  policy sha256:00
150 req/s  3 clients  5 of 64 under way  lag p99 -  (over 8 s)
! workers that died: 1

zone, provider  state       req/s to prov. to client    p50    p99 first byte
cn-mainland     healthy
  china-telecom healthy ⚑     150    0 B/s  1.5 MB/s 3.8 ms 482 ms ▁▁▁▁▁▁█▁
eu              down
  own-eu        down            0    0 B/s     0 B/s      -      -
elsewhere       no provider

denied  home-unknown 30  no-rule 410 (50/s)  rate-limited 2  shed 4
waiting  china-telecom 1

endpoint        provider      breaker   trips round trip evidence
ct2.example:443 china-telecom half-open     3     2.0 ms country-mismatch
eu.example:443  own-eu        open          1          - -
ct.example:443  china-telecom closed        0      31 ms ok
"""


def drawn(history: History, width: int, unicode: bool = True, note: str | None = None) -> str:
    console = Console(width=width, height=50, color_system=None, force_terminal=True)
    with console.capture() as captured:
        console.print(picture(history, unicode, note))
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def watched() -> History:
    history, status = History(), STATUS
    history.add(status)
    for requests, slow in ((100, 0),) * 6 + ((200, 200), (400, 0)):
        status = later(status, 1.0, requests, 10_000 * requests, slow)
        history.add(status)
    return history


def test_the_picture():
    assert drawn(watched(), 80) == PICTURE


def test_a_dull_terminal_gets_the_same_without_symbols():
    text = drawn(watched(), 80, unicode=False)

    assert text.isascii()
    assert "healthy !" in text


def test_where_it_is_narrow_names_give_way_to_figures():
    long = replace(CHINA, name="a-provider-of-a-very-long-name-" + "x" * 60)
    status = replace(
        STATUS, providers=(long,), zones=(replace(STATUS.zones[0], name="z" * 80, providers=(long.name,)),)
    )
    history = History()
    history.add(status)

    lines = drawn(history, 80).splitlines()

    assert max(map(len, lines)) <= 80
    (shown,) = [line for line in lines if line.startswith("  a-pro")]
    assert "400 kB/s" in shown
    assert "49 ms" in shown


def test_what_is_wrong_is_said_first():
    history = History()
    history.add(replace(STATUS, draining=True, log_problem="No space left on device", log_dropped=1200, restarts=0))

    text = drawn(history, 200, note="nobody answers").splitlines()

    assert text[2] == "! nobody answers  ! it is draining  ! access log: no space left on device  " + (
        "! log lines dropped: 1.2k"
    )


def test_nothing_that_is_wrong_is_not_mentioned():
    history = History()
    history.add(replace(STATUS, restarts=0, load=replace(STATUS.load, denials={}, shed=0, rate_limited=0, limit=0)))

    text = drawn(history, 80)

    assert "!" not in text
    assert "denied  nothing" in text
    assert "under way" not in text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (0.01, "<0.1"),
        (0.3, "0.3"),
        (5.0, "5"),
        (12.4, "12"),
        (1234, "1.2k"),
        (99_999, "100k"),
        (3.4e6, "3.4M"),
        (2e10, "20.0G"),
    ],
)
def test_counts(number, text):
    assert figures.count(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (640, "640 B"), (1234, "1.2 kB"), (34e6, "34 MB"), (999.6, "1.0 kB"), (5e15, "5000 TB")],
)
def test_sizes(number, text):
    assert figures.size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (0.0004, "0.4 ms"), (0.012, "12 ms"), (0.9996, "1.0 s"), (12.34, "12.3 s")]
)
def test_durations(seconds, text):
    assert figures.short(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(12.9, "12 s"), (180, "3 min"), (19_200, "5 h 20 min"), (367_200, "4 d 6 h")]
)
def test_long_durations(seconds, text):
    assert figures.long(seconds) == text


def test_a_sparkline_has_a_gap_where_nothing_came():
    assert figures.sparkline([9.0, 1.0, None, 0.5], 3, unicode=True) == "█ ▅"
    assert figures.sparkline([None, None], 3, unicode=True) == "  "
    assert figures.sparkline([0.05, 1.0], 3, unicode=False) == "_#"


# -- where to ask


@pytest.mark.parametrize(
    ("text", "admin"),
    [
        ("http://127.0.0.1:9400", ("127.0.0.1", 9400, None, False)),
        ("127.0.0.1:9400", ("127.0.0.1", 9400, None, False)),
        ("http://[::1]:9400/", ("::1", 9400, None, False)),
        ("https://admin.example", ("admin.example", 443, None, True)),
        ("unix:/run/domicile/admin.sock", ("localhost", 80, "/run/domicile/admin.sock", False)),
    ],
)
def test_an_address(text, admin):
    read = read_admin(text)
    assert (read.host, read.port, read.path, read.encrypted) == admin


@pytest.mark.parametrize(
    "text", ["", "unix:", "ftp://x", "http://", "http://x/status", "http://u:p@x", "http://x:y", "http://[x"]
)
def test_what_is_no_address(text):
    with pytest.raises(ValueError):
        read_admin(text)


def test_the_address_of_a_policy():
    assert admin_of(TcpBind("127.0.0.1", 9400)) == Admin("http://127.0.0.1:9400", "127.0.0.1", 9400)
    assert admin_of(TcpBind("0.0.0.0", 9400)) == Admin("http://127.0.0.1:9400", "127.0.0.1", 9400)
    assert admin_of(TcpBind("::", 9400)) == Admin("http://[::1]:9400", "::1", 9400)
    assert admin_of(UnixBind(Path("/run/a.sock"))) == Admin("unix:/run/a.sock", path="/run/a.sock")
    with pytest.raises(ValueError, match="give --admin"):
        admin_of(TcpBind("127.0.0.1", 0))


# -- the program


def run(*arguments: str) -> Result:
    """The command in this process, as if its output were piped; the terminal's tests run the program itself."""
    return CliRunner().invoke(domicile, ["status", *arguments], env={"COLUMNS": "80"}, catch_exceptions=False)


@pytest.fixture(scope="module")
def service() -> Iterator[Provider]:
    with provider() as running:
        yield running


@pytest.fixture(scope="module")
def serving(service: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = "health: {path: /, interval: 200ms}, limits: {connections: 4}"
    limits = "rates: {limits: [{name: rare, rate: 0.001, burst: 1, by: network, when: {path: /rare}}]}"
    port = service.server_address[1]
    policy = service.policy(more=limits).replace(f'{port}"]}}', f'{port}"], {settings}}}')
    with start(policy, tmp_path_factory.mktemp("status")) as running:
        answers = [get(running.port("edge"), path)[0] for path in ("/", "/", "/", "/", "/rare", "/rare")]
        assert answers == [200, 200, 200, 200, 200, 429]
        deadline = time.monotonic() + 10
        while not sum(running.status()["load"]["loop_lag"]["counts"]):
            assert time.monotonic() < deadline
        yield running


def test_json_is_what_the_admin_endpoint_says(serving: Running, service: Provider):
    done = run("--admin", f"http://{serving.admin}", "--json")

    assert (done.exit_code, done.stderr) == (0, "")
    shown, told = json.loads(done.stdout), serving.status()
    assert shown.keys() == told.keys() == set(asdict(STATUS))
    (own,) = shown["providers"]
    assert (own["name"], own["state"], own["requests"], own["to_client"]) == ("own", "healthy", 5, 50)
    assert own["endpoints"][0]["endpoint"] == f"127.0.0.1:{service.server_address[1]}"
    assert own["endpoints"][0]["state"] == "closed"
    assert own["first_byte"]["p50"] > 0
    assert shown["zones"] == [{"name": "here", "state": "healthy", "providers": ["own"]}]
    assert shown["workers"] == {"living": 1, "wanted": 1}
    assert sum(shown["load"]["loop_lag"]["counts"]) > 0


def test_it_says_what_the_metrics_say(serving: Running, service: Provider):
    endpoint = f"127.0.0.1:{service.server_address[1]}"

    def metric(name: str, labels: str) -> float:
        return serving.metric(f"domicile_{name}{{{labels}}}")

    at = f'endpoint="{endpoint}",provider="own"'
    deadline = time.monotonic() + PATIENCE
    while metric("checks_total", f'{at},result="good",zone="here"') < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)

    shown = serving.status()
    (own,), load = shown["providers"], shown["load"]
    (place,) = own["endpoints"]
    assert place["endpoint"] == endpoint
    assert metric("endpoint_state", f'{at},state="{place["state"]}",zone="here"') == 1
    assert metric("evidence", f'{at},verdict="{place["evidence"]}",zone="here"') == 1
    assert 0 < metric("check_rtt_seconds", f'{at},zone="here"') <= place["rtt"]
    assert place["trips"] == metric("breaker_trips_total", f'{at},zone="here"') == 0
    assert own["waiting"] == metric("queue_waiting", 'provider="own",zone="here"') == 0
    assert load["rate_limited"] == metric("rate_limited_total", 'limit="rare",listener="edge"') == 1
    assert load["shed"] == metric("shed_total", 'listener="edge"') == 0
    assert load["limit"] == serving.metric("domicile_concurrency_limit")
    assert load["denials"]["no-rule"] == metric("denials_total", 'listener="edge",reason="no-rule"') == 0


def test_piped_it_is_drawn_once(serving: Running):
    done = run("--admin", serving.admin)

    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith("Domicile ")
    assert "(since start)" in done.stdout
    assert re.search(r"^  own +healthy +", done.stdout, re.MULTILINE)
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_policy_says_where_to_ask(service: Provider, tmp_path: Path):
    with start(service.policy(more=f'admin: {{bind: "unix:{tmp_path}/admin.sock"}}'), tmp_path) as running:
        done = run(str(running.policy), "--json")
        assert (done.exit_code, done.stderr) == (0, "")
        assert json.loads(done.stdout)["digest"].startswith("sha256:")
        assert run("--admin", f"unix:{tmp_path}/admin.sock").exit_code == 0


def test_nobody_there(tmp_path: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = f"http://127.0.0.1:{free.getsockname()[1]}"
        for more in ((), ("--json",)):
            done = run("--admin", where, *more)
            assert (done.exit_code, done.stdout) == (1, "")
            assert done.stderr == f"{where} does not answer: connection refused\n"
    done = run("--admin", f"unix:{tmp_path}/none")
    assert (done.exit_code, done.stderr) == (1, f"unix:{tmp_path}/none does not answer: no such file or directory\n")


def test_something_else_there(service: Provider):
    where = f"http://127.0.0.1:{service.server_address[1]}"

    done = run("--admin", where)

    assert (done.exit_code, done.stderr) == (1, f"{where} is no admin endpoint of Domicile (status 200)\n")


def test_mistakes_of_usage(tmp_path: Path):
    for arguments, said in (
        (("--admin", "ftp://x"), "write unix:PATH"),
        (("--every", "soon"), "`soon` is no duration"),
        (("--admin", "127.0.0.1:1", "policy.yaml"), "not both"),
    ):
        done = run(*arguments)
        assert done.exit_code == 2, done
        assert said in done.stderr
    (tmp_path / "policy.yaml").write_text("version: 2\n")
    assert run(str(tmp_path / "policy.yaml")).exit_code == 1


# -- in a terminal

_TO_SCREEN, _FROM_SCREEN = "\x1b[?1049h", "\x1b[?1049l"


class Screen:
    """A terminal of eighty columns in which it runs."""

    def __init__(self, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self._settings = termios.tcgetattr(theirs)
        self._theirs = theirs
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self.said = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "proxy.cli", "status", *arguments],
            cwd=ROOT,
            env={
                **{k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")},
                "TERM": "xterm-256color",
                "LANG": "C.UTF-8",
            },
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def read_until(self, text: str) -> None:
        """Until it has drawn that since the last time."""
        deadline, new = time.monotonic() + PATIENCE, ""
        while text not in _plain(new):
            assert time.monotonic() < deadline, self.said
            new += (piece := self._read())
            self.said += piece

    def type(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def end(self) -> int:
        """Its exit status; the rest of what it said is read."""
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None or select.select([self._ours], [], [], 0)[0]:
            assert time.monotonic() < deadline, self.said
            self.said += self._read()
        return self.process.returncode

    @property
    def as_before(self) -> bool:
        """Whether it has left the terminal as it found it."""
        return termios.tcgetattr(self._theirs) == self._settings and self.said.count(_TO_SCREEN) == self.said.count(
            _FROM_SCREEN
        )

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._theirs)
        os.close(self._ours)

    def _read(self) -> str:
        ready = select.select([self._ours], [], [], 0.1)[0]
        # Ours is still open on the other side: there is no end of it.
        return self._decoder.decode(os.read(self._ours, 65536)) if ready else ""


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@contextmanager
def screen(*arguments: str) -> Iterator[Screen]:
    opened = Screen(*arguments)
    try:
        yield opened
    finally:
        opened.close()


@pytest.mark.parametrize("leave", [b"q", b"\x03"], ids=["q", "Ctrl-C"])
def test_it_leaves_a_terminal_as_it_found_it(serving: Running, leave: bytes):
    with screen("--admin", serving.admin, "--every", "100ms") as terminal:
        terminal.read_until("healthy")
        terminal.type(leave)
        assert terminal.end() == 0, terminal.said
        assert _TO_SCREEN in terminal.said
        assert terminal.as_before


def test_it_leaves_so_too_when_it_is_ended(serving: Running):
    with screen("--admin", serving.admin) as terminal:
        terminal.read_until("healthy")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.end() == 0, terminal.said
        assert terminal.as_before


def test_it_is_live(service: Provider, tmp_path: Path):
    with start(service.policy(), tmp_path) as running, screen("--admin", running.admin, "--every", "100ms") as terminal:
        terminal.read_until("denied  nothing")
        for _ in range(3):
            get(running.port("edge"))
        terminal.read_until("ms █")
        frames = terminal.said.replace("\x1b[H", "\n")
        assert max(len(line) for line in _plain(frames).replace("\r", "").split("\n")) <= 80
        assert running.stop() == 0
        terminal.read_until("does not answer: connection refused")
        terminal.type(b"q")
        assert terminal.end() == 0
        assert terminal.as_before


def test_a_terminal_in_which_nobody_answers_is_left_alone():
    with screen("--admin", "unix:/nowhere") as terminal:
        assert terminal.end() == 1
        assert terminal.said == "unix:/nowhere does not answer: no such file or directory\r\n"
