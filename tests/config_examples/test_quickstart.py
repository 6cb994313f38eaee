"""config/quickstart, as the README has it run."""

from collections.abc import Iterator

import pytest

from tests.config_examples.asking import Door, Providers
from tests.config_examples.moved import ANY_PORT, MAINLAND, NETHERLANDS, moved
from tests.config_examples.recipients import recipient
from tests.running import Running, start


@pytest.fixture(scope="module")
def own() -> Iterator[Providers]:
    with recipient("own-service") as service:
        yield Providers([service])


@pytest.fixture(scope="module")
def proxy(own: Providers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    policy = moved("quickstart", {"http://127.0.0.1:9000": own["own-service"].origin, "127.0.0.1:8080": ANY_PORT})
    with start(policy, tmp_path_factory.mktemp("quickstart")) as running:
        door = Door(running.port("edge"), "service.example")
        assert door.ask("/", from_=NETHERLANDS).body == b"own-service"
        own.all_were_reached()
        yield running


@pytest.fixture
def door(proxy: Running) -> Door:
    return Door(proxy.port("edge"), "service.example")


def test_whoever_is_served_reaches_the_service(door: Door, own: Providers) -> None:
    with own.only("own-service") as heard:
        assert door.ask("/a?b=c", from_=NETHERLANDS).status == 200
    assert heard[0].target == "/a?b=c"
    assert heard[0].headers["host"] == "service.example"
    assert heard[0].headers["x-forwarded-for"] == f"{NETHERLANDS}, 127.0.0.1"


@pytest.mark.parametrize(("client", "reason"), [(MAINLAND, "no-zone"), (None, "home-unknown")])
def test_who_is_not_served_reaches_nothing(door: Door, own: Providers, client: str | None, reason: str) -> None:
    with own.only(None):
        said = door.ask("/", from_=client)
    assert (said.status, said.reason) == (451, reason)


def test_what_happened_is_in_the_metrics(proxy: Running, door: Door) -> None:
    denials = 'domicile_denials_total{listener="edge",reason="no-zone"}'
    before = proxy.metric(denials)
    door.ask("/", from_=MAINLAND)
    assert proxy.metric(denials) == before + 1
    served = 'domicile_requests_total{listener="edge",provider="own-service",status="2xx",zone="served"}'
    assert proxy.metric(served) >= 1
