"""Requests as a load balancer passes them on, and who was reached by them."""

import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.config_examples.recipients import Heard, Recipient

PATIENCE = 30.0


@dataclass(frozen=True)
class Said:
    """An answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def reason(self) -> str | None:
        """The reason of an answer that is the proxy's own."""
        return json.loads(self.body).get("reason") if self.headers.get("content-type", "").endswith("json") else None


class Door:
    """A listener of the proxy. tls: trusts whom it must; name: whom to ask for, and the Host of requests."""

    def __init__(self, port: int, name: str, tls: ssl.SSLContext | None = None) -> None:
        self._port = port
        self._name = name
        self._tls = tls

    @contextlib.contextmanager
    def asked(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer to one request, its body still to be read."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        connection.sock = socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE)
        if self._tls is not None:
            connection.sock = self._tls.wrap_socket(connection.sock, server_hostname=self._name)
        with contextlib.closing(connection):
            connection.request(method, path, body, {"Host": self._name, **headers})
            with connection.getresponse() as response:
                yield response

    def ask(
        self,
        path: str,
        *,
        from_: str | None = None,
        token: str | None = None,
        method: str = "GET",
        host: str | None = None,
        body: bytes | None = None,
    ) -> Said:
        """Ask once. from_: the client's address, as a load balancer says it."""
        headers = {"X-Forwarded-For": from_} if from_ else {}
        headers |= {"Authorization": f"Bearer {token}"} if token else {}
        headers |= {"Host": host} if host else {}
        with self.asked(method, path, headers, body) as response:
            names = {name.lower(): value for name, value in response.getheaders()}
            return Said(response.status, names, response.read())


class Providers:
    """All providers of an example, each shown to be reachable before anything is claimed not to reach it."""

    def __init__(self, all_of_them: Sequence[Recipient]) -> None:
        self._all = {each.name: each for each in all_of_them}

    def __getitem__(self, name: str) -> Recipient:
        return self._all[name]

    def all_were_reached(self) -> None:
        for each in self._all.values():
            assert each.requests, f"{each.name} was never reached"

    @contextlib.contextmanager
    def only(self, name: str | None) -> Iterator[list[Heard]]:
        """What happens here reaches that provider with one request, and no other with as much as a connection."""
        before = {each.name: each.heard for each in self._all.values()}
        heard: list[Heard] = []
        yield heard
        reached = [each.name for each in self._all.values() if each.heard != before[each.name]]
        assert reached == ([] if name is None else [name])
        if name is not None:
            heard += self._all[name].requests[before[name][1] :]
            assert len(heard) == 1
