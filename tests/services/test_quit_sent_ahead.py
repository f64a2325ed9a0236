"""QUIT that comes together with RETR: it commits only what the kernel has been given whole."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proxy.domain.facts import SessionEnded
from proxy.domain.policy import LimitsPolicy, Seconds, SessionPolicy
from proxy.interfaces.world import DeviceTls
from proxy.services.face import Face
from proxy.services.pop3_session import Pop3Session
from proxy.services.sessions import Sessions
from tests.services.test_dead_transports import turns
from tests.services.test_pop3_session import TIMEOUT, Drop, Facts, OneDoor

LOGIN = b"USER alice\r\nPASS right\r\n"
REST = b"RETR 1\r\nDELE 1\r\nQUIT\r\n"


class Holding(asyncio.Transport):
    """Gives the kernel all but the last octets of what it is told to write."""

    def __init__(self, holds: int = 0) -> None:
        super().__init__()
        self.holds = holds
        self.written = self.taken = 0
        self.protocol: Pop3Session | None = None
        self.closing = self.paused = False
        self.aborted = asyncio.Event()

    def write(self, data: Any) -> None:
        self.written += len(data)
        self.taken = max(self.taken, self.written - self.holds)

    def get_write_buffer_size(self) -> int:
        return 0 if self.closing else self.written - self.taken

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high is not None
        if self.get_write_buffer_size() > high and self.protocol is not None and not self.paused:
            self.paused = True
            self.protocol.pause_writing()

    def give(self) -> None:
        self.taken, self.holds = self.written, 0
        if self.paused and self.protocol is not None:
            self.paused = False
            self.protocol.resume_writing()

    def lose(self) -> None:
        """As asyncio does when a write fails: buffers are dropped, and it is told a turn later."""
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True
        self.aborted.set()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 4711) if name == "peername" else default


class Upgrading:
    """A network whose TLS is another transport on top."""

    offers_tls = True

    def __init__(self, upper: Holding) -> None:
        self.upper = upper

    async def start_device_tls(self, *_: object) -> DeviceTls:
        return DeviceTls(self.upper, "TLSv1.3", end_point=None, client_fingerprint=None)


class Waited(Drop):
    def __post_init__(self) -> None:
        super().__post_init__()
        self.has_committed = asyncio.Event()

    async def commit(self) -> None:
        await super().commit()
        self.has_committed.set()


class Stage:
    def __init__(self, *, raw: int = 0, upper: int | None = None, autologout: float = 600) -> None:
        """Octets that the transports hold back; `upper`: of the one that speaks TLS."""
        self.drop, self.facts = Waited([b"x" * 5000 + b"\r\n"]), Facts()
        self.raw, self.upper = Holding(raw), Holding(upper or 0)
        self.tls = upper is not None
        policy = SessionPolicy(autologout=Seconds(autologout), plaintext_login="always")
        face = Face(
            OneDoor(self.drop),
            Upgrading(self.upper),  # type: ignore[arg-type]
            self.facts,
            policy,
            LimitsPolicy(),
            "test/1",
        )
        self.session = Pop3Session(face, Sessions(LimitsPolicy()), tls=self.tls)
        self.top = self.upper if self.tls else self.raw
        self.top.protocol = self.session

    async def plays(self) -> None:
        self.session.connection_made(self.raw)
        await turns()
        self.session.data_received(LOGIN + REST)
        if self.tls:
            # What TLS has passed on to the transport below.
            self.raw.write(b"y" * self.upper.taken)
        await turns()

    async def commits(self) -> None:
        async with asyncio.timeout(TIMEOUT):
            await self.drop.has_committed.wait()

    def lost(self) -> None:
        self.session.connection_lost(None)


@pytest.mark.parametrize("held", [1, 2, 3000])
async def test_nothing_is_committed_while_octets_of_a_message_are_still_here(held: int) -> None:
    stage = Stage(raw=held)
    await stage.plays()
    assert stage.drop.committed == []
    stage.raw.give()
    await stage.commits()
    assert stage.drop.committed == [({1}, {1})]


@pytest.mark.parametrize(("upper", "raw"), [(3000, 0), (0, 3000), (1, 1)])
async def test_nor_while_tls_or_what_is_below_it_has_them(upper: int, raw: int) -> None:
    stage = Stage(raw=raw, upper=upper)
    await stage.plays()
    assert stage.drop.committed == []
    stage.upper.give()
    stage.raw.give()
    await stage.commits()


@pytest.mark.parametrize("upper", [None, 0])
async def test_what_dies_with_octets_of_a_message_commits_nothing(upper: int | None) -> None:
    stage = Stage(raw=3000, upper=upper)
    await stage.plays()
    for transport in (stage.raw, stage.upper):
        transport.lose()
    await turns()
    assert stage.drop.committed == []
    stage.lost()
    assert (await stage.facts.ended()).ended == "eof"
    await turns()
    assert stage.drop.committed == []
    assert stage.drop.view.sent_ids() == set()


async def test_what_was_given_before_the_device_hung_up_is_committed() -> None:
    """QUIT and away: programs do not wait for the answer."""
    stage = Stage(upper=0)
    stage.session.connection_made(stage.raw)
    await turns()
    stage.session.data_received(LOGIN)
    await turns()
    stage.session.data_received(REST)
    # TLS begins to close at once, and tells of it a turn later.
    stage.upper.closing = True
    await turns()
    assert stage.drop.committed == [({1}, {1})]
    stage.lost()


async def test_what_left_before_a_device_fell_silent_was_sent() -> None:
    """The rest of a last message leaves without a word, and nothing comes any more."""
    stage = Stage(raw=3000, autologout=0.05)
    stage.session.connection_made(stage.raw)
    await turns()
    stage.session.data_received(LOGIN + b"RETR 1\r\n")
    await turns()
    assert stage.drop.view.sent_ids() == set()
    stage.raw.give()
    async with asyncio.timeout(TIMEOUT):
        await stage.raw.aborted.wait()
    stage.lost()
    assert (await stage.facts.ended()).ended == "timeout"
    assert stage.drop.view.sent_ids() == {1}


async def test_a_transport_that_dies_when_it_is_asked_what_it_holds_has_given_nothing() -> None:
    stage = Stage(raw=3000)
    stage.session.connection_made(stage.raw)
    await turns()
    stage.session.data_received(LOGIN + b"RETR 1\r\n")
    await turns()

    def dead() -> int:
        raise RuntimeError("unable to perform operation; the handler is closed")

    stage.raw.get_write_buffer_size = dead  # type: ignore[method-assign]
    stage.session.data_received(b"NOOP\r\n")
    await turns()
    assert stage.drop.view.sent_ids() == set()
    assert stage.drop.committed == []


async def test_a_device_that_takes_nothing_of_the_rest_is_dropped() -> None:
    stage = Stage(raw=3000, upper=0, autologout=0.05)
    await stage.plays()
    async with asyncio.timeout(TIMEOUT):
        await stage.upper.aborted.wait()
    stage.lost()
    ended = await stage.facts.ended()
    assert isinstance(ended, SessionEnded)
    assert ended.ended == "slow_reader"
    assert stage.drop.committed == []
