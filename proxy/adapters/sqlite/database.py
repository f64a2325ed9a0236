"""Two connections to one database: one writes, under a lock held for a whole verb; one reads.

A reader never sees an open transaction and never waits for an fsync (WAL). Errors of SQLite become
`StoreUnavailable` here and nowhere else.
"""

from __future__ import annotations

import asyncio
import math
import os
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from proxy.adapters.sqlite.connection import Connect, Connection, Parameters, Row
from proxy.adapters.sqlite.schema import migrate
from proxy.domain.errors import StoreUnavailable
from proxy.domain.timekeeping import Ledger

_SETTINGS = (
    "PRAGMA journal_mode = WAL",
    # FULL: a commit is on disk when COMMIT returns, which QUIT's +OK promises.
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    # What was removed is overwritten, whatever SQLite was built with.
    "PRAGMA secure_delete = ON",
)

Check = Callable[[Connection], Awaitable[None]]

DAMAGED = (
    "The catalogue is damaged; the messages are files of their own, and are left alone. Stop the "
    'proxy, then restore a backup, or have sqlite3 recover what it can: see "A catalogue that is '
    'missing, older or damaged" in docs/operating.md'
)


@contextmanager
def storage_errors() -> Iterator[None]:
    """Map what the disk and SQLite raise."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        if isinstance(error, sqlite3.IntegrityError):
            raise
        cure = f". {DAMAGED}" if _tells_of_damage(error) else ""
        raise StoreUnavailable(f"{error}{cure}") from error


def _tells_of_damage(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", None) or 0
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Database:
    """Use `open_database` to get one."""

    def __init__(self, writer: Connection, reader: Connection, ran: float) -> None:
        self.ledger = Ledger(ran)
        self._writer = writer
        self._reader = reader
        self._lock = asyncio.Lock()
        self.wrote_at = -math.inf
        """By the monotonic clock, when a transaction was last on disk; no time, if one has failed
        since."""
        self.versions: Counter[int] = Counter()
        """Account id → how often what its devices see has changed."""
        self.device_versions: Counter[int] = Counter()

    @asynccontextmanager
    async def transaction(
        self, *, account: int | None = None, device: int | None = None
    ) -> AsyncIterator[Connection]:
        """One verb's changes: all of them on disk afterwards, or none.

        `account` and `device` are those whose view may change. Their versions grow after the
        commit, so that no view cut before it is taken for one cut after it; and in any case, since
        a commit that is cancelled may have gone through.

        Raises:
            StoreUnavailable: they are not.
        """
        async with self._lock:
            with storage_errors():
                try:
                    # Inside: a BEGIN that is cancelled goes through in its thread all the same.
                    await self._writer.execute("BEGIN IMMEDIATE")
                    # What is stamped in it is stamped with that.
                    await self._writer.execute(
                        "UPDATE clock SET ran = max(ran, ?)", (self.ledger.ran,)
                    )
                    yield self._writer
                    await self._writer.execute("COMMIT")
                    self.wrote_at = time.monotonic()
                except BaseException:
                    self.wrote_at = -math.inf
                    # After a failed BEGIN or COMMIT, or a cancelled COMMIT that went through,
                    # there is nothing to roll back.
                    with suppress(sqlite3.Error):
                        await self._writer.execute("ROLLBACK")
                    raise
                finally:
                    if account is not None:
                        self.versions[account] += 1
                    if device is not None:
                        self.device_versions[device] += 1

    async def fetch(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """All rows of a query, as of the last commit."""
        with storage_errors():
            return await self._reader.fetch(sql, parameters)

    async def empty_log(self) -> bool:
        """Write the write-ahead log, which keeps former changes, into the database and empty it.

        False: another process reads it.
        """
        async with self._lock:
            with storage_errors():
                ((busy, _, _),) = await self._writer.fetch("PRAGMA wal_checkpoint(TRUNCATE)")
                return not busy

    async def close(self) -> None:
        async with self._lock:
            await self._reader.close()
            await self._writer.close()


async def open_database(path: Path, connect: Connect, check: Check) -> Database:
    """`check` may refuse it before anything is changed.

    Raises:
        StoreTooNew, StoreUnavailable; what `check` raises.
    """
    with storage_errors():
        _create(path)
        writer = await connect(path)
        try:
            await check(writer)
            for setting in _SETTINGS:
                await writer.fetch(setting)
            await migrate(writer, path)
            ((ran,),) = await writer.fetch("SELECT ran FROM clock")
            reader = await connect(path)
            try:
                await reader.fetch("PRAGMA query_only = ON")
            except BaseException:
                await reader.close()
                raise
        except BaseException:
            await writer.close()
            raise
    return Database(writer, reader, ran)


def _create(path: Path) -> None:
    """Make the file for its owner alone, whatever the umask and the directory allow.

    SQLite gives its write-ahead log the permissions of the file.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
