"""One device's POP3 session: joins the machine to a connection and to the device's maildrop.

The machine is driven straight from `data_received`; only logging in, upgrading to TLS and the
commit of QUIT take a task. Memory per session is bounded: reading stops while commands pile up,
and a message is read on only as fast as the device takes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, cast

from proxy.domain import facts
from proxy.domain.errors import ProxyError
from proxy.domain.facts import Ending
from proxy.domain.view import View
from proxy.services.face import Face, Maildrop, peer_of, plaintext_allowed
from proxy.services.replies import reply_to
from proxy.services.transfer import Transfer
from proxy.wire import pop3_server as pop3

OUTPUT = 64 * 1024
"""Octets of answers that are collected before they are sent."""
TURN = 512 * 1024
"""Octets sent before other sessions get their turn."""
INPUT_LIMIT = 64 * 1024
"""Octets of pipelined commands that may wait."""


class Pop3Session(asyncio.Protocol):
    def __init__(self, face: Face, sessions: set[Pop3Session], *, tls: bool) -> None:
        """`sessions` holds every open session, this one while it is connected."""
        self._face = face
        self._sessions = sessions
        self._loop = asyncio.get_running_loop()
        self._tls = tls
        self._maildrop: Maildrop | None = None
        self._transfer: Transfer | None = None
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
        self._peer = peer_of(transport)
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
        return not self._machine.tls

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
                self._continue_transfer(self._transfer)
            elif (event := self._machine.next_event()) is not None:
                self._answer(event)
            else:
                break
            if self._machine.output_octets >= OUTPUT:
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
                self._send_message(number)
            case pop3.Top(number=number, lines=lines):
                self._send_message(number, lines)
            case pop3.Dele(number=number):
                view.mark_deleted(number)
                machine.ok(f"message {number} deleted")
            case pop3.Rset():
                view.reset()
                machine.ok(f"{view.count} messages ({view.octets} octets)")

    def _send_message(self, number: int, top_lines: int | None = None) -> None:
        assert self._maildrop is not None  # noqa: S101 - the machine allows it after a login alone
        message = self._view.message(number)
        transfer = Transfer(number, message, self._maildrop.open(message), top_lines)
        try:
            # +OK is said only with the first octets in hand.
            part = transfer.next_part()
        except ProxyError:
            transfer.close()
            raise
        self._machine.body_start(f"{message.octets} octets" if top_lines is None else "top follows")
        self._pass_on(transfer, part)

    def _continue_transfer(self, transfer: Transfer) -> None:
        try:
            self._pass_on(transfer, transfer.next_part())
        except ProxyError:
            # A reply is no longer possible, and the device must not take what it has for the
            # whole message.
            self._end("error")
            self._transport.abort()

    def _pass_on(self, transfer: Transfer, part: bytes) -> None:
        self._machine.body_part(part)
        if not transfer.done:
            self._transfer = transfer
            return
        self._machine.body_end()
        if transfer.counts:
            self._view.mark_retrieved(transfer.number)
        self._transfer = None
        transfer.close()

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
