"""Who guesses passwords is held up, and nobody else. The loop's time is virtual."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from proxy.domain.errors import (
    BadLogin,
    NotJudged,
    ProxyError,
    TooManyFailures,
    TooManyRefusals,
    UpstreamUnreachable,
)
from proxy.domain.penalty import FREE
from proxy.domain.policy import LimitsPolicy
from proxy.services.gate import (
    LOOKS,
    OF_ACCOUNT,
    OF_PLACE,
    PATIENCE,
    USUAL,
    WINDOW,
    Attempt,
    Gate,
)
from tests.sim.world import SimWorld, simulate

LIMITS = LimitsPolicy()
STRANGER, OWNER = "198.51.100.1", "192.0.2.7"
HOST = "pop.example.com"


def play(story: Callable[[Gate], Awaitable[None]]) -> None:
    async def run(_: SimWorld) -> None:
        await story(Gate(LIMITS, b"key"))

    simulate(1, run)


def now() -> float:
    return asyncio.get_running_loop().time()


def attempt(
    secret: object = b"guess", peer: str = STRANGER, name: str = "alice", *, exists: bool = True
) -> Attempt:
    return Attempt(peer, name, name, exists, str(secret).encode(), "", now())


async def taken(work: Awaitable[object]) -> float:
    """Seconds that something takes."""
    began = now()
    await work
    return now() - began


async def wait_for_turn(gate: Gate, tried: Attempt) -> None:
    async with gate.turn(tried):
        pass


async def guess(gate: Gate, tried: Attempt) -> None:
    """A wrong one."""
    async with gate.turn(tried):
        pass
    gate.failed(tried, BadLogin("no"), now())


async def get_in(gate: Gate, tried: Attempt) -> None:
    async with gate.turn(tried):
        gate.succeeded(tried, tried.stamp)


async def guess_until_refused(gate: Gate, peer: str = STRANGER) -> list[float]:
    """How long each guess but the last one waited for its turn."""
    waits: list[float] = []
    while len(waits) < 100:
        try:
            waits.append(await taken(guess(gate, attempt(len(waits), peer))))
        except TooManyFailures:
            return waits
    raise AssertionError("never refused")


# --- waiting for one's turn ---------------------------------------------------------------------


def test_a_place_that_guesses_waits_longer_and_longer_and_is_then_refused() -> None:
    async def story(gate: Gate) -> None:
        waits = await guess_until_refused(gate)
        assert waits[:FREE] == [0.0] * FREE
        assert waits == sorted(waits)
        assert waits[-1] <= PATIENCE

    play(story)


def test_only_a_few_guesses_of_a_fresh_place_are_looked_at_at_once() -> None:
    """Those behind them wait as what became of these demands."""

    async def story(gate: Gate) -> None:
        looked_at: list[float] = []

        async def try_out(number: int) -> None:
            tried = attempt(number, name=f"name{number}")
            with suppress(ProxyError):
                async with gate.turn(tried):
                    looked_at.append(now())
                    await asyncio.sleep(0.5)
                    # Within: the next one in line is to know of it.
                    gate.failed(tried, BadLogin("no"), now())

        began = now()
        await asyncio.gather(*(try_out(number) for number in range(100)))
        assert sum(at == began for at in looked_at) == OF_PLACE
        assert len(looked_at) < 12

    play(story)


def test_guesses_at_one_account_from_many_places_are_looked_at_a_few_at_a_time() -> None:
    async def story(gate: Gate) -> None:
        at_once = most = 0

        async def try_out(number: int) -> None:
            nonlocal at_once, most
            with suppress(ProxyError):
                async with gate.looking(attempt(number, f"203.0.113.{number}")):
                    at_once += 1
                    most = max(most, at_once)
                    await asyncio.sleep(0.5)
                    at_once -= 1

        await asyncio.gather(*(try_out(number) for number in range(50)))
        assert most == OF_ACCOUNT

    play(story)


def test_other_places_are_let_in_meanwhile() -> None:
    async def story(gate: Gate) -> None:
        for number in range(FREE + 3):
            await guess(gate, attempt(number, name=f"name{number}"))
        assert await taken(wait_for_turn(gate, attempt("x", OWNER))) == 0.0

    play(story)


@pytest.mark.parametrize("spread", [1, 1 << 64, 1 << 72])
def test_a_network_of_many_places_is_one_guesser_in_the_end(spread: int) -> None:
    """Who has a /56 or a /48 of IPv6 can come from another /64 each time."""

    async def story(gate: Gate) -> None:
        base = 0x20010DB8 << 96
        peers = [
            ":".join(f"{(base + n * spread) >> s & 0xFFFF:x}" for s in range(112, -1, -16))
            for n in range(200)
        ]
        refused = 0
        for number, peer in enumerate(peers):
            try:
                await guess(gate, attempt(number, peer, f"name{number}"))
            except TooManyFailures:
                refused += 1
        assert refused > 100

    play(story)


def test_failures_are_forgiven_in_time() -> None:
    async def story(gate: Gate) -> None:
        await guess_until_refused(gate)
        await asyncio.sleep(4 * 3600)
        assert await taken(wait_for_turn(gate, attempt())) == 0.0

    play(story)


def test_a_program_that_repeats_the_same_old_password_counts_once() -> None:
    async def story(gate: Gate) -> None:
        for _ in range(50):
            await guess(gate, attempt(1))
        assert await taken(wait_for_turn(gate, attempt(2))) == 0.0

    play(story)


# --- what was right -----------------------------------------------------------------------------


def test_a_password_that_was_right_never_waits_wherever_it_comes_from() -> None:
    async def story(gate: Gate) -> None:
        await get_in(gate, attempt("right", OWNER))
        for peer in (STRANGER, OWNER):
            await guess_until_refused(gate, peer)
            assert await taken(wait_for_turn(gate, attempt("right", peer))) == 0.0

    play(story)


def test_a_place_where_somebody_got_in_may_guess_no_more_than_any_other() -> None:
    async def story(gate: Gate) -> None:
        await get_in(gate, attempt("right", OWNER))
        assert len(await guess_until_refused(gate, OWNER)) <= FREE + 5

    play(story)


def test_a_password_is_right_for_its_account_and_its_verifier_alone() -> None:
    async def story(gate: Gate) -> None:
        tried = attempt("right", OWNER)
        await get_in(gate, tried)
        assert gate.remembers(attempt("right"))
        assert not gate.remembers(attempt("right", name="bob"))
        anew = Attempt(OWNER, "alice", "alice", True, b"right", "another", now())
        assert not gate.remembers(anew)
        gate.failed(tried, BadLogin("no"), now())
        assert not gate.remembers(tried), "it has turned out wrong"

    play(story)


def test_strangers_may_compare_only_so_many_guesses_with_what_was_right() -> None:
    async def story(gate: Gate) -> None:
        await get_in(gate, attempt("right", OWNER))
        for number in range(LOOKS):
            gate.failed(attempt(number, f"203.0.113.{number % 250}"), BadLogin("no"), now())
        assert not gate.remembers(attempt("right"))
        assert gate.remembers(attempt("right", OWNER)), "from where it was proved it still is"
        assert await taken(wait_for_turn(gate, attempt("right"))) <= PATIENCE

    play(story)


def test_the_owner_s_new_password_does_not_stand_behind_strangers() -> None:
    async def story(gate: Gate) -> None:
        await get_in(gate, attempt("old", OWNER))
        for number in range(200):
            gate.failed(attempt(number, f"203.0.113.{number}"), BadLogin("no"), now())
        assert await taken(wait_for_turn(gate, attempt("new", OWNER))) == 0.0
        assert await taken(wait_for_turn(gate, attempt("new", "192.0.2.99"))) <= PATIENCE

    play(story)


# --- asking upstream ----------------------------------------------------------------------------


async def ask_wrong(gate: Gate, tried: Attempt) -> None:
    (await gate.ask(tried, HOST)).answered(verdict=True, counts=True)


async def ask_until_refused(gate: Gate, tries: list[Attempt]) -> int:
    for number, tried in enumerate(tries):
        try:
            await ask_wrong(gate, tried)
        except TooManyRefusals:
            return number
    return len(tries)


def test_upstream_sees_only_so_many_wrong_passwords_of_an_account() -> None:
    async def story(gate: Gate) -> None:
        strangers = [attempt(n, f"203.0.{n}.1") for n in range(20)]
        seen = await ask_until_refused(gate, strangers)
        assert 1 <= seen < LIMITS.upstream_refusals
        await get_in(gate, attempt("old", OWNER))
        seen += await ask_until_refused(gate, [attempt(n, OWNER) for n in range(100, 120)])
        assert seen == LIMITS.upstream_refusals
        await asyncio.sleep(WINDOW)
        await ask_wrong(gate, attempt("again"))

    play(story)


def test_upstream_sees_only_so_many_wrong_passwords_whatever_the_name() -> None:
    async def story(gate: Gate) -> None:
        tries = [attempt(n, f"203.0.{n}.1", f"name{n}") for n in range(99)]
        assert await ask_until_refused(gate, tries) <= LIMITS.upstream_refusals_per_host
        (await gate.ask(attempt(1, name="x"), "pop.example.net")).settle(counts=True)

    play(story)


def test_one_network_cannot_use_up_what_others_need() -> None:
    async def story(gate: Gate) -> None:
        nobodies = [attempt(n, f"203.0.113.{n}", f"x{n}", exists=False) for n in range(99)]
        await ask_until_refused(gate, nobodies)
        await ask_wrong(gate, attempt("first", OWNER, "carol", exists=False))
        await ask_wrong(gate, attempt("new", "192.0.2.8", "alice"))

    play(story)


def test_a_password_without_a_clear_answer_uses_up_no_more_than_its_part() -> None:
    """A PC that polls with last month's password, where upstream hangs up on it."""

    async def story(gate: Gate) -> None:
        await get_in(gate, attempt("old", OWNER))
        for _ in range(20):
            with suppress(TooManyRefusals):
                (await gate.ask(attempt("old", OWNER), HOST)).answered(verdict=False, counts=True)
        await ask_wrong(gate, attempt("new", OWNER))

    play(story)


