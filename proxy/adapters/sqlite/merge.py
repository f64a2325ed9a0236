"""Making one account of two; see `interfaces.store.Merges` and `domain.merge`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from proxy.adapters.blobs import Blobs, to_the_end
from proxy.adapters.sqlite.accounts import AccountsAndDevices
from proxy.adapters.sqlite.connection import Connection, Parameters, Row
from proxy.adapters.sqlite.database import Database
from proxy.adapters.sqlite.freed import note_freed
from proxy.adapters.sqlite.seen import any_seen, mark_seen
from proxy.adapters.sqlite.views import ViewsAndCommits
from proxy.domain.errors import StoreUnavailable
from proxy.domain.login_name import canonical
from proxy.domain.merge import Merging, Plan, Reader, Side, earliest, plan_merge
from proxy.domain.merge import Row as MessageRow

Fetch = Callable[[str, Parameters], Awaitable[list[Row]]]

_ROWS = """
SELECT id, uid, upstream_uid, digest, header_digest, content_digest, received_at,
       deleted_at IS NOT NULL, purged_at IS NOT NULL, own, only_device, dated
FROM message WHERE account_id = ? ORDER BY id
"""
_DEVICES = """
SELECT id, name, since, backlog_to, view, created_at, created_ran, seen_at, seen_ran,
       app_password_hash, scram_keys, certificate
FROM device WHERE account_id = ? ORDER BY name
"""
_HAD = """
SELECT device_id, message_id FROM delivery JOIN device ON device.id = device_id
WHERE account_id = ?1
UNION SELECT device_id, message_id FROM unconfirmed JOIN device ON device.id = device_id
WHERE account_id = ?1
"""
_UIDS = """
SELECT device_id, message_id, uid FROM device_uid JOIN device ON device.id = device_id
WHERE account_id = ?
"""

# Of two messages that are one, ?1 is the source's and ?2 the target's, which stays.
_TAKE_BLOB = """
UPDATE message SET digest = other.digest, octets = other.octets, dots = other.dots,
  header_digest = other.header_digest, content_digest = other.content_digest,
  blob_lost = other.blob_lost, purged_at = NULL
FROM message AS other WHERE message.id = ?2 AND other.id = ?1 AND other.purged_at IS NULL
  AND (message.purged_at IS NOT NULL OR message.blob_lost > other.blob_lost)
"""
_JOIN = """
UPDATE message SET received_at = max(message.received_at, other.received_at),
  dated = min(message.dated, other.dated),
  fetched_ran = max(message.fetched_ran, other.fetched_ran),
  deleting_at = coalesce(message.deleting_at, other.deleting_at),
  upstream = CASE WHEN message.upstream = 'gone'
      AND (other.upstream = 'expunged' OR other.deleting_at IS NOT NULL)
    THEN 'expunged' ELSE message.upstream END,
  deleted_at = CASE WHEN other.deleted_at IS NULL THEN NULL ELSE message.deleted_at END
FROM message AS other WHERE message.id = ?2 AND other.id = ?1
"""
# What one of them saw leave may be what the other one's DELE took away.
_TAKE_STATE = """
UPDATE message SET upstream = CASE WHEN other.upstream = 'gone'
      AND (message.upstream = 'expunged' OR message.deleting_at IS NOT NULL)
    THEN 'expunged' ELSE other.upstream END, upstream_uid = other.upstream_uid,
  upstream_octets = other.upstream_octets, left_upstream_at = other.left_upstream_at,
  hidden = other.hidden, left_at_once = other.left_at_once
FROM message AS other WHERE message.id = ?2 AND other.id = ?1
"""
_TAKE_DELIVERIES = """
INSERT INTO delivery (device_id, message_id, retrieved_at, deleted_at)
SELECT device_id, ?2, retrieved_at, deleted_at FROM delivery WHERE message_id = ?1
ON CONFLICT (device_id, message_id) DO UPDATE SET
  retrieved_at = coalesce(retrieved_at, excluded.retrieved_at),
  deleted_at   = coalesce(deleted_at, excluded.deleted_at)
