"""Messages as the sync and the janitor know them; see `interfaces.store.Syncing`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

from proxy.adapters.blobs import Blobs, to_the_end
from proxy.adapters.sqlite.connection import Connection, Row
from proxy.adapters.sqlite.database import Database, storage_errors
from proxy.adapters.sqlite.freed import note_freed
from proxy.adapters.sqlite.seen import any_seen, mark_seen
from proxy.adapters.sqlite.sent import hide_returned
from proxy.adapters.sqlite.views import IN_BACKLOG
from proxy.domain.errors import StoreUnavailable
from proxy.domain.model import (
    Fetched,
    Holding,
    KnownMessage,
    Message,
    Sighting,
    Upstream,
    is_own_uid,
    is_valid_uid,
    minted_uids,
)
from proxy.domain.policy import RetentionPolicy
from proxy.interfaces.store import BlobReader, BlobWriter

_INSERT = """
INSERT INTO message (account_id, uid, upstream_uid, upstream_octets, digest, octets, dots,
                     header_digest, content_digest, received_at, fetched_at, dated)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

_HOLDINGS = f"""
SELECT message.id, message.digest, message.fetched_ran, message.deleted_at IS NOT NULL,
       CASE WHEN message.deleted_at IS NULL THEN
         (SELECT count(*) FROM device WHERE device.account_id = message.account_id
            AND device.seen_ran > ?2 AND {IN_BACKLOG}
            AND (message.only_device IS NULL OR message.only_device = device.id)
            AND NOT EXISTS (SELECT 1 FROM delivery
                            WHERE device_id = device.id AND message_id = message.id))
       ELSE 0 END,
       (SELECT count(*) FROM delivery WHERE message_id = message.id),
       message.left_ran,
       (SELECT max(ran) FROM delivery WHERE message_id = message.id)
FROM message
WHERE account_id = ?1 AND (upstream = 'present') = ?3 AND purged_at IS NULL
"""  # noqa: S608 - a condition of ours

_FREED = """
SELECT digest, max(octets) FROM message
WHERE account_id = ?1 AND id IN (SELECT value FROM json_each(?2)) AND purged_at IS NULL
GROUP BY digest HAVING NOT EXISTS (
  SELECT 1 FROM message AS other
  WHERE other.digest = message.digest AND other.purged_at IS NULL
    AND NOT (other.account_id = ?1 AND other.id IN (SELECT value FROM json_each(?2))))
"""
"""Blobs that no message names once these are purged."""

_PURGE = """
UPDATE message SET purged_at = ?3
WHERE account_id = ?1 AND id IN (SELECT value FROM json_each(?2)) AND purged_at IS NULL
"""

_USED = """
SELECT uid FROM message WHERE account_id = ?1 AND uid IN (SELECT value FROM json_each(?2))
UNION ALL
SELECT device_uid.uid FROM device_uid JOIN device ON device.id = device_id
WHERE account_id = ?1 AND device_uid.uid IN (SELECT value FROM json_each(?2))
"""


