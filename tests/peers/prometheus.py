"""A real Prometheus that scrapes, and answers queries."""

import json
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.peers.process import PeerFailed, free_port, program, running

_ANSWER_WITHIN = 30.0

_CONFIGURATION = """\
global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}}
rule_files: {rules}
scrape_configs:
  - job_name: domicile
    static_configs: [{{targets: {targets}}}]
"""


@dataclass(frozen=True, slots=True)
class Series:
    """One series of an instant query's answer."""

    labels: dict[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running Prometheus with the job `domicile`, scraped twice a second."""

    port: int
    targets: tuple[str, ...]

    def query(self, expression: str) -> tuple[Series, ...]:
        """The instant answer. Raises ValueError with Prometheus's own words for a query it refuses."""
        answer = self._get("query", query=expression)
        if answer["resultType"] == "scalar":
            return (Series({}, float(answer["result"][1])),)
        return tuple(Series(one["metric"], float(one["value"][1])) for one in answer["result"])

    def await_scrapes(self, count: int) -> None:
        """Return once every target was scraped that often, from now on."""
        start = time.time()
        since = self._scraped(start)
        deadline = time.monotonic() + _ANSWER_WITHIN
        while time.monotonic() < deadline:
            now = self._scraped(time.time())
            if all(now.get(target, 0) >= since.get(target, 0) + count for target in self.targets):
                return
            time.sleep(0.05)
        raise PeerFailed(f"Prometheus did not scrape {self.targets}: {self.query('up')}")

    def _scraped(self, now: float) -> dict[str, int]:
        found = self._get("query", query='count_over_time(up{job="domicile"}[1h])', time=f"{now:.3f}")["result"]
        healthy = {one.labels["instance"] for one in self.query('up{job="domicile"} == 1')}
        return {
            one["metric"]["instance"]: int(one["value"][1]) for one in found if one["metric"]["instance"] in healthy
        }

    def _get(self, what: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as refusal:
            with refusal:
                raise ValueError(f"{parameters}: {refusal.read().decode()}") from None


@contextmanager
def prometheus(targets: Sequence[str], folder: Path, *, rules: Sequence[Path] = ()) -> Iterator[Prometheus]:
    """Run Prometheus on `host:port` targets, until the block is left; entered once it answers queries."""
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "prometheus.yml"
    configuration.write_text(
        _CONFIGURATION.format(rules=json.dumps([str(path) for path in rules]), targets=json.dumps(list(targets)))
    )
    port = free_port()
    command = [
        program("prometheus"),
        f"--config.file={configuration}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--query.lookback-delta=10s",
    ]
    with running("prometheus", command, folder, [port]):
        server = Prometheus(port, tuple(targets))
        _await_ready(server)
        yield server


def _await_ready(server: Prometheus) -> None:
    deadline = time.monotonic() + _ANSWER_WITHIN
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/-/ready", timeout=5) as response:
                if response.status == 200:
                    return
        except urllib.error.HTTPError as not_yet:
            not_yet.close()
        time.sleep(0.05)
    raise PeerFailed("Prometheus did not become ready")
