"""Backups of a data directory: made beside a running proxy, used again, and restored.

A backup is a folder like the data directory: blobs under their digests, the catalogue as one file,
our own authority and certificate. It holds no key to the passwords and tokens that the catalogue
keeps encrypted.

The order makes it consistent without stopping anything. Blobs first: what is purged meanwhile is in
the backup already. Then the catalogue, in one snapshot; then the blobs that came in between.

Root may work in folders of other users, so nothing in them is taken for more than it is: no link is
followed, and what is no plain file is refused.
"""

from __future__ import annotations

import fcntl
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from proxy.adapters.blob_copy import CHUNK, BlobCopy, Progress, copy_file, shelf
from proxy.adapters.folders import Folder
from proxy.adapters.sqlite.database import storage_errors
from proxy.adapters.sqlite.schema import migrations
from proxy.adapters.store import hold_lock
from proxy.adapters.store_note import BACKUP, ID_OCTETS, KEEP_VALUE, KEPT_AS, NOTE, Age, parse_note
from proxy.domain.errors import (
    AlreadyExists,
    BadRequest,
    NotFound,
    StoreTooNew,
    StoreUnavailable,
    WrongCatalogue,
)

MARKER = "pop3-sync-proxy-backup"
"""The file that tells a backup from any other folder."""

CATALOGUE = "catalogue.db"
KEPT_FILES = ("ca.pem", "ca.key", "certificate.pem", "private_key.pem")
_SHELF = re.compile(r"[0-9a-f]{2}")
_BLOB = re.compile(r"[0-9a-f]{64}")
TRIES = 5
"""Snapshots that are taken while messages are purged as fast as they come."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What a backup or a restored store holds."""

    messages: int
    blobs: int
    octets: int
    """Of those that were copied or linked now."""
    damaged: tuple[str, ...]
    """SHA-256 of blobs that are missing or not what they should be; they are left out."""


def back_up(data_dir: Path, target: Path, progress: Progress) -> Copied:
    """Bring `target` up to date with a data directory, whether a proxy runs on it or not.

    Raises:
        BadRequest: `target` is no place for a backup, or holds one that would lose mail by this.
        WrongCatalogue: the store's catalogue is not the one that it had last.
        NotFound: there is no store.
        StoreUnavailable: something cannot be read or written; an earlier backup there still holds.
    """
    if not (data_dir / CATALOGUE).is_file():
        raise NotFound(f"there is no store in {data_dir}")
    if target.resolve().is_relative_to(data_dir.resolve()):
        raise BadRequest(f"{target} lies in the data directory; a backup has to lie elsewhere")
    with storage_errors(), Folder.opened(data_dir) as data, _claimed(target, data) as folder:
        data.open(CATALOGUE, own=True).close()
        copy = BlobCopy(data, folder, link=True)
        copy.take(_stored(data), progress)
        fresh = f"{CATALOGUE}.new"
        # Before the snapshot, which may only be newer than it.
        note = _note_in(data)
        for _ in range(TRIES):
            folder.remove(fresh)
            folder.make(fresh).close()
            _snapshot(data_dir / CATALOGUE, target / fresh)
            _check_note(_age(target / fresh), note)
            _check_succession(target / fresh, folder, target / CATALOGUE)
            _keep(target / fresh, BACKUP, os.urandom(ID_OCTETS))
            named = _named(target / fresh)
            copy.take(sorted(named), progress)
            if not copy.missing & named:
                break
        _copy_kept(data, folder)
        os.sync()
        folder.rename(fresh, CATALOGUE)
        _drop(folder, set(_stored(folder)) - named)
        return _result(target / CATALOGUE, named, copy)


def restore(source: Path, data_dir: Path, progress: Progress) -> Copied:
    """Make a data directory from a backup, every blob compared with its digest.

    One that was broken off can be begun again. What root makes belongs to the owner of `data_dir`.

    Raises:
        NotFound: `source` is no backup.
        AlreadyExists: there is a store in `data_dir`.
        DataDirInUse: a proxy runs there.
        StoreTooNew, StoreUnavailable.
    """
    if not (source / MARKER).is_file() or not (source / CATALOGUE).is_file():
        raise NotFound(f"{source} holds no complete backup")
    with storage_errors(), ExitStack() as opened:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        backup = opened.enter_context(Folder.opened(source))
        data = opened.enter_context(Folder.opened(data_dir))
        with suppress(FileExistsError):
            data.make("lock").close()
        lock = hold_lock(data_dir)
        if lock is not None:
            opened.callback(os.close, lock)
        if any(data.status(CATALOGUE + end) for end in ("", "-wal", "-shm", "-journal")):
            raise AlreadyExists(f"there is a store in {data_dir}: move it away first")
        backup.open(CATALOGUE, own=True).close()
        _check_version(source / CATALOGUE)
        named = _named(source / CATALOGUE)
        copy = BlobCopy(backup, data, link=False)
        copy.take(sorted(named), progress)
        _copy_kept(backup, data)
        fresh = f"{CATALOGUE}.new"
        copy_file(backup, CATALOGUE, data, fresh)
        if age := _age(data_dir / fresh):
            # Whoever was backed up may live on, or have been backed up later.
            _keep(data_dir / fresh, KEPT_AS, replace(age, store=os.urandom(ID_OCTETS)).octets())
        # What it said is of another catalogue.
        data.remove(NOTE)
        os.sync()
        data.rename(fresh, CATALOGUE)
        return _result(data_dir / CATALOGUE, named, copy)


