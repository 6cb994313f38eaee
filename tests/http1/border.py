"""Stages on which a provider that is not permitted stands by: it is shown to be reachable, and then hears nothing.

async with border({"first": script, "second": script}) as scene:
    response = await scene.ask(request("/x", xff=BRITAIN))
"""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from proxy.http1.provider import ProviderConnection
from proxy.providers.endpoint import EndpointState
from tests.http1.recording import KeptLog, Recorder, keep_log
from tests.http1.staging import BRITAIN, Response, Script, Stage, policy_text, request, staged


@dataclass
class Border:
    """A stage whose `cn` nobody may reach from Britain."""

    stage: Stage
    log: KeptLog
    forbidden: Recorder = field(default_factory=Recorder)

    def heard(self, name: str) -> int:
        """How many connections a provider was met with."""
        return len(self.stage.providers[name].conversations)

    def place(self, name: str) -> EndpointState[ProviderConnection]:
        """The one endpoint of a provider."""
        return self.stage.plane.line.fleet.states[name].endpoints[0]

    def idle(self) -> bool:
        """Whether no endpoint believes that it is busy."""
        loads = [self.place(name).health.load for name in self.stage.providers]
        return all(load.outstanding == load.awaited == 0 for load in loads)

    async def ask(self, target: str = "/", method: str = "GET", body: bytes | None = None) -> Response:
        """One request from Britain, on a connection of its own."""
        return await self.stage.ask(request(target, method=method, xff=BRITAIN, body=body), method)

    def reload(self, text: str) -> None:
        """Put another policy in force."""
        self.stage.plane.swap(self.stage.line(text, self.stage.plane.line))

    def text(self, **options: str) -> str:
        """A policy of the same providers."""
        ports = {name: provider.port for name, provider in self.stage.providers.items()}
        return policy_text(ports, more=self._route() + options.pop("more", ""), **options)

    def _route(self) -> str:
        return route(self.stage.providers)


def route(names: Mapping[str, object]) -> str:
    """Those that are permitted, in their order."""
    listed = ", ".join(f"{{provider: {name}}}" for name in names if name != "cn")
    return f"routes:\n  - {{when: {{}}, prefer: [{listed}]}}\n"


@asynccontextmanager
async def border(scripts: Mapping[str, Script], *, more: str = "", provider: str = "") -> AsyncIterator[Border]:
    """A stage of these providers, all of them permitted in Britain, and the one that is not."""
    forbidden = Recorder()
    async with staged({"cn": forbidden, **scripts}, more=route(scripts) + more, provider=provider) as stage:
        scene = Border(stage, keep_log(stage), forbidden)
        assert (await stage.ask(request("/reachable"))).body == b"recorded"
        scene.log.lines.clear()
        scene.log.records.clear()
        yield scene
        assert forbidden.whole == [(b"GET", b"/reachable", b"")]
        assert scene.heard("cn") == 1


def now() -> float:
    """The clock that endpoints go by."""
    return time.monotonic()
