"""The demo as a user runs it: what it shows, that it notices when something is wrong, and that it leaves nothing."""

import asyncio
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from proxy.cli.demonstration import policy_file
from proxy.cli.demonstration.accounts import Account, Identity, forged
from proxy.cli.demonstration.authority import Authority
from proxy.cli.demonstration.checks import Checks
from proxy.cli.demonstration.client import Client, Place
from proxy.cli.demonstration.plots import area, bars, rounded_up
from proxy.cli.demonstration.proof import prove
from proxy.cli.demonstration.proxy_process import ProxyFailed
from proxy.cli.demonstration.scrape import Counts, Scrape, bandwidth, quantile, read_scrape
from proxy.cli.demonstration.stage import open_stage
from proxy.cli.demonstration.storage import Storage
from proxy.cli.demonstration.visits import VISITS, visited
from tests.cli.test_program import ROOT

PATIENCE = 30.0


@contextmanager
def demo(folder: Path, *arguments: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """The demo, with temporary files in the folder and eighty columns; killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "proxy.cli", "demo", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(folder),
            "COLUMNS": "80",
            "PYTHONIOENCODING": "utf-8",
            **environ,
        },
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def processes_in(folder: Path) -> list[int]:
    """Processes whose working folder is below this one, even if it was deleted: the demo's proxy is one."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                place = os.readlink(entry / "cwd")
            except OSError:
                continue
            if place.startswith(f"{folder}/"):
                found.append(int(entry.name))
    return found


def until(holds: Callable[[], bool]) -> bool:
    """Whether something comes to hold in good time."""
    end = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def read_until(process: subprocess.Popen[str], mark: str) -> list[str]:
    """Its lines up to and with the first that holds the mark."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if mark in line:
            return lines
    raise AssertionError("\n".join(lines))


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What `domicile demo --once` prints into a pipe."""
    folder = tmp_path_factory.mktemp("demo")
    with demo(folder, "--once") as process:
        output, _ = process.communicate(timeout=100)
    assert process.returncode == 0, output
    assert list(folder.iterdir()) == []
    assert processes_in(folder) == []
    return output.splitlines()


def test_the_tour_fits_eighty_columns_and_has_no_escapes_in_a_pipe(shown: list[str]) -> None:
    assert max(map(len, shown)) <= 80
    assert not any("\x1b" in line for line in shown)


@pytest.mark.parametrize(
    "row",
    [
        r"Li Na \(CN\) +Beijing CN +cn-mainland +China Telecom +200 +PIPL art. 40, CSL",
        r"Li Na \(CN\) +Frankfurt DE +cn-mainland +China Telecom +200 +PIPL art. 40, CSL",
        r"Li Na \(CN\) +Stanford US +cn-mainland +China Telecom +200 +PIPL art. 40, CSL",
        r"Anna \(DE\) +Frankfurt DE +elsewhere +Example Inc +200 +our privacy policy",
        r"Anna \(DE\) +Shanghai CN +elsewhere +Example Inc +200 +our privacy policy",
        r"Ka-ming \(HK\) +Hong Kong HK +elsewhere +Example Inc +200 +our privacy policy",
        r"Joe \(US\) +Stanford US +elsewhere +Example Inc +200 +our privacy policy",
        r"nobody +Shanghai CN +unknown +nobody +451 +home-unknown",
        r"forger \(CN\) +Stanford US +unknown +nobody +401 +credential-invalid",
        r"✓ Upload: Li Na's 8 MiB from Frankfurt to China Telecom, SHA-256 the same there",
        r"✓ Download: 8 MiB again from China Telecom, byte for byte the same",
        r"✓ Smuggling by two lengths \(CL and TE\): 400, and no provider saw any of it",
        r"✓ China Telecom off: 24 requests by Li Na got 502 or 503, the slowest in \d+ ms",
        r"✓ Example Inc untouched: connections (\d+) before, \1 after, requests (\d+) and \2$",
        r"✓ The others went on: ([\d,]+) of \1 requests served, all by Example Inc",
        r"✓ On again: Li Na is served by China Telecom after \d+\.\d s",
        r"China Telecom, bandwidth in MB/s",
        r" Example Inc p99 +\d+\.\d ms┤█",
        r"✓ China Telecom has seen only mainland accounts: ([\d,]+) of \1 requests",
        r"✓ Example Inc has seen no mainland account: 0 of [\d,]+ requests",
        r"✓ The proxy's metrics for Example Inc say the same",
        r"✓ All \d+ checks hold\.",
    ],
)
def test_the_tour_shows(shown: list[str], row: str) -> None:
    assert any(re.match(row, line) for line in shown), "\n".join(shown)


@pytest.mark.debian
def test_it_stays_up_with_lines_that_can_be_pasted_until_it_is_interrupted(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        lines = read_until(process, "kill -HUP")
        script = "\n".join(lines[next(n for n, line in enumerate(lines) if line.startswith("cd ")) :])
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        pasted = subprocess.run(["sh", "-e"], input=script, capture_output=True, text=True, env=environ, check=False)
        said = pasted.stdout
        assert pasted.returncode == 0, said + pasted.stderr
        assert re.findall(r"^(\d{3})$", said, re.MULTILINE) == ["200", "200", "451", "401", "201"]
        served = re.findall(r'"(served_by|stored_by)": "([^"]+)"', said)
        assert served == [("served_by", "China Telecom"), ("served_by", "Example Inc"), ("stored_by", "China Telecom")]
        assert '"listener":"edge"' in said
        assert "domicile_requests_total{" in said
        # The policy was read again by its last line; the listener is where it was.
        (first,) = re.findall(r"^(?:cd|curl).*?\n(?:#.*\n)?curl.*\\\n.*$", script, re.MULTILINE)[:1]
        once_more = subprocess.run(["sh", "-e"], input=first, capture_output=True, text=True, check=False)
        assert once_more.stdout.endswith("200\n")
        assert processes_in(tmp_path)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, output
    assert list(tmp_path.iterdir()) == []
    assert processes_in(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGKILL, -9)]
)
def test_whatever_ends_it_nothing_is_left_running(tmp_path: Path, number: signal.Signals, status: int) -> None:
    with demo(tmp_path, "--once") as process:
        read_until(process, "Who went where")
        assert processes_in(tmp_path)
        process.send_signal(number)
        assert process.wait(PATIENCE) == status
    assert until(lambda: not processes_in(tmp_path))
    # What is killed outright cannot clean its files up.
    assert (list(tmp_path.iterdir()) == []) == (number != signal.SIGKILL)


