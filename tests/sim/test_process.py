"""Killed processes: not one more step, no `finally`, no callback, and no warning at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.sim.errors import DeadlockError
from tests.sim.process import CrashedError
from tests.sim.world import SimWorld, seeds, simulate


@pytest.mark.parametrize("seed", seeds(50))
def test_a_killed_process_does_nothing_more(seed: int) -> None:
    async def main(sim: SimWorld) -> tuple[int, int]:
        did: list[str] = []
        host = sim.host("proxy")

        async def work(depth: int) -> None:
            loop = asyncio.get_running_loop()
            try:
                async with asyncio.TaskGroup() as group:
                    if depth:
                        group.create_task(work(depth - 1))
                    while True:
                        await asyncio.sleep(0.01)
                        did.append("step")
                        loop.call_later(0.5, did.append, "timer")
                        loop.call_soon(did.append, "callback")
            except asyncio.CancelledError:
                did.append("cancelled")
                raise
            finally:
                did.append("finally")
                await asyncio.sleep(0)

        host.spawn(work(3))
        await asyncio.sleep(sim.random("when").uniform(0.1, 2))
        host.crash()
        before = len(did)
        await asyncio.sleep(100)
        assert "cancelled" not in did
        assert "finally" not in did
        return before, len(did)

    before, after = simulate(seed, main).result
    assert before == after > 0


def test_a_host_starts_anew_after_a_crash() -> None:
    async def main(sim: SimWorld) -> list[str]:
        did: list[str] = []

        async def serve(name: str) -> None:
            while True:
                await asyncio.sleep(1)
                did.append(name)

        host = sim.host("proxy")
        host.spawn(serve("old"))
        await asyncio.sleep(2.5)
        host.crash()
        host.spawn(serve("new"))
        await asyncio.sleep(2.5)
        return did

    assert simulate(0, main).result == ["old", "old", "new", "new"]


def test_waiting_for_a_process_ends_with_its_crash() -> None:
    async def main(sim: SimWorld) -> None:
        host = sim.host("proxy")
        sim.loop.call_later(5, host.crash)
        with pytest.raises(CrashedError):
            await host.run(asyncio.sleep(10))
        assert await host.run(asyncio.sleep(1, "done")) == "done"

    assert simulate(0, main).seconds == 6


def test_what_is_registered_for_the_crash_is_called_once_and_in_reverse() -> None:
    async def main(sim: SimWorld) -> list[str]:
        called: list[str] = []
        host = sim.host("proxy")
        process = host.process
        process.at_crash(lambda: called.append("first"))
        process.at_crash(lambda: called.append("second"))
        host.crash()
        process.kill()
        with pytest.raises(CrashedError):
            process.spawn(asyncio.sleep(1))
        return called

    assert simulate(0, main).result == ["second", "first"]


def test_timers_of_the_dead_do_not_keep_a_deadlock_from_being_seen() -> None:
    async def main(sim: SimWorld) -> None:
        host = sim.host("proxy")
        task = host.spawn(asyncio.sleep(50), name="never to wake")
        await asyncio.sleep(1)
        host.crash()
        await task

    with pytest.raises(DeadlockError, match=r"never to wake#\d+ in proxy/0 \(killed\)") as caught:
        simulate(0, main)
    assert "seed 0" in caught.value.__notes__[0]


def test_stubborn_and_generating_coroutines_are_buried_without_a_word() -> None:
    @asynccontextmanager
    async def resource() -> AsyncIterator[None]:
        try:
            yield
        finally:
            await asyncio.sleep(1)
            raise KeyError

    async def numbers() -> AsyncIterator[int]:
        try:
            while True:
                await asyncio.sleep(1)
                yield 1
        finally:
            await asyncio.sleep(1)

    async def stubborn() -> None:
        for _ in range(5):
            try:
                await asyncio.sleep(1000)
            finally:
                await asyncio.sleep(1)
                # Made here and never awaited: must not warn.
                asyncio.get_running_loop().create_task(asyncio.sleep(1))

    async def work() -> None:
        async with resource(), asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(stubborn())
            async for _ in numbers():
                pass

    async def failing() -> None:
        raise ValueError

    async def main(sim: SimWorld) -> None:
        host = sim.host("proxy")
        host.spawn(work())
        await asyncio.sleep(2.5)
        host.spawn(failing())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        host.crash()
        host.process.spawn(asyncio.sleep(1))
        host.crash()

    for seed in seeds(10):
        simulate(seed, main)


def test_the_dead_are_not_killed_by_the_tasks_they_share_a_future_with() -> None:
    async def main(sim: SimWorld) -> list[str]:
        woken: list[str] = []
        bell = asyncio.Event()

        async def wait(name: str) -> None:
            await bell.wait()
            woken.append(name)

        proxy, laptop = sim.host("proxy"), sim.host("laptop")
        proxy.spawn(wait("proxy"))
        laptop.spawn(wait("laptop"))
        await asyncio.sleep(1)
        proxy.crash()
        bell.set()
        await asyncio.sleep(1)
        return woken

    assert simulate(0, main).result == ["laptop"]
