"""One device's POP3 session: joins the machine to a connection and to the device's maildrop.

Only logging in, upgrading to TLS and the commit of QUIT take a task; a message is read on only as
fast as the device takes it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from proxy.domain import facts
from proxy.domain.errors import ProxyError
from proxy.domain.facts import Ending
from proxy.services.device_session import DeviceSession
from proxy.services.face import Face, plaintext_allowed
from proxy.services.replies import reply_to
from proxy.services.sessions import Sessions
from proxy.services.transaction import Transaction
from proxy.services.transfer import CHUNK
from proxy.wire import pop3_events as pop3
from proxy.wire.pop3_server import Offer, Pop3Server

LOOK_AGAIN = 0.05
"""Seconds until a session that waits for the kernel to take the rest is looked at again."""


AFTER_A_LOSS = 30.0
"""Seconds that a device may be silent once it was told that a message cannot be had. One that takes
no notice waits for the message's end instead, at every poll."""


class Pop3Session(DeviceSession):
    speaks = "pop3"
    _machine: Pop3Server

    def __init__(self, face: Face, sessions: Sessions[Pop3Session], *, tls: bool) -> None:
        """`tls`: the connection begins with a TLS handshake."""
        super().__init__(face, sessions, tls=tls)
        self._transaction: Transaction | None = None
        self._leaving: deque[tuple[int, Callable[[], None]]] = deque()
        """Marks that wait until the kernel has so many octets of this session."""
        self._committing = False

    def _machine_for(self, peer: str) -> Pop3Server:
        face = self._face
        return Pop3Server(
            Offer(
                stls=face.network.offers_tls,
                plaintext_login=plaintext_allowed(face.policy.plaintext_login, peer),
                implementation=face.implementation,
                scram=face.door.announces_scram,
                expire=face.door.expire,
                max_errors=face.limits.max_bad_commands,
                line_limit=face.limits.max_line,
            )
        )

    @property
    def _logged_in(self) -> bool:
        return self._transaction is not None

    @property
    def _under_way(self) -> bool:
        return self._transaction is not None or self._task is not None

    @property
    def _past_stopping(self) -> bool:
        return self._committing

    @property
    def _sending(self) -> bool:
        return self._transaction is not None and self._transaction.sending

    @property
    def _unsent(self) -> int:
        return CHUNK if self._transaction is not None and self._transaction.comparing else 0

    def _step(self) -> bool:
        if self._transaction is not None and self._transaction.sending:
            self._send_on(self._transaction)
        elif (event := self._machine.next_event()) is not None:
            self._answer(event)
        else:
            return False
        return True

    def _send_on(self, transaction: Transaction) -> None:
        try:
            transaction.send_on()
        except ProxyError:
            # A reply is no longer possible, and the device must not take what it has for the
            # whole message.
            self._abort("error")

    # --- what the kernel has --------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._note_left()
        super().data_received(data)

    def eof_received(self) -> bool:
        self._note_left()
        return super().eof_received()

    def resume_writing(self) -> None:
        self._note_left()
        super().resume_writing()

    def _flush(self) -> int:
        octets = super()._flush()
        if self._transaction is not None and self._transaction.on_their_way and not self._closing:
            self._leaving.extend(
                (self._octets_out, mark) for mark in self._transaction.on_their_way
            )
            self._transaction.on_their_way.clear()
            self._note_left()
        return octets

    def _note_left(self) -> None:
        """Mark what the kernel has taken whole. What a dying connection still held is lost."""
        if not self._leaving:
            return
        left = self._octets_out - self._transport.get_write_buffer_size()
        if self._transport.is_closing():
            return
        while self._leaving and self._leaving[0][0] <= left:
            self._leaving.popleft()[1]()

    async def _all_left(self) -> bool:
        """Wait until nothing of a message is in our buffers; False: the connection is lost."""
        if self._leaving:
            # Not 0: a TLS transport of asyncio's would pause with nothing to write, and for ever.
            self._transport.set_write_buffer_limits(high=1, low=0)
            await self._drained.wait()
            self._note_left()
        while self._leaving and not self._closing:
            # Nobody tells what TLS has passed on and the transport below still has. A device that
            # takes none of it is dropped in time.
            self._paused = True
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AGAIN):
                    await self._lost.wait()
            self._paused = False
            self._note_left()
        return not self._leaving and not self._closing

    # --- the end --------------------------------------------------------------------------------

    def _deadline(self) -> tuple[float, Ending]:
        deadline = super()._deadline()
        if self._transaction is not None and self._transaction.lacked_a_message:
            return min((self._active + AFTER_A_LOSS, "timeout"), deadline)
        return deadline

    def _end(self, ended: Ending) -> None:
        # What has left since the device was last heard of.
        self._note_left()
        super()._end(ended)

    def connection_lost(self, exc: Exception | None) -> None:
        # A login that waits for upstream takes nobody's place any more.
        self._sessions.leave(self)
        super().connection_lost(exc)

    def _refusal(self, ended: Ending, text: str) -> bytes:
        code = "AUTH" if ended == "revoked" else "SYS/TEMP"
        return f"-ERR [{code}] {text}\r\n".encode()

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
        self._release_claim()

    # --- answers --------------------------------------------------------------------------------

    def _answer(self, event: pop3.Event) -> None:
        match event:
            case pop3.PasswordLogin() | pop3.ScramLogin() | pop3.CertificateLogin():
                self._start(self._login(event))
            case pop3.ScramStart():
                self._start(self._scram(event))
            case pop3.StartTls():
                self._machine.start_tls()
                self._upgrade()
            case pop3.Quit(update=True):
                self._start(self._commit())
            case pop3.Quit():
                self._machine.ok("bye")
                self._end_politely("quit")
            case pop3.TooManyErrors():
                self._machine.err("too many bad commands, goodbye")
                self._end_politely("bad_commands")
            case pop3.HttpBegun():
                self._machine.err("this is POP3 and not HTTP, goodbye")
                self._end_politely("http")
            case _:
                assert self._transaction is not None  # noqa: S101 - the machine has seen a login
                self._transaction.answer(event)
                if self._transaction.lacked_a_message:
                    self._watch_anew()

    async def _login(self, event: pop3.LoginEvent) -> None:
        came = self._loop.time()
        proof = self._steps.proof(event, self._tls)
        try:
            maildrop = await self._face.door.login(proof, self._peer, self._new_claim())
        except ProxyError as error:
            self._turned_away(error)
            return
        self._transaction = Transaction(self._machine, maildrop)
        view = maildrop.view
        self._machine.logged_in(f"{view.count} messages ({view.octets} octets)", maildrop.expire)
        self._has_logged_in(maildrop.account, maildrop.device, self._loop.time() - came)

    def _refuse_login(self, error: ProxyError) -> None:
        self._machine.err(*reply_to(error))
        if self._refused_too_often():
            self._end_politely("refused_logins")

    async def _commit(self) -> None:
        """QUIT. A device that sent it ahead has its messages only once they are on their way."""
        assert self._transaction is not None  # noqa: S101 - the machine is in its TRANSACTION state
        if not await self._all_left():
            return
        self._committing = True
        try:
            await self._transaction.maildrop.commit()
        except ProxyError as error:
            self._machine.err(*reply_to(error))
            self._end_politely("error")
        else:
            self._machine.ok("bye")
            self._end_politely("quit")
        finally:
            self._committing = False
