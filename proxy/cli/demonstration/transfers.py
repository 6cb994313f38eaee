"""The second part: bytes that must arrive as they were sent, and bytes that must not arrive at all."""

import hashlib
import random

from proxy.cli.demonstration.accounts import Account
from proxy.cli.demonstration.checks import Checks
from proxy.cli.demonstration.client import Place
from proxy.cli.demonstration.stage import ANNA, FRANKFURT, LI_NA, SHANGHAI, Stage
from proxy.cli.demonstration.storage import Storage

SIZE = 8 << 20
"""Bytes of an upload."""


async def transfer(stage: Stage, checks: Checks) -> None:
    """An upload and a download for an account of each provider, from the other's country."""
    await _there_and_back(stage, checks, LI_NA, FRANKFURT, stage.telecom)
    await _there_and_back(stage, checks, ANNA, SHANGHAI, stage.ours)


async def _there_and_back(stage: Stage, checks: Checks, account: Account, place: Place, storage: Storage) -> None:
    body = random.randbytes(SIZE)  # noqa: S311 any bytes will do
    digest = hashlib.sha256(body).hexdigest()
    token, size = stage.tokens[account], f"{SIZE / 2**20:g} MiB"
    up = await stage.client.send(place, token, method="PUT", path="/film.mp4", body=body)
    kept = up.value()
    whole = (kept.get("bytes"), kept.get("sha256")) == (SIZE, digest)
    checks(
        f"Upload: {account.name}'s {size} from {place.name} to {up.operator or f'nobody ({up.status})'}, "
        + ("SHA-256 the same there" if whole else "SHA-256 not the same there"),
        up.status == 201 and whole and up.operator == storage.operator,
    )
    down = await stage.client.send(place, token, path="/film.mp4")
    same = down.body == body
    checks(
        f"Download: {size} again from {down.operator or f'nobody ({down.status})'}, "
        + ("byte for byte the same" if same else f"not the same ({len(down.body):,} bytes)"),
        down.status == 200 and same and down.operator == storage.operator,
    )


async def smuggle(stage: Stage, checks: Checks) -> None:
    """One request with two lengths, in whose body a second one hides."""
    field = f"Host: {stage.client.host}\r\nX-Forwarded-For: {FRANKFURT.address}\r\n"
    field += f"Authorization: Bearer {stage.tokens[ANNA]}\r\n"
    hidden = f"GET /hidden HTTP/1.1\r\n{field}\r\n"
    request = f"POST /front HTTP/1.1\r\n{field}Content-Length: {len(hidden) + 5}\r\nTransfer-Encoding: chunked\r\n\r\n"
    before = [storage.seen for storage in stage.providers]
    came = await stage.client.send_raw(f"{request}0\r\n\r\n{hidden}".encode())
    after = [storage.seen for storage in stage.providers]
    answers = came.count(b"HTTP/1.1 ")
    status = came[9:12].decode("latin-1") if answers else "no answer"
    unseen = before == after
    checks(
        f"Smuggling by two lengths (CL and TE): {status}, "
        + (f"{answers} answers, " if answers > 1 else "")
        + ("and no provider saw any of it" if unseen else "and a provider saw it"),
        status == "400" and answers == 1 and unseen,
    )
