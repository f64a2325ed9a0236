"""One end of a simulated connection, behaving as asyncio's transports on a TCP socket do.

The less obvious habits that are copied, since code may stumble over them:

- a reset is noticed only by an end that reads or has something to send;
- closing sends what is buffered, then FIN; octets that reach a closed end are answered by a reset,
  which may destroy what the other end has not yet read;
- when a handshake on an open connection ends by a reset, a time-out, or the own `abort`, the
  protocol's `connection_lost` is never called; after rubbish or FIN it is (asyncio, uvloop);
- on a TLS connection the answer of `eof_received` is not asked for.

TLS is a mark on every piece, changed in-band by a hello from each side. A handshaking or
encrypted end that meets a plain octet fails, as it would on real bytes. Unlike asyncio,
`start_tls` leaves the transport object the same.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections import deque
from collections.abc import Callable
from contextvars import Context
from functools import partial

from tests.sim.faults import FaultProfile, chance
from tests.sim.handshake import CLIENT_HELLO, Handshake
from tests.sim.outgoing import Outgoing
from tests.sim.pipe import Kind, Piece, Pipe
from tests.sim.surface import Address, Surface


class SimTransport(Surface):
    _out: Pipe
    _in: Pipe
    peer: SimTransport

    def __init__(
        self,
        *,
        luck: random.Random,
        rules: Callable[[], FaultProfile],
        context: Context,
        addresses: tuple[Address, Address],
        gone: Callable[[], None],
    ) -> None:
        """`context`: the one that protocol callbacks run in; `addresses`: own, peer's."""
        super().__init__(Outgoing(luck, rules), addresses)
        self._loop = asyncio.get_running_loop()
        self._luck = luck
        self._rules = rules
        self._context = context
        self._gone = gone
        self._inbox: deque[Piece] = deque()
        self._handshake: Handshake | None = None
        self._flushing = self._waking = self._eof_sent = False
        self._reset = self._deaf = self._over = False

    def join(self, out: Pipe, into: Pipe, peer: SimTransport) -> None:
        self._out, self._in, self.peer = out, into, peer

    def start(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand the open connection to its protocol; nothing is delivered before."""
        self._protocol = protocol
        protocol.connection_made(self)
        self._wake()

    # --- asyncio.Transport ----------------------------------------------------------------------

    def resume_reading(self) -> None:
        self._reading_paused = False
        self._wake()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._outgoing.set_limits(high, low)
        self._pause_writing_if_full()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._eof_sent and not self._closing:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self._closing or not data:
            return
        if self._reset:
            self._lose(ConnectionResetError("connection reset by peer"))
            return
        self._outgoing.put(Piece(Kind.DATA, bytes(data), self.tls))
        self._send_now_or_soon()
        self._pause_writing_if_full()

    def write_eof(self) -> None:
        if self.tls:
            raise NotImplementedError
        if not self._closing:
            self._send_fin()

    def close(self) -> None:
        if self._closing:
            return
        if self._handshake is not None:
            self.fail_handshake(ConnectionResetError("closed during the handshake"))
            return
        self._closing = True
        self._discard_input()
        self._send_fin()

    def abort(self) -> None:
        if self._over:
            return
        if self._handshake is not None:
            self.fail_handshake(ConnectionResetError("aborted during the handshake"))
            return
        self._out.send(Piece(Kind.RESET))
        self._lose(None)

    # --- sending --------------------------------------------------------------------------------

    def _send_fin(self) -> None:
        if not self._eof_sent:
            self._eof_sent = True
            self._outgoing.put(Piece(Kind.FIN))
        self._send_now_or_soon()

    def _send_now_or_soon(self) -> None:
        # asyncio tries the socket at once, uvloop at the end of its turn: both happen here.
        if self._luck.random() < 0.5:
            self._outgoing.send(self._out)
        self.flush_soon()

    def flush_soon(self) -> None:
        """There is something to send, or room for it."""
        if not self._flushing and not self._over:
            self._flushing = True
            self._loop.call_soon(self._flush, context=self._context)

    def _flush(self) -> None:
        self._flushing = False
        if self._over:
            return
        self._outgoing.send(self._out)
        if self._outgoing.paused and self._outgoing.octets <= self._outgoing.low:
            self._outgoing.paused = False
            self.get_protocol().resume_writing()
        if self._closing and not self._outgoing and not self._over:
            self._over = True
            self._call_lost(None)

    def _pause_writing_if_full(self) -> None:
        outgoing = self._outgoing
        if outgoing.octets > outgoing.high and not outgoing.paused and not self._over:
            outgoing.paused = True
            self.get_protocol().pause_writing()

    # --- receiving ------------------------------------------------------------------------------

    def receive(self, piece: Piece) -> None:
        """Called by the wire."""
        if self._over:
            if piece.kind is Kind.DATA:
                self._out.send(Piece(Kind.RESET))
            return
        if piece.kind is Kind.RESET:
            self._reset = True
            if self._luck.random() < 0.5:
                self._discard_input()
        elif self._closing:
            self._acknowledge(len(piece.octets))
        elif piece.kind is not Kind.DATA or piece.octets:
            self._inbox.append(piece)
        self._wake()

    def _wake(self) -> None:
        if not self._waking and (self._inbox or self._reset) and not self._over:
            self._waking = True
            self._loop.call_soon(self._read, context=self._context)

    @property
    def _takes(self) -> bool:
        """Whether what arrives is looked at."""
        return self._handshake is not None or (self._protocol is not None and self.is_reading())

    def _read(self) -> None:
        self._waking = False
        if self._over:
            return
        if self._inbox and self._takes:
            self._take(self._inbox.popleft())
            self._wake()
        elif self._reset and self._handshake is not None:
            self.fail_handshake(ConnectionResetError("connection reset by peer"))
        elif self._reset and (self._takes or self._outgoing):
            self._lose(ConnectionResetError("connection reset by peer"))

    def _take(self, piece: Piece) -> None:
        self._acknowledge(len(piece.octets))
        if self._handshake is not None:
            self._shake_hands(self._handshake, piece)
        elif piece.kind is Kind.FIN:
            if not self._receiver().eof_received() or self.tls:
                self.close()
        elif piece.kind is Kind.HELLO:
            self._receiver().data_received(CLIENT_HELLO)
        elif piece.tls != self.tls:
            self._out.send(Piece(Kind.RESET))
            self._lose(ssl.SSLError(1, "wrong version number"))
        else:
            self._receiver().data_received(piece.octets + self._merged(piece.tls))

    def _merged(self, tls: bool) -> bytes:
        more = b""
        while (
            self._inbox
            and self._inbox[0].kind is Kind.DATA
            and self._inbox[0].tls == tls
            and chance(self._luck, self._rules().merge_probability)
        ):
            octets = self._inbox.popleft().octets
            self._acknowledge(len(octets))
            more += octets
        return more

    def _receiver(self) -> asyncio.Protocol:
        assert isinstance(self._protocol, asyncio.Protocol)
        return self._protocol

    def _acknowledge(self, octets: int) -> None:
        self._in.taken(octets)
        self.peer.flush_soon()

    def _discard_input(self) -> None:
        while self._inbox:
            self._acknowledge(len(self._inbox.popleft().octets))

    # --- TLS ------------------------------------------------------------------------------------

    def start_tls(self, *, server: bool) -> asyncio.Future[None]:
        """Begin a handshake. The future fails with OSError, and the connection is gone then."""
        timed_out = partial(self.fail_handshake, ConnectionAbortedError("handshake timed out"))
        self._handshake = handshake = Handshake(self._context, timed_out, server=server)
        if self._over or self._closing:
            self.fail_handshake(ConnectionResetError("closed before the handshake"))
        elif not server:
            self._say_hello()
        self._wake()
        return handshake.done

    def _say_hello(self) -> None:
        self._outgoing.put(Piece(Kind.HELLO))
        self._send_now_or_soon()

    def _shake_hands(self, handshake: Handshake, piece: Piece) -> None:
        if piece.kind is Kind.FIN:
            self.fail_handshake(ConnectionResetError("peer closed"), told=True)
        elif piece.kind is not Kind.HELLO:
            self.fail_handshake(ssl.SSLError(1, "wrong version number"), told=True)
        else:
            if handshake.server:
                self._say_hello()
            self.tls = True
            self._reading_paused = False
            self._handshake = None
            handshake.end(None)

    def fail_handshake(self, error: OSError, *, told: bool = False) -> None:
        """End the connection; `told`: whether the protocol hears of it."""
        handshake, self._handshake = self._handshake, None
        self._deaf = not told
        if not self._over:
            self._out.send(Piece(Kind.RESET))
            self._lose(error)
        if handshake is not None:
            handshake.end(error)

    # --- the end --------------------------------------------------------------------------------

    def _lose(self, error: Exception | None) -> None:
        """Drop everything and tell the protocol, once, in a turn of its own."""
        self._closing = self._over = True
        self._forget()
        self._loop.call_soon(self._call_lost, error, context=self._context)

    def _call_lost(self, error: Exception | None) -> None:
        self._gone()
        if self._protocol is not None and not self._deaf:
            self._protocol.connection_lost(error)

    def vanish(self) -> None:
        """The process that held this end was killed: its kernel resets the connection."""
        if not self._over:
            self._out.send(Piece(Kind.RESET))
        self._closing = self._over = True
        self._forget()
        if self._handshake is not None:
            self._handshake.forget()
        self._gone()

    def _forget(self) -> None:
        self._outgoing.clear()
        self._discard_input()
