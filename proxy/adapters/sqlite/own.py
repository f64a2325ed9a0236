"""Messages that the proxy makes itself; see `interfaces.store.Own`."""

from __future__ import annotations

from collections.abc import Collection

from proxy.adapters.blobs import Blobs, to_the_end
from proxy.adapters.sqlite.connection import Connection
from proxy.adapters.sqlite.database import Database, storage_errors
from proxy.adapters.sqlite.messages import free_uids
from proxy.adapters.sqlite.sent import settle
from proxy.adapters.sqlite.views import MARK
from proxy.domain.errors import NotFound
from proxy.domain.model import OWN_UID_PREFIX, Blob

_INSERT = """
INSERT INTO message (account_id, uid, upstream_uid, upstream_octets, digest, octets, dots,
                     received_at, fetched_at, upstream, left_upstream_at, own, only_device)
VALUES (?1, ?2, '', ?4, ?3, ?4, ?5, ?6, ?6, 'expunged', ?6, 1, ?7)
"""

_COPY = """
INSERT INTO message (account_id, uid, upstream_uid, upstream_octets, digest, octets, dots,
                     received_at, fetched_at, upstream, left_upstream_at, blob_lost, own,
                     only_device)
SELECT account_id, ?3, '', octets, digest, octets, dots, ?4, ?4, 'expunged', ?4, blob_lost, 1, ?2
FROM message WHERE id = ?1
"""
"""It counts as arrived now, so that a device without a backlog gets it too."""


async def insert_own(
    change: Connection, account_id: int, blob: Blob, at: float, *, only_device: int | None = None
) -> int:
    """A row for a blob that is durable; returns the message's id."""
    (uid,) = await free_uids(change, account_id, [("", blob.digest)], prefix=OWN_UID_PREFIX)
    return await change.execute(
        _INSERT, (account_id, uid, blob.digest, blob.octets, blob.dots, at, only_device)
    )


WITHDRAW = """
UPDATE message SET deleted_at = coalesce(deleted_at, ?)
WHERE id = ? AND account_id = ? AND own
"""


class OwnMessages:
    _database: Database
    _blobs: Blobs

    async def add_own(
        self,
        account_id: int,
        blob: Blob,
        *,
        but_not_for: int | None = None,
        sending: int | None = None,
        at: float,
    ) -> int:
        # Whole even when cancelled, as every message.
        return await to_the_end(self._add_own(account_id, blob, but_not_for, sending, at))

    async def _add_own(
        self,
        account_id: int,
        blob: Blob,
        but_not_for: int | None,
        sending: int | None,
        at: float,
    ) -> int:
        async with self._blobs.lock:
            with storage_errors():
                await self._blobs.make_durable([blob])
            async with self._database.transaction(account=account_id, device=but_not_for) as change:
                message_id = await insert_own(change, account_id, blob, at)
                if but_not_for is not None:
                    await change.execute(MARK, (at, at, but_not_for, message_id))
                if sending is not None:
                    await settle(change, sending, message_id, at)
        return message_id

    async def add_copy(self, account_id: int, message_id: int, device_id: int, *, at: float) -> str:
        # Under the blobs' lock: the message is not purged in between.
        async with self._blobs.lock, self._database.transaction(account=account_id) as change:
            rows = await change.fetch(
                "SELECT digest FROM message WHERE id = ? AND purged_at IS NULL", (message_id,)
            )
            if not rows:
                raise NotFound("the message is no longer in the store")
            (uid,) = await free_uids(change, account_id, [("", rows[0][0])], prefix=OWN_UID_PREFIX)
            await change.execute(_COPY, (message_id, device_id, uid, at))
        return uid

    async def withdraw(self, account_id: int, message_ids: Collection[int], *, at: float) -> None:
        async with self._database.transaction(account=account_id) as change:
            await change.executemany(
                WITHDRAW,
                [(at, message_id, account_id) for message_id in message_ids],
            )
