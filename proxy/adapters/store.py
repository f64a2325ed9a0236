"""The store in production: SQLite's catalogue and files, in one data directory."""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

from proxy.adapters.blobs import Blobs, Runner, ThreadRunner
from proxy.adapters.sqlite.connection import Connect, Connection, connect_in_thread
from proxy.adapters.sqlite.copies import copies_with
from proxy.adapters.sqlite.database import Database, open_database, storage_errors
from proxy.adapters.sqlite.doubts import Doubts
from proxy.adapters.sqlite.merge import Merges
from proxy.adapters.sqlite.messages import Messages
from proxy.adapters.sqlite.orphans import Orphans
from proxy.adapters.sqlite.own import OwnMessages
from proxy.adapters.sqlite.records import Records
from proxy.adapters.sqlite.same_mailbox import SameMailboxes
from proxy.adapters.sqlite.seen import SeenUids
from proxy.adapters.sqlite.sent import SentMails
from proxy.adapters.sqlite.time import Time
from proxy.adapters.sqlite.troubles import Troubles
from proxy.adapters.store_note import check_age, check_there
from proxy.domain.errors import DataDirInUse, StoreUnavailable, WrongCatalogue

TELLS_FOR = 5.0
"""Seconds for which a write that succeeded tells that the store can be written."""


class SqliteStore(
    Merges,
    Messages,
    Doubts,
    OwnMessages,
    SentMails,
    Records,
    SameMailboxes,
    SeenUids,
    Orphans,
    Troubles,
    Time,
):
    """`interfaces.store.Store`; use `open_store` to get one."""

    def __init__(
        self, catalogue: Path, database: Database, blobs: Blobs, lock: int | None, *, trusted: bool
    ) -> None:
        self._catalogue = catalogue
        self._database = database
        self._blobs = blobs
        self._lock = lock
        self._trusted = trusted
        self._changed = {}
        self._reading = asyncio.Lock()
        self._waiting_commits = []
        self._writing = set()

    async def is_writable(self) -> bool:
        if time.monotonic() - self._database.wrote_at < TELLS_FOR:
            return True
        try:
            async with self._database.transaction() as change:
                # Changes nothing, but takes the write-ahead log through the motions.
                await change.execute("PRAGMA application_id = 0")
        except StoreUnavailable:
            return False
        return os.access(self._blobs.temporary, os.W_OK)

    async def erase_traces(self) -> bool:
        return await self._database.empty_log()

    async def copies_with(self, account: str) -> list[str]:
        with storage_errors():
            return await self._blobs.run(copies_with, self._catalogue, account)

    async def close(self) -> None:
        if self._writing:
            await asyncio.wait(self._writing)
        if self._keeps_note:
            with suppress(StoreUnavailable):
                await self.settle()
        await self._database.close()
        if self._lock is not None:
            os.close(self._lock)


async def open_store(
    data_dir: Path,
    *,
    connect: Connect = connect_in_thread,
    run: Runner | None = None,
    exclusive: bool = True,
    accept: bool = False,
) -> SqliteStore:
    """Open the store of a data directory, made if it is new.

    `exclusive` keeps a second process out; the simulation, which crashes and reopens within one
    process, does without. `accept`: whatever catalogue there is, or a new one, is from now on the
    right one.

    Raises:
        DataDirInUse: another process has it open.
        WrongCatalogue: it is not the one that the store had last; nothing was changed.
        StoreTooNew, StoreUnavailable.
    """
    with storage_errors():
        lock = hold_lock(data_dir, exclusive=exclusive)
    try:
        catalogue = data_dir / "catalogue.db"
        trusted = False

        async def check(connection: Connection) -> None:
            nonlocal trusted
            try:
                trusted = await check_age(connection, catalogue)
            except WrongCatalogue:
                if not accept:
                    raise

        if not accept:
            with storage_errors():
                check_there(catalogue)
        database = await open_database(catalogue, connect, check)
        try:
            blobs = Blobs(data_dir / "blobs", run or ThreadRunner())
            lost = await database.fetch(
                "SELECT DISTINCT digest FROM message WHERE blob_lost AND purged_at IS NULL"
            )
            blobs.lost = {digest: set() for (digest,) in lost}
            with storage_errors():
                await blobs.run(blobs.prepare)
            store = SqliteStore(catalogue, database, blobs, lock, trusted=trusted)
            await store.read_time()
            if accept and not trusted:
                await store.accept()
        except BaseException:
            await database.close()
            raise
    except BaseException:
        if lock is not None:
            os.close(lock)
        raise
    return store


def hold_lock(data_dir: Path, *, exclusive: bool = True) -> int | None:
    """Make the directory; hold its lock until the descriptor is closed, by us or our death.

    Without `exclusive` it is made, and not locked.

    Raises:
        DataDirInUse
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not exclusive:
        return None
    descriptor = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise DataDirInUse(f"another pop3-sync-proxy runs on {data_dir}") from None
    return descriptor
