"""A relay between proxy and upstream that counts what crosses the wire, and can make trouble.

It runs on a thread with an event loop of its own, since tests and mail programs block. Plain text
alone: the proxy talks to it with tls = "none".
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import random
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Self, TypeVar

from tests.e2e.overheard import Overheard, Record

T = TypeVar("T")

CHUNK = 16384
LINGER = 2.0
"""Seconds a connection that is cut stays half open, so that what was sent before does arrive."""
NO_SUCH_MESSAGE = b"RETR 99999999\r\n"


@dataclass(slots=True)
class Trouble:
    """What the tap does wrong at present; plain values, so any thread may set them."""

    cut_mean: float = 0.0
    """Cut each connection after a random number of octets from the server, of this mean."""
    stall_after: int | None = None
    """Stop passing on once the server has sent so many octets on a connection."""
    login_reply: bytes = b""
    """Answer PASS and AUTH with this line, and let upstream know nothing of it."""
    refuse_retr: frozenset[int] = frozenset()
    """Message numbers whose RETR gets an -ERR."""
    rate: float = 0.0
    """Octets a second that pass from the server on a connection; 0: as many as come."""


class Tap:
    """Listens from its constructor on; `close` it, or use it as a context manager."""

    def __init__(self, host: str, port: int, *, seed: int = 1) -> None:
        self._target = host, port
        self._luck = random.Random(seed)
        self._record = Record()
        self._lock = threading.Lock()
        self._connections = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._watch: tuple[int, Callable[[], None]] | None = None
        self._octets = 0
        self.trouble = Trouble()
        self.host = "127.0.0.1"
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tap", daemon=True)
        self._thread.start()
        self.accept()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- what it has seen -----------------------------------------------------------------------

    def record(self) -> Record:
        """A copy of everything seen so far."""
        with self._lock:
            return copy.deepcopy(self._record)

    def retrs(self) -> Counter[str]:
        """Digest of a message → complete RETRs: those whose terminator was passed on."""
        return self.record().retrieved

    def forget(self) -> None:
        """Count from nothing again; to be called with no connection open."""
        with self._lock:
            self._record.commands.clear()
            self._record.retrieved.clear()
            self._record.cut_short = self._record.logins = self._record.quits = 0

    def at_octet(self, count: int, call: Callable[[], None]) -> None:
        """Call once, on the tap's thread, after so many more octets from the server."""
        with self._lock:
            self._watch = self._octets + count, call

    # --- what it does ---------------------------------------------------------------------------

    def refuse(self) -> None:
        """Let upstream disappear: connections end, new ones are refused."""
        self._run(self._refuse())

    def accept(self) -> None:
        """Listen, on the same port as before."""
        self._run(self._accept())

    def calm(self) -> None:
        """No more trouble. What hangs because of it is hung up on."""
        self.trouble = Trouble()
        self._run(self._drop())

    def close(self) -> None:
        self._run(self._refuse())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=30)
        self._loop.close()

    def _run(self, work: Awaitable[T]) -> T:
        async def wrapped() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(wrapped(), self._loop).result(timeout=30)

    async def _accept(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, self.host, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._drop()

    async def _drop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- one connection -------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._connections += 1
        overheard = Overheard(self._connections, self._record)
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            self._tasks.discard(task)
            return
        up = asyncio.create_task(self._upwards(reader, up_writer, writer, overheard))
        down = asyncio.create_task(self._downwards(up_reader, writer, overheard))
        try:
            await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
            if down.done():
                with contextlib.suppress(OSError):
                    writer.write_eof()
                await asyncio.wait([up], timeout=LINGER)
            else:
                await asyncio.wait([down], timeout=LINGER)
        except asyncio.CancelledError:
            # `_drop` has cancelled this connection alone, and waits for its end.
            pass
        finally:
            up.cancel()
            down.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
            for each in (writer, up_writer):
                each.transport.abort()
            with self._lock:
                overheard.closed()
            self._tasks.discard(task)

    async def _upwards(
        self,
        reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
        writer: asyncio.StreamWriter,
        overheard: Overheard,
    ) -> None:
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                trouble = self.trouble
                verb, _, argument = line.rstrip().upper().partition(b" ")
                with self._lock:
                    overheard.command(line)
                if trouble.login_reply and verb in (b"PASS", b"AUTH"):
                    answer = trouble.login_reply + b"\r\n"
                    with self._lock:
                        overheard.answer(answer)
                    writer.write(answer)
                    continue
                if verb == b"RETR" and int(argument) in trouble.refuse_retr:
                    line = NO_SUCH_MESSAGE
                up_writer.write(line)
                await up_writer.drain()
            up_writer.write_eof()

    async def _downwards(
        self, up_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, overheard: Overheard
    ) -> None:
        mean = self.trouble.cut_mean
        limit = int(self._luck.expovariate(1 / mean)) + 1 if mean else None
        total = 0
        with contextlib.suppress(OSError):
            while data := await up_reader.read(CHUNK):
                if limit is not None:
                    data = data[: limit - total]
                stall = self.trouble.stall_after
                if stall is not None and total + len(data) > stall:
                    await asyncio.Event().wait()
                total += len(data)
                with self._lock:
                    overheard.answer(data)
                writer.write(data)
                await writer.drain()
                self._passed(len(data))
                if total == limit:
                    return
                if self.trouble.rate:
                    await asyncio.sleep(len(data) / self.trouble.rate)

    def _passed(self, count: int) -> None:
        call = None
        with self._lock:
            self._octets += count
            if self._watch is not None and self._octets >= self._watch[0]:
                call = self._watch[1]
                self._watch = None
        if call is not None:
            call()
