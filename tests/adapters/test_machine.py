"""What the machine tells of itself."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from proxy.adapters import machine
from proxy.domain.survey import Space


def test_a_file_system_tells_its_room(tmp_path: Path) -> None:
    found = machine.space(tmp_path)
    assert found is not None
    assert 0 < found.free <= found.size


def test_a_path_that_is_not_there_has_no_room(tmp_path: Path) -> None:
    assert machine.space(tmp_path / "missing") is None


def test_a_file_system_without_a_size_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As some over a network do; it is not full."""
    empty = os.statvfs_result((4096, 4096, 0, 0, 0, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: empty)
    assert machine.space(tmp_path) is None


@pytest.mark.parametrize(("files", "left"), [(0, None), (1000, 7)])
def test_files_count_where_the_file_system_counts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int, left: int | None
) -> None:
    found = os.statvfs_result((4096, 4096, 100, 50, 40, files, 9, 7, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: found)
    assert machine.space(tmp_path) == Space(40 * 4096, 100 * 4096, left)


async def test_a_loop_that_is_held_up_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "LAG_EVERY", 0.01)
    lags: asyncio.Queue[float] = asyncio.Queue()
    watch = asyncio.create_task(machine.watch_loop(lags.put_nowait))
    assert await lags.get() >= 0
    time.sleep(0.2)  # noqa: ASYNC251 - this is what holds it up
    lag = await lags.get()
    watch.cancel()
    assert lag >= 0.1
