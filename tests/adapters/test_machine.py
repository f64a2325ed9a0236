"""What the machine tells of itself."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from proxy.adapters import machine


def test_a_file_system_tells_its_room(tmp_path: Path) -> None:
    found = machine.space(tmp_path)
    assert found is not None
    assert 0 < found.free <= found.size


def test_a_path_that_is_not_there_has_no_room(tmp_path: Path) -> None:
    assert machine.space(tmp_path / "missing") is None


async def test_a_loop_that_is_held_up_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "LAG_EVERY", 0.01)
    lags: asyncio.Queue[float] = asyncio.Queue()
    watch = asyncio.create_task(machine.watch_loop(lags.put_nowait))
    assert await lags.get() >= 0
    time.sleep(0.2)  # noqa: ASYNC251 - this is what holds it up
    lag = await lags.get()
    watch.cancel()
    assert lag >= 0.1