"""
_TAKE_UNCONFIRMED = """
INSERT OR IGNORE INTO unconfirmed (device_id, message_id)
SELECT device_id, ?2 FROM unconfirmed WHERE message_id = ?1
"""
_RESERVE = """
UPDATE message SET own = 1, upstream = 'expunged', upstream_uid = '',
  left_upstream_at = coalesce(left_upstream_at, ?2), purged_at = coalesce(purged_at, ?2)
WHERE id = ?1
"""
_HIDE = """
INSERT INTO delivery (device_id, message_id, retrieved_at, deleted_at) VALUES (?1, ?2, ?3, ?3)
ON CONFLICT (device_id, message_id) DO UPDATE SET
  retrieved_at = coalesce(retrieved_at, excluded.retrieved_at),
  deleted_at   = coalesce(deleted_at, excluded.deleted_at)
"""

# Of two devices that are one, ?1 is the source's and ?2 the target's, which stays.
_JOIN_DEVICES = (
    "UPDATE delivery SET device_id = ?2 WHERE device_id = ?1",
    "UPDATE unconfirmed SET device_id = ?2 WHERE device_id = ?1",
    "UPDATE OR REPLACE seen_uid SET device_id = ?2 WHERE device_id = ?1",
    "UPDATE sent SET device_id = ?2 WHERE device_id = ?1",
    "UPDATE message SET only_device = ?2 WHERE only_device = ?1",
    "DELETE FROM device_uid WHERE device_id IN (?1, ?2)",
    "DELETE FROM device WHERE id = ?1 AND id <> ?2",
)
_DEVICE = """
UPDATE device SET since = ?, backlog_to = ?, view = ?, created_at = ?, created_ran = ?, seen_at = ?,
  seen_ran = ?, app_password_hash = ?, scram_keys = ?, certificate = ? WHERE id = ?
