"""The few calls the catalogue makes on a connection, on aiosqlite or inline.

Production runs SQL in aiosqlite's thread. The simulation runs the same SQL on the spot, since
virtual time cannot wait for threads.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import aiosqlite

Row = tuple[Any, ...]
Parameters = Sequence[Any]

BUSY_SECONDS = 10.0
"""How long a statement waits for a lock that another process (a backup, a shell) holds."""


class Connection(Protocol):
    """One SQLite connection in autocommit mode: transactions are begun and ended by statements."""

    async def execute(self, sql: str, parameters: Parameters = ()) -> int:
        """Run a statement; returns the id of the row it inserted last."""

    async def executemany(self, sql: str, parameters: Iterable[Parameters]) -> None: ...

    async def fetch(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """All rows of a query."""

    async def close(self) -> None: ...


Connect = Callable[[Path], Awaitable[Connection]]


class ThreadConnection:
    """aiosqlite: each call is a hop to the connection's own thread."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    async def execute(self, sql: str, parameters: Parameters = ()) -> int:
        cursor = await self._connection.execute(sql, parameters)
        return cursor.lastrowid or 0

    async def executemany(self, sql: str, parameters: Iterable[Parameters]) -> None:
        await self._connection.executemany(sql, list(parameters))

    async def fetch(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        return list(await self._connection.execute_fetchall(sql, parameters))  # type: ignore[arg-type]

    async def close(self) -> None:
        await self._connection.close()


class InlineConnection:
    """sqlite3 on the spot: never awaits, so a transaction is never interleaved."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def execute(self, sql: str, parameters: Parameters = ()) -> int:
        return self._connection.execute(sql, parameters).lastrowid or 0

    async def executemany(self, sql: str, parameters: Iterable[Parameters]) -> None:
        self._connection.executemany(sql, parameters)

    async def fetch(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        return self._connection.execute(sql, parameters).fetchall()

    async def close(self) -> None:
        self._connection.close()


async def connect_in_thread(path: Path) -> Connection:
    return ThreadConnection(
        await aiosqlite.connect(path, isolation_level=None, timeout=BUSY_SECONDS)
    )


async def connect_inline(path: Path) -> Connection:
    return InlineConnection(sqlite3.connect(path, isolation_level=None, timeout=BUSY_SECONDS))
