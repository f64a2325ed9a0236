"""Whether the proxy is ready, asked by anybody, as often as they like."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

from proxy.interfaces.store import Store
from proxy.services.readiness import PATIENCE, PROBE_EVERY, Readiness
from tests.sim.world import SimWorld, simulate


class Disk:
    """Of a store, all that readiness asks for."""

    def __init__(self) -> None:
        self.probes = 0
        self.writable = True
        self.answers = asyncio.Event()
        self.answers.set()

    async def is_writable(self) -> bool:
        self.probes += 1
        await self.answers.wait()
        return self.writable


def played(scene: Callable[[Disk, Readiness], Awaitable[None]]) -> None:
    """In virtual time."""

    async def main(_: SimWorld) -> None:
        disk = Disk()
        ready = Readiness(cast("Store", disk))
        ready.listening = True
        await scene(disk, ready)

    simulate(1, main)


def test_a_flood_of_questions_writes_no_more_than_one() -> None:
    async def scene(disk: Disk, ready: Readiness) -> None:
        assert all(await asyncio.gather(*(ready() for _ in range(100))))
        for _ in range(100):
            assert await ready()
            await asyncio.sleep(PROBE_EVERY / 101)
        assert disk.probes == 1

    played(scene)


def test_a_disk_that_takes_nothing_is_noticed_and_so_is_its_recovery() -> None:
    async def scene(disk: Disk, ready: Readiness) -> None:
        for writable in (True, False, True):
            disk.writable = writable
            await asyncio.sleep(PROBE_EVERY)
            assert await ready() is writable
        assert disk.probes == 3

    played(scene)


def test_nobody_waits_for_ever_for_a_disk_that_hangs() -> None:
    async def scene(disk: Disk, ready: Readiness) -> None:
        disk.answers.clear()
        since = asyncio.get_running_loop().time()
        assert not any(await asyncio.gather(*(ready() for _ in range(50))))
        assert asyncio.get_running_loop().time() - since == PATIENCE
        assert not await ready()
        assert disk.probes == 1
        disk.answers.set()
        assert await ready()

    played(scene)


def test_who_goes_away_takes_the_answer_from_nobody() -> None:
    async def scene(disk: Disk, ready: Readiness) -> None:
        disk.answers.clear()
        first, second = asyncio.create_task(ready()), asyncio.create_task(ready())
        await asyncio.sleep(1)
        first.cancel()
        disk.answers.set()
        assert await second
        assert disk.probes == 1

    played(scene)


def test_before_the_listeners_are_open_it_is_not_ready_and_asks_nothing() -> None:
    async def scene(disk: Disk, ready: Readiness) -> None:
        ready.listening = False
        assert not await ready()
        assert disk.probes == 0

    played(scene)
