"""Connections that die between two calls: every method of a transport may fail, and always does so
in its library's own way. That is the end of a session, and never a fault of the program."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from proxy.adapters.net import SocketNetwork
from proxy.domain.errors import UpstreamUnreachable
from proxy.domain.facts import Fact, SessionEnded, Unexpected
from proxy.domain.policy import LimitsPolicy, SessionPolicy
from proxy.interfaces.link import told_as_reset
from proxy.services.face import Face
from proxy.services.pop3_session import Pop3Session
from proxy.services.sessions import Sessions
from proxy.services.stream import Stream
from tests.services.test_pop3_session import Drop, OneDoor

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
METHODS = (
    "write",
    "pause_reading",
    "resume_reading",
    "set_write_buffer_limits",
    "get_write_buffer_size",
    "is_closing",
    "close",
    "abort",
    "get_extra_info",
)
DEATHS = {
    "uvloop": RuntimeError("unable to perform operation on <TCPTransport closed=True>"),
    "asyncio_tls": AttributeError("'NoneType' object has no attribute 'write'"),
    "socket": BrokenPipeError(32, "Broken pipe"),
}
SESSION = (
    b"USER alice\r\n",
    b"PASS right\r\n",
    b"UIDL\r\n",
    b"RETR 1\r\nRETR 2\r\nTOP 1 0\r\n",
    b"DELE 1\r\nQUIT\r\n",
)


class Dying(asyncio.Transport):
    """Takes all that is written until it is told to die; then one method, or every one, raises."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.method = ""
        self.death: Exception | None = None

    def die(self, method: str, death: Exception) -> None:
        self.method, self.death = method, death

    def _call(self, method: str, result: Any = None) -> Any:
        if self.death is not None and self.method in (method, "every"):
            raise self.death
        return result

    def write(self, data: Any) -> None:
        self._call("write")
        self.written += bytes(data)

    def pause_reading(self) -> None:
        self._call("pause_reading")

    def resume_reading(self) -> None:
        self._call("resume_reading")

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._call("set_write_buffer_limits")

    def get_write_buffer_size(self) -> int:
        # Where the limits are to fail, something has to be left that they matter for.
        left = self.method == "set_write_buffer_limits"
        return int(self._call("get_write_buffer_size", left))

    def is_closing(self) -> bool:
        return bool(self._call("is_closing", False))

    def close(self) -> None:
        self._call("close")

    def abort(self) -> None:
        self._call("abort")

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._call("get_extra_info", ("127.0.0.1", 4711) if name == "peername" else default)


class Facts:
    def __init__(self) -> None:
        self.seen: list[Fact] = []

    def observe(self, fact: Fact) -> None:
        self.seen.append(fact)


def run(loop: str, story: Callable[[], Any]) -> None:
    """Play it, and look for what the loop was told of that nobody has caught."""
    caught: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: caught.append(context))
        await story()
        await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(main())
    assert caught == []


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def play(step: int, method: str, death: Exception, *, told: bool) -> tuple[Drop, Facts]:
    """A session whose transport dies before this step; `told`: of which it is told later."""
    drop, facts = Drop([b"one\r\n", b"two\r\n"]), Facts()
    sessions: Sessions[Pop3Session] = Sessions(LimitsPolicy())
    face = Face(
        OneDoor(drop), SocketNetwork(None), facts, SessionPolicy(), LimitsPolicy(), "test/1"
    )
    session, transport = Pop3Session(face, sessions, tls=False), Dying()
    for number, octets in enumerate((b"", *SESSION)):
        if number == step:
            transport.die(method, death)
        if number == 0:
            session.connection_made(transport)
        else:
            session.data_received(octets)
        await turns()
    session.eof_received()
    session.pause_writing()
    session.resume_writing()
    session.shut_down()
    await turns()
    if told:
        session.connection_lost(None)
        await turns()
    assert not list(sessions)
    return drop, facts


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize("method", [*METHODS, "every"])
def test_a_transport_that_is_dead_at_any_step_is_the_end_and_no_fault(
    loop: str, death: str, method: str
) -> None:
    async def story() -> None:
        for step in range(len(SESSION) + 1):
            drop, facts = await play(step, method, DEATHS[death], told=True)
            assert not [fact for fact in facts.seen if isinstance(fact, Unexpected)]
            assert len([fact for fact in facts.seen if isinstance(fact, SessionEnded)]) == 1
            assert drop.closed <= 1

    run(loop, story)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_death_that_nobody_tells_of_ends_the_session_all_the_same(loop: str) -> None:
    async def story() -> None:
        for step in range(1, len(SESSION) + 1):
            _, facts = await play(step, "every", DEATHS["uvloop"], told=False)
            assert len([fact for fact in facts.seen if isinstance(fact, SessionEnded)]) == 1

    run(loop, story)


