"""The access log's queue and writer, against real files, pipes and a full disk."""

import errno
import json
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from proxy.telemetry.access_log import QUEUE_BYTES, QUEUE_LINES, AccessLog

WITHIN = 10.0


def eventually(condition):
    deadline = time.monotonic() + WITHIN
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.005)


def numbered(number: int, size: int = 0) -> bytes:
    return json.dumps({"n": number, "fill": "x" * size}).encode() + b"\n"


def numbers(text: bytes) -> list[int]:
    assert text == b"" or text.endswith(b"\n")
    return [json.loads(line)["n"] for line in text.splitlines()]


@pytest.fixture
def fifo(tmp_path):
    """A FIFO and a descriptor that keeps it open for reading, not read until the test does so."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield path, reader
    os.close(reader)


def read_all(reader: int) -> bytes:
    parts = []
    while True:
        try:
            part = os.read(reader, 1 << 20)
        except BlockingIOError:
            return b"".join(parts)
        if not part:
            return b"".join(parts)
        parts.append(part)


def test_lines_arrive_in_order_and_none_is_dropped(tmp_path):
    log = AccessLog(tmp_path / "access.log")
    for number in range(20_000):
        log.write(numbered(number))
    log.close()

    assert numbers((tmp_path / "access.log").read_bytes()) == list(range(20_000))
    assert log.dropped == 0


def test_a_single_line_is_written_without_another_or_a_close(tmp_path):
    log = AccessLog(tmp_path / "access.log")
    for number in range(3):
        log.write(numbered(number))
        eventually(lambda number=number: numbers((tmp_path / "access.log").read_bytes()) == list(range(number + 1)))
    log.close()


def test_a_file_is_made_for_its_owner_and_group_and_appended_to(tmp_path):
    path = tmp_path / "access.log"
    before = os.umask(0)
    try:
        for number in range(2):
            log = AccessLog(path)
            log.write(numbered(number))
            log.close()
    finally:
        os.umask(before)

    assert path.stat().st_mode & 0o777 == 0o640
    assert numbers(path.read_bytes()) == [0, 1]


def test_a_file_that_cannot_be_opened_is_said_at_once(tmp_path):
    with pytest.raises(FileNotFoundError):
        AccessLog(tmp_path / "missing" / "access.log")


def test_a_pipe_that_nobody_reads_blocks_nobody_and_its_drops_are_exact(fifo):
    path, reader = fifo
    log = AccessLog(path, queue_lines=500)
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


def test_a_reader_that_wakes_up_gets_every_line_that_was_not_dropped(fifo):
    path, reader = fifo
    log = AccessLog(path, queue_bytes=200_000)
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


def test_the_queue_is_bound_in_lines_and_in_bytes(fifo):
    path, _ = fifo
    for bounds, wanted in (({"queue_lines": 10}, 10), ({"queue_bytes": 5_000}, 5)):
        log = AccessLog(path, **bounds)
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


def test_the_bounds_are_documented_ones():
    text = (Path(__file__).parents[2] / "docs" / "access-log.md").read_text()

    assert f"{QUEUE_LINES:,} lines" in text
    assert f"{QUEUE_BYTES // 2**20} MiB" in text


def test_a_full_disk_is_survived_counted_and_said(tmp_path, caplog):
    path = tmp_path / "access.log"
    path.symlink_to("/dev/full")
    with caplog.at_level(logging.WARNING, logger="domicile.access_log"):
        log = AccessLog(path, queue_lines=100)
        for number in range(100):
            log.write(numbered(number))
        eventually(lambda: log.problem is not None)
        assert log.problem == os.strerror(errno.ENOSPC)
        assert log.dropped == 0

        path.unlink()
        log.reopen()
        eventually(lambda: log.problem is None)
        log.write(numbered(100))
        log.close()

    assert numbers(path.read_bytes()) == list(range(101))
    assert log.dropped == 0
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "the access log cannot be written (No space left on device); tried again every second",
        "the access log is written again; 0 lines were dropped so far",
    ]


def test_a_disk_that_stays_full_does_not_hold_up_the_end():
    log = AccessLog(Path("/dev/full"), queue_lines=100)
    for number in range(250):
        log.write(numbered(number))
    log.close()

    assert log.dropped == 250


def test_a_disk_that_fills_in_mid_line_goes_on_in_mid_line(tmp_path):
    # A file-size limit makes the kernel take half a line, as a disk does whose last block is full.
    script = """
