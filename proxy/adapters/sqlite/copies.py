"""Who is in a catalogue that is not open, such as the copies that upgrades have left."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from proxy.domain.login_name import canonical


def copies_with(catalogue: Path, account: str) -> list[str]:
    """Paths of the copies of this catalogue that have the account, in any spelling of its name, or
    that cannot be read."""
    copies = sorted(catalogue.parent.glob(f"{catalogue.stem}-v*{catalogue.suffix}*"))
    return [str(copy) for copy in copies if may_have(copy, account)]


def may_have(catalogue: Path, account: str) -> bool:
    """Whether it has the account, under any of its names, or cannot be read."""
    if not catalogue.exists():
        return False
    try:
        with closing(sqlite3.connect(f"{catalogue.resolve().as_uri()}?mode=ro", uri=True)) as found:
            tables = found.execute(
                "SELECT name FROM sqlite_master WHERE name IN ('account', 'other_name')"
            ).fetchall()
            names = {
                name
                for (table,) in tables
                for (name,) in found.execute(f"SELECT name FROM {table}")  # noqa: S608 - one of two
            }
    except sqlite3.Error:
        return True
    return canonical(account) in {canonical(name) for name in names}