"""

# ?1: the source; ?2: the target.
_MOVE = (
    "UPDATE message SET account_id = ?2 WHERE account_id = ?1",
    "UPDATE device SET account_id = ?2 WHERE account_id = ?1",
    "UPDATE sent SET account_id = ?2 WHERE account_id = ?1",
    "UPDATE trouble SET account_id = ?2 WHERE account_id = ?1",
    "UPDATE other_name SET account_id = ?2 WHERE account_id = ?1",
    "INSERT OR IGNORE INTO same_mailbox (first_id, second_id, told_apart) "
    "SELECT min(?2, third), max(?2, third), told_apart FROM (SELECT told_apart, "
    "CASE first_id WHEN ?1 THEN second_id ELSE first_id END AS third FROM same_mailbox "
    "WHERE first_id = ?1 OR second_id = ?1) WHERE third <> ?2",
    "UPDATE account SET keeps_retrieved = max(account.keeps_retrieved, other.keeps_retrieved), "
    "login_interval = max(account.login_interval, other.login_interval), "
    "created_at = min(account.created_at, other.created_at), "
    "upstream_count = CASE WHEN account.synced_at IS NULL THEN other.upstream_count "
    "ELSE account.upstream_count END, "
    "synced_at = coalesce(account.synced_at, other.synced_at) "
    "FROM account AS other WHERE account.id = ?2 AND other.id = ?1",
    "DELETE FROM account WHERE id = ?1 AND id <> ?2",
)


class Merges(AccountsAndDevices, ViewsAndCommits):
    _database: Database
    _blobs: Blobs

    async def look_at_merge(self, source_id: int, target_id: int) -> Merging:
        return (await self._read(self._database.fetch, source_id, target_id)).merging

    async def merge_accounts(self, source_id: int, target_id: int, *, at: float) -> Merging:
        # Whole even when cancelled: no file may go once the lock is given up.
        return await to_the_end(self._merge(source_id, target_id, at))

    async def _merge(self, source_id: int, target_id: int, at: float) -> Merging:
        async with self._blobs.lock:
            async with self._change_people(source_id, target_id, account=target_id) as change:
                both = await self._read(change.fetch, source_id, target_id)
                await both.join_messages(change)
                await both.join_devices(change)
                await both.move(change, at)
                freed = await both.freed(change)
                await note_freed(change, freed)
            self._database.versions[source_id] += 1
            self._database.device_versions.update(both.device_ids)
            self._device_uids = None
            with suppress(StoreUnavailable):
                self._device_uids = await self._read_uids()
            await self._blobs.remove(freed)
        return both.merging

    async def _read(self, fetch: Fetch, source_id: int, target_id: int) -> _Both:
        ids = (source_id, target_id)
        rows = [await fetch(_ROWS, (id_,)) for id_ in ids]
        devices = [await fetch(_DEVICES, (id_,)) for id_ in ids]
        had = [await fetch(_HAD, (id_,)) for id_ in ids]
        uids = [await fetch(_UIDS, (id_,)) for id_ in ids]
        accounts = [
            (await fetch("SELECT name, salt_name, synced_at FROM account WHERE id = ?", (id_,)))[0]
            for id_ in ids
        ]

        def plan() -> _Both:
            sides = [_side(*each) for each in zip(rows, devices, had, uids, strict=True)]
            return _Both(ids, accounts, sides, devices, plan_merge(*sides))

        # Large mailboxes take their time.
        return await self._blobs.run(plan)


class _Both:
    """Two accounts as they are in the catalogue, and what is to become of them."""

    def __init__(
        self,
        ids: tuple[int, int],
        accounts: Sequence[Row],
        sides: Sequence[Side],
        devices: Sequence[Sequence[Row]],
        plan: Plan,
    ) -> None:
        self._ids = ids
        (self._name, salt, synced_at), (target_name, target_salt, target_synced_at) = accounts
        self._other_name = canonical(self._name) != canonical(target_name)
        self._same_salt = (salt or canonical(self._name)) == (target_salt or canonical(target_name))
        self._is_newer = (synced_at or 0.0) > (target_synced_at or 0.0)
        self._source, self._target = sides
        self._devices = {row[0]: _Device(*row) for rows in devices for row in rows}
        self._plan = plan
        self.merging = self._told()

    @property
    def device_ids(self) -> list[int]:
        return list(self._devices)

    def _told(self) -> Merging:
        plan, devices = self._plan, self._devices
        own = [devices[reader.id] for reader in self._source.devices]
        moving = [device for device in own if device.id not in plan.joined]
        pairs = [(devices[one], devices[other]) for one, other in plan.joined.items()]
        stored = {row.id for row in self._source.rows if not row.purged}
        came_along = [*moving, *(one for one, other in pairs if not other.app_password)]
        return Merging(
            devices=tuple(device.name for device in moving),
            joined=tuple(other.name for _, other in pairs),
            messages=len(stored),
            same=len(stored & plan.same.keys()),
            moved=len(stored - plan.same.keys()),
            without_scram=tuple(
                device.name for device in came_along if device.scram_keys and not self._same_salt
            ),
            without_password=tuple(
                one.name for one, other in pairs if one.app_password and other.app_password
            ),
            without_certificate=tuple(
                one.name for one, other in pairs if one.certificate and other.certificate
            ),
        )

    async def join_messages(self, change: Connection) -> None:
        pairs = list(self._plan.same.items())
        await change.executemany(_TAKE_BLOB, pairs)
        await change.executemany(_JOIN, pairs)
        if self._is_newer:
            await change.executemany(_TAKE_STATE, pairs)

    async def join_devices(self, change: Connection) -> None:
        for one, other in self._plan.joined.items():
            for statement in _JOIN_DEVICES:
                await change.execute(statement, (one, other))
            joined = self._devices[one].joined(self._devices[other], same_salt=self._same_salt)
            await change.execute(_DEVICE, joined)
        if not self._same_salt:
            await change.execute(
                "UPDATE device SET scram_keys = NULL WHERE account_id = ?", (self._ids[0],)
            )

    async def move(self, change: Connection, at: float) -> None:
        plan = self._plan
        pairs = list(plan.same.items())
        await change.executemany(_TAKE_DELIVERIES, pairs)
        await change.executemany(_TAKE_UNCONFIRMED, pairs)
        await change.executemany("UPDATE sent SET returned_id = ?2 WHERE returned_id = ?1", pairs)
        for table in ("delivery", "unconfirmed", "device_uid"):
            await change.executemany(
                f"DELETE FROM {table} WHERE message_id = ?",  # noqa: S608 - one of three names
                [(one,) for one, _ in pairs],
            )
        await change.executemany(_RESERVE, [(one, at) for one in plan.reserved])
        gone = plan.same.keys() - set(plan.reserved)
        await change.executemany("DELETE FROM message WHERE id = ?", [(one,) for one in gone])
        await change.executemany(
            "UPDATE message SET uid = ?2 WHERE id = ?1", list(plan.renamed.items())
        )
        for statement in _MOVE:
            await change.execute(statement, self._ids)
        if self._other_name:
            await change.execute(
                "INSERT OR REPLACE INTO other_name (name, account_id) VALUES (?, ?)",
                (self._name, self._ids[1]),
            )
        await change.executemany(
            "DELETE FROM device_uid WHERE device_id = ?",
            [(reader.id,) for reader in self._source.devices],
        )
        await change.executemany(
            "INSERT INTO device_uid (device_id, message_id, uid) VALUES (?, ?, ?)", plan.uids
        )
        await change.executemany(_HIDE, [(*hidden, at) for hidden in plan.hidden])
        await change.executemany(
            "UPDATE device SET backlog_to = ?2 WHERE id = ?1", list(plan.backlog_to.items())
        )
        if await any_seen(change, self._ids[1]):
            await mark_seen(change, self._new_to_some(), at)

    def _new_to_some(self) -> list[tuple[int, str]]:
        known = {*self._plan.same, *self._plan.same.values()}
        rows = sorted((*self._source.rows, *self._target.rows), key=lambda row: row.id)
        return [(row.id, row.upstream_uid) for row in rows if not row.own and row.id not in known]

    async def freed(self, change: Connection) -> list[bytes]:
        """Blobs that messages named which are one now, and that none names any more."""
        digests = {row.id: row.digest for row in (*self._source.rows, *self._target.rows)}
        differing = {
            digest
            for one, other in self._plan.same.items()
            for digest in (digests[one], digests[other])
            if digests[one] != digests[other]
        }
        named = "SELECT 1 FROM message WHERE digest = ? AND purged_at IS NULL LIMIT 1"
        return [digest for digest in differing if not await change.fetch(named, (digest,))]


@dataclass(frozen=True, slots=True)
class _Device:
    id: int
    name: str
    since: float | None
    backlog_to: int
    view: str | None
    created_at: float
    created_ran: float
    seen_at: float | None
    seen_ran: float
    app_password: bytes | None
    scram_keys: bytes | None
    certificate: bytes | None

    def joined(self, other: _Device, *, same_salt: bool) -> tuple[Any, ...]:
        """Parameters of `_DEVICE` for the other one, which stays."""
        # A program that cannot remember UIDLs is one still, wherever it was told so.
        view = "undelivered" if "undelivered" in (self.view, other.view) else other.view
        seen = [device.seen_at for device in (self, other) if device.seen_at is not None]
        keys = self.scram_keys if same_salt else None
        return (
            earliest((self.since, other.since)),
            min(self.backlog_to, other.backlog_to),
            view,
            min(self.created_at, other.created_at),
            min(self.created_ran, other.created_ran),
            max(seen, default=None),
            max(self.seen_ran, other.seen_ran),
            other.app_password or self.app_password,
            other.scram_keys if other.app_password else keys,
            other.certificate or self.certificate,
            other.id,
        )


def _side(rows: list[Row], devices: list[Row], had: list[Row], uids: list[Row]) -> Side:
    return Side(
        [
            MessageRow(*known, bool(deleted), bool(purged), bool(own), only_device, bool(dated))  # type: ignore[call-arg]
            for *known, deleted, purged, own, only_device, dated in rows
        ],
        [Reader(*row[:4]) for row in devices],
        frozenset((device, message) for device, message in had),
        {(device, message): uid for device, message, uid in uids},
    )
