"""What an operator looks at and repairs; see `interfaces.store.Records`."""

from __future__ import annotations

from proxy.adapters.blobs import Blobs
from proxy.adapters.sqlite.connection import Row
from proxy.adapters.sqlite.database import Database
from proxy.adapters.sqlite.views import IN_BACKLOG
from proxy.domain.model import AccountSize, Delivery, MessageRecord, Upstream

_RECORD = (
    "SELECT id, uid, digest, octets, received_at, fetched_at, upstream, left_upstream_at, "
    "deleted_at, purged_at, own, only_device, dated FROM message"
)

_SIZE = """
SELECT count(*) FILTER (WHERE purged_at IS NULL),
       coalesce(sum(octets) FILTER (WHERE purged_at IS NULL), 0),
       coalesce(sum(upstream_octets) FILTER (WHERE upstream = 'present'), 0)
FROM message WHERE account_id = ?
"""

_WAITING = f"""
SELECT count(*) FROM message, device
LEFT JOIN delivery ON delivery.device_id = device.id AND delivery.message_id = message.id
WHERE device.id = ? AND message.account_id = device.account_id
  AND message.purged_at IS NULL AND message.deleted_at IS NULL
  AND {IN_BACKLOG}
  AND (message.only_device IS NULL OR message.only_device = device.id)
  AND delivery.retrieved_at IS NULL AND delivery.deleted_at IS NULL
"""  # noqa: S608 - a condition of ours

_BY_UID = """
WHERE account_id = ?1
  AND (uid = ?2 OR id IN (SELECT message_id FROM device_uid WHERE device_uid.uid = ?2))
ORDER BY purged_at IS NOT NULL, uid <> ?2
"""


class Records:
    _database: Database
    _blobs: Blobs

    async def size(self, account_id: int) -> AccountSize:
        (row,) = await self._database.fetch(_SIZE, (account_id,))
        return AccountSize(*row)

    async def waiting(self, device_id: int) -> int:
        ((count,),) = await self._database.fetch(_WAITING, (device_id,))
        return int(count)

    async def records(self, account_id: int) -> list[MessageRecord]:
        rows = await self._database.fetch(
            f"{_RECORD} WHERE account_id = ? AND purged_at IS NULL ORDER BY id", (account_id,)
        )
        return [self._record(row) for row in rows]

    async def lost(self, account_id: int) -> list[MessageRecord]:
        if not self._blobs.lost:
            return []
        return [one for one in await self.records(account_id) if one.blob_lost]

    async def record(self, account_id: int, uid: str) -> MessageRecord | None:
        rows = await self._database.fetch(f"{_RECORD} {_BY_UID}", (account_id, uid))
        return self._record(rows[0]) if rows else None

    def _record(self, row: Row) -> MessageRecord:
        id_, uid, digest, octets, received, fetched, upstream, left, deleted, purged, *rest = row
        own, only_device, dated = rest
        return MessageRecord(
            id=id_,
            uid=uid,
            digest=digest,
            octets=octets,
            received_at=received,
            fetched_at=fetched,
            upstream=Upstream(upstream),
            left_upstream_at=left,
            deleted_at=deleted,
            purged_at=purged,
            blob_lost=digest in self._blobs.lost,
            own=bool(own),
            only_device=only_device,
            dated=bool(dated),
        )

    async def deliveries(self, message_id: int) -> list[Delivery]:
        rows = await self._database.fetch(
            "SELECT device.name, retrieved_at, deleted_at FROM delivery "
            "JOIN device ON device.id = device_id WHERE message_id = ? ORDER BY device.name",
            (message_id,),
        )
        return [Delivery(*row) for row in rows]

    async def blobs(self) -> list[bytes]:
        rows = await self._database.fetch(
            "SELECT DISTINCT digest FROM message WHERE purged_at IS NULL ORDER BY digest"
        )
        return [digest for (digest,) in rows]

    async def damage(self) -> list[str]:
        integrity = await self._database.fetch("PRAGMA integrity_check")
        dangling = await self._database.fetch("PRAGMA foreign_key_check")
        return [
            *(text for (text,) in integrity if text != "ok"),
            *(
                f"a row of {table} names one of {other} that is missing"
                for table, _, other, _ in dangling
            ),
        ]

    async def account_names_with(self, digest: bytes) -> list[str]:
        rows = await self._database.fetch(
            "SELECT DISTINCT account.name FROM account JOIN message ON account.id = account_id "
            "WHERE digest = ? AND purged_at IS NULL ORDER BY account.name",
            (digest,),
        )
        return [name for (name,) in rows]
