"""One device's POP3 session: joins the machine to a connection and to the device's maildrop.

The machine is driven straight from `data_received`; only logging in, upgrading to TLS and the
commit of QUIT take a task. Memory per session is bounded: reading stops while commands pile up,
and a message is read on only as fast as the device takes it.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any, cast

from proxy.domain import facts
from proxy.domain.errors import ProxyError
from proxy.domain.facts import Ending
from proxy.interfaces.observer import work_id
from proxy.interfaces.world import DeviceTls
from proxy.services.face import (
    CertificateProof,
    Face,
    PasswordProof,
    Proof,
    ScramChallenge,
    ScramProof,
    is_forwarder,
    peer_of,
    plaintext_allowed,
)
from proxy.services.replies import reply_to
from proxy.services.sessions import Sessions
from proxy.services.transaction import Transaction
from proxy.wire import pop3_events as pop3
from proxy.wire.pop3_server import OUTPUT_LIMIT, Offer, Pop3Server
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


class Pop3Session(asyncio.Protocol):
    def __init__(self, face: Face, sessions: Sessions[Pop3Session], *, tls: bool) -> None:
        """`tls`: the connection begins with a TLS handshake."""
        self._face = face
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
        self._challenge: ScramChallenge | None = None
        self._transaction: Transaction | None = None
        self._task: asyncio.Task[None] | None = None
        self._paused = False
        self._eof = False
        self._lost = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self._draining = False
        self._closing = False
        self._ended: Ending = "eof"
        self._octets_in = self._octets_out = 0
        self._started = self._active = self._loop.time()

    # --- asyncio.Protocol -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._peer = peer_of(transport)
        self._machine = self._new_machine()
        self._observe(facts.SessionStarted(self._peer))
        self._timer = self._loop.call_at(self._deadline()[0], self._watch)
        if not self._sessions.enter(self):
            self._refuse("too_many_connections", "too many connections, try again later")
        elif is_forwarder(self._face.policy, self._peer):
            self._header = ProxyHeaderReader()
        else:
            self._begin()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._octets_in += len(data)
        self._active = self._loop.time()
        if self._transaction is None and self._octets_in > self._face.limits.login_octets:
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
        self._sessions.leave(self)
        self._timer.cancel()
        self._end("tls_error" if self._shaking_hands else "eof")
        self._lost.set()
        self._drained.set()
        if self._task is None:
            self._finish()

    # --- beginning ------------------------------------------------------------------------------

    def _new_machine(self) -> Pop3Server:
        face = self._face
        return Pop3Server(
            Offer(
                stls=face.network.offers_tls,
                plaintext_login=plaintext_allowed(face.policy.plaintext_login, self._peer),
                implementation=face.implementation,
                scram=face.door.announces_scram,
                expire=face.door.expire,
                max_errors=face.limits.max_bad_commands,
                line_limit=face.limits.max_line,
            )
        )

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
            self._machine = self._new_machine()
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

    # --- driving --------------------------------------------------------------------------------

    def drain(self) -> None:
        """The proxy stops: who has logged in may bring it to an end without dawdling."""
        if self._transaction is None and self._task is None:
            self._refuse("shutdown", "the service is stopping, try again later")
            return
        self._draining = True
        self._timer.cancel()
        self._watch()

    def shut_down(self) -> None:
        """Hang up; what was not committed by QUIT is not."""
        self._end("shutdown")
        self._transport.abort()

    def make_room(self) -> None:
        self._refuse("too_many_connections", "too many connections, try again later")

    async def wait_closed(self) -> None:
        await self._lost.wait()

    @property
    def _shaking_hands(self) -> bool:
        return not self._ready and self._task is not None

    @property
    def _idle(self) -> bool:
        """Whether nothing is being answered."""
        return self._task is None and not self._paused and not self._sending

    @property
    def _sending(self) -> bool:
        return self._transaction is not None and self._transaction.sending

    def _advance(self) -> None:
        """Answer what can be answered now."""
        sent = 0
        while self._ready and self._task is None and not self._paused and not self._closing:
            if sent >= TURN:
                self._loop.call_soon(self._advance)
                return
            if self._transaction is not None and self._transaction.sending:
                self._send_on(self._transaction)
            elif (event := self._machine.next_event()) is not None:
                self._answer(event)
            elif self._machine.output_octets < OUTPUT_LIMIT:
                break
            if self._machine.output_octets >= OUTPUT_LIMIT:
                sent += self._flush()
        if self._closing:
            return
        self._flush()
        if self._eof and self._idle:
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

    def _send_on(self, transaction: Transaction) -> None:
        try:
            transaction.send_on()
        except ProxyError:
            # A reply is no longer possible, and the device must not take what it has for the
            # whole message.
            self._abort("error")

    # --- ending ---------------------------------------------------------------------------------

    def _deadline(self) -> tuple[float, Ending]:
        """When the peer will have taken too long, in the loop's time, and for what."""
        if self._draining:
            patience = DRAIN_STALL if self._paused else DRAIN_SILENCE
            return self._active + patience, "shutdown"
        if self._transaction is None:
            return self._started + self._face.limits.login_timeout, "login_timeout"
        late: Ending = "slow_reader" if self._paused else "timeout"
        return self._active + self._face.policy.autologout, late

    def _watch(self) -> None:
        """Drop the session when the peer takes too long (RFC 1939 §3); nothing is deleted."""
        deadline, late = self._deadline()
        now = self._loop.time()
        if self._task is not None and not self._paused and not self._shaking_hands:
            # The peer waits for us.
            deadline = max(deadline, now + BUSY)
        if now < deadline:
            self._timer = self._loop.call_later(deadline - now, self._watch)
        elif late == "login_timeout" and not self._closing:
            self._refuse(late, "no login for too long")
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

    def _refuse(self, ended: Ending, text: str) -> None:
        """Say why and hang up, before any login."""
        if self._closing:
            return
        if self._shaking_hands or (self._implicit_tls and not self._ready):
            # There is no saying anything before or in a handshake.
            self._abort(ended)
            return
        reply = f"-ERR [SYS/TEMP] {text}\r\n".encode()
        self._octets_out += len(reply)
        self._transport.write(reply)
        self._end_politely(ended)

    def _finish(self) -> None:
        transaction = self._transaction
        maildrop = transaction.maildrop if transaction else None
        committed = self._ended == "quit"
        self._observe(
            facts.SessionEnded(
                peer=self._peer,
                account=maildrop.account if maildrop else "",
                device=maildrop.device if maildrop else "",
                tls=self._tls_version,
                ended=self._ended,
                retrieved=len(maildrop.view.retrieved_ids()) if maildrop else 0,
                deleted=len(maildrop.view.deleted_ids()) if maildrop and committed else 0,
                octets_in=self._octets_in,
                octets_out=self._octets_out,
                seconds=self._loop.time() - self._started,
                commands={verb.decode(): n for verb, n in self._machine.commands.items()},
            )
        )
        if transaction is not None:
            transaction.close()

    def _observe(self, fact: facts.Fact) -> None:
        if work_id.get() == self._id:
            # In this session's own task, whose context cannot be entered again.
            self._face.observer.observe(fact)
        else:
            self._context.run(self._face.observer.observe, fact)

    # --- answers --------------------------------------------------------------------------------

    def _answer(self, event: pop3.Event) -> None:
        match event:
            case pop3.PasswordLogin() | pop3.ScramLogin() | pop3.CertificateLogin():
                self._start(self._login(event))
            case pop3.ScramStart():
                self._start(self._scram(event))
            case pop3.StartTls():
                self._machine.start_tls()
                self._start(self._handshake(greeted=True))
                self._ready = False
            case pop3.Quit(update=True):
                self._start(self._commit())
            case pop3.Quit():
                self._machine.ok("bye")
                self._end_politely("quit")
            case pop3.TooManyErrors():
                self._machine.err("too many bad commands, goodbye")
                self._end_politely("bad_commands")
            case _:
                assert self._transaction is not None  # noqa: S101 - the machine has seen a login
                self._transaction.answer(event)

    async def _handshake(self, *, greeted: bool) -> None:
        # Nothing more comes in clear from here on: what `data_received` is given while this waits
        # has come through TLS. (uvloop heeds no pause in `connection_made`.)
        self._transport.pause_reading()
        clear, self._early = self._early, b""
        try:
            self._tls = await self._face.network.start_device_tls(self._transport, self, clear)
        except OSError:
            self._abort("tls_error")
            # asyncio forgets to tell when a handshake ends by a reset or by its time-out.
            self.connection_lost(None)
            return
        self._transport, self._tls_version = self._tls.transport, self._tls.version
        certificate = self._tls.client_fingerprint is not None
        self._machine.tls_started(certificate=certificate, end_point=self._tls.end_point)
        if greeted:
            self._take_early()
        else:
            self._greet()

    def _proof(self, event: pop3.LoginEvent) -> Proof:
        match event:
            case pop3.PasswordLogin(username, password):
                return PasswordProof(username, password)
            case pop3.CertificateLogin(username):
                assert self._tls is not None  # noqa: S101 - the machine has been told of it
                assert self._tls.client_fingerprint is not None  # noqa: S101 - likewise
                return CertificateProof(username, self._tls.client_fingerprint)
            case pop3.ScramLogin(candidate):
                assert self._challenge is not None  # noqa: S101 - the exchange began with it
                return ScramProof(self._challenge, candidate)

    async def _login(self, event: pop3.LoginEvent) -> None:
        came = self._loop.time()
        try:
            maildrop = await self._face.door.login(self._proof(event), self._peer)
        except ProxyError as error:
            self._machine.err(*reply_to(error))
            return
        self._transaction = Transaction(self._machine, maildrop)
        self._sessions.logged_in(self)
        view = maildrop.view
        self._machine.logged_in(f"{view.count} messages ({view.octets} octets)", maildrop.expire)
        took = self._loop.time() - came
        self._face.observer.observe(facts.LoggedIn(maildrop.account, maildrop.device, took))
        if not self._lost.is_set():
            # From now on the autologout counts, which may end before the time for the login.
            self._active = self._loop.time()
            self._timer.cancel()
            self._timer = self._loop.call_at(self._deadline()[0], self._watch)

    async def _scram(self, event: pop3.ScramStart) -> None:
        try:
            challenge = await self._face.door.scram(event.username, self._peer)
        except ProxyError as error:
            self._machine.err(*reply_to(error))
            return
        self._challenge = challenge
        self._machine.scram_challenge(
            challenge.nonce, challenge.salt, challenge.iterations, challenge.candidates
        )

    async def _commit(self) -> None:
        """QUIT. A device that sent it ahead has its messages only once they are on their way."""
        assert self._transaction is not None  # noqa: S101 - the machine is in its TRANSACTION state
        # Not 0: a TLS transport of asyncio's would pause with nothing to write, and for ever.
        self._transport.set_write_buffer_limits(high=1, low=0)
        await self._drained.wait()
        if self._lost.is_set():
            return
        try:
            await self._transaction.maildrop.commit()
        except ProxyError as error:
            self._machine.err(*reply_to(error))
            self._end_politely("error")
        else:
            self._machine.ok("bye")
            self._end_politely("quit")
