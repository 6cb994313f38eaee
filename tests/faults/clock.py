"""A clock that can be set under a process: Debian's faketime, which leaves monotonic time alone."""

from pathlib import Path


class Clock:
    """environ: what the process is started with."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self._file.write_text("+0\n")
        library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        self.environ = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def jump(self, seconds: int) -> None:
        """From now on it says so much more, or less, than ours."""
        self._file.write_text(f"{seconds:+d}\n")
