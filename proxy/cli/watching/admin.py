"""Asking an instance's admin endpoints how it stands."""

import http.client
import json
import os
import re
import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError

from proxy.admin import Status
from proxy.policy.settings import Bind, UnixBind

_WHOLE = 64 * 2**20
"""Bytes of an answer at most: a megabyte is a thousand providers."""

_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound

_STATUS = TypeAdapter(Status)


class NoAnswer(Exception):
    """Nobody answers there, or not with a status. Its text is for the operator."""


@dataclass(frozen=True, slots=True)
class Admin:
    """Where admin endpoints are. text: as it was given. path: of a Unix socket, else host and port count."""

    text: str
    host: str = "localhost"
    port: int = 80
    path: str | None = None
    encrypted: bool = False

    def ask(self, patience: float) -> dict[str, Any]:
        """/status, now, as the JSON object that it is. patience: seconds for each wait. Raises NoAnswer."""
        connection = self._connection(patience)
        try:
            connection.request("GET", "/status", headers={"Accept": "application/json"})
            answer = connection.getresponse()
            body = answer.read(_WHOLE)
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(f"{self.text} does not answer: {_why(error)}") from error
        finally:
            connection.close()
        try:
            shown = json.loads(body) if answer.status == 200 else None
        except ValueError:
            shown = None
        if not isinstance(shown, dict):
            raise NoAnswer(f"{self.text} is no admin endpoint of Domicile (status {answer.status})")
        return shown

    def status(self, patience: float) -> Status:
        """The same, as a value."""
        try:
            return _STATUS.validate_python(self.ask(patience))
        except ValidationError:
            raise NoAnswer(f"{self.text} answers as another version does") from None

    def _connection(self, patience: float) -> http.client.HTTPConnection:
        if self.path is not None:
            return _UnixConnection(self.path, patience)
        kind = http.client.HTTPSConnection if self.encrypted else http.client.HTTPConnection
        return kind(self.host, self.port, timeout=patience)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, patience: float) -> None:
        super().__init__("localhost", timeout=patience)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def read_admin(text: str) -> Admin:
    """`unix:PATH`, a URL, or HOST:PORT. Raises ValueError."""
    if text.startswith("unix:"):
        if path := text.removeprefix("unix:"):
            return Admin(text, path=path)
        raise ValueError("a path is missing")
    parts = urlsplit(text if re.match(r"[a-z]+://", text) else f"http://{text}")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.username:
        raise ValueError("write unix:PATH, or a URL such as http://127.0.0.1:9400")
    encrypted = parts.scheme == "https"
    return Admin(text, parts.hostname, parts.port or (443 if encrypted else 80), encrypted=encrypted)


def admin_of(bind: Bind) -> Admin:
    """Where a policy has them. Raises ValueError if nobody can tell."""
    if isinstance(bind, UnixBind):
        return Admin(f"unix:{bind.path}", path=str(bind.path))
    if bind.port == 0:
        raise ValueError("the policy lets the kernel choose the admin port: give --admin")
    host = _ANYWHERE.get(bind.host, bind.host)
    shown = f"[{host}]" if ":" in host else host
    return Admin(f"http://{shown}:{bind.port}", host, bind.port)


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "too slow"
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno).lower()
    return "no such name" if isinstance(error, socket.gaierror) else "not in HTTP"
