"""One device's POP3 session: joins the machine to a connection and to the device's maildrop.

The machine is driven straight from `data_received`; only logging in, upgrading to TLS and the
commit of QUIT take a task. Memory per session is bounded: reading stops while commands pile up,
and a message is read on only as fast as the device takes it.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, cast

from proxy.domain import facts
from proxy.domain.errors import ProxyError
from proxy.domain.facts import Ending
from proxy.domain.model import Message
from proxy.domain.policy import PlaintextLogin, SessionPolicy
from proxy.domain.view import View
from proxy.interfaces.observer import Observer
from proxy.interfaces.store import BlobReader
from proxy.interfaces.world import Network
from proxy.services.replies import reply_to
from proxy.wire import pop3_server as pop3
from proxy.wire.dots import DotEncoder
from proxy.wire.top import TopCutter

CHUNK = 64 * 1024
"""Octets read from a blob at once, and the most that waits in the machine before it is sent."""
TURN = 512 * 1024
"""Octets sent before other sessions get their turn."""
INPUT_LIMIT = 64 * 1024
"""Octets of pipelined commands that may wait."""
TOP_OF_ALL = 1_000_000
"""A TOP with so many lines is a RETR by another name: fetchmail fetches so what it leaves on the
server. One with fewer is a look at a message, even if the message happens to be shorter."""


class Maildrop(Protocol):
    """What one session works on."""

    account: str
    device: str
    view: View

    def open(self, message: Message) -> BlobReader:
        """Raises:
        StoreUnavailable: the octets are not to be had now.
        """

    async def commit(self) -> None:
        """Make the view's marks durable (RFC 1939 §6).

        Raises:
            StoreUnavailable: nothing was committed.
        """

    def close(self) -> None:
        """The session is over. Called once."""


class Door(Protocol):
    async def login(self, username: str, password: bytes, peer: str) -> Maildrop:
        """Raises:
        ProxyError: `replies` knows what to say.
        """


@dataclass(frozen=True, slots=True)
class Face:
    """What all sessions share."""

    door: Door
    network: Network
    observer: Observer
    policy: SessionPolicy
    implementation: str


class Pop3Session(asyncio.Protocol):
    def __init__(self, face: Face, sessions: set[Pop3Session], *, tls: bool) -> None:
        """`sessions` holds every open session, this one while it is connected."""
        self._face = face
        self._sessions = sessions
        self._loop = asyncio.get_running_loop()
        self._tls = tls
        self._maildrop: Maildrop | None = None
        self._transfer: _Transfer | None = None
        self._task: asyncio.Task[None] | None = None
        self._paused = False
        self._eof = False
        self._lost = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self._closing = False
        self._ended: Ending = "eof"
        self._octets_in = self._octets_out = 0
        self._started = self._active = self._loop.time()

    # --- asyncio.Protocol -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._peer = _peer_of(transport)
        self._machine = pop3.Pop3Server(
            stls=self._face.network.offers_tls and not self._tls,
            plaintext_login=plaintext_allowed(self._face.policy.plaintext_login, self._peer),
            implementation=self._face.implementation,
        )
        self._machine.tls = self._tls
        self._sessions.add(self)
        self._timer = self._loop.call_later(self._face.policy.autologout, self._watch)
        self._machine.greet("pop3-sync-proxy ready")
        self._flush()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._octets_in += len(data)
        self._active = self._loop.time()
        self._machine.receive(data)
        self._advance()

    def eof_received(self) -> bool:
        self._eof = True
        self._advance()
        # Commands sent ahead of a half-close are still answered; TLS knows no half-close.
        return not self._tls

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
        self._sessions.discard(self)
        self._timer.cancel()
        self._closing = True
        self._lost.set()
        self._drained.set()
        if self._transfer is not None:
            self._transfer.close()
        if self._task is None:
            self._finish()

    # --- driving --------------------------------------------------------------------------------

    def shut_down(self) -> None:
        """Hang up; what was not committed by QUIT is not."""
        self._end("shutdown")
        self._transport.abort()

    async def wait_closed(self) -> None:
        await self._lost.wait()

    @property
    def _idle(self) -> bool:
        """Whether nothing is being answered."""
        return self._task is None and self._transfer is None and not self._paused

    def _advance(self) -> None:
        """Answer what can be answered now."""
        sent = 0
        while self._task is None and not self._paused and not self._closing:
            if sent >= TURN:
                self._loop.call_soon(self._advance)
                return
            if self._transfer is not None:
                self._continue_transfer()
            elif (event := self._machine.next_event()) is not None:
                self._answer(event)
            else:
                break
            if self._machine.output_octets >= CHUNK:
                sent += self._flush()
        if self._closing:
            return
        self._flush()
        if self._eof and self._idle:
            self._hang_up()
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
        self._task = self._loop.create_task(self._work(work))

    async def _work(self, work: Coroutine[Any, Any, None]) -> None:
        """Run one awaiting answer; nothing else of this session is answered meanwhile."""
        try:
            await work
        except Exception as error:
            self._face.observer.observe(facts.Unexpected("session", error))
            self._end("error")
            self._transport.abort()
        finally:
            self._task = None
            self._active = self._loop.time()
        if self._lost.is_set():
            self._finish()
        else:
            self._advance()

    def _watch(self) -> None:
        """Drop the session when it was silent for too long (RFC 1939 §3); nothing is deleted."""
        waits_for_us = self._task is not None and not self._paused
        idle = 0.0 if waits_for_us else self._loop.time() - self._active
        if idle >= self._face.policy.autologout:
            self._end("timeout")
            self._transport.abort()
        else:
            self._timer = self._loop.call_later(self._face.policy.autologout - idle, self._watch)

    def _end(self, ended: Ending) -> None:
        """Note why the session ends, the first reason winning."""
        if not self._closing:
            self._ended = ended
        self._closing = True

    def _hang_up(self) -> None:
        self._flush()
        self._closing = True
        self._transport.close()

    def _finish(self) -> None:
        maildrop = self._maildrop
        committed = self._ended == "quit"
        self._face.observer.observe(
            facts.SessionEnded(
                peer=self._peer,
                account=maildrop.account if maildrop else "",
                device=maildrop.device if maildrop else "",
                tls=self._machine.tls,
                ended=self._ended,
                retrieved=len(maildrop.view.retrieved_ids()) if maildrop else 0,
                deleted=len(maildrop.view.deleted_ids()) if maildrop and committed else 0,
                octets_in=self._octets_in,
                octets_out=self._octets_out,
                seconds=self._loop.time() - self._started,
            )
        )
        if maildrop is not None:
            maildrop.close()

    # --- answers --------------------------------------------------------------------------------

    def _answer(self, event: pop3.Event) -> None:
        match event:
            case pop3.Login():
                self._start(self._login(event))
            case pop3.StartTls():
                self._start(self._start_tls())
            case pop3.Quit(update=True):
                self._start(self._commit())
            case pop3.Quit():
                self._machine.ok("bye")
                self._end_politely("quit")
            case pop3.TooManyErrors():
                self._machine.err("too many errors, goodbye")
                self._end_politely("error")
            case _:
                try:
                    self._transaction(event)
                except ProxyError as error:
                    self._machine.err(*reply_to(error))

    def _end_politely(self, ended: Ending) -> None:
        self._flush()
        self._end(ended)
        self._transport.close()

    @property
    def _view(self) -> View:
        assert self._maildrop is not None  # noqa: S101 - the machine allows it after a login alone
        return self._maildrop.view

    def _transaction(self, event: pop3.Event) -> None:
        machine, view = self._machine, self._view
        match event:
            case pop3.Stat():
                machine.ok(f"{view.count} {view.octets}")
            case pop3.List(number=None):
                machine.lines(f"{view.count} messages ({view.octets} octets)", view.list_lines())
            case pop3.List(number=int(number)):
                machine.ok(f"{number} {view.message(number).octets}")
            case pop3.Uidl(number=None):
                machine.lines("unique-id listing follows", view.uidl_lines())
            case pop3.Uidl(number=int(number)):
                machine.ok(f"{number} {view.message(number).uid}")
            case pop3.Retr(number=number):
                self._send_message(number, None, counts=True)
            case pop3.Top(number=number, lines=lines):
                self._send_message(number, TopCutter(lines), counts=lines >= TOP_OF_ALL)
            case pop3.Dele(number=number):
                view.mark_deleted(number)
                machine.ok(f"message {number} deleted")
            case pop3.Rset():
                view.reset()
                machine.ok(f"{view.count} messages ({view.octets} octets)")

    def _send_message(self, number: int, top: TopCutter | None, *, counts: bool) -> None:
        message = self._view.message(number)
        assert self._maildrop is not None  # noqa: S101 - there is a view
        reader = self._maildrop.open(message)
        try:
            # +OK is said only with the first octets in hand.
            first = reader.read(CHUNK)
        except ProxyError:
            reader.close()
            raise
        self._machine.body_start("top of message follows" if top else f"{message.octets} octets")
        self._transfer = _Transfer(
            number=number,
            reader=reader,
            encoder=DotEncoder() if message.dots else None,
            top=top,
            left=message.octets,
            counts=counts,
        )
        self._send_part(self._transfer, first)

    def _continue_transfer(self) -> None:
        transfer = self._transfer
        assert transfer is not None  # noqa: S101 - the caller has looked
        try:
            data = transfer.reader.read(CHUNK)
        except ProxyError:
            data = b""
        if not data:
            # The blob ended early. A reply is no longer possible, and the device must not take
            # what it has for the whole message.
            transfer.close()
            self._transfer = None
            self._end("error")
            self._transport.abort()
            return
        self._send_part(transfer, data)

    def _send_part(self, transfer: _Transfer, data: bytes) -> None:
        transfer.left -= len(data)
        if transfer.top is not None:
            data = transfer.top.feed(data)
        self._machine.body_part(transfer.encoder.feed(data) if transfer.encoder else data)
        if transfer.left > 0 and not (transfer.top and transfer.top.done):
            return
        self._machine.body_end()
        if transfer.counts:
            self._view.mark_retrieved(transfer.number)
        transfer.close()
        self._transfer = None

    # --- answers that wait ----------------------------------------------------------------------

    async def _login(self, event: pop3.Login) -> None:
        try:
            self._maildrop = await self._face.door.login(event.username, event.password, self._peer)
        except ProxyError as error:
            self._machine.err(*reply_to(error))
            return
        view = self._maildrop.view
        self._machine.logged_in(f"{view.count} messages ({view.octets} octets)")

    async def _start_tls(self) -> None:
        self._machine.start_tls()
        self._flush()
        try:
            self._transport = await self._face.network.start_device_tls(self._transport, self)
        except OSError:
            self._end("error")
            self._transport.abort()
            # asyncio forgets to tell when a handshake ends by a reset or by its time-out.
            self.connection_lost(None)
            return
        self._tls = True
        self._machine.tls_started()

    async def _commit(self) -> None:
        """QUIT. A device that sent it ahead has its messages only once they are on their way."""
        assert self._maildrop is not None  # noqa: S101 - the machine is in its TRANSACTION state
        # Not 0: a TLS transport of asyncio's would pause with nothing to write, and for ever.
        self._transport.set_write_buffer_limits(high=1, low=0)
        await self._drained.wait()
        if self._lost.is_set():
            return
        try:
            await self._maildrop.commit()
        except ProxyError as error:
            self._machine.err(*reply_to(error))
            self._end_politely("error")
        else:
            self._machine.ok("bye")
            self._end_politely("quit")


@dataclass(slots=True)
class _Transfer:
    """A RETR or TOP under way."""

    number: int
    reader: BlobReader
    encoder: DotEncoder | None
    top: TopCutter | None
    left: int
    """Octets of the message not yet read."""
    counts: bool
    """Whether the device has the message when this is complete."""

    def close(self) -> None:
        self.reader.close()


def _peer_of(transport: asyncio.BaseTransport) -> str:
    """The address of a socket's other end; "local" for a Unix socket, which has none."""
    peername = transport.get_extra_info("peername")
    if isinstance(peername, tuple):
        return str(peername[0])
    return "local" if isinstance(peername, str) else "unknown"


def plaintext_allowed(policy: PlaintextLogin, peer: str) -> bool:
    """Whether a peer at this address may log in without TLS."""
    if policy == "loopback":
        try:
            address = ipaddress.ip_address(peer.partition("%")[0])
        except ValueError:
            return peer == "local"
        # A socket that takes both families shows an IPv4 peer as ::ffff:127.0.0.1.
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return (mapped or address).is_loopback
    return policy == "always"
