"""What all tests share: the event loops they run on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvloop
from hypothesis import settings

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


@pytest.hookimpl
def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, LoopFactory]:
    """uvloop, as in production; sessions of devices on asyncio's own loop as well.

    Transports and TLS are the loop's own code, and the two differ in corners.
    """
    factories: dict[str, LoopFactory] = {"uvloop": uvloop.new_event_loop}
    if item.path.name.startswith(("test_pop3_session", "test_smtp_session")):
        factories["asyncio"] = asyncio.new_event_loop
    return factories


# How long one example takes says how busy the machine is, and nothing of what is tested.
settings.register_profile("proxy", deadline=None)
settings.load_profile("proxy")
