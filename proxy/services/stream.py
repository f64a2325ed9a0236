"""An outgoing connection as read and write, with back-pressure both ways and a deadline on each."""

from __future__ import annotations

import asyncio
from typing import cast

from proxy.domain.errors import UpstreamSilent, UpstreamUnreachable
from proxy.interfaces.link import Link

READ_AHEAD = 256 * 1024
"""Octets held before the peer is made to wait: bounds the memory of one connection."""


SLOWEST = 16
"""Octets a second that an upstream has to send while we wait for it; modems sent a hundred times as
many."""
SLOW_AFTER = 600.0
"""Seconds of waiting in one session before that is judged."""


class Stream(asyncio.Protocol):
    """The protocol of one upstream connection."""

    def __init__(self, timeout: float) -> None:
        """`timeout`: seconds that one read or write may stand still."""
        self._timeout = timeout
        self._link: Link | None = None
        self._received = bytearray()
        self._octets = 0
        self._waited = 0.0
        self._eof = False
        self._error: Exception | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._readable = asyncio.Event()

    # --- asyncio.Protocol -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._link = Link(cast("asyncio.Transport", transport), self.connection_lost)

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._octets += len(data)
        self._readable.set()
        if len(self._received) > READ_AHEAD and self._link is not None:
            self._link.pause_reading()

    def eof_received(self) -> bool:
        self._eof = True
        self._readable.set()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._link is not None:
            self._link.over()
        self._eof = True
        self._error = exc
        self._readable.set()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # --- what the session uses ------------------------------------------------------------------

    async def read(self) -> bytes:
        """All octets there are, at least one; b"" when the peer has closed.

        Raises:
            UpstreamUnreachable: nothing came in time, or the connection broke.
        """
        if not self._received and not self._eof:
            self._readable.clear()
            loop = asyncio.get_running_loop()
            since = loop.time()
            try:
                async with asyncio.timeout(self._timeout):
                    await self._readable.wait()
            except TimeoutError:
                raise UpstreamSilent(
                    f"upstream was silent for {self._timeout:.0f} seconds"
                ) from None
            self._check_pace(loop.time() - since)
        data = bytes(self._received)
        self._received.clear()
        if not data and self._error is not None:
            raise UpstreamUnreachable(f"the connection broke: {self._error}")
        if not self._eof and self._link is not None:
            self._link.resume_reading()
        return data

    def _check_pace(self, waited: float) -> None:
        """Raises:
        UpstreamSilent: an octet now and then is no better than silence.
        """
        self._waited += waited
        if self._waited > SLOW_AFTER and self._octets < self._waited * SLOWEST:
            raise UpstreamSilent(f"upstream has sent {self._octets} octets in {self._waited:.0f} s")

    @property
    def has_unread(self) -> bool:
        return len(self._received) > 0

    async def write(self, data: bytes) -> None:
        """Returns when the peer keeps up.

        Raises:
            UpstreamUnreachable: the peer took nothing in time, or the connection broke.
        """
        if self._link is None or self._link.is_closing():
            raise UpstreamUnreachable("the connection is closed")
        self._link.write(data)
        if self._writable.is_set():
            return
        try:
            async with asyncio.timeout(self._timeout):
                await self._writable.wait()
        except TimeoutError:
            raise UpstreamUnreachable(
                f"upstream took nothing for {self._timeout:.0f} seconds"
            ) from None

    @property
    def link(self) -> Link:
        assert self._link is not None  # noqa: S101 - set before the stream is handed out
        return self._link

    def tls_started(self, transport: asyncio.Transport) -> None:
        self._link = Link(transport, self.connection_lost)

    def close(self) -> None:
        if self._link is not None:
            self._link.close()

    def abort(self) -> None:
        if self._link is not None:
            self._link.abort()