@pytest.mark.parametrize("method", ["write", "is_closing", "get_write_buffer_size", "every"])
def test_what_a_dead_transport_may_have_swallowed_is_not_committed(method: str) -> None:
    """RETR and QUIT come together, and the write of the answer fails."""

    async def story() -> None:
        drop, facts = Drop([b"one\r\n"]), Facts()
        sessions: Sessions[Pop3Session] = Sessions(LimitsPolicy())
        network = SocketNetwork(None)
        face = Face(OneDoor(drop), network, facts, SessionPolicy(), LimitsPolicy(), "test/1")
        session, transport = Pop3Session(face, sessions, tls=False), Dying()
        session.connection_made(transport)
        session.data_received(b"USER alice\r\nPASS right\r\n")
        await turns()
        transport.die(method, DEATHS["uvloop"])
        session.data_received(b"RETR 1\r\nQUIT\r\n")
        await turns()
        session.connection_lost(None)
        await turns()
        assert drop.committed == []
        assert [f.ended for f in facts.seen if isinstance(f, SessionEnded)] == ["eof"]

    run("asyncio", story)


@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize("method", [*METHODS, "every"])
def test_a_dead_transport_upstream_is_an_upstream_that_cannot_be_reached(
    method: str, death: str
) -> None:
    async def story() -> None:
        stream, transport = Stream(20), Dying()
        stream.connection_made(transport)
        transport.die(method, DEATHS[death])
        stream.data_received(b"x" * 300_000)
        try:
            await stream.write(b"STAT\r\n")
            await stream.read()
        except UpstreamUnreachable:
            pass
        await turns()
        if method in ("write", "every"):
            with pytest.raises(UpstreamUnreachable):
                await stream.write(b"NOOP\r\n")
        stream.close()
        stream.abort()
        await turns()

    run("asyncio", story)


def test_only_what_a_dead_transport_raises_is_taken_for_its_death() -> None:
    transport = Dying()
    with pytest.raises(RuntimeError, match="a bug"), told_as_reset(transport):
        raise RuntimeError("a bug")
    transport.die("is_closing", DEATHS["uvloop"])
    with pytest.raises(ConnectionResetError), told_as_reset(transport):
        raise RuntimeError("the handler is closed")


def test_a_session_that_is_over_does_not_wait_for_the_garbage_collector() -> None:
    async def story() -> None:
        sessions: Sessions[Pop3Session] = Sessions(LimitsPolicy())
        door, network = OneDoor(Drop([b"one\r\n"])), SocketNetwork(None)
        face = Face(door, network, Facts(), SessionPolicy(), LimitsPolicy(), "test/1")
        session = Pop3Session(face, sessions, tls=False)
        gone = weakref.ref(session)
        session.connection_made(Dying())
        for octets in SESSION:
            session.data_received(octets)
            await turns()
        session.connection_lost(None)
        del session
        await turns()
        assert gone() is None

    gc.disable()
    try:
        run("asyncio", story)
    finally:
        gc.enable()
