"""/metrics, /healthz, /readyz and /status: what an instance tells its operator, and nothing that changes it."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict

from aiohttp import web

from proxy.admin.listen import listen
from proxy.admin.values import Readiness, Status
from proxy.policy.settings import Bind, UnixBind
from proxy.telemetry.metrics import Metrics

_log = logging.getLogger("domicile.admin")


class AdminServer:
    """Serves the admin endpoints on the running loop, beside the data plane, which a scrape never holds up."""

    def __init__(
        self, bind: Bind, metrics: Metrics, readiness: Callable[[], Readiness], status: Callable[[], Status]
    ) -> None:
        self._bind = bind
        self._metrics = metrics
        self._readiness = readiness
        self._status = status
        self._bound: Bind | None = None
        self._runner: web.AppRunner | None = None

    @property
    def bound(self) -> Bind | None:
        """Where it listens, with the port that the kernel chose; None while it does not."""
        return self._bound

    async def start(self) -> None:
        """Listen and serve. Raises OSError if the address cannot be had."""
        app = web.Application()
        app.on_response_prepare.append(_finish_headers)
        app.router.add_get("/metrics", self._serve_metrics)
        app.router.add_get("/healthz", self._serve_health)
        app.router.add_get("/readyz", self._serve_readiness)
        app.router.add_get("/status", self._serve_status)
        listening, bound = listen(self._bind)
        runner = web.AppRunner(app, access_log=None, logger=_log, handle_signals=False, shutdown_timeout=1.0)
        try:
            await runner.setup()
            await web.SockSite(runner, listening).start()
        except BaseException:
            listening.close()
            await runner.cleanup()
            raise
        self._runner, self._bound = runner, bound

    async def close(self) -> None:
        """Stop serving; answers in the making get a second."""
        if self._runner is None:
            return
        runner, self._runner, self._bound = self._runner, None, None
        if isinstance(self._bind, UnixBind):
            with suppress(OSError):
                self._bind.path.unlink()
        await runner.cleanup()

    async def _serve_metrics(self, request: web.Request) -> web.Response:
        process = await asyncio.to_thread(self._metrics.process)
        content_type, pieces = self._metrics.pieces(request.headers.get("Accept", ""), process)
        body = bytearray()
        for piece in pieces:
            body += piece
            await asyncio.sleep(0)
        return web.Response(body=bytes(body), headers={"Content-Type": content_type})

    async def _serve_health(self, request: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def _serve_readiness(self, request: web.Request) -> web.Response:
        readiness = self._readiness()
        body = {
            "ready": readiness.ready,
            "policy_loaded": readiness.policy_loaded,
            "listeners_bound": readiness.listeners_bound,
            "draining": readiness.draining,
            "providers": dict(readiness.providers),
        }
        return web.json_response(body, status=200 if readiness.ready else 503)

    async def _serve_status(self, request: web.Request) -> web.Response:
        return web.json_response(asdict(self._status()))


async def _finish_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    # What aiohttp would put here names its version and Python's.
    response.headers["Server"] = "domicile"