def test_what_was_right_or_not_shown_uses_nothing_up() -> None:
    async def story(gate: Gate) -> None:
        for number in range(100):
            asked = await gate.ask(attempt(number), HOST)
            asked.answered(verdict=number % 2 == 0, counts=False)

    play(story)


def test_many_new_people_at_once_wait_for_each_other_and_are_all_asked_about() -> None:
    async def story(gate: Gate) -> None:
        async def first_login(number: int) -> None:
            name = f"person{number}"
            asked = await gate.ask(attempt("right", OWNER, name, exists=False), HOST)
            await asyncio.sleep(1.0)
            asked.answered(verdict=True, counts=False)

        await asyncio.gather(*(first_login(number) for number in range(50)))

    play(story)


# --- the answer ---------------------------------------------------------------------------------


@pytest.mark.parametrize("check", [0.0, 0.3, 2.5, USUAL])
def test_a_refusal_is_answered_when_upstream_would_have_answered(check: float) -> None:
    async def story(gate: Gate) -> None:
        tried = attempt()
        await asyncio.sleep(check)
        at = gate.answer_at(tried, BadLogin("no"), HOST)
        assert at - tried.began == pytest.approx(2 * LIMITS.login_delay)

    play(story)


def test_where_no_upstream_judges_a_refusal_waits_for_the_delay_alone() -> None:
    async def story(gate: Gate) -> None:
        tried = attempt()
        at = gate.answer_at(tried, BadLogin("no"), None)
        assert at - tried.began == pytest.approx(LIMITS.login_delay)

    play(story)


