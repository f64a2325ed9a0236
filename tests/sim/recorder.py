"""A protocol that writes down what happens to it, for tests of the network itself."""

from __future__ import annotations

import asyncio
from typing import cast


class Recorder(asyncio.Protocol):
    def __init__(self, *, keep_open: bool = False, greeting: bytes = b"") -> None:
        """`keep_open`: the answer to a half-close."""
        self.keep_open = keep_open
        self.greeting = greeting
        self.received = bytearray()
        self.events: list[str] = []
        self.lost = asyncio.Event()
        self.error: Exception | None = None
        self.writable = asyncio.Event()
        self.writable.set()
        self._news = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.events.append("made")
        self._news.set()
        if self.greeting:
            self.transport.write(self.greeting)

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._news.set()

    def eof_received(self) -> bool:
        self.events.append("eof")
        self._news.set()
        return self.keep_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost")
        self.error = exc
        self.lost.set()
        self._news.set()

    def pause_writing(self) -> None:
        self.events.append("pause")
        self.writable.clear()

    def resume_writing(self) -> None:
        self.events.append("resume")
        self.writable.set()

    async def until(self, octets: int) -> bytes:
        """Wait for so many octets in all, or for the end."""
        while len(self.received) < octets and not self.lost.is_set():
            self._news.clear()
            await self._news.wait()
        return bytes(self.received)

    async def until_event(self, event: str) -> None:
        while event not in self.events:
            self._news.clear()
            await self._news.wait()


class Service:
    """A factory for listeners that remembers the protocols it made."""

    def __init__(self, *, keep_open: bool = False, greeting: bytes = b"") -> None:
        self.accepted: list[Recorder] = []
        self._called = asyncio.Event()
        self._keep_open = keep_open
        self._greeting = greeting

    def __call__(self) -> Recorder:
        self.accepted.append(Recorder(keep_open=self._keep_open, greeting=self._greeting))
        self._called.set()
        return self.accepted[-1]

    async def first(self) -> Recorder:
        """The first protocol, once it is connected."""
        await self._called.wait()
        await self.accepted[0].until_event("made")
        return self.accepted[0]
