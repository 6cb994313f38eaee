"""The log's one writer, against real workers' pipes, files, FIFOs, sockets and a full disk."""

import errno
import json
import logging
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.telemetry.access_log import AccessLog
from proxy.telemetry.log_collector import LogCollector
from proxy.telemetry.log_target import Target
from tests.telemetry.lines import eventually, numbered, numbers, read_all


def worker(collector: LogCollector) -> AccessLog:
    """A worker's log, as if it were another process."""
    reader, writer = os.pipe()
    collector.attach(reader)
    return AccessLog(writer)


def fill(writer: int, lines: bytes) -> None:
    """Say lines as a worker, and end."""
    with open(writer, "wb") as file:
        file.write(lines)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "access.log"


@pytest.fixture
def fifo(tmp_path) -> Iterator[tuple[Path, int]]:
    """A FIFO and a descriptor that keeps it open for reading, not read until the test does so."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield path, reader
    os.close(reader)


HAMMER = """
import json, os, sys
from proxy.telemetry.access_log import AccessLog
log = AccessLog(int(sys.argv[1]))
fill = "x" * int(sys.argv[4])
for number in range(int(sys.argv[3])):
    log.write(json.dumps({"w": int(sys.argv[2]), "n": number, "fill": fill}).encode() + b"\\n")
log.close(20)
print(log.dropped)
"""


def hammering(collector: LogCollector, which: int, lines: int, size: int) -> subprocess.Popen:
    """A process that writes lines as fast as it can and prints what it dropped."""
    reader, writer = os.pipe()
    collector.attach(reader)
    arguments = [sys.executable, "-c", HAMMER, *map(str, (writer, which, lines, size))]
    try:
        return subprocess.Popen(arguments, pass_fds=[writer], stdout=subprocess.PIPE)
    finally:
        os.close(writer)


def test_workers_hammering_lose_tear_and_reorder_nothing(path):
    collector = LogCollector(Target(path))
    children = [hammering(collector, which, 30_000, 150 + 100 * which) for which in range(2)]
    dropped = [int(child.communicate(timeout=60)[0]) for child in children]
    collector.close(20)

    records = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert dropped == [0, 0]
    assert collector.dropped == 0
    for which in range(2):
        assert [record["n"] for record in records if record["w"] == which] == list(range(30_000))


def test_a_line_is_written_without_another_or_a_close(path):
    collector = LogCollector(Target(path))
    logs = [worker(collector) for _ in range(2)]
    for number in range(4):
        logs[number % 2].write(numbered(number))
        eventually(lambda number=number: numbers(path.read_bytes()) == list(range(number + 1)))
    for log in logs:
        log.close()
    collector.close()


def test_the_torn_tail_of_a_worker_that_died_is_thrown_away(path):
    collector = LogCollector(Target(path))
    (one, dying), (other, living) = os.pipe(), os.pipe()
    collector.attach(one)
    collector.attach(other)
    os.write(dying, numbered(0) + numbered(1)[:10])
    eventually(lambda: collector._tails.get(one) == numbered(1)[:10])
    os.close(dying)
    eventually(lambda: one not in collector._tails)
    fill(living, numbered(2))
    collector.close()

    assert numbers(path.read_bytes()) == [0, 2]


def test_a_line_in_parts_is_put_together(path):
    collector = LogCollector(Target(path))
    reader, writer = os.pipe()
    collector.attach(reader)
    for part in numbered(0, 20).partition(b"x" * 10):
        os.write(writer, part)
        eventually(lambda: select.select([reader], [], [], 0)[0] == [])
    os.close(writer)
    collector.close()

    assert numbers(path.read_bytes()) == [0]


def test_a_file_is_made_for_its_owner_and_group_and_appended_to(path):
    before = os.umask(0)
    try:
        for number in range(2):
            collector = LogCollector(Target(path))
            log = worker(collector)
            log.write(numbered(number))
            log.close()
            collector.close()
    finally:
        os.umask(before)

    assert path.stat().st_mode & 0o777 == 0o640
    assert numbers(path.read_bytes()) == [0, 1]


@pytest.mark.parametrize(("name", "error"), [("missing/access.log", FileNotFoundError), ("fifo", OSError)])
def test_a_target_that_cannot_be_opened_is_said_at_once(tmp_path, name, error):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(error):
        Target(tmp_path / name)


def test_a_full_disk_is_survived_and_said(path, caplog):
    path.symlink_to("/dev/full")
    with caplog.at_level(logging.WARNING, logger="domicile.access_log"):
        collector = LogCollector(Target(path))
        log = worker(collector)
        for number in range(100):
            log.write(numbered(number))
        eventually(lambda: collector.problem is not None)
        assert collector.problem == os.strerror(errno.ENOSPC)

        path.unlink()
        collector.reopen()
        eventually(lambda: collector.problem is None)
        log.write(numbered(100))
        log.close()
        collector.close()

    assert numbers(path.read_bytes()) == list(range(101))
    assert (log.dropped, collector.dropped) == (0, 0)
    assert [record.getMessage() for record in caplog.records] == [
        "the access log cannot be written (No space left on device); tried again every second",
        "the access log is written again",
    ]


def test_a_disk_that_stays_full_makes_workers_drop_and_holds_up_no_end():
    collector = LogCollector(Target(Path("/dev/full")))
    reader, writer = os.pipe()
    collector.attach(reader)
    log = AccessLog(writer, queue_lines=100)
    # More than the pipe and the hand of each writer hold.
    sent = 6000
    for number in range(sent):
        log.write(numbered(number, 500))
    assert log.dropped > 0
    log.close(0.1)
    collector.close()

    # A line that the worker did not finish counts there, and is no line here.
    assert log.dropped + collector.dropped == sent


def test_a_disk_that_fills_in_mid_line_goes_on_in_mid_line(path):
    # A file-size limit makes the kernel take half a line, as a disk does whose last block is full.
    script = """
