"""nginx as a real peer: provider, reverse proxy, or a second reading of what was sent."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.peers.process import Peer, program, running

_CONFIGURATION = """\
{module}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log {level};
{user}
events {{ worker_connections {connections}; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    scgi_temp_path {folder}/scgi;
    uwsgi_temp_path {folder}/uwsgi;
    access_log off;
{http}
}}
{stream}
"""

STREAM_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"
"""Where Debian's libnginx-mod-stream puts it."""


def configuration(
    http: str, folder: Path, *, level: str = "warn", user: str = "", stream: str = "", connections: int = 4096
) -> str:
    """A whole nginx.conf around the content of its `http` and `stream` blocks; all is written inside the folder."""
    module = f"load_module {STREAM_MODULE};" if stream else ""
    block = f"stream {{\n{stream}\n}}" if stream else ""
    return _CONFIGURATION.format(
        http=http, folder=folder, level=level, user=user, module=module, stream=block, connections=connections
    )


@contextmanager
def nginx(
    http: str,
    ports: Sequence[int],
    folder: Path,
    *,
    before: Sequence[str] = (),
    level: str = "warn",
    stream: str = "",
    connections: int = 4096,
) -> Iterator[Peer]:
    """Run nginx with one worker on the content of an `http` block, until the block is left.

    ports: those that it listens on. before: words before the command, such as `taskset -c 0`. stream: the content of
    a `stream` block, for which the stream module has to be installed. connections: how many it may have, to both sides.
    Debian's nginx and not one from PyPI: it is built with optimisation.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "nginx.conf"
    text = configuration(http, folder, level=level, user=_user(), stream=stream, connections=connections)
    path.write_text(text, encoding="utf-8")
    command = [*before, program("nginx"), "-e", folder / "error.log", "-p", folder, "-c", path]
    with running("nginx", command, folder, ports) as peer:
        yield peer


def _user() -> str:
    # As root the worker would otherwise run as a user who may not read a test's private folder.
    return "user root;" if os.geteuid() == 0 else ""
