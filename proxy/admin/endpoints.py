"""/metrics, /healthz, /readyz and /status: what an instance tells its operator, and nothing that changes it."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import asdict

from aiohttp import web

from proxy.admin.listen import bound_to, listen
from proxy.admin.values import Readiness, Status
from proxy.policy.settings import Bind, UnixBind

_log = logging.getLogger("domicile.admin")


Exposition = Callable[[str], Awaitable[tuple[str, Iterator[bytes]]]]
"""Given an Accept header: the Content-Type that suits it, and the metrics in pieces."""


class AdminServer:
    """Serves the admin endpoints on the running loop, which a scrape never holds up."""

    def __init__(
        self,
        where: Bind | socket.socket,
        exposition: Exposition,
        readiness: Callable[[], Readiness],
        status: Callable[[], Awaitable[Status]],
    ) -> None:
        """where: what to bind, or a socket that already listens; its path, if it has one, is somebody else's."""
        self._where = where
        self._exposition = exposition
        self._readiness = readiness
        self._status = status
        self._bound: Bind | None = None
        self._socket: socket.socket | None = None
        self._runner: web.AppRunner | None = None

    @property
    def bound(self) -> Bind | None:
        """Where it listens, with the port that the kernel chose; None while it does not."""
        return self._bound

    @property
    def socket(self) -> socket.socket | None:
        """What it listens with, for who shall listen after it; None while it does not."""
        return self._socket

    async def start(self) -> None:
        """Listen and serve. Raises OSError if the address cannot be had."""
        app = web.Application()
        app.on_response_prepare.append(_finish_headers)
        app.router.add_get("/metrics", self._serve_metrics)
        app.router.add_get("/healthz", self._serve_health)
        app.router.add_get("/readyz", self._serve_readiness)
        app.router.add_get("/status", self._serve_status)
        if isinstance(self._where, socket.socket):
            listening, bound = self._where, bound_to(self._where)
        else:
            listening, bound = listen(self._where)
        runner = web.AppRunner(app, access_log=None, logger=_log, handle_signals=False, shutdown_timeout=1.0)
        try:
            await runner.setup()
            await web.SockSite(runner, listening).start()
        except BaseException:
            listening.close()
            await runner.cleanup()
            raise
        self._runner, self._bound, self._socket = runner, bound, listening

    async def close(self, *, leave_path: bool = False) -> None:
        """Stop serving; answers in the making get a second. leave_path: somebody else listens there by now."""
        if self._runner is None:
            return
        runner, self._runner, self._bound, self._socket = self._runner, None, None, None
        if isinstance(self._where, UnixBind) and not leave_path:
            with suppress(OSError):
                self._where.path.unlink()
        await runner.cleanup()

    async def _serve_metrics(self, request: web.Request) -> web.Response:
        content_type, pieces = await self._exposition(request.headers.get("Accept", ""))
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
            "workers": asdict(readiness.workers),
            "providers": dict(readiness.providers),
        }
        return web.json_response(body, status=200 if readiness.ready else 503)

    async def _serve_status(self, request: web.Request) -> web.Response:
        return web.json_response(asdict(await self._status()))


async def _finish_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    # What aiohttp would put here names its version and Python's.
    response.headers["Server"] = "domicile"