import logging, os, resource, sys, time
from pathlib import Path
from proxy.telemetry.log_collector import LogCollector
from proxy.telemetry.log_target import Target
logging.disable()
resource.setrlimit(resource.RLIMIT_FSIZE, (2500, resource.RLIM_INFINITY))
path = Path(sys.argv[1])
collector = LogCollector(Target(path))
reader, writer = os.pipe()
collector.attach(reader)
for number in range(5):
    os.write(writer, b'{"n":%d,"fill":"%b"}\\n' % (number, b"x" * 980))
while collector.problem is None:
    time.sleep(0.005)
assert path.stat().st_size == 2500
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
while collector.problem is not None:
    time.sleep(0.005)
collector.close()
assert collector.dropped == 0
"""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY

    subprocess.run([sys.executable, "-c", script, path], check=True, timeout=30)

    assert numbers(path.read_bytes()) == list(range(5))


def test_rotation_loses_and_tears_nothing(tmp_path, path):
    collector = LogCollector(Target(path))
    log = worker(collector)
    for turn in range(5):
        for number in range(2000):
            log.write(numbered(turn * 2000 + number))
        path.rename(tmp_path / f"access.log.{turn}")
        collector.reopen()
        eventually(path.exists)
    log.close()
    collector.close()

    files = [*(tmp_path / f"access.log.{turn}" for turn in range(5)), path]
    assert [n for file in files for n in numbers(file.read_bytes())] == list(range(10_000))
    assert (log.dropped, collector.dropped) == (0, 0)


def test_a_path_that_cannot_be_reopened_keeps_the_old_file_and_says_so(tmp_path, caplog):
    folder = tmp_path / "logs"
    folder.mkdir()
    collector = LogCollector(Target(folder / "access.log"))
    log = worker(collector)
    log.write(numbered(0))
    folder.rename(tmp_path / "moved")
    with caplog.at_level(logging.ERROR, logger="domicile.access_log"):
        collector.reopen()
        eventually(lambda: caplog.records)
    log.write(numbered(1))
    log.close()
    collector.close()

    assert numbers((tmp_path / "moved" / "access.log").read_bytes()) == [0, 1]
    assert "cannot be reopened (No such file or directory); the old file is kept" in caplog.text


def test_a_replaced_target_loses_nothing(tmp_path, path):
    collector = LogCollector(Target(path))
    log = worker(collector)
    for number in range(2000):
        log.write(numbered(number))
    eventually(lambda: path.stat().st_size > 0)
    collector.replace(Target(tmp_path / "other.log"))
    for number in range(2000, 4000):
        log.write(numbered(number))
    log.close()
    collector.close()

    old, new = numbers(path.read_bytes()), numbers((tmp_path / "other.log").read_bytes())
    assert old + new == list(range(4000))
    assert new


def test_a_reader_that_stopped_stops_workers_from_nothing_but_logging(fifo, tmp_path):
    path, reader = fifo
    collector = LogCollector(Target(path))
    (end, writer) = os.pipe()
    collector.attach(end)
    log = AccessLog(writer, queue_lines=1000)
    sent = 3000
    for number in range(sent):
        log.write(numbered(number, 500))
    refused = log.dropped
    assert refused > 0
    assert collector.problem is None

    # Orders are heard meanwhile.
    collector.replace(Target(tmp_path / "other.log"))
    eventually(lambda: (tmp_path / "other.log").stat().st_size > 0)
    log.close()
    collector.close()

    seen = numbers(read_all(reader)) + numbers((tmp_path / "other.log").read_bytes())
    assert seen == sorted(set(seen))
    assert len(seen) == sent - log.dropped == sent - refused


def test_a_reader_that_leaves_is_survived_and_the_next_gets_whole_lines(fifo):
    path, reader = fifo
    collector = LogCollector(Target(path))
    log = worker(collector)
    for number in range(200):
        log.write(numbered(number, 1000))
    eventually(lambda: collector._written < len(collector._batch))
    text = os.read(reader, 4 * len(numbered(0, 1000)))
    left = read_all(reader)
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), reader)
    eventually(lambda: collector.problem == os.strerror(errno.EPIPE))
    next_reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    rest = b""
    while not rest.endswith(numbered(199, 1000)):
        eventually(lambda: select.select([next_reader], [], [], 0)[0])
        rest += read_all(next_reader)
    log.close()
    collector.close()
    os.close(next_reader)

    before, after = numbers(text + left), numbers(rest)
    assert before == list(range(len(before)))
    assert after == list(range(after[0], 200))
    assert collector.dropped == 0


@pytest.mark.parametrize(("programs", "size"), [(2, 300), (1, 3 * select.PIPE_BUF)])
def test_programs_do_not_tear_lines_of_a_fifo(fifo, programs, size):
    # Two are in the middle of an upgrade; what is longer than a pipe takes as one is whole if there is one only.
    path, reader = fifo
    collectors = [LogCollector(Target(path)) for _ in range(programs)]
    children = [hammering(collector, which, 2000, size) for which, collector in enumerate(collectors)]
    text = bytearray()
    while text.count(b"\n") < 2000 * programs:
        eventually(lambda: select.select([reader], [], [], 0)[0])
        text += read_all(reader)
    for child in children:
        assert child.communicate(timeout=30)[0] == b"0\n"
    for collector in collectors:
        collector.close()

    records = [json.loads(line) for line in text.splitlines()]
    for which in range(programs):
        assert [record["n"] for record in records if record["w"] == which] == list(range(2000))


def test_two_programs_do_not_tear_lines_of_a_file(path):
    collectors = [LogCollector(Target(path)) for _ in range(2)]
    children = [hammering(collector, which, 5000, 400) for which, collector in enumerate(collectors)]
    for child in children:
        assert child.communicate(timeout=30)[0] == b"0\n"
    for collector in collectors:
        collector.close()

    records = [json.loads(line) for line in path.read_bytes().splitlines()]
    for which in range(2):
        assert [record["n"] for record in records if record["w"] == which] == list(range(5000))


STDOUT = """
import os, sys
from proxy.telemetry.access_log import AccessLog
from proxy.telemetry.log_collector import LogCollector
from proxy.telemetry.log_target import Target
collector = LogCollector(Target(None))
reader, writer = os.pipe()
collector.attach(reader)
log = AccessLog(writer)
for number in range(int(sys.argv[1])):
    log.write(b'{"n":%d}\\n' % number)
