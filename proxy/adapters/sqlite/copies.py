"""Copies of the catalogue that upgrades have left, and who is in them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path


def copies_with(catalogue: Path, account: str) -> list[str]:
    """Paths of the copies of this catalogue that have the account, or that cannot be read."""
    copies = sorted(catalogue.parent.glob(f"{catalogue.stem}-v*{catalogue.suffix}*"))
    return [str(copy) for copy in copies if _may_have(copy, account)]


def _may_have(copy: Path, account: str) -> bool:
    try:
        with closing(sqlite3.connect(f"{copy.resolve().as_uri()}?mode=ro", uri=True)) as database:
            found = database.execute("SELECT 1 FROM account WHERE name = ?", (account,)).fetchone()
    except sqlite3.Error:
        return True
    return found is not None
