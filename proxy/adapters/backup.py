"""Backups of a data directory: made beside a running proxy, used again, and restored.

A backup is a folder like the data directory: blobs under their digests, the catalogue as one file,
our own authority and certificate. It holds no key to the passwords and tokens that the catalogue
keeps encrypted.

The order makes it consistent without stopping anything. Blobs first: what is purged meanwhile is in
the backup already. Then the catalogue, in one snapshot; then the blobs that came in between.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.adapters.blobs import blob_path
from proxy.adapters.sqlite.database import storage_errors
from proxy.adapters.sqlite.schema import migrations
from proxy.adapters.store import hold_lock
from proxy.domain.errors import AlreadyExists, BadRequest, NotFound, StoreTooNew

MARKER = "pop3-sync-proxy-backup"
"""The file that tells a backup from any other folder."""

CATALOGUE = "catalogue.db"
KEPT_FILES = ("ca.pem", "ca.key", "certificate.pem", "private_key.pem")
CHUNK = 1024 * 1024
TRIES = 5
"""Snapshots that are taken while messages are purged as fast as they come."""

Progress = Callable[[int, int], None]
"""Told how many blobs are done, and of how many."""


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
        BadRequest: `target` is no place for a backup.
        NotFound: there is no store.
        StoreUnavailable: something cannot be read or written; an earlier backup there still holds.
    """
    if not (data_dir / CATALOGUE).is_file():
        raise NotFound(f"there is no store in {data_dir}")
    if target.resolve().is_relative_to(data_dir.resolve()):
        raise BadRequest(f"{target} lies in the data directory; a backup has to lie elsewhere")
    with storage_errors(), _claimed(target):
        copy = _BlobCopy(data_dir / "blobs", target / "blobs", link=True)
        copy.take(list(_stored(data_dir / "blobs")), progress)
        fresh = target / f"{CATALOGUE}.new"
        for _ in range(TRIES):
            _snapshot(data_dir / CATALOGUE, fresh)
            named = _named(fresh)
            copy.take(sorted(named), progress)
            if not copy.missing & named:
                break
        for name in KEPT_FILES:
            if (data_dir / name).is_file():
                _copy_file(data_dir / name, target / name)
        os.sync()
        fresh.replace(target / CATALOGUE)
        for digest in set(_stored(target / "blobs")) - named:
            blob_path(target / "blobs", digest).unlink()
        return copy.result(target / CATALOGUE, named)


def restore(source: Path, data_dir: Path, progress: Progress) -> Copied:
    """Make a data directory from a backup, every blob compared with its digest.

    One that was broken off can be begun again.

    Raises:
        NotFound: `source` is no backup.
        AlreadyExists: there is a store in `data_dir`.
        DataDirInUse: a proxy runs there.
        StoreTooNew, StoreUnavailable.
    """
    if not (source / MARKER).is_file() or not (source / CATALOGUE).is_file():
        raise NotFound(f"{source} holds no complete backup")
    with storage_errors():
        lock = hold_lock(data_dir)
        try:
            if (data_dir / CATALOGUE).exists():
                raise AlreadyExists(f"there is a store in {data_dir}: move it away first")
            _check_version(source / CATALOGUE)
            named = _named(source / CATALOGUE)
            copy = _BlobCopy(source / "blobs", data_dir / "blobs", link=False)
            copy.take(sorted(named), progress)
            for name in KEPT_FILES:
                if (source / name).is_file():
                    _copy_file(source / name, data_dir / name)
            fresh = data_dir / f"{CATALOGUE}.new"
            _copy_file(source / CATALOGUE, fresh)
            _give_to_owner(data_dir)
            os.sync()
            fresh.replace(data_dir / CATALOGUE)
            return copy.result(data_dir / CATALOGUE, named)
        finally:
            if lock is not None:
                os.close(lock)


@contextmanager
def _claimed(target: Path) -> Iterator[None]:
    """A folder that is empty, or a backup already; no other backup writes there meanwhile."""
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (target / MARKER).exists() and any(target.iterdir()):
        raise BadRequest(f"{target} is not empty, and no backup of pop3-sync-proxy")
    with (target / MARKER).open("w") as marker:
        try:
            fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadRequest(f"another backup is being written to {target}") from None
        yield