@contextmanager
def _claimed(target: Path, data: Folder) -> Iterator[Folder]:
    """A folder that is empty, or a backup already; no other backup writes there meanwhile."""
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    with Folder.opened(target) as folder:
        # It could be read and changed by whom it belongs to.
        if folder.owner not in (os.geteuid(), 0, data.owner):
            raise BadRequest(f"{target} belongs to somebody else")
        if folder.status(MARKER) is None:
            if folder.names():
                raise BadRequest(f"{target} is not empty, and no backup of pop3-sync-proxy")
            folder.make(MARKER).close()
        with folder.open(MARKER, own=False) as marker:
            try:
                fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BadRequest(f"another backup is being written to {target}") from None
            yield folder


def _copy_kept(source: Folder, target: Folder) -> None:
    for name in KEPT_FILES:
        with suppress(FileNotFoundError):
            copy_file(source, name, target, name)


def _result(catalogue: Path, named: set[bytes], copy: BlobCopy) -> Copied:
    lost = copy.lost(named)
    ((messages,),) = _query(catalogue, "SELECT count(*) FROM message WHERE purged_at IS NULL")
    return Copied(messages, len(named) - len(lost), copy.octets, lost)


def _snapshot(catalogue: Path, target: Path) -> None:
    with closing(sqlite3.connect(catalogue)) as source, closing(sqlite3.connect(target)) as copy:
        # All pages in one step, so that it never has to begin anew while others write.
        source.backup(copy, pages=-1)
        # One file, without a log beside it.
        copy.execute("PRAGMA journal_mode = DELETE")


def _stored(folder: Folder) -> list[bytes]:
    """Digests of all blobs in it."""
    found: list[bytes] = []
    with suppress(FileNotFoundError), folder.within("blobs") as blobs:
        for start in blobs.names():
            if _SHELF.fullmatch(start):
                with blobs.within(start) as opened:
                    names = opened.names()
                found += [bytes.fromhex(name) for name in names if _BLOB.fullmatch(name)]
    return found


def _drop(folder: Folder, digests: Iterable[bytes]) -> None:
    for digest in digests:
        with shelf(folder, digest.hex()) as there:
            there.remove(digest.hex())


def _named(catalogue: Path) -> set[bytes]:
    rows = _query(catalogue, "SELECT DISTINCT digest FROM message WHERE purged_at IS NULL")
    digests = {digest for (digest,) in rows}
    if not all(isinstance(digest, bytes) and len(digest) == 32 for digest in digests):
        raise StoreUnavailable(f"{catalogue} is damaged")
    return digests


def _check_note(age: Age | None, note: Age | None) -> None:
    if note is not None and (age is None or age.store != note.store or age.is_older_than(note)):
        raise WrongCatalogue(
            "catalogue.db is older than the one that this store had last, or of another store: no "
            "backup is made of it"
        )


def _check_succession(fresh: Path, folder: Folder, before: Path) -> None:
    """What a catalogue does not name leaves the backup, so it has to be the successor of the one
    that is there: the same store's, or that of the very backup which was restored."""
    try:
        folder.open(CATALOGUE, own=True).close()
        known, backup = _age(before), _kept(before, BACKUP)
    except (OSError, sqlite3.Error):
        return
    age = _age(fresh)
    if age is None or known is None or (backup and backup == _kept(fresh, BACKUP)):
        return
    if age.store != known.store or age.is_older_than(known):
        raise BadRequest(
            "the folder holds a backup of another store, of a newer one, or of one that went "
            "another way since a backup was restored or a catalogue accepted; it would lose mail "
            "by this: choose another folder"
        )


def _note_in(data: Folder) -> Age | None:
    try:
        with data.open(NOTE, own=True) as file:
            return parse_note(file.read(CHUNK))
    except OSError:
        return None


def _age(catalogue: Path) -> Age | None:
    kept = _kept(catalogue, KEPT_AS)
    return Age.of(kept) if kept else None


def _kept(catalogue: Path, name: str) -> bytes | None:
    if not _query(catalogue, "SELECT 1 FROM sqlite_master WHERE name = 'secret'"):
        return None
    rows = _query(catalogue, "SELECT value FROM secret WHERE name = ?", (name,))
    return rows[0][0] if rows and isinstance(rows[0][0], bytes) else None


def _keep(catalogue: Path, name: str, value: bytes) -> None:
    """In one that nobody else has open."""
    if _age(catalogue) is None:
        return
    with closing(sqlite3.connect(catalogue)) as database, database:
        database.execute(KEEP_VALUE, (name, value))


def _check_version(catalogue: Path) -> None:
    ((version,),) = _query(catalogue, "PRAGMA user_version")
    if version > len(migrations()):
        raise StoreTooNew("a newer pop3-sync-proxy made this backup: install that one first")


def _query(catalogue: Path, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"{catalogue.absolute().as_uri()}?mode=ro", uri=True)) as database:
        return database.execute(sql, parameters).fetchall()
