"""Upgrades change nothing that was stored, whatever version stored it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from proxy.adapters.sqlite.schema import migrations
from proxy.adapters.store import open_store

SPECIAL = {
    "view": "undelivered",
    "upstream": "gone",
    "unfetched": '[{"uid": "u", "octets": 1, "why": "too large"}]',
    "marks": '["mark"]',
    # Made anew at each start, from the name.
    "key": "name",
}


def value_for(column: str, type_: str) -> Any:
    """Neither NULL nor what columns have by default. Everything belongs to the one account."""
    if column in SPECIAL:
        return SPECIAL[column]
    if column == "id" or (column.endswith("_id") and type_ == "INTEGER"):
        return 1
    return {"TEXT": column, "BLOB": column.encode() * 4, "INTEGER": 1, "REAL": 1.5}[type_]


def tables(database: sqlite3.Connection) -> dict[str, dict[str, str]]:
    """Their columns, with the type of each."""
    names = database.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
    ).fetchall()
    return {
        name: dict(database.execute("SELECT name, type FROM pragma_table_info(?)", (name,)))
        for (name,) in names
    }


def fill(path: Path, version: int) -> dict[str, dict[str, str]]:
    """A catalogue of this version, with a row in each of its tables; returns those."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        for script in migrations()[:version]:
            database.executescript(script)
        database.execute(f"PRAGMA user_version = {version}")
        found = tables(database)
        # By these triggers stamp rows of the others.
        first = ["message", "clock"]
        for table in sorted(found, key=lambda name: name in first and -1 - first.index(name)):
            columns = found[table]
            values = [value_for(column, type_) for column, type_ in columns.items()]
            places = ", ".join("?" * len(values))
            database.execute(f"INSERT OR REPLACE INTO {table} VALUES ({places})", values)
    return found


@pytest.mark.parametrize("version", range(1, len(migrations())))
async def test_an_upgrade_keeps_every_value_of_every_table(tmp_path: Path, version: int) -> None:
    path = tmp_path / "catalogue.db"
    before = fill(path, version)
    await (await open_store(tmp_path)).close()
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (len(migrations()),)
        for table, columns in before.items():
            names = ", ".join(columns)
            rows = database.execute(f"SELECT {names} FROM {table}").fetchall()
            assert rows == [tuple(value_for(name, type_) for name, type_ in columns.items())], table
