"""What the sessions of devices have in common, whatever they speak: the connection and its limits.

The machine is driven straight from `data_received`; only answers that have to wait for something
take a task, one at a time. Memory per session is bounded: reading stops while commands pile up, and
answers are made only as fast as the device takes them.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine, Mapping
from typing import Any, ClassVar, cast

from proxy.domain import facts
from proxy.domain.errors import ProxyError
from proxy.domain.facts import Ending
from proxy.interfaces.link import Link
from proxy.interfaces.observer import work_id
from proxy.interfaces.world import DeviceProtocol, DeviceTls
from proxy.services.face import Face, is_forwarder, peer_of
from proxy.services.login_steps import LoginSteps
from proxy.services.rights import Claim, Loss
from proxy.services.sessions import Sessions
from proxy.wire.line_server import OUTPUT_LIMIT, LineServer
from proxy.wire.pop3_events import ScramStart
from proxy.wire.proxy_header import ProxyHeader, ProxyHeaderError, ProxyHeaderReader

TURN = 512 * 1024
"""Octets sent before other sessions get their turn."""
INPUT_LIMIT = 64 * 1024
"""Octets of pipelined commands that may wait."""
BUSY = 5.0
"""Seconds until a session that waits for us is looked at again."""
DRAIN_SILENCE = 5.0
DRAIN_STALL = 30.0
"""Seconds of silence that end a session once the proxy stops: between commands, and while a device
does not take what it asked for."""

REFUSED_LOGINS = 3
"""After so many in one session we hang up: who has a password does not need more."""
PARTING = 1.0
"""Seconds in which a session that is ended may take what is still on its way to it."""

STOPPING = "the service is stopping, try again later"
TOO_MANY = "too many connections, try again later"


class DeviceSession(asyncio.Protocol):
    """Who speaks a protocol gives the machine, answers its events, and tells how it ended."""

    _machine: LineServer[Any]

    speaks: ClassVar[DeviceProtocol]

    told: ClassVar[Mapping[Ending, str]] = {
        "login_timeout": "no login for too long",
        "revoked": "what you logged in with is no longer valid",
        "changed": "the account or the device has been changed, log in again",
        "max_session": "the session has lasted for too long, log in again",
    }
    """Which of the ends that come of silence, or of what has changed, are told, and how."""

    def __init__(self, face: Face, sessions: Sessions[Any], *, tls: bool) -> None:
        """`tls`: the connection begins with a TLS handshake."""
        self._face = face
        self._steps = LoginSteps(face.door)
        self._sessions = sessions
        self._implicit_tls = tls
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._id = face.new_id()
        self._context.run(work_id.set, self._id)
        self._header: ProxyHeaderReader | None = None
        self._early = b""
        """What came before the machine could take it."""
        self._ready = False
        """Whether the machine may be driven: greeting said, no handshake under way."""
        self._tls: DeviceTls | None = None
        self._tls_version = ""
        self._task: asyncio.Task[None] | None = None
        self._paused = False
        self._eof = False
        self._lost = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self._draining = False
        self._closing = False
        self._claim: Claim | None = None
        """What the session rests on, once it has tried to log in."""
        self._parting: Ending | None = None
        """How it is to end once what is past stopping has come to its end."""
        self._ended: Ending = "eof"
        self._octets_in = self._octets_out = 0
        self._refused_logins = 0
        self._started = self._active = self._loop.time()

    # --- for those who speak a protocol ---------------------------------------------------------

    def _machine_for(self, peer: str) -> LineServer[Any]:
        """A new one."""
        raise NotImplementedError

    @property
    def _logged_in(self) -> bool:
        raise NotImplementedError

    @property
    def _under_way(self) -> bool:
        """Whether there is something to bring to an end when the proxy stops."""
        raise NotImplementedError

    @property
    def _past_stopping(self) -> bool:
        """Whether something is being made durable, or handed on, that the peer must hear of."""
        raise NotImplementedError

    def _step(self) -> bool:
        """Answer the next event, or make the next part of an answer; False: there is none."""
        raise NotImplementedError

    def _refuse_login(self, error: ProxyError) -> None:
        """Answer the login that is under way, and hang up if `_refused_too_often`."""
        raise NotImplementedError

    def _refusal(self, ended: Ending, text: str) -> bytes:
        """The reply that goes before we hang up."""
        raise NotImplementedError

    def _finish(self) -> None:
        """The connection is lost, and nothing is being answered any more; the claim is released."""
        raise NotImplementedError

    # --- asyncio.Protocol -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = Link(cast("asyncio.Transport", transport), self.connection_lost)
        self._peer = peer_of(self._transport)
        self._machine = self._machine_for(self._peer)
        self._observe(facts.SessionStarted(self._peer))
        self._timer = self._loop.call_at(self._deadline()[0], self._watch)
        if not self._sessions.enter(self):
            self._refuse("too_many_connections", TOO_MANY)
        elif is_forwarder(self._face.policy, self._peer):
            self._header = ProxyHeaderReader()
        else:
            self._begin()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._octets_in += len(data)
        self._active = self._loop.time()
        if not self._logged_in and self._octets_in > self._face.limits.login_octets:
            self._refuse("login_octets", "too much was sent before a login")
        elif self._header is not None:
            self._take_header(self._header, data)
        elif self._ready:
            self._machine.receive(data)
            self._advance()
        else:
            self._early += data

    def eof_received(self) -> bool:
        self._eof = True
        if self._ready:
            self._advance()
        # Commands sent ahead of a half-close are still answered; TLS knows no half-close.
        return self._ready and self._tls is None

    def pause_writing(self) -> None:
        self._paused = True
        self._drained.clear()

    def resume_writing(self) -> None:
        self._paused = False
        self._drained.set()
        self._active = self._loop.time()
        self._advance()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._lost.is_set():
            return
        self._transport.over()
        self._timer.cancel()
        self._end("tls_error" if self._shaking_hands else "eof")
        self._lost.set()
        self._drained.set()
        if self._task is None:
            self._finish()

    # --- beginning ------------------------------------------------------------------------------

    def _take_header(self, reader: ProxyHeaderReader, data: bytes) -> None:
        try:
            read = reader.feed(data)
        except ProxyHeaderError:
            self._refuse("proxy_header", "a PROXY protocol header is expected here")
            return
        if read is None:
            return
        self._header = None
        header, self._early = read
        if header.address is not None:
            self._peer = header.address
            self._machine = self._machine_for(self._peer)
        self._begin(header)

    def _begin(self, header: ProxyHeader | None = None) -> None:
        """It is known who is there."""
        if not self._sessions.settle(self, self._peer):
            self._refuse(
                "too_many_from_address", "too many connections from your address, try again later"
            )
        elif self._implicit_tls:
            self._start(self._handshake(greeted=False))
        else:
            if header is not None and header.tls:
                self._tls_version = "forwarded"
                self._machine.tls_started()
            self._greet()

    def _greet(self) -> None:
        self._machine.greet("pop3-sync-proxy ready")
        self._take_early()
        if self._task is None:
            self._advance()

    def _take_early(self) -> None:
        self._ready = True
        self._machine.receive(self._early)
        self._early = b""

    def _upgrade(self) -> None:
        """The client has been told to begin TLS."""
        self._start(self._handshake(greeted=True))
        self._ready = False

    async def _handshake(self, *, greeted: bool) -> None:
        # Nothing more comes in clear from here on: what `data_received` is given while this waits
        # has come through TLS. (uvloop heeds no pause in `connection_made`.)
        self._transport.pause_reading()
        clear, self._early = self._early, b""
        try:
            self._tls = await self._face.network.start_device_tls(
                self._transport.transport, self, clear, self.speaks
            )
        except OSError:
            self._abort("tls_error")
            # asyncio forgets to tell when a handshake ends by a reset or by its time-out.
            self.connection_lost(None)
            return
        self._tls_version = self._tls.version
        under = self._transport.transport
        self._transport = Link(self._tls.transport, self.connection_lost, under=under)
        certificate = self._tls.client_fingerprint is not None
        self._machine.tls_started(certificate=certificate, end_point=self._tls.end_point)
        if greeted:
            self._take_early()
        else:
            self._greet()

    # --- logging in -----------------------------------------------------------------------------

    async def _scram(self, event: ScramStart) -> None:
        try:
            await self._steps.challenge(event.username, self._peer, self._machine)
        except ProxyError as error:
            self._refuse_login(error)

    def _refused_too_often(self) -> bool:
        """To be asked once with each refusal."""
        self._refused_logins += 1
        return self._refused_logins >= REFUSED_LOGINS

    def _new_claim(self) -> Claim:
        """For the login that begins."""
        self._claim = self._face.rights.claim(self)
        return self._claim

    def _turned_away(self, error: ProxyError) -> None:
        """The door has refused the login."""
        self._release_claim()
        self._sessions.turned_away(self)
        self._refuse_login(error)

    def _release_claim(self) -> None:
        if self._claim is not None:
            self._claim.release()
        self._claim = None

    def _has_logged_in(self, account: str, device: str, seconds: float) -> None:
        self._sessions.proved(self)
        self._face.observer.observe(facts.LoggedIn(account, device, seconds))
        if not self._lost.is_set():
            # From now on the autologout counts, which may end before the time for the login.
            self._active = self._loop.time()
            self._watch_anew()

    # --- driving --------------------------------------------------------------------------------

    def drain(self) -> None:
        """The proxy stops: what is under way may be brought to an end without dawdling."""
        self._draining = True
        if self._under_way:
            self._timer.cancel()
            self._watch()
        else:
            self._refuse("shutdown", STOPPING)

    def shut_down(self) -> None:
        """Hang up; what was not committed is not."""
        self._end("shutdown")
        self._transport.abort()

    def make_room(self) -> None:
        self._refuse("too_many_connections", TOO_MANY)

    async def wait_closed(self) -> None:
        await self._lost.wait()

    # --- `rights.Holder` ------------------------------------------------------------------------

    def proved(self) -> None:
        self._sessions.proved(self)

    def lose(self, loss: Loss) -> None:
        self._part(loss)

    @property
    def _shaking_hands(self) -> bool:
        return not self._ready and self._task is not None

    @property
    def _sending(self) -> bool:
        """Whether an answer is made in parts."""
        return False

    @property
    def _unsent(self) -> int:
        """Octets that a step works through and does not send."""
        return 0

    def _advance(self) -> None:
        """Answer what can be answered now."""
        if self._parting is not None and self._task is None:
            self._part(self._parting)
        sent = 0
        while self._ready and self._task is None and not self._paused and not self._closing:
            if sent >= TURN:
                self._loop.call_soon(self._advance)
                return
            if self._draining and not self._under_way:
                self._refuse("shutdown", STOPPING)
                return
            if not self._step() and self._machine.output_octets < OUTPUT_LIMIT:
                break
            sent += self._unsent
            if self._machine.output_octets >= OUTPUT_LIMIT:
                sent += self._flush()
        if self._closing:
            return
        self._flush()
        idle = self._task is None and not self._paused and not self._sending
        if self._eof and idle:
            self._end_politely("eof")
        elif self._machine.waiting_octets > INPUT_LIMIT:
            self._transport.pause_reading()
        elif not self._eof:
            self._transport.resume_reading()

    def _flush(self) -> int:
        data = self._machine.data_to_send()
        if data and not self._closing:
            self._octets_out += len(data)
            self._transport.write(data)
        return len(data)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._flush()
        self._task = self._loop.create_task(self._work(work), context=self._context)

    async def _work(self, work: Coroutine[Any, Any, None]) -> None:
        """Run one awaiting answer; nothing else of this session is answered meanwhile."""
        try:
            await work
        except Exception as error:
            self._observe(facts.Unexpected("session", error))
            self._abort("error")
        finally:
            self._task = None
            self._active = self._loop.time()
        if self._lost.is_set():
            self._finish()
        else:
            self._advance()

    # --- ending ---------------------------------------------------------------------------------

    def _deadline(self) -> tuple[float, Ending]:
        """When the peer will have taken too long, in the loop's time, and for what."""
        if self._draining:
            patience = DRAIN_STALL if self._paused else DRAIN_SILENCE
            return self._active + patience, "shutdown"
        if not self._logged_in:
            return self._started + self._face.limits.login_timeout, "login_timeout"
        late: Ending = "slow_reader" if self._paused else "timeout"
        return min(
            (self._active + self._face.policy.autologout, late),
            (self._started + self._face.limits.max_session, "max_session"),
        )

    def _watch_anew(self) -> None:
        """The deadline may be earlier than it was."""
        self._timer.cancel()
        self._timer = self._loop.call_at(self._deadline()[0], self._watch)

    def _watch(self) -> None:
        """Drop the session when the peer takes too long (RFC 1939 §3); nothing is deleted."""
        deadline, late = self._deadline()
        now = self._loop.time()
        waits_for_us = self._task is not None and not self._paused and not self._shaking_hands
        if waits_for_us and late != "max_session":
            deadline = max(deadline, now + BUSY)
        if now < deadline:
            self._timer = self._loop.call_later(deadline - now, self._watch)
        elif late == "max_session" and not self._closing:
            self._part(late)
        elif late in self.told and not self._closing:
            self._refuse(late, self.told[late])
            self._timer = self._loop.call_later(BUSY, self._watch)
        else:
            self._abort(late)

    def _end(self, ended: Ending) -> None:
        """Note why the session ends, the first reason winning."""
        if not self._closing:
            self._ended = ended
        self._closing = True

    def _abort(self, ended: Ending) -> None:
        self._end(ended)
        self._transport.abort()

    def _end_politely(self, ended: Ending) -> None:
        self._flush()
        self._end(ended)
        self._transport.close()

    def _part(self, ended: Ending) -> None:
        """End the session now, with a word where there is room for one: see `told`.

        What is past stopping comes to its end first. In the middle of a message there is no saying
        anything that would not be taken for a part of it.
        """
        if self._past_stopping:
            self._parting = ended
        elif self._sending:
            self._abort(ended)
        elif not self._closing:
            self._refuse(ended, self.told[ended])
            self._timer.cancel()
            self._timer = self._loop.call_later(PARTING, self._transport.abort)

    def _refuse(self, ended: Ending, text: str) -> None:
        """Say why and hang up."""
        if self._closing:
            return
        if self._shaking_hands or (self._implicit_tls and not self._ready):
            # There is no saying anything before or in a handshake.
            self._abort(ended)
            return
        self._flush()
        reply = self._refusal(ended, text)
        self._octets_out += len(reply)
        self._transport.write(reply)
        self._end_politely(ended)

    def _observe(self, fact: facts.Fact) -> None:
        if work_id.get() == self._id:
            # In this session's own task, whose context cannot be entered again.
            self._face.observer.observe(fact)
        else:
            self._context.run(self._face.observer.observe, fact)