import logging, resource, signal, sys, time
from pathlib import Path
from proxy.telemetry.access_log import AccessLog
logging.disable()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2500, resource.RLIM_INFINITY))
path = Path(sys.argv[1])
log = AccessLog(path)
for number in range(5):
    log.write(b'{"n":%d,"fill":"%b"}\\n' % (number, b"x" * 980))
while log.problem is None:
    time.sleep(0.005)
assert path.stat().st_size == 2500
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
while log.problem is not None:
    time.sleep(0.005)
log.close()
assert log.dropped == 0
"""
    path = tmp_path / "access.log"
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY

    subprocess.run([sys.executable, "-c", script, path], check=True, timeout=30)

    assert numbers(path.read_bytes()) == list(range(5))


def test_rotation_loses_and_tears_nothing(tmp_path):
    path = tmp_path / "access.log"
    log = AccessLog(path)
    for turn in range(5):
        for number in range(2000):
            log.write(numbered(turn * 2000 + number))
        path.rename(tmp_path / f"access.log.{turn}")
        log.reopen()
        eventually(path.exists)
    log.close()

    files = [*(tmp_path / f"access.log.{turn}" for turn in range(5)), path]
    assert [n for file in files for n in numbers(file.read_bytes())] == list(range(10_000))
    assert log.dropped == 0


def test_a_path_that_cannot_be_reopened_keeps_the_old_file_and_says_so(tmp_path, caplog):
    folder = tmp_path / "logs"
    folder.mkdir()
    log = AccessLog(folder / "access.log")
    log.write(numbered(0))
    folder.rename(tmp_path / "moved")
    with caplog.at_level(logging.ERROR, logger="domicile.access_log"):
        log.reopen()
        eventually(lambda: caplog.records)
    log.write(numbered(1))
    log.close()

    assert numbers((tmp_path / "moved" / "access.log").read_bytes()) == [0, 1]
    assert "cannot be reopened (No such file or directory); the old file is kept" in caplog.text


def test_a_reopened_file_begins_with_a_whole_line(fifo, tmp_path):
    path, reader = fifo
    log = AccessLog(path)
    for number in range(200):
        log.write(numbered(number, 1000))
    eventually(lambda: log._written > 0)
    path.unlink()
    log.reopen()
    eventually(lambda: path.exists() and log._written == len(log._batch) and not log._lines)
    log.close()

    before = read_all(reader)
    old = numbers(before[: before.rfind(b"\n") + 1])
    assert not before.endswith(b"\n"), "the pipe was to stop in mid-line"
    assert old + numbers(path.read_bytes()) == list(range(200))


def test_a_reader_that_leaves_is_survived_and_the_next_goes_on_where_it_stopped(fifo):
    path, reader = fifo
    log = AccessLog(path)
    for number in range(200):
        log.write(numbered(number, 1000))
    eventually(lambda: 0 < log._written < len(log._batch))
    text = os.read(reader, 5000)
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), reader)
    eventually(lambda: log.problem == os.strerror(errno.EPIPE))

    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    deadline = time.monotonic() + WITHIN
    while not text.endswith(numbered(199, 1000)) and time.monotonic() < deadline:
        text += read_all(reader)
        time.sleep(0.005)
    log.close()
    os.close(reader)

    assert numbers(text) == list(range(200))
    assert log.dropped == 0


STDOUT = """
import os, sys
from proxy.telemetry.access_log import AccessLog
log = AccessLog(None)
for number in range(int(sys.argv[1])):
    log.write(b'{"n":%d}\\n' % number)
