"""Copies of the catalogue that upgrades have left, and who is in them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from proxy.domain.login_name import canonical


def copies_with(catalogue: Path, account: str) -> list[str]:
    """Paths of the copies of this catalogue that have the account, in any spelling of its name, or
    that cannot be read."""
    copies = sorted(catalogue.parent.glob(f"{catalogue.stem}-v*{catalogue.suffix}*"))
    return [str(copy) for copy in copies if _may_have(copy, account)]


def _may_have(copy: Path, account: str) -> bool:
    try:
        with closing(sqlite3.connect(f"{copy.resolve().as_uri()}?mode=ro", uri=True)) as database:
            names = database.execute("SELECT name FROM account").fetchall()
    except sqlite3.Error:
        return True
    return canonical(account) in {canonical(name) for (name,) in names}
