"""The simulated disk: the store's real SQL and real files, with latency and faults from the seed.

A crash keeps what the operating system holds: the files are copied as they are at that instant,
an open transaction's write-ahead log included, and the next life works on the copy. (What a power
failure would lose is not modelled; the order of fsync and rename is tested on its own.)
"""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from proxy.adapters.blobs import Runner
from proxy.adapters.sqlite.connection import Connection, InlineConnection, Parameters, Row
from proxy.adapters.store import SqliteStore, open_store
from tests.sim.process import Process

T = TypeVar("T")

LATENCY = (0.0001, 0.02)
"""Seconds before each statement and each piece of work on files."""


class SimDisk:
    """One host's data directory over all its lives."""

    def __init__(self, folder: Path, luck: random.Random) -> None:
        self._folder = folder
        self._luck = luck
        self._life = 0
        self._open: list[sqlite3.Connection] = []
        self.fault_probability = 0.0
        """Per statement or piece of work that writes: the disk is full."""

    @property
    def data_dir(self) -> Path:
        return self._folder / f"life{self._life}"

    async def open(self, process: Process) -> SqliteStore:
        """The store, opened by this process; its death is the store's."""
        process.at_crash(self._crash)
        store = await open_store(
            self.data_dir, connect=self._connect, run=_SimRunner(self), exclusive=False
        )
        await store.clean_up()
        return store

    def _crash(self) -> None:
        dead = self.data_dir
        self._life += 1
        if dead.exists():
            shutil.copytree(dead, self.data_dir)
        for connection in self._open:
            connection.close()
        self._open.clear()

    def stored_uids(self) -> set[str]:
        """Upstream names of the messages whose rows are committed, read past the proxy."""
        path = self.data_dir / "catalogue.db"
        if not path.exists():
            return set()
        with sqlite3.connect(path) as database:
            try:
                rows = database.execute("SELECT upstream_uid FROM message").fetchall()
            except sqlite3.OperationalError:
                rows = []
        database.close()
        return {uid for (uid,) in rows}

    async def _connect(self, path: Path) -> Connection:
        connection = sqlite3.connect(path, isolation_level=None)
        # The simulated process dies at once; what the real one's kernel flushes is flushed here.
        connection.execute("PRAGMA synchronous = OFF")
        self._open.append(connection)
        return _SimConnection(connection, self)

    async def wait(self) -> None:
        await asyncio.sleep(self._luck.uniform(*LATENCY))

    def may_fail(self) -> bool:
        return self.fault_probability > 0 and self._luck.random() < self.fault_probability


class _SimConnection(InlineConnection):
    """Awaits before every statement, so that a crash can come between any two."""

    def __init__(self, connection: sqlite3.Connection, disk: SimDisk) -> None:
        super().__init__(connection)
        self._disk = disk

    async def execute(self, sql: str, parameters: Parameters = ()) -> int:
        await self._disk.wait()
        if sql != "ROLLBACK" and self._disk.may_fail():
            raise sqlite3.OperationalError("database or disk is full")
        return await super().execute(sql, parameters)

    async def executemany(self, sql: str, parameters: Iterable[Parameters]) -> None:
        await self._disk.wait()
        await super().executemany(sql, parameters)

    async def fetch(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        if sql.startswith("PRAGMA synchronous"):
            return []
        await self._disk.wait()
        return await super().fetch(sql, parameters)


class _SimRunner(Runner):
    def __init__(self, disk: SimDisk) -> None:
        self._disk = disk

    def __call__(self, function: Callable[..., T], *arguments: Any) -> Awaitable[T]:
        return self._run(function, *arguments)

    async def _run(self, function: Callable[..., T], *arguments: Any) -> T:
        await self._disk.wait()
        if self._disk.may_fail():
            raise OSError(28, "No space left on device")
        result = function(*arguments)
        await self._disk.wait()
        return result
