"""A POP3 session whose right ends, or whose day is over, whatever it is at."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from proxy.domain.errors import NotFound
from proxy.domain.policy import LimitsPolicy, Seconds, SessionPolicy
from proxy.services.face import Proof
from proxy.services.rights import Claim, Loss, Right
from tests.services.test_pop3_session import BIG, TIMEOUT, Drop, OneDoor, Zeros, connected

AUTH = b"-ERR [AUTH] what you logged in with is no longer valid\r\n"
AGAIN = b"-ERR [SYS/TEMP] the account or the device has been changed, log in again\r\n"


@dataclass
class Warden(OneDoor):
    """Keeps the claims, to take them away."""

    claims: list[Claim] = field(default_factory=list)
    proved: asyncio.Event = field(default_factory=asyncio.Event)
    hold: asyncio.Event | None = None
    """Waited for between the proof and the rest of the login."""

    async def login(self, proof: Proof, peer: str, claim: Claim) -> Drop:
        drop = await super().login(proof, peer, claim)
        claim.prove(Right("alice"))
        self.claims.append(claim)
        self.proved.set()
        if self.hold is not None:
            await self.hold.wait()
        claim.settle(1)
        return drop

    def take(self, loss: Loss = "revoked") -> None:
        for claim in self.claims:
            claim.take_away(loss, lambda _: True)


@dataclass
class SlowDrop(Drop):
    """Its commit waits."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def commit(self) -> None:
        self.begun.set()
        await self.go_on.wait()
        await super().commit()


@pytest.mark.parametrize(("loss", "word"), [("revoked", AUTH), ("changed", AGAIN)])
async def test_an_idle_session_is_told_why_it_ends_and_nothing_is_committed(
    loss: Loss, word: bytes
) -> None:
    door = Warden(Drop([b"one\r\n"]))
    async with connected(door.drop, door=door) as client:
        await client.log_in()
        await client.lines(b"RETR 1")
        await client.ask(b"DELE 1")
        door.take(loss)
        assert await client.rest() == word
        assert (await client.facts.ended()).ended == loss
        assert (door.drop.committed, door.drop.closed) == ([], 1)
        assert door.claims[0].over.is_set()


async def test_what_was_sent_ahead_is_not_answered() -> None:
    door = Warden(Drop([b"one\r\n"]))
    async with connected(door.drop, door=door) as client:
        await client.log_in()
        (session,) = client.sessions
        session.pause_writing()
        await client.say(b"DELE 1", b"QUIT")
        async with asyncio.timeout(TIMEOUT):
            while session._machine.waiting_octets < 14:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0)
        door.take()
        session.resume_writing()
        assert await client.rest() == AUTH
        assert door.drop.committed == []


async def test_in_the_middle_of_a_message_nothing_is_said_that_could_be_part_of_it() -> None:
    door = Warden(Drop([b"big"], big=Zeros(BIG)))
    async with connected(door.drop, door=door) as client:
        await client.log_in()
        await client.say(b"RETR 1")
        await client.line()
        door.take()
        try:
            rest = await client.rest()
        except ConnectionError:
            rest = b""
        assert b"-ERR" not in rest
        assert len(rest) < BIG
        ended = await client.facts.ended()
        assert (ended.ended, ended.retrieved, door.drop.committed) == ("revoked", 0, [])


async def test_a_quit_that_waits_for_its_messages_to_be_taken_is_too_late() -> None:
    door = Warden(Drop([b"one\r\n"]))
    async with connected(door.drop, door=door) as client:
        await client.log_in()
        await client.lines(b"RETR 1")
        (session,) = client.sessions
        # As if the kernel had not taken all of it.
        session._drained.clear()
        await client.say(b"QUIT")
        async with asyncio.timeout(TIMEOUT):
            while session._task is None:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0)
        door.take()
        session.resume_writing()
        assert await client.rest() == AUTH
        assert (await client.facts.ended()).ended == "revoked"
        assert door.drop.committed == []


async def test_a_commit_under_way_ends_as_if_nothing_were() -> None:
    door = Warden(drop := SlowDrop([b"one\r\n"]))
    async with connected(drop, door=door) as client:
        await client.log_in()
        await client.lines(b"RETR 1")
        await client.say(b"QUIT")
        await drop.begun.wait()
        door.take()
        drop.go_on.set()
        assert await client.rest() == b"+OK bye\r\n"
        assert (await client.facts.ended()).ended == "quit"
        assert drop.committed == [({1}, set())]


async def test_a_commit_of_a_device_that_is_gone_is_refused() -> None:
    drop = Drop([b"one\r\n"], commit_error=NotFound("the device has been removed"))
    async with connected(drop) as client:
        await client.log_in()
        await client.lines(b"RETR 1")
        await client.say(b"QUIT")
        assert (await client.rest()).startswith(b"-ERR the device has been removed")


async def test_a_login_under_way_is_refused() -> None:
    door = Warden(Drop([]), hold=asyncio.Event())
    async with connected(door.drop, door=door) as client:
        await client.line()
        await client.say(b"USER a", b"PASS right")
        await client.line()
        await door.proved.wait()
        door.take()
        assert door.hold is not None
        door.hold.set()
        assert (await client.line()).startswith(b"-ERR [AUTH] login refused")
        assert door.claims[0].over.is_set()
        assert client.sessions.strangers == 1


async def test_who_has_proved_who_he_is_makes_room_for_no_stranger() -> None:
    """Although the rest of his login takes its time."""
    limits = LimitsPolicy(max_connections=3)
    door = Warden(Drop([b"one\r\n"]), hold=asyncio.Event())
    async with connected(door.drop, limits=limits, door=door) as client:
        await client.line()
        await client.say(b"USER a", b"PASS right")
        await client.line()
        await door.proved.wait()
        host, port = client.writer.get_extra_info("peername")[:2]
        flood = [await asyncio.open_connection(host, port) for _ in range(5)]
        for reader, _ in flood:
            assert (await reader.readline()).startswith(b"+OK")
        assert door.hold is not None
        door.hold.set()
        assert (await client.line()).startswith(b"+OK 1 messages")
        for _, writer in flood:
            writer.transport.abort()


async def test_no_session_lasts_for_ever_whatever_it_does() -> None:
    limits = LimitsPolicy(max_session=Seconds(0.3))
    drop = Drop([b"one\r\n"])
    async with connected(drop, limits=limits) as client:
        await client.log_in()
        await client.lines(b"RETR 1")
        answer = b""
        while (answer := await client.ask(b"NOOP")) == b"+OK\r\n":
            pass
        assert answer == b"-ERR [SYS/TEMP] the session has lasted for too long, log in again\r\n"
        ended = await client.facts.ended()
        assert (ended.ended, drop.committed) == ("max_session", [])
        assert ended.seconds > 0.9 * 0.3


async def test_a_session_s_last_commit_is_not_cut_off() -> None:
    limits = LimitsPolicy(max_session=Seconds(0.2))
    drop = SlowDrop([b"one\r\n"])
    async with connected(drop, SessionPolicy(), limits) as client:
        await client.log_in()
        (session,) = client.sessions
        await client.lines(b"RETR 1")
        await client.say(b"QUIT")
        async with asyncio.timeout(TIMEOUT):
            while session._parting is None:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.01)
        drop.go_on.set()
        assert await client.rest() == b"+OK bye\r\n"
        assert drop.committed == [({1}, set())]
