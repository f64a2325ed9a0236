"""A slow line: a relay on loopback, in a process of its own, that delivers every octet late.

It delays and does nothing else: any number of octets is under way at once, each for the same time.
A connection is set up as over a real line: the client may be heard after one round trip, and the
server hears of it half a round trip later. Plain text alone, since it reads along.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self, cast

from tests.bench.conversation import Batch, Conversation
from tests.e2e.processes import bound
from tests.e2e.waiting import PATIENCE, eventually

DELAY = 0.025
"""Seconds in each direction."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A connection that has ended."""

    seconds: float
    """From the client's connect until it closed, or was told that the server did."""
    login: int
    """Round trips up to the one that logged in, that one included."""
    round_trips: int
    """After the login: QUIT's is one of them."""
    batches: list[Batch]

    def count(self, verb: str) -> int:
        return sum(
            command.split(" ")[0] == verb for batch in self.batches for command in batch.commands
        )


class DelayedLink:
    """Started by its constructor; `close` it, or use it as a context manager."""

    def __init__(self, host: str, port: int, *, delay: float = DELAY, listen: int = 0) -> None:
        """Between a free port, or the port `listen`, and the server."""
        self._folder = tempfile.TemporaryDirectory(prefix="link-")
        self._said = Path(self._folder.name) / "said"
        arguments = [str(listen), host, str(port), str(delay)]
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                bound([sys.executable, "-m", "tests.bench.delayed_link", *arguments]),
                stdin=subprocess.DEVNULL,
                stdout=said,
            )
        self._given = 1
        eventually(lambda: len(self._lines()) > 0, what="the link to be ready")
        self.host = "127.0.0.1"
        self.port = int(self._lines()[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)
        self._folder.cleanup()

    def next(self, *, within: float = PATIENCE) -> Heard:
        """The next connection, once it has ended."""
        eventually(
            lambda: len(self._lines()) > self._given, what="a connection to end", within=within
        )
        heard = json.loads(self._lines()[self._given])
        self._given += 1
        heard["batches"] = [Batch(**batch) for batch in heard["batches"]]
        return Heard(**heard)

    def _lines(self) -> list[str]:
        """What the process has said, complete lines alone."""
        assert self._process.poll() is None, "the link has ended"
        return self._said.read_text().split("\n")[:-1]


# --- in the process -----------------------------------------------------------------------------


class Way:
    """One direction. What is put in comes out after the delay, in order, whatever else is in."""

    def __init__(self, delay: float, out: Callable[[bytes], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._delay = delay
        self._out = out
        self._under_way: deque[tuple[float, bytes]] = deque()

    def put(self, data: bytes, *, not_before: float = 0.0) -> None:
        """`not_before`: the loop's time before which it does not set out."""
        self._under_way.append((max(self._loop.time(), not_before) + self._delay, data))
        if len(self._under_way) == 1:
            self._loop.call_at(self._under_way[0][0], self._arrive)

    def _arrive(self) -> None:
        now = self._loop.time()
        while self._under_way and self._under_way[0][0] <= now:
            self._out(self._under_way.popleft()[1])
        if self._under_way:
            self._loop.call_at(self._under_way[0][0], self._arrive)


class _End(asyncio.Protocol):
    """One of a connection's two ends. The end of its octets is passed on as b""."""

    def __init__(self, came: Callable[[bytes], None]) -> None:
        self._came = came
        self._over = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._came(data)

    def eof_received(self) -> bool:
        self._finish()
        # What is still to go the other way may go.
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish()

    def _finish(self) -> None:
        if not self._over:
            self._over = True
            self._came(b"")


class _Connection:
    def __init__(self, host: str, port: int, delay: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._set_up = self._began + 2 * delay
        self._target = host, port
        self._conversation = Conversation()
        self._seconds: float | None = None
        self._up = Way(delay, self._to_server)
        self._down = Way(delay, self._to_client)
        self.client = _End(self._from_client)
        self._server = _End(self._down.put)
        self._connecting: asyncio.Task[None] | None = None
        self._loop.call_at(self._set_up + delay, self._begin_connecting)
        self._early: list[bytes] = []

    def _begin_connecting(self) -> None:
        self._connecting = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            await self._loop.create_connection(lambda: self._server, *self._target)
        except OSError:
            self._to_client(b"")
            return
        early, self._early = self._early, []
        for data in early:
            self._to_server(data)

    def _from_client(self, data: bytes) -> None:
        if data:
            self._conversation.sent(data, self._loop.time() - self._began)
        else:
            self._note_end()
        self._up.put(data, not_before=self._set_up)

    def _to_server(self, data: bytes) -> None:
        if self._server.transport is None:
            self._early.append(data)
        elif data:
            self._server.transport.write(data)
        else:
            self._server.transport.close()

    def _to_client(self, data: bytes) -> None:
        assert self.client.transport is not None
        if data:
            self._conversation.answered(data)
            self.client.transport.write(data)
        else:
            self._note_end()
            self.client.transport.close()

    def _note_end(self) -> None:
        if self._seconds is None:
            self._seconds = self._loop.time() - self._began
            heard = Heard(
                self._seconds,
                self._conversation.login,
                self._conversation.round_trips,
                self._conversation.batches,
            )
            print(json.dumps(asdict(heard)), flush=True)


async def _serve(listen: int, host: str, port: int, delay: float) -> None:
    server = await asyncio.get_running_loop().create_server(
        lambda: _Connection(host, port, delay).client, "127.0.0.1", listen
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