log.close(float(sys.argv[2]))
collector.close(float(sys.argv[2]))
print(log.dropped + collector.dropped, os.get_blocking(1), file=sys.stderr)
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
    assert numbers(text) == list(range(text.count(b"\n")))
    assert said == b"%d True\n" % (60000 - text.count(b"\n"))


def test_standard_output_as_a_socket_is_waited_for_and_does_not_hold_up_the_end():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = subprocess.Popen([sys.executable, "-c", STDOUT, "60000", "0.3"], stdout=theirs, stderr=subprocess.PIPE)
        _, said = child.communicate(timeout=30)
        theirs.close()
        text = b"".join(iter(lambda: ours.recv(1 << 20), b""))

    assert child.returncode == 0
    assert text.count(b"\n") > 1000
    assert numbers(text) == list(range(text.count(b"\n")))
    assert said == b"%d True\n" % (60000 - text.count(b"\n"))


def test_reopening_standard_output_changes_nothing():
    script = STDOUT.replace("log.close", "collector.reopen(); log.close", 1)

    done = subprocess.run([sys.executable, "-c", script, "100", "5"], capture_output=True, check=True, timeout=30)

    assert numbers(done.stdout) == list(range(100))


def test_rotation_under_load_by_a_signal(tmp_path, path):
    script = """
import os, signal, sys, time
from pathlib import Path
from proxy.telemetry.access_log import AccessLog
from proxy.telemetry.log_collector import LogCollector
from proxy.telemetry.log_target import Target
collector = LogCollector(Target(Path(sys.argv[1])))
reader, writer = os.pipe()
collector.attach(reader)
log = AccessLog(writer)
signal.signal(signal.SIGUSR1, lambda *_: collector.reopen())
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
collector.close()
print(number, log.dropped + collector.dropped, flush=True)
"""
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


