"""The first message of a TLS client, read for the protocols that it offers (ALPN, RFC 7301).

A server refuses who offers others only, so that no browser is led to it with another server's name
and cookies. OpenSSL leaves that to a callback, and that of Python's `ssl` lets everybody in; what
was offered it does not tell afterwards. So this looks before OpenSSL does, which is given every
octet all the same and judges what is malformed.
"""

from __future__ import annotations

import asyncio
from struct import error, unpack_from

from proxy.interfaces.link import Link

LIMIT = 32 * 1024
"""Octets that may come before the message is whole; those of real clients have some 2,000."""

_HANDSHAKE, _CLIENT_HELLO, _ALPN = 22, 1, 16
_RECORD, _HEADER, _RANDOM = 5, 4, 2 + 32
_LOST = "the connection was closed before the TLS handshake"
_REFUSAL = bytes([21, 3, 3, 0, 2, 2, 120])
"""A record with the fatal alert no_application_protocol (RFC 7301 §3.2)."""


class ClientHello:
    """Collected at any split (RFC 8446 §4.1.2, §5.1; the same in TLS 1.2)."""

    def __init__(self) -> None:
        self.octets = bytearray()
        """All that came, with what is behind the message."""
        self._message = bytearray()
        self._at = 0
        self._whole = False

    def feed(self, data: bytes) -> bool:
        """Whether it is whole, or nothing of this kind.

        Raises:
            ConnectionAbortedError: it is too long.
        """
        self.octets += data
        while not self._whole and self._take_record():
            pass
        if not self._whole and len(self.octets) > LIMIT:
            raise ConnectionAbortedError("the ClientHello is too long")
        return self._whole

    def _take_record(self) -> bool:
        if self._at < len(self.octets) and self.octets[self._at] != _HANDSHAKE:
            self._whole = True
        if self._whole or len(self.octets) < self._at + _RECORD:
            return False
        (length,) = unpack_from(">H", self.octets, self._at + 3)
        end = self._at + _RECORD + length
        if len(self.octets) < end:
            return False
        self._message += self.octets[self._at + _RECORD : end]
        self._at = end
        if self._message and self._message[0] != _CLIENT_HELLO:
            self._whole = True
        elif len(self._message) >= _HEADER:
            self._whole = len(self._message) >= _HEADER + int.from_bytes(self._message[1:4])
        return True

    @property
    def protocols(self) -> list[bytes]:
        """What is offered by ALPN; nothing where that cannot be read."""
        message = self._message
        try:
            at = _HEADER + _RANDOM
            at += 1 + message[at]  # session
            at += 2 + unpack_from(">H", message, at)[0]  # cipher suites
            at += 1 + message[at]  # compression methods
            end = at + 2 + unpack_from(">H", message, at)[0]
            at += 2
            while at < end:
                kind, length = unpack_from(">HH", message, at)
                at += 4 + length
                if kind == _ALPN:
                    return _names(message[at - length + 2 : at])
        except (IndexError, error):
            pass
        return []


def _names(octets: bytearray) -> list[bytes]:
    names, at = [], 0
    while at < len(octets):
        end = at + 1 + octets[at]
        names.append(bytes(octets[at + 1 : end]))
        at = end
    return names


class _Listener(asyncio.Protocol):
    """Has the connection until the message is whole."""

    def __init__(self, transport: asyncio.Transport, behind: asyncio.BaseProtocol) -> None:
        self.hello = ClientHello()
        self.heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lost = asyncio.Event()
        self.link = Link(transport, self.connection_lost)
        self._behind = behind

    def data_received(self, data: bytes) -> None:
        try:
            if not self.hello.feed(data):
                return
        except ConnectionAbortedError as error:
            self._done(error)
        else:
            self._done(None)
        self.link.pause_reading()

    def pause_writing(self) -> None:
        self._behind.pause_writing()

    def resume_writing(self) -> None:
        self._behind.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self.link.over()
        self._done(ConnectionResetError(_LOST))
        self.lost.set()

    def _done(self, error: OSError | None) -> None:
        if self.heard.done():
            return
        if error is None:
            self.heard.set_result(None)
        else:
            self.heard.set_exception(error)


async def await_client_hello(
    transport: asyncio.Transport, protocol: asyncio.BaseProtocol, received: bytes, ours: str
) -> bytes:
    """Wait for the whole message, of which `received` has come already. Returns what belongs to the
    handshake; reading is paused then.

    Raises:
        OSError: there will be none, or it offers protocols and not `ours`, which was told.
    """
    if transport.is_closing():
        raise ConnectionResetError(_LOST)
    listener = _Listener(transport, protocol)
    transport.set_protocol(listener)
    try:
        listener.data_received(received)
        if not listener.heard.done():
            listener.link.resume_reading()
        await listener.heard
        offered = listener.hello.protocols
        if offered and ours.encode() not in offered:
            listener.link.write(_REFUSAL)
            listener.link.close()
            await listener.lost.wait()
            raise ConnectionAbortedError(f"the client offers {offered!r} and not {ours}")
        if listener.lost.is_set():
            # Between the last octet and here, and it is told to nobody else any more.
            raise ConnectionResetError(_LOST)
    finally:
        listener.link.over()
        transport.set_protocol(protocol)
    return bytes(listener.hello.octets)
