"""A worker's queue and writer, against real pipes."""

import errno
import logging
import os
import time
from pathlib import Path

import pytest

from proxy.telemetry.access_log import QUEUE_BYTES, QUEUE_LINES, AccessLog
from tests.telemetry.lines import WITHIN, eventually, numbered, numbers, read_all


@pytest.fixture
def pipe():
    """A pipe that is not read until the test does so."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    yield reader, writer
    os.close(reader)


def log_to(path: Path) -> AccessLog:
    return AccessLog(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT))


def test_lines_arrive_in_order_and_none_is_dropped(tmp_path):
    log = log_to(tmp_path / "access.log")
    for number in range(20_000):
        log.write(numbered(number))
    log.close()

    assert numbers((tmp_path / "access.log").read_bytes()) == list(range(20_000))
    assert log.dropped == 0


def test_a_single_line_is_written_without_another_or_a_close(tmp_path):
    log = log_to(tmp_path / "access.log")
    for number in range(3):
        log.write(numbered(number))
        eventually(lambda number=number: numbers((tmp_path / "access.log").read_bytes()) == list(range(number + 1)))
    log.close()


def test_a_pipe_that_nobody_reads_blocks_nobody_and_its_drops_are_exact(pipe):
    reader, writer = pipe
    log = AccessLog(writer, queue_lines=500)
    line = numbered(7, 1000)
    sent = 3000
    for _ in range(sent):
        log.write(line)
    assert log.dropped > 0
    log.close(bound=0.2)

    text = read_all(reader)
    whole = text.count(b"\n")
    assert whole > 0
    assert numbers(text[: text.rfind(b"\n") + 1]) == [7] * whole
    assert log.dropped == sent - whole


def test_a_reader_that_wakes_up_gets_every_line_that_was_not_dropped(pipe):
    reader, writer = pipe
    log = AccessLog(writer, queue_bytes=200_000)
    sent = 2000
    for number in range(sent):
        log.write(numbered(number, 500))
    refused = log.dropped
    assert refused > 0

    text = b""
    deadline = time.monotonic() + WITHIN
    while text.count(b"\n") < sent - refused and time.monotonic() < deadline:
        text += read_all(reader)
        time.sleep(0.001)
    log.close()

    seen = numbers(text)
    assert seen == sorted(set(seen))
    assert len(seen) == sent - log.dropped == sent - refused


def test_the_queue_is_bound_in_lines_and_in_bytes():
    for bounds, wanted in (({"queue_lines": 10}, 10), ({"queue_bytes": 5_000}, 5)):
        reader, writer = os.pipe()
        log = AccessLog(writer, **bounds)
        stuck = b"x" * 999_999 + b"\n"
        log._queue_bytes, ordinary = 1 << 30, log._queue_bytes
        log.write(stuck)
        eventually(lambda log=log: not log._lines)
        log._queue_bytes = ordinary
        for _ in range(100):
            log.write(b"x" * 999 + b"\n")

        assert len(log._lines) == wanted
        assert log.dropped == 100 - wanted
        log.close(bound=0.0)
        assert log.dropped == 101
        os.close(reader)


def test_the_bounds_are_documented_ones():
    text = (Path(__file__).parents[2] / "docs" / "access-log.md").read_text()

    assert f"{QUEUE_LINES:,} lines" in text
    assert f"{QUEUE_BYTES // 2**20} MiB" in text


def test_a_reader_that_left_is_said_and_holds_up_no_end(pipe, caplog):
    reader, writer = pipe
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), reader)
    with caplog.at_level(logging.ERROR, logger="domicile.access_log"):
        log = AccessLog(writer)
        for number in range(250):
            log.write(numbered(number))
        eventually(lambda: log.problem == os.strerror(errno.EPIPE))
        log.close()

    assert log.dropped == 250
    assert [record.getMessage() for record in caplog.records] == [
        "access-log lines cannot leave this process (Broken pipe); tried again every second"
    ]


def test_it_closes_what_it_writes_to(pipe):
    reader, writer = pipe
    log = AccessLog(writer)
    log.write(numbered(0))
    log.close()

    os.set_blocking(reader, True)
    assert os.read(reader, 1000) == numbered(0)
    assert os.read(reader, 1000) == b""


def test_what_comes_after_the_end_counts_as_dropped(tmp_path):
    log = log_to(tmp_path / "access.log")
    log.close()
    log.close()
    log.write(numbered(0))

    assert log.dropped == 1
    assert (tmp_path / "access.log").read_bytes() == b""


def test_an_idle_log_sleeps(tmp_path):
    # Woken by a line or not at all: no turn of its loop while nothing is asked of it.
    log = log_to(tmp_path / "access.log")
    log.write(numbered(0))
    eventually(lambda: log._wake_at == 1)
    task = Path(f"/proc/self/task/{log._thread.native_id}/status")

    def switches() -> str:
        return next(line for line in task.read_text().splitlines() if line.startswith("voluntary_ctxt"))

    before = switches()
    time.sleep(0.5)
    assert switches() == before
    log.close()
