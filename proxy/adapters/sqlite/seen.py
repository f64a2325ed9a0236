"""Mail that a device had before it came to the proxy; see `interfaces.store.Seen`."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from proxy.adapters.sqlite.connection import Connection
from proxy.adapters.sqlite.database import Database
from proxy.adapters.sqlite.views import MARK
from proxy.domain.model import Imported

_NAMED = """
WITH name (uid, message_id) AS (
  SELECT CASE WHEN ?3 THEN replace(uid, '/', '-') ELSE uid END, id FROM message
  WHERE account_id = (SELECT account_id FROM device WHERE id = ?1)
  UNION
  SELECT CASE WHEN ?3 THEN replace(upstream_uid, '/', '-') ELSE upstream_uid END, id FROM message
  WHERE account_id = (SELECT account_id FROM device WHERE id = ?1)
)
SELECT value, count(message_id), max(message_id)
FROM json_each(?2) LEFT JOIN name ON name.uid = value GROUP BY value
"""
"""Each UIDL with how many messages it ever named, and one of them."""

_WAIT = """
INSERT INTO seen_uid (device_id, uid, slashes_lost, imported_at, imported_ran)
SELECT id, ?, ?, ?, (SELECT ran FROM clock) FROM device WHERE id = ?
ON CONFLICT (device_id, uid) DO UPDATE SET
  slashes_lost = max(slashes_lost, excluded.slashes_lost), imported_at = excluded.imported_at,
  imported_ran = excluded.imported_ran, unlisted = 0
"""

_ANY = """
SELECT 1 FROM seen_uid JOIN device ON device.id = device_id WHERE account_id = ? LIMIT 1
"""

# ?1: the message; ?2: what upstream calls it; ?3: the same with its slashes lost.
_MARK_SEEN = """
INSERT INTO delivery (device_id, message_id, retrieved_at, deleted_at)
SELECT seen_uid.device_id, message.id, ?4, ?4
FROM message JOIN device USING (account_id) JOIN seen_uid ON seen_uid.device_id = device.id
WHERE message.id = ?1 AND seen_uid.uid IN (?2, ?3) AND (seen_uid.uid = ?2 OR slashes_lost)
  AND (NOT unlisted OR (message.received_at <= imported_at
                        AND (message.dated OR message.fetched_ran <= imported_ran)))
ON CONFLICT (device_id, message_id) DO UPDATE SET
  retrieved_at = coalesce(retrieved_at, excluded.retrieved_at),
  deleted_at   = coalesce(deleted_at, excluded.deleted_at)
"""
_TAKEN = """
DELETE FROM seen_uid
WHERE device_id IN (
    SELECT device.id FROM device JOIN message USING (account_id) WHERE message.id = ?1)
  AND uid IN (?2, ?3) AND (uid = ?2 OR slashes_lost)
"""

_UNLISTED = """
UPDATE seen_uid SET unlisted = 1
WHERE NOT unlisted AND device_id IN (SELECT id FROM device WHERE account_id = ?1)
  AND imported_ran <= ?2 AND uid NOT IN (SELECT value FROM json_each(?3))
"""


class SeenUids:
    _database: Database

    async def import_seen(
        self, device_id: int, uids: Collection[str], *, slashes_lost: bool, at: float
    ) -> Imported:
        async with self._database.transaction(device=device_id) as change:
            rows = await change.fetch(_NAMED, (device_id, json.dumps(list(uids)), slashes_lost))
            known = [message_id for _, named, message_id in rows if named == 1]
            waiting = [uid for uid, named, _ in rows if named == 0]
            await change.executemany(MARK, [(at, at, device_id, i) for i in known])
            await change.executemany(_WAIT, [(uid, slashes_lost, at, device_id) for uid in waiting])
        return Imported(len(known), len(waiting), len(rows) - len(known) - len(waiting))

    async def note_unlisted(
        self, account_id: int, listed: Collection[str], *, before: float
    ) -> None:
        if not await self._database.fetch(_ANY, (account_id,)):
            return
        names = [*listed, *(_without_slashes(uid) for uid in listed if "/" in uid)]
        async with self._database.transaction() as change:
            await change.execute(_UNLISTED, (account_id, before, json.dumps(names)))


async def any_seen(change: Connection, account_id: int) -> bool:
    """Whether UIDLs of this account wait for their messages."""
    return bool(await change.fetch(_ANY, (account_id,)))


async def mark_seen(change: Connection, named: Sequence[tuple[int, str]], at: float) -> None:
    """Messages have come, or have another name upstream: devices that had them are done with them.

    `named`: id and upstream's UIDL. Of messages with one UIDL the first is taken for the one that
    the device had: it lists and keeps them in order of arrival.
    """
    for message_id, uid in named:
        names = (message_id, uid, _without_slashes(uid))
        await change.execute(_MARK_SEEN, (*names, at))
        await change.execute(_TAKEN, names)


def _without_slashes(uid: str) -> str:
    return uid.replace("/", "-")
