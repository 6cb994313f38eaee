"""A mistake of this program, wherever it is met: one request or one connection ends, and the operator is told."""

import pytest

from proxy.http1.provider import ProviderConnection
from proxy.providers.fleet import EndpointState
from tests.http1.scenes import eventually, open_at, told, unforeseen
from tests.http1.staging import answering, request, staged


class Mistake(Exception):
    """What this program never raises."""


def mistaken(*args: object, **named: object) -> None:
    raise Mistake


# A dial


@pytest.mark.parametrize(
    ("owner", "name"), [(EndpointState, "connect"), (ProviderConnection, "begin")], ids=["in the dial", "after it"]
)
async def test_around_a_dial_it_is_a_500(owner: type, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with staged({"cn": answering(b"served")}) as stage:
        client = await stage.client()
        with unforeseen() as heard, monkeypatch.context() as patched:
            patched.setattr(owner, name, mistaken)
            await client.send(request())
            response = await client.response()
            assert (response.status, response.reason) == (500, "internal")
            await eventually(lambda: bool(heard))
        assert isinstance(heard[0]["exception"], Mistake)
        await eventually(lambda: open_at(stage, "cn") == 0)
        # The connection is as good as before.
        await client.send(request())
        assert (await client.response()).body == b"served"
        assert [record["reason"] for record in await told(stage, 2)] == ["internal", None]
