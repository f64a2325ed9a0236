"""How old a catalogue is, and the store's note of how old it last was, in a file beside it.

Blobs that the catalogue does not name may be all that is left of mail. So a catalogue that is not
the one which the store had last is noticed before anything is done on the strength of it. The note
lags behind: it is written now and then, so a catalogue may always be newer than it says. Clocks
have no part in this.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from proxy.adapters.sqlite.connection import Connection
from proxy.domain.errors import WrongCatalogue

NOTE = "store.note"

KEPT_AS = "store"
"""The name among the catalogue's secrets."""

BACKUP = "backup"
"""As well: what tells one backup from all others, drawn at random as it is made. In a store it is
that of the backup which was restored."""

KEEP_VALUE = """
INSERT INTO secret (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2
"""

ID_OCTETS = 16
_COUNT_OCTETS = 8
_NOTE = re.compile(r"([0-9a-f]{32}) ([0-9]{1,18})\n")

_READ_ON = 'see "A catalogue that is missing, older or damaged" in docs/operating.md'


@dataclass(frozen=True, slots=True)
class Age:
    store: bytes
    """Drawn at random when the catalogue was made, and anew wherever another history than the one
    that others may know of begins: then counts tell nothing."""
    count: int
    """Notes that were taken of it."""

    @classmethod
    def of(cls, octets: bytes) -> Age:
        return cls(octets[:ID_OCTETS], int.from_bytes(octets[ID_OCTETS:], "big"))

    def octets(self) -> bytes:
        return self.store + self.count.to_bytes(_COUNT_OCTETS, "big")

    def is_older_than(self, other: Age) -> bool:
        return self.store == other.store and self.count < other.count


async def age_of(connection: Connection) -> Age | None:
    """None: no note was ever taken of this catalogue."""
    if not await connection.fetch("SELECT 1 FROM sqlite_master WHERE name = 'secret'"):
        return None
    rows = await connection.fetch("SELECT value FROM secret WHERE name = ?", (KEPT_AS,))
    return Age.of(bytes(rows[0][0])) if rows else None


async def set_age(change: Connection, age: Age) -> None:
    await change.execute(KEEP_VALUE, (KEPT_AS, age.octets()))


def read_note(data_dir: Path) -> Age | None:
    """None: there is none that can be read, which says nothing against the catalogue."""
    try:
        return parse_note((data_dir / NOTE).read_bytes())
    except OSError:
        return None


def parse_note(octets: bytes) -> Age | None:
    found = _NOTE.fullmatch(octets.decode("latin-1"))
    return Age(bytes.fromhex(found[1]), int(found[2])) if found else None


def write_note(data_dir: Path, age: Age) -> None:
    """On disk, whole or not at all.

    Raises:
        OSError
    """
    fresh = data_dir / f"{NOTE}.part"
    with suppress(FileNotFoundError):
        fresh.unlink()
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{age.store.hex()} {age.count}\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(data_dir / NOTE)


def check_there(catalogue: Path) -> None:
    """To be asked before SQLite opens it, which would make one, and drop the log of one that is
    empty.

    Raises:
        WrongCatalogue: it is missing or empty, and the store is not new.
    """
    if not catalogue.exists() or catalogue.stat().st_size == 0:
        _check_new(catalogue)


async def check_age(connection: Connection, catalogue: Path) -> bool:
    """Whether it is known to be what the store had last, or newer; to be asked before anything is
    changed.

    Raises:
        WrongCatalogue: it is empty, older, or of another store.
    """
    ((version,),) = await connection.fetch("PRAGMA user_version")
    if version == 0:
        _check_new(catalogue)
    age, note = await age_of(connection), read_note(catalogue.parent)
    if note is None:
        return False
    if age is None or age.is_older_than(note):
        raise WrongCatalogue(
            f"{catalogue} is older than the one that this store had last: mail that came since is "
            "not in it. Put the newer one in its place; or go on with this one, and take the mail "
            f"in again, by `pop3-sync-proxy verify --adopt`: {_READ_ON}"
        )
    if age.store != note.store:
        raise WrongCatalogue(
            f"{catalogue} is of another store than {catalogue.with_name(NOTE)} and the mail beside "
            "it. Put the right one in its place; or go on with this one by `pop3-sync-proxy verify "
            f"--adopt`: {_READ_ON}"
        )
    return True


def _check_new(catalogue: Path) -> None:
    data_dir = catalogue.parent
    blobs = (path for path in (data_dir / "blobs").glob("*/*") if path.is_file())
    if (data_dir / NOTE).exists() or any(path.parent.name != "tmp" for path in blobs):
        raise WrongCatalogue(
            f"{catalogue} is missing or empty, and this store is not new. Put the right one in its "
            "place, or restore a backup; or begin a new one, and take the mail in again, by "
            f"`pop3-sync-proxy verify --adopt`: {_READ_ON}"
        )