def test_a_worker_that_is_killed_costs_nobody_elses_lines(path):
    collector = LogCollector(Target(path))
    killed = hammering(collector, 0, 10_000_000, 200)
    other = hammering(collector, 1, 5000, 200)
    eventually(lambda: path.stat().st_size > 1 << 20)
    killed.kill()
    killed.communicate(timeout=30)
    assert other.communicate(timeout=30)[0] == b"0\n"
    collector.close(10)

    records = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert [record["n"] for record in records if record["w"] == 1] == list(range(5000))
    some = [record["n"] for record in records if record["w"] == 0]
    assert some == list(range(len(some)))


def test_what_the_pipes_hold_is_written_at_the_end_though_a_writer_lives(path):
    collector = LogCollector(Target(path))
    reader, writer = os.pipe()
    collector.attach(reader)
    os.write(writer, b"".join(map(numbered, range(500))) + b"half")
    collector.close()
    os.close(writer)

    assert numbers(path.read_bytes()) == list(range(500))
    assert collector.dropped == 0


def test_after_the_end_nothing_is_heard(path):
    collector = LogCollector(Target(path))
    collector.close()
    collector.close()
    collector.reopen()

    assert path.read_bytes() == b""


def test_it_leaves_no_descriptor_open(path):
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = count()
    collector = LogCollector(Target(path))
    logs = [worker(collector) for _ in range(3)]
    collector.replace(Target(path))
    collector.reopen()
    for log in logs:
        log.close()
    collector.close()

    assert count() == before


def test_an_idle_collector_sleeps(path):
    collector = LogCollector(Target(path))
    log = worker(collector)
    log.write(numbered(0))
    eventually(lambda: path.stat().st_size > 0)
    task = Path(f"/proc/self/task/{collector._thread.native_id}")

    def asleep() -> bool:
        return task.joinpath("wchan").read_text() != "0" or " S " in task.joinpath("stat").read_text()

    def switches() -> str:
        return next(line for line in (task / "status").read_text().splitlines() if line.startswith("voluntary_ctxt"))

    eventually(asleep)
    before, later = switches(), threading.Event()
    later.wait(0.5)
    assert switches() == before
    log.close()
    collector.close()