log.close(float(sys.argv[2]))
print(log.dropped, os.get_blocking(1), file=sys.stderr)
"""


def test_standard_output_as_a_pipe():
    done = subprocess.run([sys.executable, "-c", STDOUT, "5000", "5"], capture_output=True, check=True, timeout=30)

    assert numbers(done.stdout) == list(range(5000))
    # The descriptor that others share stays as they know it.
    assert done.stderr == b"0 True\n"


def test_standard_output_as_a_file_is_shared_with_who_else_prints(tmp_path):
    script = "print('begin', flush=True)\n" + STDOUT.replace(", file=sys.stderr", "")
    with (tmp_path / "out").open("wb") as out:
        subprocess.run([sys.executable, "-c", script, "1000", "5"], stdout=out, check=True, timeout=30)

    begin, *lines, end = (tmp_path / "out").read_bytes().splitlines(keepends=True)
    assert (begin, end) == (b"begin\n", b"0 True\n")
    assert numbers(b"".join(lines)) == list(range(1000))


def test_standard_output_whose_reader_left():
    child = subprocess.Popen(
        [sys.executable, "-c", STDOUT, "5000", "5"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    child.stdout.close()
    _, said = child.communicate(timeout=30)

    assert child.returncode == 0
    assert b"Broken pipe" in said
    assert said.endswith(b"5000 True\n")


def test_standard_output_that_nobody_reads_does_not_hold_up_the_end():
    with subprocess.Popen(
        [sys.executable, "-c", STDOUT, "60000", "0.3"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        said = child.stderr.read()
        assert child.wait(timeout=30) == 0
        text = child.stdout.read()

    assert text.count(b"\n") > 1000
    assert said == b"%d True\n" % (60000 - text.count(b"\n"))


def test_standard_output_as_a_socket_does_not_hold_up_the_end():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = subprocess.Popen([sys.executable, "-c", STDOUT, "60000", "0.3"], stdout=theirs, stderr=subprocess.PIPE)
        _, said = child.communicate(timeout=30)

    assert child.returncode == 0
    dropped, _ = said.split()
    assert 0 < int(dropped) < 60000


def test_reopening_standard_output_changes_nothing():
    script = STDOUT.replace("log.close", "log.reopen(); log.close")

    done = subprocess.run([sys.executable, "-c", script, "100", "5"], capture_output=True, check=True, timeout=30)

    assert numbers(done.stdout) == list(range(100))


def test_rotation_under_load_by_a_signal(tmp_path):
    script = """
import signal, sys, time
from pathlib import Path
from proxy.telemetry.access_log import AccessLog
log = AccessLog(Path(sys.argv[1]))
signal.signal(signal.SIGUSR1, lambda *_: log.reopen())
print("ready", flush=True)
number = 0
end = time.monotonic() + 20
stop = Path(sys.argv[1] + ".stop")
while not stop.exists() and time.monotonic() < end:
    for _ in range(200):
        log.write(b'{"n":%d}\\n' % number)
        number += 1
    time.sleep(0.001)
log.close()
print(number, log.dropped, flush=True)
"""
    path = tmp_path / "access.log"
    with subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"ready\n"
        for turn in range(4):
            eventually(lambda: path.exists() and path.stat().st_size > 0)
            path.rename(tmp_path / f"access.log.{turn}")
            child.send_signal(signal.SIGUSR1)
        eventually(path.exists)
        (tmp_path / "access.log.stop").touch()
        sent, dropped = map(int, child.stdout.readline().split())
        assert child.wait(timeout=30) == 0

    files = [*(tmp_path / f"access.log.{turn}" for turn in range(4)), path]
    assert [n for file in files for n in numbers(file.read_bytes())] == list(range(sent))
    assert dropped == 0


def test_several_logs_to_one_file_do_not_tear_lines(tmp_path):
    # Each batch is one append; the kernel keeps appends to a file whole.
    path = tmp_path / "access.log"
    logs = [AccessLog(path) for _ in range(4)]

    def fill(which: int) -> None:
        for number in range(3000):
            logs[which].write(numbered(which * 3000 + number, 200))

    threads = [threading.Thread(target=fill, args=(which,)) for which in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for log in logs:
        log.close()

    assert sorted(numbers(path.read_bytes())) == list(range(12_000))
    assert [log.dropped for log in logs] == [0] * 4


def test_what_comes_after_the_end_counts_as_dropped(tmp_path):
    log = AccessLog(tmp_path / "access.log")
    log.close()
    log.close()
    log.write(numbered(0))

    assert log.dropped == 1
    assert (tmp_path / "access.log").read_bytes() == b""


def test_an_idle_log_sleeps(tmp_path):
    # Woken by a line or not at all: no turn of its loop while nothing is asked of it.
    log = AccessLog(tmp_path / "access.log")
    log.write(numbered(0))
    eventually(lambda: log._wake_at == 1)
    task = Path(f"/proc/self/task/{log._thread.native_id}/status")

    def switches() -> str:
        return next(line for line in task.read_text().splitlines() if line.startswith("voluntary_ctxt"))

    before = switches()
    time.sleep(0.5)
    assert switches() == before
    log.close()