def test_a_slow_upstream_makes_every_refusal_as_slow() -> None:
    async def story(gate: Gate) -> None:
        asked = await gate.ask(attempt(), HOST)
        await asyncio.sleep(5.5)
        asked.answered(verdict=True, counts=True)
        tried = attempt(2, name="declared")
        at = gate.answer_at(tried, BadLogin("no"), HOST)
        assert at - tried.began == pytest.approx(6.0)

    play(story)


def test_nobody_is_told_that_a_password_is_wrong_where_a_name_of_nobody_would_not_be() -> None:
    async def story(gate: Gate) -> None:
        refused = BadLogin("no")
        assert gate.said(attempt(), refused, HOST) is refused
        assert isinstance(gate.said(attempt(), UpstreamUnreachable("x"), HOST), NotJudged)
        (await gate.ask(attempt(), HOST)).answered(verdict=False, counts=True)
        assert isinstance(gate.said(attempt(), refused, HOST), NotJudged)
        assert gate.said(attempt(), refused, None) is refused
        (await gate.ask(attempt(2), HOST)).answered(verdict=True, counts=True)
        assert gate.said(attempt(), refused, HOST) is refused
        tries = [attempt(n, f"203.0.{n}.1", f"name{n}") for n in range(99)]
        await ask_until_refused(gate, tries)
        assert isinstance(gate.said(attempt(name="declared"), refused, HOST), NotJudged)

    play(story)
