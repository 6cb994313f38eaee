"""Fuzzes each reader of proxy/wire for some seconds:  make fuzz SECONDS=600

Begins with the cases that the tests keep (tests/wire/cases). What is found lies in build/fuzz: `corpus` grows from
run to run, a `crash-...` is what broke a promise. Ends with 1 if there is one.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CASES = ROOT / "tests" / "wire" / "cases"
FOUND = ROOT / "build" / "fuzz"

READERS = {"hello": "17000", "proxy_header": "4200"}
"""Each reader's fuzzer, and the most bytes of an input: a little more than the reader takes."""


def fuzz(reader: str, seconds: str) -> int:
    folder = FOUND / reader
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={seconds}", f"-max_len={READERS[reader]}", "-timeout=10", "-print_final_stats=1"]
    command = [sys.executable, "-m", f"fuzz.{reader}", *options, f"-artifact_prefix={folder}/", f"{folder}/corpus"]
    return subprocess.run([*command, str(CASES / reader)], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    seconds = sys.argv[1] if len(sys.argv) > 1 else "60"
    ended = [fuzz(reader, seconds) for reader in READERS]
    sys.exit(int(any(ended)))
