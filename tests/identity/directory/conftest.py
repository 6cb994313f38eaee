"""Servers that take seconds to start serve all tests of a module."""

import asyncio
from collections.abc import Callable, Iterator, Mapping

import pytest
import uvloop

from tests.identity.directory.servers import postgres, valkey


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """These tests run on the loop that serves."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def postgres_port() -> Iterator[int]:
    with postgres() as port:
        yield port


@pytest.fixture(scope="session")
def valkey_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with valkey(tmp_path_factory.mktemp("valkey")) as port:
        yield port