class _BlobCopy:
    """Links where it may and can, copies otherwise; what is there already is left alone."""

    def __init__(self, source: Path, target: Path, *, link: bool) -> None:
        self._source = source
        self._target = target
        self._link = link
        self._octets = 0
        self.missing: set[bytes] = set()
        self._damaged: set[bytes] = set()

    def take(self, digests: Iterable[bytes], progress: Progress) -> None:
        wanted = list(digests)
        self.missing = set()
        for number, digest in enumerate(wanted):
            progress(number, len(wanted))
            source, target = blob_path(self._source, digest), blob_path(self._target, digest)
            if digest in self._damaged or self._is_there(source, target):
                continue
            for folder in (self._target, target.parent):
                folder.mkdir(mode=0o700, exist_ok=True)
            try:
                self._take(source, target, digest)
            except FileNotFoundError:
                self.missing.add(digest)
        progress(len(wanted), len(wanted))

    def _is_there(self, source: Path, target: Path) -> bool:
        """A link to a file that was repaired since is one to the damaged file."""
        try:
            there = target.stat()
        except FileNotFoundError:
            return False
        try:
            return not self._link or os.path.samestat(there, source.stat())
        except FileNotFoundError:
            return True

    def _take(self, source: Path, target: Path, digest: bytes) -> None:
        if self._link:
            fresh = target.with_name(f"{target.name}.part")
            fresh.unlink(missing_ok=True)
            try:
                os.link(source, fresh)
                fresh.replace(target)
            except FileNotFoundError:
                raise
            except OSError:
                # Another file system, or one without links.
                self._link = False
            else:
                self._octets += target.stat().st_size
                return
        if _copy_file(source, target, digest):
            self._octets += target.stat().st_size
        else:
            self._damaged.add(digest)

    def result(self, catalogue: Path, named: set[bytes]) -> Copied:
        lost = {digest.hex() for digest in self._damaged | (self.missing & named)}
        ((messages,),) = _query(catalogue, "SELECT count(*) FROM message WHERE purged_at IS NULL")
        return Copied(messages, len(named) - len(lost), self._octets, tuple(sorted(lost)))


def _copy_file(source: Path, target: Path, digest: bytes | None = None) -> bool:
    """Copy, under a temporary name first; False: its octets are not those of the digest."""
    temporary = target.with_name(f"{target.name}.part")
    found = hashlib.sha256()
    with source.open("rb") as reader:
        mode = os.fstat(reader.fileno()).st_mode & 0o777
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as writer:
            while part := reader.read(CHUNK):
                found.update(part)
                writer.write(part)
    if digest is not None and found.digest() != digest:
        temporary.unlink()
        return False
    temporary.replace(target)
    return True


def _snapshot(catalogue: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    with closing(sqlite3.connect(catalogue)) as source, closing(sqlite3.connect(target)) as copy:
        # All pages in one step, so that it never has to begin anew while others write.
        source.backup(copy, pages=-1)
        # One file, without a log beside it.
        copy.execute("PRAGMA journal_mode = DELETE")


def _stored(blobs: Path) -> Iterator[bytes]:
    for path in blobs.glob("??/*"):
        if len(path.name) == 64:
            yield bytes.fromhex(path.name)


def _named(catalogue: Path) -> set[bytes]:
    rows = _query(catalogue, "SELECT DISTINCT digest FROM message WHERE purged_at IS NULL")
    return {digest for (digest,) in rows}


def _check_version(catalogue: Path) -> None:
    ((version,),) = _query(catalogue, "PRAGMA user_version")
    if version > len(migrations()):
        raise StoreTooNew("a newer pop3-sync-proxy made this backup: install that one first")


def _query(catalogue: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"{catalogue.absolute().as_uri()}?mode=ro", uri=True)) as database:
        return database.execute(sql).fetchall()


def _give_to_owner(data_dir: Path) -> None:
    """What root restores has to be the service's, which the directory belongs to."""
    if os.geteuid() != 0:
        return
    owner = data_dir.stat()
    for folder, _, files in os.walk(data_dir):
        shutil.chown(folder, owner.st_uid, owner.st_gid)
        for name in files:
            shutil.chown(Path(folder) / name, owner.st_uid, owner.st_gid)
