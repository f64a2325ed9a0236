"""Names of accounts read beside a proxy that may be running, and nothing written or locked."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path


def account_names(data_dir: Path) -> list[str]:
    """The oldest account first; none where there is no store, or none that can be read now."""
    path = data_dir / "catalogue.db"
    # Without a log beside it nobody writes; and we must make none, which the proxy could not use.
    how = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "immutable=1"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True)) as database:
            rows = database.execute("SELECT name FROM account ORDER BY id").fetchall()
    except (sqlite3.Error, OSError):
        return []
    return [name for (name,) in rows]