def test_a_reader_that_leaves_ends_it(tmp_path: Path) -> None:
    with demo(tmp_path, "--once") as process:
        read_until(process, "2014")
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(PATIENCE) != 0
    assert list(tmp_path.iterdir()) == []
    assert processes_in(tmp_path) == []


def test_a_proxy_that_does_not_start_is_a_failure_and_says_why(tmp_path: Path) -> None:
    code = (
        "from proxy.cli import main\n"
        "from proxy.cli.demonstration import policy_file\n"
        "policy_file._TEXT = policy_file._TEXT.replace('operators: [Example Inc]', 'operators: [Nobody]')\n"
        "import sys; sys.argv[1:] = ['demo', '--once']\n"
        "main()\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
    assert done.returncode == 1
    assert "The proxy does not run" in done.stdout
    assert re.search(r"policy.yaml:\d+:\d+: ", done.stdout)
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


async def test_a_proxy_that_sends_data_to_the_wrong_place_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    text = policy_file._TEXT
    wrong = text[: text.index("guarantees:")] + text[text.index("listeners:") :]
    wrong = wrong.replace("allow: {{zones: [cn-mainland], operators: [China Telecom]}}", "allow: elsewhere")
    assert wrong.count("allow: elsewhere") == 1
    monkeypatch.setattr(policy_file, "_TEXT", wrong)
    shown: list[str] = []
    async with open_stage() as stage:
        seen = [each async for each in visited(stage)]
        checks = Checks(lambda check: shown.append(check.says))
        prove(stage, await stage.scraper.scrape(), checks)
    assert [each.wrong is not None for each in seen] == [each.who == "Li Na" for each in VISITS]
    assert seen[0].operator == "Example Inc"
    assert "expected 200 from China Telecom; got 200 from Example Inc, and Example Inc saw it" in (seen[0].wrong or "")
    assert [check.says for check in checks.failed] == [
        "China Telecom has seen only mainland accounts: 0 of 0 requests",
        "Example Inc has seen no mainland account: 3 of 7 requests",
    ]


async def test_a_policy_that_breaks_its_guarantee_never_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = policy_file._TEXT.replace("allow: {{zones: [elsewhere], operators: [Example Inc]}}", "allow: any")
    assert wrong != policy_file._TEXT
    monkeypatch.setattr(policy_file, "_TEXT", wrong)
    with pytest.raises(ProxyFailed, match=r"policy.yaml:\d+:\d+: broken: .* china-telecom is reached"):
        async with open_stage():
            pass


@asynccontextmanager
async def storage_in(folder: Path) -> AsyncIterator[tuple[Storage, Identity, Client]]:
    """A provider that is on, and a client that speaks to it directly."""
    authority, identity = Authority(folder), Identity(folder)
    storage = Storage("one", "One Ltd", authority.issue("one", "one.example"), identity)
    storage.switch_on()
    trusted = ssl.create_default_context(cafile=str(authority.certificate))
    try:
        async with Client(f"127.0.0.1:{storage.port}", trusted) as client:
            yield storage, identity, client
    finally:
        await storage.close()


async def test_a_provider_counts_what_it_sees(tmp_path: Path) -> None:
    anna, place = Account("Anna", "DE"), Place("Anywhere", "81.91.170.12")
    async with storage_in(tmp_path) as (storage, identity, client):
        token = identity.token(anna)
        kept = await client.send(place, token, method="PUT", path="/x", body=b"12345")
        assert (kept.status, kept.operator, kept.value()["bytes"]) == (201, "One Ltd", 5)
        assert (await client.send(place, token, path="/x")).body == b"12345"
        assert (await client.send(place, forged(anna), path="/x")).value()["residence"] is None
        assert (await client.send(place, None, path="/x")).body != b"12345"
        seen = storage.seen
        assert (seen.connections, seen.requests, seen.received) == (1, 4, 5)
        assert seen.residences == {"DE": 2, "nobody": 2}


async def test_a_provider_that_is_off_refuses_and_keeps_its_port(tmp_path: Path) -> None:
    place = Place("Anywhere", "81.91.170.12")
    async with storage_in(tmp_path) as (storage, _, client):
        assert (await client.send(place, None)).status == 200
        await storage.switch_off()
        assert (await client.send(place, None)).status == 0
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", storage.port)
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", storage.port))
        storage.switch_on()
        assert (await client.send(place, None)).status == 200
        assert storage.seen.connections == 2


def test_metrics_are_read_by_provider() -> None:
    text = (
        'domicile_requests_total{listener="a",provider="p",status="2xx",zone="z"} 3\n'
        'domicile_requests_total{listener="b",provider="p",status="2xx",zone="z"} 4\n'
        'domicile_bytes_total{direction="to_provider",listener="a",provider="p",zone="z"} 10\n'
        'domicile_bytes_total{direction="to_client",listener="a",provider="p",zone="z"} 20\n'
        'domicile_first_byte_seconds_bucket{le="0.1",provider="p",zone="z"} 1\n'
        'domicile_first_byte_seconds_bucket{le="+Inf",provider="p",zone="z"} 2\n'
        "domicile_log_dropped_total 0\n"
    )
    counts = read_scrape(text, 1.0).of("p")
    assert counts == Counts({"2xx": 7.0}, 10.0, 20.0, {0.1: 1.0, float("inf"): 2.0})
    assert read_scrape(text, 1.0).of("q") == Counts()


def test_bandwidth_is_both_directions_over_time() -> None:
    scrapes = [
        Scrape(10.0, {"p": Counts(to_provider=100, to_client=100)}),
        Scrape(10.5, {"p": Counts(to_provider=200, to_client=150)}),
        Scrape(10.5, {"p": Counts(to_provider=200, to_client=150)}),
        Scrape(11.5, {"p": Counts(to_provider=200, to_client=150)}),
    ]
    assert bandwidth(scrapes, "p") == [(0.25, 300.0), (1.0, 0.0)]
    assert bandwidth(scrapes, "q") == [(0.25, 0.0), (1.0, 0.0)]


def test_quantiles_are_interpolated_as_prometheus_does() -> None:
    before = Counts(first_byte={1.0: 10.0, 2.0: 10.0, float("inf"): 10.0})
    after = Counts(first_byte={1.0: 14.0, 2.0: 18.0, float("inf"): 20.0})
    expected = {0.2: 0.5, 0.4: 1.0, 0.6: 1.5, 0.8: 2.0, 0.99: 2.0}
    assert {share: quantile(before, after, share) for share in expected} == pytest.approx(expected)
    assert quantile(after, after, 0.5) is None
    assert quantile(Counts(), Counts(), 0.5) is None


@pytest.mark.parametrize(
    ("value", "top"), [(0, 1), (0.3, 0.3), (0.71, 0.8), (1, 1), (1.2, 2), (19, 20), (61, 80), (999, 1000)]
)
def test_an_axis_ends_at_a_round_number(value: float, top: float) -> None:
    assert rounded_up(value) == pytest.approx(top)


def test_a_bar_has_one_row_and_the_longest_fills_the_axis() -> None:
    values = [("first 10", 10.0), ("second 5", 5.0), ("third 0", 0.1)]
    rows = bars(values, width=78, top=10.0, unit="ms", marker="full").split("\n")
    assert [row.count("█") > 0 for row in rows] == [True, True, True, False, False]
    assert rows[0].startswith("first 10┤")
    assert abs(rows[0].count("█") - 2 * rows[1].count("█")) <= 2
    assert max(map(len, rows)) <= 78


def test_a_curve_is_flat_where_nothing_moves() -> None:
    points = [(x / 4, 0.0 if 10 <= x < 30 else 10.0) for x in range(40)]
    rows = area(points, width=78, top=10.0, marker="hd").split("\n")
    assert max(map(len, rows)) <= 78
    assert rows[0][30:50].strip() == ""
    assert "█" in rows[1][5:20]
