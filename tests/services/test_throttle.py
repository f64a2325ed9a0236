"""Who guesses passwords is held up, and nobody else. The loop's time is virtual."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from proxy.domain.errors import TooManyFailures, TooManyRefusals, UpstreamUnreachable
from proxy.domain.penalty import FREE
from proxy.domain.policy import LimitsPolicy
from proxy.services.throttle import PATIENCE, REFUSALS_WINDOW, Throttle
from tests.sim.world import SimWorld, simulate

T = TypeVar("T")
LIMITS = LimitsPolicy()
STRANGER, OWNER = "198.51.100.1", "192.0.2.7"


def play(story: Callable[[Throttle], Awaitable[None]]) -> None:
    async def run(_: SimWorld) -> None:
        await story(Throttle(LIMITS, b"key"))

    simulate(1, run)


async def taken(work: Awaitable[object]) -> float:
    """Seconds that something takes."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await work
    return loop.time() - began


async def guess(throttle: Throttle, number: int, peer: str = STRANGER, name: str = "alice") -> None:
    await throttle.turn(peer, name)
    await throttle.failed(peer, name, b"%d" % number, asyncio.get_running_loop().time())


async def guess_until_refused(throttle: Throttle) -> list[float]:
    """How long each guess but the last one waited for its turn."""
    waits: list[float] = []
    while len(waits) < 100:
        try:
            waits.append(await taken(throttle.turn(STRANGER, "alice")))
        except TooManyFailures:
            return waits
        came = asyncio.get_running_loop().time()
        await throttle.failed(STRANGER, "alice", b"%d" % len(waits), came)
    raise AssertionError("never refused")


def test_a_refusal_is_answered_at_a_multiple_of_the_delay_whatever_the_check_took() -> None:
    async def story(throttle: Throttle) -> None:
        for check in (0.0, 0.001, 0.3, 1.9):
            came = asyncio.get_running_loop().time()
            await asyncio.sleep(check)
            await throttle.failed(STRANGER, f"name{check}", b"x", came)
            assert asyncio.get_running_loop().time() - came == pytest.approx(LIMITS.login_delay)

    play(story)


def test_an_address_that_guesses_waits_longer_and_longer_and_is_then_refused() -> None:
    async def story(throttle: Throttle) -> None:
        waits = await guess_until_refused(throttle)
        assert waits[:FREE] == [0.0] * FREE
        assert waits == sorted(waits)
        assert waits[-1] <= PATIENCE

    play(story)


def test_guesses_at_once_wait_for_each_other() -> None:
    async def story(throttle: Throttle) -> None:
        for number in range(FREE + 1):
            await guess(throttle, number)
        together = await asyncio.gather(
            *(taken(throttle.turn(STRANGER, "alice")) for _ in range(50)), return_exceptions=True
        )
        let_in = [wait for wait in together if isinstance(wait, float)]
        assert len(let_in) <= PATIENCE / LIMITS.login_delay + 1
        assert all(isinstance(wait, float | TooManyFailures) for wait in together)

    play(story)


def test_other_addresses_are_let_in_meanwhile() -> None:
    async def story(throttle: Throttle) -> None:
        for number in range(FREE + 3):
            await guess(throttle, number, name=f"name{number}")
        assert await taken(throttle.turn(OWNER, "alice")) == 0.0

    play(story)


def test_a_stranger_cannot_lock_the_owner_out() -> None:
    """An address that has got in never waits; the owner at a new one waits no longer than a
    mail program stands."""

    async def story(throttle: Throttle) -> None:
        throttle.succeeded(OWNER, "alice")
        for number in range(200):
            peer = f"203.0.113.{number}"
            await throttle.failed(peer, "alice", b"%d" % number, 0.0)
        assert await taken(throttle.turn(OWNER, "alice")) == 0.0
        assert await taken(throttle.turn("192.0.2.99", "alice")) <= PATIENCE

    play(story)


def test_an_office_behind_one_address_is_not_held_up_by_a_guesser_in_it() -> None:
    async def story(throttle: Throttle) -> None:
        throttle.succeeded(STRANGER, "bob")
        await guess_until_refused(throttle)
        assert await taken(throttle.turn(STRANGER, "bob")) == 0.0

    play(story)


def test_a_program_that_repeats_the_same_old_password_counts_once() -> None:
    async def story(throttle: Throttle) -> None:
        for _ in range(50):
            await guess(throttle, 1)
        assert await taken(throttle.turn(STRANGER, "alice")) == 0.0

    play(story)


def test_failures_are_forgiven_in_time() -> None:
    async def story(throttle: Throttle) -> None:
        await guess_until_refused(throttle)
        await asyncio.sleep(4 * 3600)
        assert await taken(throttle.turn(STRANGER, "alice")) == 0.0

    play(story)


def test_upstream_sees_only_so_many_refused_logins_of_an_account() -> None:
    async def story(throttle: Throttle) -> None:
        for _ in range(LIMITS.upstream_refusals):
            throttle.ask_upstream(STRANGER, "alice", "pop.example.com")
        with pytest.raises(TooManyRefusals) as refused:
            throttle.ask_upstream("203.0.113.9", "alice", "pop.example.com")
        assert refused.value.retry_after == REFUSALS_WINDOW
        throttle.ask_upstream(STRANGER, "bob", "pop.example.com")
        await asyncio.sleep(REFUSALS_WINDOW)
        throttle.ask_upstream(STRANGER, "alice", "pop.example.com")

    play(story)


def test_upstream_sees_only_so_many_refused_logins_from_strangers_whatever_the_name() -> None:
    async def story(throttle: Throttle) -> None:
        for number in range(LIMITS.upstream_refusals_per_host):
            throttle.ask_upstream(STRANGER, f"name{number}", "pop.example.com")
        with pytest.raises(TooManyRefusals):
            throttle.ask_upstream(STRANGER, "another", "pop.example.com")
        throttle.ask_upstream(STRANGER, "another", "pop.example.net")

    play(story)


def test_the_owner_s_tries_are_not_used_up_by_strangers() -> None:
    async def story(throttle: Throttle) -> None:
        throttle.succeeded(OWNER, "alice")
        for number in range(LIMITS.upstream_refusals_per_host):
            throttle.ask_upstream(STRANGER, f"name{number}", "pop.example.com")
        for _ in range(LIMITS.upstream_refusals):
            throttle.ask_upstream(OWNER, "alice", "pop.example.com")

    play(story)


def test_logins_that_upstream_does_not_refuse_use_nothing_up() -> None:
    async def story(throttle: Throttle) -> None:
        for _ in range(100):
            accepted = asyncio.get_running_loop().create_future()
            accepted.set_exception(UpstreamUnreachable())
            throttle.ask_upstream(STRANGER, "alice", "pop.example.com").settle(accepted)

    play(story)