class Messages:
    _database: Database
    _blobs: Blobs
    _writing: set[asyncio.Task[None]]

    async def known(self, account_id: int) -> list[KnownMessage]:
        rows = await self._database.fetch(
            "SELECT id, upstream_uid, upstream_octets, digest, header_digest, content_digest, "
            "upstream, purged_at IS NULL, left_at_once, deleting_at IS NOT NULL "
            "FROM message WHERE account_id = ? AND NOT own ORDER BY id",
            (account_id,),
        )
        lost = self._blobs.lost
        return [
            KnownMessage(
                id=id_,
                upstream_uid=uid,
                upstream_octets=octets,
                digest=digest,
                header_digest=header,
                content_digest=content,
                upstream=Upstream(upstream),
                blob_kept=bool(kept) and digest not in lost,
                left_at_once=left,
                deleting=bool(deleting),
            )
            for id_, uid, octets, digest, header, content, upstream, kept, left, deleting in rows
        ]

    def new_blob(self) -> BlobWriter:
        return self._blobs.writer()

    async def add_messages(self, account_id: int, fetched: Sequence[Fetched], *, at: float) -> None:
        # Whole even when cancelled: what came down complete is kept, and not fetched again.
        await to_the_end(self._add_messages(account_id, fetched, at))

    async def _add_messages(self, account_id: int, fetched: Sequence[Fetched], at: float) -> None:
        blobs = [one.blob for one in fetched]
        async with self._blobs.lock:
            with storage_errors():
                await self._blobs.make_durable(blobs, keep=True)
            async with self._database.transaction(account=account_id) as change:
                new = [one for one in fetched if one.repairs is None]
                uids = await free_uids(
                    change, account_id, [(one.upstream_uid, one.blob.digest) for one in new]
                )
                await change.executemany(
                    _INSERT,
                    [_row(account_id, uid, one, at) for uid, one in zip(uids, new, strict=True)],
                )
                await self._mark_had(change, account_id, uids, new, at)
                for one in fetched:
                    if one.repairs is not None:
                        await self._repair(change, one.repairs, one.blob.digest)
                # Every message with these octets, in any account, has its blob back as well.
                await change.executemany(
                    "UPDATE message SET blob_lost = 0 WHERE digest = ? AND blob_lost",
                    [(one.blob.digest,) for one in fetched],
                )
            self._blobs.let_go(blobs)

    async def _mark_had(
        self,
        change: Connection,
        account_id: int,
        uids: Sequence[str],
        new: Sequence[Fetched],
        at: float,
    ) -> None:
        """Devices that have these messages from elsewhere are done with them."""
        seen = bool(new) and await any_seen(change, account_id)
        if not seen and not any(one.sent_as for one in new):
            return
        named = await _named(change, account_id, uids, new)
        if seen:
            await mark_seen(change, named, at)
        for (id_, _), one in zip(named, new, strict=True):
            if one.sent_as:
                await hide_returned(change, account_id, id_, one.sent_as, at)

    async def _repair(self, change: Connection, message_id: int, digest: bytes) -> None:
        ((known,),) = await change.fetch("SELECT digest FROM message WHERE id = ?", (message_id,))
        if known != digest:
            raise ValueError("a blob can only be replaced by an equal one")
        await change.execute(
            "UPDATE message SET purged_at = NULL, upstream = 'present', left_upstream_at = NULL, "
            "left_at_once = NULL WHERE id = ?",
            (message_id,),
        )

    async def note_listing(
        self,
        account_id: int,
        *,
        gone: Collection[int],
        seen: Collection[Sighting],
        at: float,
        by_retr: bool = False,
        at_once: float | None = None,
    ) -> None:
        if not gone and not seen:
            return
        async with self._database.transaction(account=account_id) as change:
            await change.executemany(
                "UPDATE message SET left_upstream_at = ?, hidden = ?, left_at_once = ?, "
                "upstream = CASE WHEN deleting_at IS NULL THEN 'gone' ELSE 'expunged' END, "
                "deleting_at = NULL WHERE id = ? AND upstream = 'present'",
                [(at, by_retr, at_once, message_id) for message_id in gone],
            )
            await change.executemany(
                "UPDATE message SET upstream = 'present', left_upstream_at = NULL, hidden = 0, "
                "left_at_once = NULL, deleting_at = NULL, upstream_uid = ?, upstream_octets = ?, "
                "header_digest = coalesce(?, header_digest) WHERE id = ?",
                [(s.upstream_uid, s.upstream_octets, s.header_digest, s.message_id) for s in seen],
            )
            if seen and await any_seen(change, account_id):
                await mark_seen(change, [(s.message_id, s.upstream_uid) for s in seen], at)

    async def holdings(
        self, account_id: int, *, present: bool, retention: RetentionPolicy, ran: float
    ) -> list[Holding]:
        rows = await self._database.fetch(
            _HOLDINGS, (account_id, ran - retention.device_expiry, present)
        )
        return [_holding(row) for row in rows]

    async def is_intact(self, digest: bytes) -> bool:
        with storage_errors():
            intact = await self._blobs.is_intact(digest)
            if intact and digest not in self._blobs.lost:
                return True
            async with self._blobs.lock:
                # A sync may just have replaced it.
                intact = await self._blobs.is_intact(digest)
                if intact:
                    self._blobs.note_found([digest])
                else:
                    self._blobs.note_lost(digest)
                # What cannot be made durable now counts as long as this process lives.
                with suppress(StoreUnavailable):
                    async with self._database.transaction() as change:
                        await change.execute(
                            "UPDATE message SET blob_lost = ?2 "
                            "WHERE digest = ?1 AND blob_lost <> ?2 AND purged_at IS NULL",
                            (digest, not intact),
                        )
        return intact

    def open_blob(
        self,
        message: Message,
        *,
        device: int | None = None,
        on_lost: Callable[[], None] = lambda: None,
    ) -> BlobReader:
        def lost() -> None:
            if self._blobs.note_lost(message.digest, device):
                # Looked at again, since it may be replaced while it is read; and made durable.
                look = asyncio.get_running_loop().create_task(self._look_again(message.digest))
                self._writing.add(look)
                look.add_done_callback(self._writing.discard)
            on_lost()

        return self._blobs.open(message.digest, message.octets, lost)

    async def _look_again(self, digest: bytes) -> None:
        with suppress(StoreUnavailable):
            await self.is_intact(digest)

    async def note_deleting(self, message_ids: Collection[int], *, at: float) -> None:
        await self._set_deleting([(at, message_id) for message_id in message_ids])

    async def note_not_deleted(self, message_ids: Collection[int]) -> None:
        await self._set_deleting([(None, message_id) for message_id in message_ids])

    async def _set_deleting(self, notes: Sequence[Row]) -> None:
        async with self._database.transaction() as change:
            await change.executemany("UPDATE message SET deleting_at = ? WHERE id = ?", notes)

    async def note_expunged(self, message_ids: Collection[int], *, at: float) -> None:
        async with self._database.transaction() as change:
            await change.executemany(
                "UPDATE message SET upstream = 'expunged', left_upstream_at = ?, "
                "deleting_at = NULL WHERE id = ?",
                [(at, message_id) for message_id in message_ids],
            )

    async def purge(self, account_id: int, message_ids: Collection[int], *, at: float) -> int:
        # Whole even when cancelled: no file may go once the lock is given up.
        return await to_the_end(self._purge(account_id, message_ids, at))

    async def _purge(self, account_id: int, message_ids: Collection[int], at: float) -> int:
        ids = json.dumps(list(message_ids))
        async with self._blobs.lock:
            async with self._database.transaction(account=account_id) as change:
                freed = await change.fetch(_FREED, (account_id, ids))
                await change.execute(_PURGE, (account_id, ids, at))
                await note_freed(change, [digest for digest, _ in freed])
            await self._blobs.remove([digest for digest, _ in freed])
        return sum(octets for _, octets in freed)


