"""Every asynchronous test here runs on asyncio's loop and on uvloop, and leaves no socket behind."""

import asyncio
import gc
import os
from pathlib import Path

import pytest
import uvloop

from tests.authority import make_authority


def pytest_asyncio_loop_factories(config, item):
    return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


def open_sockets():
    links = []
    for number in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:
            continue  # the descriptor of the listing itself
    return {link for link in links if link.startswith("socket:")}


@pytest.fixture(autouse=True)
def no_socket_left():
    """Set up before the loop and checked after it is closed; a leak is an unclosed-socket warning, or shows here."""
    before = open_sockets()
    yield
    gc.collect()
    assert open_sockets() <= before


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def stranger(tmp_path_factory):
    """An authority that nobody here trusts."""
    return make_authority(Path(tmp_path_factory.mktemp("stranger")), "stranger")
