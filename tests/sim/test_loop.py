"""The simulated loop: virtual time, seeded order, one trace per seed."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.sim.errors import DeadlockError, EndlessError, OutsideWorldError, UnhandledError
from tests.sim.outside import OUTSIDE
from tests.sim.world import EPOCH, SimPasswords, SimWorld, seeds, simulate


async def _race(sim: SimWorld) -> list[int]:
    order: list[int] = []

    async def runner(number: int) -> None:
        await asyncio.sleep(1)
        order.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(runner(number))
    return order


def test_one_seed_gives_one_schedule_and_fifty_give_many() -> None:
    runs = {seed: simulate(seed, _race) for seed in range(50)}
    for seed, run in runs.items():
        assert simulate(seed, _race) == run
    assert len({tuple(run.result) for run in runs.values()}) > 40
    assert len({run.trace_hash for run in runs.values()}) > 40


def test_a_trace_is_the_same_in_another_process_with_another_hash_seed() -> None:
    code = (
        "from tests.sim.test_loop import _race; from tests.sim.world import simulate;"
        "print(simulate(7, _race).trace_hash)"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            cwd=Path(__file__).parents[2],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for hash_seed in ("1", "2")
    }
    assert hashes == {simulate(7, _race).trace_hash}


def test_an_hour_takes_no_time_and_the_clock_has_moved_by_it() -> None:
    async def main(sim: SimWorld) -> tuple[float, float]:
        await asyncio.sleep(3600)
        return sim.clock.now(), asyncio.get_running_loop().time()

    run = simulate(0, main)
    assert run.seconds == 3600
    assert run.result[0] == EPOCH + 3600
    assert run.steps < 10


def test_a_timeout_ends_what_waits_for_ever() -> None:
    async def main(sim: SimWorld) -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(600):
                await asyncio.Event().wait()
        return sim.loop.time()

    assert simulate(0, main).seconds == 600


def test_callbacks_keep_their_order_and_timers_of_one_instant_too() -> None:
    async def main(sim: SimWorld) -> list[int]:
        seen: list[int] = []
        for number in range(20):
            sim.loop.call_soon(seen.append, number)
        for number in range(20, 40):
            sim.loop.call_later(5, seen.append, number)
        await asyncio.sleep(6)
        return seen

    for seed in seeds(20):
        assert simulate(seed, main).result == list(range(40))


def test_a_step_never_overtakes_a_callback_scheduled_before_it() -> None:
    async def main(sim: SimWorld) -> list[str]:
        seen: list[str] = []

        async def step() -> None:
            seen.append("step")

        sim.loop.call_soon(seen.append, "before")
        task = sim.loop.create_task(step())
        sim.loop.call_soon(seen.append, "after")
        await task
        await asyncio.sleep(0)
        return seen

    orders = {tuple(simulate(seed, main).result) for seed in range(30)}
    assert orders == {("before", "step", "after"), ("before", "after", "step")}


def test_a_task_group_cancels_its_children_in_an_order_that_replays() -> None:
    async def main(sim: SimWorld) -> list[int]:
        cancelled: list[int] = []

        async def child(number: int) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.append(number)

        async def failing() -> None:
            await asyncio.sleep(1)
            raise ValueError

        async def family() -> None:
            async with asyncio.TaskGroup() as group:
                for number in range(20):
                    group.create_task(child(number))
                group.create_task(failing())

        with pytest.raises(ExceptionGroup):
            await family()
        return cancelled

    for seed in seeds(10):
        assert simulate(seed, main).result == simulate(seed, main).result


def test_a_set_of_futures_is_walked_in_an_order_that_replays() -> None:
    async def main(sim: SimWorld) -> list[int]:
        futures = [sim.loop.create_future() for _ in range(30)]
        numbers = {future: number for number, future in enumerate(futures)}
        return [numbers[future] for future in set(futures)]

    assert simulate(0, main).result == simulate(0, main).result


def test_a_deadlock_is_told_with_the_tasks_and_where_they_wait() -> None:
    async def stuck() -> None:
        await asyncio.Event().wait()

    async def main(sim: SimWorld) -> None:
        task = sim.loop.create_task(stuck(), name="the stuck one")
        await task

    with pytest.raises(DeadlockError, match=r"the stuck one#\d+ at .*:\d+") as caught:
        simulate(3, main)
    assert "seed 3" in caught.value.__notes__[0]


def test_a_loop_without_end_is_stopped() -> None:
    async def main(sim: SimWorld) -> None:
        while sim.loop.time():
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    with pytest.raises(EndlessError):
        simulate(0, main, max_steps=1000)


def test_an_exception_in_a_callback_ends_the_run() -> None:
    async def main(sim: SimWorld) -> None:
        sim.loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(1)

    with pytest.raises(UnhandledError, match="Exception in callback"):
        simulate(0, main)


def test_an_exception_that_nobody_looks_at_ends_the_run() -> None:
    async def failing() -> None:
        raise KeyError

    async def main(sim: SimWorld) -> None:
        task = asyncio.create_task(failing())
        await asyncio.sleep(1)
        assert task.done()

    with pytest.raises(UnhandledError, match="nobody looked"):
        simulate(0, main)


def test_leftover_tasks_are_cancelled_and_may_clean_up() -> None:
    seen: list[str] = []

    async def background() -> None:
        try:
            await asyncio.sleep(10_000)
        finally:
            await asyncio.sleep(1)
            seen.append("cleaned up")

    async def main(sim: SimWorld) -> None:
        task = asyncio.create_task(background())
        await asyncio.sleep(0.1)
        assert not task.done()

    simulate(0, main)
    assert seen == ["cleaned up"]


def test_an_abandoned_generator_is_closed_by_the_loop() -> None:
    seen: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            seen.append("closed")

    async def main(sim: SimWorld) -> None:
        async for _ in numbers():
            break
        await asyncio.sleep(1)

    simulate(0, main)
    assert seen == ["closed"]


@pytest.mark.parametrize("method", OUTSIDE)
def test_the_outside_world_is_out_of_reach(method: str) -> None:
    async def main(sim: SimWorld) -> None:
        getattr(sim.loop, method)()

    with pytest.raises(OutsideWorldError, match=method):
        simulate(0, main)


def test_a_thread_is_refused_to_those_who_ask_politely() -> None:
    async def main(sim: SimWorld) -> None:
        with pytest.raises(OutsideWorldError):
            await asyncio.to_thread(print)

    simulate(0, main)


def test_each_host_draws_its_own_luck_and_the_same_every_time() -> None:
    async def main(sim: SimWorld) -> list[bytes]:
        laptop, phone = sim.host("laptop"), sim.host("phone")
        first = laptop.world.entropy.token(16)
        laptop.crash()
        return [first, laptop.world.entropy.token(16), phone.world.entropy.token(16)]

    tokens = simulate(1, main).result
    assert tokens == simulate(1, main).result
    assert len({*tokens, *simulate(2, main).result}) == 6


def test_passwords_match_their_verifiers_only() -> None:
    async def main(sim: SimWorld) -> None:
        passwords = SimPasswords(sim.random("passwords"))
        verifier = await passwords.hash(b"secret")
        assert await passwords.verify(verifier, b"secret")
        assert not await passwords.verify(verifier, b"Secret")
        assert not await passwords.verify("rubbish", b"secret")
        assert verifier != await passwords.hash(b"secret")

    assert simulate(0, main).seconds > 0


def test_the_collector_is_on_again_afterwards() -> None:
    simulate(0, _race)
    assert gc.isenabled()