def _holding(row: Row) -> Holding:
    id_, digest, fetched_ran, deleted_everywhere, *rest = row
    return Holding(id_, digest, fetched_ran, bool(deleted_everywhere), *rest)


def _row(account_id: int, uid: str, one: Fetched, at: float) -> Row:
    return (
        account_id,
        uid,
        one.upstream_uid,
        one.upstream_octets,
        one.blob.digest,
        one.blob.octets,
        one.blob.dots,
        one.header_digest,
        one.content_digest,
        one.received_at,
        at,
        one.dated,
    )


async def _named(
    change: Connection, account_id: int, uids: Sequence[str], new: Sequence[Fetched]
) -> list[tuple[int, str]]:
    """Ids of messages just inserted under these uids, and what upstream calls each."""
    rows = await change.fetch(
        "SELECT uid, id FROM message WHERE account_id = ? "
        "AND uid IN (SELECT value FROM json_each(?))",
        (account_id, json.dumps(list(uids))),
    )
    ids: dict[str, int] = dict(rows)
    return [(ids[uid], one.upstream_uid) for uid, one in zip(uids, new, strict=True)]


async def free_uids(
    change: Connection, account_id: int, wanted: Sequence[tuple[str, bytes]], *, prefix: str = ""
) -> list[str]:
    """For each message, a UIDL and a digest, that UIDL if it is valid and new in this account.

    Otherwise one minted from the digest, with the prefix.
    """

    async def used(uids: list[str]) -> set[str]:
        rows = await change.fetch(_USED, (account_id, json.dumps(uids)))
        return {uid for (uid,) in rows}

    taken = await used([uid for uid, _ in wanted])
    chosen: list[str] = []
    for uid, digest in wanted:
        fresh = minted_uids(digest, prefix)
        mint = not is_valid_uid(uid) or is_own_uid(uid)
        while mint or uid in taken:
            uid, mint = next(fresh), False
            taken |= await used([uid])
        taken.add(uid)
        chosen.append(uid)
    return chosen
