"""The catalogue's schema: numbered migrations, applied in order, each in a transaction."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from proxy.adapters.sqlite.connection import Connection
from proxy.domain.errors import StoreTooNew
from proxy.domain.login_name import canonical

RUNNING_TIME = (
    ("message", "fetched_ran"),
    ("message", "left_ran"),
    ("message", "left_at_once"),
    ("delivery", "ran"),
    ("device", "created_ran"),
    ("device", "seen_ran"),
    ("seen_uid", "imported_ran"),
    ("sent", "sent_ran"),
    ("spell", "since"),
)


def migrations() -> list[str]:
    """The scripts in order; the n-th takes the schema from version n-1 to n."""
    folder = resources.files("proxy.adapters.sqlite") / "migrations"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [(folder / name).read_text() for name in names]


def _statements(script: str) -> Iterator[str]:
    """A semicolon may also stand in a comment, a text or a trigger."""
    statement = ""
    for part in script.split(";"):
        statement += part + ";"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


async def migrate(connection: Connection, path: Path) -> None:
    """Bring the schema of the database at `path` up to date, and keep a copy of it as it was.

    Raises:
        StoreTooNew: a newer version of this program wrote it; nothing is changed.
    """
    scripts = migrations()
    ((version,),) = await connection.fetch("PRAGMA user_version")
    if version > len(scripts):
        raise StoreTooNew(
            f"the store has schema version {version}, and this program knows {len(scripts)}: "
            "install the newer pop3-sync-proxy that wrote it, or restore a backup"
        )
    if 0 < version < len(scripts):
        await _keep_copy(connection, path.with_name(f"{path.stem}-v{version}{path.suffix}"))
    for number, script in enumerate(scripts[version:], version + 1):
        await connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in _statements(script):
                await connection.execute(statement)
            await connection.execute(f"PRAGMA user_version = {number}")
        except BaseException:
            await connection.execute("ROLLBACK")
            raise
        await connection.execute("COMMIT")
    await _renew_keys(connection)
    await _start_clock(connection)


async def _start_clock(connection: Connection) -> None:
    """A catalogue that SQLite recovered may lack the one row that tells running time. No stamp was
    made later than that."""
    if not await connection.fetch("SELECT 1 FROM clock"):
        latest = " UNION ALL ".join(
            f"SELECT max({column}) AS ran FROM {table}"  # noqa: S608 - names of ours
            for table, column in RUNNING_TIME
        )
        await connection.execute(
            f"INSERT INTO clock (one, ran) SELECT 1, coalesce(max(ran), 0) FROM ({latest})"  # noqa: S608
        )


async def _renew_keys(connection: Connection) -> None:
    """Bring the canonical names up to date: the tables of Unicode grow from release to release."""
    rows = await connection.fetch("SELECT id, name, key FROM account")
    changed = [(canonical(name), id_) for id_, name, key in rows if canonical(name) != key]
    if not changed:
        return
    await connection.execute("BEGIN IMMEDIATE")
    try:
        await connection.executemany("UPDATE account SET key = ? WHERE id = ?", changed)
    except BaseException:
        await connection.execute("ROLLBACK")
        raise
    await connection.execute("COMMIT")


async def _keep_copy(connection: Connection, copy: Path) -> None:
    """For going back to the version before; messages are not changed by any migration."""
    partial = copy.with_name(f"{copy.name}.part")
    partial.unlink(missing_ok=True)
    os.close(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    await connection.execute("VACUUM INTO ?", (str(partial),))
    partial.replace(copy)
