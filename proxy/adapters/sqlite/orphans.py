"""Messages that no row names; see `interfaces.store.Orphans`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from proxy.adapters.blobs import Blobs, to_the_end
from proxy.adapters.sqlite.database import Database, storage_errors
from proxy.adapters.sqlite.freed import remove_freed
from proxy.adapters.sqlite.messages import free_uids
from proxy.adapters.store_note import ID_OCTETS, Age, age_of, read_note, set_age, write_note
from proxy.domain.errors import NotFound, StoreUnavailable
from proxy.domain.fingerprint import Fingerprint
from proxy.domain.model import OWN_UID_PREFIX, Blob, Fetched, Upstream

_INSERT = """
INSERT INTO message (account_id, uid, upstream_uid, upstream_octets, digest, octets, dots,
                     header_digest, content_digest, received_at, fetched_at, upstream,
                     left_upstream_at, left_at_once)
VALUES (?1, ?2, '', ?3, ?4, ?3, ?5, ?6, ?7, ?8, ?9, ?10, iif(?10 = 'present', NULL, ?9),
        iif(?10 = 'present', NULL, (SELECT ran FROM clock)))
"""
"""Under which id upstream had it nobody knows: it may come back under any."""

# A UIDL that a merge has used up, and that no message is to have again, is a row of this kind.
_RESERVED = f"own AND substr(uid, 1, {len(OWN_UID_PREFIX)}) <> '{OWN_UID_PREFIX}'"

_NAMED = f"""
SELECT account_id, purged_at IS NULL FROM message WHERE digest = ? AND NOT ({_RESERVED})
"""  # noqa: S608 - names of ours

_REVIVE = (
    f"""
    UPDATE delivery SET deleted_at = coalesce(deleted_at, retrieved_at) WHERE message_id IN
      (SELECT id FROM message WHERE digest = ? AND NOT ({_RESERVED}))
    """,  # noqa: S608
    f"UPDATE message SET purged_at = NULL WHERE digest = ? AND NOT ({_RESERVED})",  # noqa: S608
)
"""Devices that had a message before it was let go of have forgotten its UIDL by now."""

_FOUND = "UPDATE message SET blob_lost = 0 WHERE digest = ?"


class Orphans:
    _database: Database
    _blobs: Blobs
    _catalogue: Path
    _trusted: bool
    """The catalogue is known to be what this store had last."""
    _keeps_note = False

    async def clean_up(self) -> int:
        self._keeps_note = True
        try:
            async with self._blobs.lock:
                with suppress(StoreUnavailable):
                    await self._settle_freed()
                with storage_errors():
                    await self._blobs.run(self._blobs.drop_temporary)
                return await self._set_aside()
        finally:
            with suppress(StoreUnavailable):
                await self._take_note()

    async def settle(self) -> None:
        async with self._blobs.lock:
            await self._settle_freed()
        await self._take_note()

    async def _settle_freed(self) -> None:
        if self._trusted:
            await remove_freed(self._database, self._blobs)
            return
        # What an older catalogue let go of, the newer one may have had again.
        async with self._database.transaction() as change:
            await change.execute("DELETE FROM freed_blob")
        self._trusted = True

    async def accept(self) -> None:
        """The catalogue, whatever it is, is from now on the right one, and this another store than
        those that had it or have it still."""
        async with self._blobs.lock:
            await self._settle_freed()
        await self._take_note(anew=True)

    async def _take_note(self, *, anew: bool = False) -> None:
        """First in the catalogue, then beside it: the note is never ahead of what is on disk."""
        data_dir = self._catalogue.parent
        async with self._database.transaction() as change:
            age = await age_of(change)
            if age is None or anew:
                age = Age(os.urandom(ID_OCTETS), age.count if age else 0)
            with storage_errors():
                note = await self._blobs.run(read_note, data_dir)
            # Who accepts a catalogue that is older than the note makes it the newest.
            count = max(age.count, note.count if note else 0)
            age = replace(age, count=count + 1)
            await set_age(change, age)
        with storage_errors():
            await self._blobs.run(write_note, data_dir, age)

    async def set_aside(self) -> int:
        async with self._blobs.lock:
            return await self._set_aside()

    async def _set_aside(self) -> int:
        rows = await self._database.fetch(
            "SELECT digest FROM message WHERE purged_at IS NULL UNION SELECT digest FROM freed_blob"
        )
        with storage_errors():
            return await self._blobs.run(self._blobs.set_aside, {digest for (digest,) in rows})

    async def orphans(self) -> list[bytes]:
        with storage_errors():
            return sorted(await self._blobs.run(self._blobs.set_aside_before))

    async def orphan(self, digest: bytes) -> Fetched | None:
        with _gone(digest), storage_errors():
            return await self._blobs.run(self._examine, digest)

    def _examine(self, digest: bytes) -> Fetched | None:
        found, fingerprint = hashlib.sha256(), Fingerprint()
        # A message starts at the start of a line.
        octets, dots, last = 0, False, b"\r\n"
        parts, stored_at = self._blobs.octets_aside(digest)
        for part in parts:
            found.update(part)
            fingerprint.feed(part)
            octets += len(part)
            dots = dots or b"\r\n." in last + part
            last = (last + part)[-2:]
        if found.digest() != digest:
            return None
        # Whoever forwarded it did not write this; and it cannot be later than the file.
        stated = fingerprint.arrival if fingerprint.was_received else None
        return Fetched(
            upstream_uid="",
            upstream_octets=octets,
            blob=Blob(digest, octets, dots),
            header_digest=fingerprint.header_digest,
            content_digest=fingerprint.content_digest,
            received_at=stored_at if stated is None else min(stated, stored_at),
        )

    async def adopt(
        self, orphan: Fetched, account_id: int | None, *, upstream: Upstream, at: float
    ) -> bool:
        # Whole even when cancelled, as every message.
        return await to_the_end(self._adopt(orphan, account_id, upstream, at))

    async def _adopt(
        self, orphan: Fetched, account_id: int | None, upstream: Upstream, at: float
    ) -> bool:
        blob = orphan.blob
        async with self._blobs.lock:
            rows = await self._database.fetch(_NAMED, (blob.digest,))
            accounts = {known for known, _ in rows} or {account_id}
            if accounts == {None}:
                return False
            with _gone(blob.digest), storage_errors():
                await self._blobs.take_back(blob.digest)
            async with self._database.transaction() as change:
                if rows:
                    # What is let go of stays so where another message has the blob.
                    alive = any(alive for _, alive in rows)
                    for statement in (_FOUND,) if alive else (*_REVIVE, _FOUND):
                        await change.execute(statement, (blob.digest,))
                else:
                    uids = await free_uids(change, account_id or 0, [("", blob.digest)])
                    await change.execute(_INSERT, _row(account_id, uids[0], orphan, upstream, at))
        self._database.versions.update(known for known in accounts if known is not None)
        return True


@contextmanager
def _gone(digest: bytes) -> Iterator[None]:
    try:
        yield
    except StoreUnavailable as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise NotFound(f"{digest.hex()} is set aside no longer") from error
        raise


def _row(
    account_id: int | None, uid: str, orphan: Fetched, upstream: Upstream, at: float
) -> tuple[object, ...]:
    return (
        account_id,
        uid,
        orphan.blob.octets,
        orphan.blob.digest,
        orphan.blob.dots,
        orphan.header_digest,
        orphan.content_digest,
        orphan.received_at,
        at,
        upstream.value,
    )
