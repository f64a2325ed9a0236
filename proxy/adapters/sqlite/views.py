"""What devices see and what their sessions commit; see `interfaces.store.Views`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from proxy.adapters.blobs import Blobs
from proxy.adapters.sqlite.connection import Connection
from proxy.adapters.sqlite.database import Database
from proxy.adapters.sqlite.unconfirmed import Unconfirmed
from proxy.domain.errors import NotFound
from proxy.domain.model import Message
from proxy.domain.policy import ViewKind
from proxy.domain.timekeeping import EARLIEST

MARK = """
INSERT INTO delivery (device_id, message_id, retrieved_at, deleted_at)
SELECT device.id, message.id, ?, ? FROM device JOIN message USING (account_id)
WHERE device.id = ? AND message.id = ?
ON CONFLICT (device_id, message_id) DO UPDATE SET
  retrieved_at = coalesce(retrieved_at, excluded.retrieved_at),
  deleted_at   = coalesce(deleted_at, excluded.deleted_at)
"""
"""Selecting both ends drops marks of messages and devices that are gone."""

IN_BACKLOG = f"""
(device.since IS NULL OR (message.id > device.backlog_to AND NOT message.dated)
 OR (message.received_at > device.since
     AND NOT (message.dated AND device.since = {EARLIEST})))
"""
"""Not hidden from the device by its `since`; see `Device.is_before_backlog`."""

_HIDDEN = f"""
SELECT message_id FROM delivery
WHERE device_id = ?1 AND (deleted_at IS NOT NULL OR (?2 AND retrieved_at IS NOT NULL))
UNION ALL SELECT message.id FROM message JOIN device USING (account_id)
WHERE device.id = ?1 AND NOT {IN_BACKLOG}
UNION ALL SELECT message.id FROM message JOIN device USING (account_id)
WHERE device.id = ?1 AND message.only_device <> ?1
"""  # noqa: S608 - a condition of ours


@dataclass(frozen=True, slots=True)
class _Commit:
    """One session's marks on their way to disk."""

    device_id: int
    retrieved: Collection[int]
    deleted: Collection[int]
    everywhere: bool
    at: float
    done: asyncio.Future[None]


class ViewsAndCommits(Unconfirmed):
    _database: Database
    _blobs: Blobs
    commits_waiting: int = 0
    _waiting_commits: list[_Commit]
    _writing: set[asyncio.Task[None]]
    """Kept here, since the event loop itself holds its tasks only weakly."""
    _device_uids: dict[int, dict[int, str]] | None = None
    """All of the table, which is small; None: not read yet."""

    def version(self, account_id: int) -> int:
        # Any account may have the messages of a blob that is lost, or is back.
        return self._database.versions[account_id] + self._blobs.changes

    def device_version(self, device_id: int) -> int:
        return self._database.device_versions[device_id]

    async def messages(self, account_id: int) -> tuple[Message, ...]:
        rows = await self._database.fetch(
            "SELECT id, uid, digest, octets, dots FROM message "
            "WHERE account_id = ? AND purged_at IS NULL AND deleted_at IS NULL ORDER BY id",
            (account_id,),
        )
        return tuple(Message(i, uid, digest, octets, bool(d)) for i, uid, digest, octets, d in rows)

    async def hidden(self, device_id: int, view: ViewKind) -> frozenset[int]:
        rows = await self._database.fetch(
            _HIDDEN,
            (device_id, view == "undelivered"),
        )
        ids = frozenset(message_id for (message_id,) in rows)
        return ids | await self._out_of_reach(device_id) if self._blobs.lost else ids

    async def _out_of_reach(self, device_id: int) -> frozenset[int]:
        """Lost messages, unless the device has or may have had them: a program that remembers UIDLs
        forgets those which it is not shown, and fetches them once more when they are back. One that
        asks again for what it has had remembers nothing."""
        lost = self._blobs.lost
        rows = await self._database.fetch(
            "SELECT message.id, digest, EXISTS (SELECT 1 FROM delivery "
            "WHERE device_id = ?1 AND message_id = message.id AND retrieved_at IS NOT NULL) "
            "OR EXISTS (SELECT 1 FROM unconfirmed "
            "WHERE device_id = ?1 AND message_id = message.id) "
            "FROM message JOIN device USING (account_id) "
            "WHERE device.id = ?1 AND purged_at IS NULL",
            (device_id,),
        )
        return frozenset(
            id_
            for id_, digest, had in rows
            if digest in lost and (not had or device_id in lost[digest])
        )

    async def uids_of(self, device_id: int) -> Mapping[int, str]:
        if self._device_uids is None:
            read = await self._read_uids()
            self._device_uids = self._device_uids or read
        return self._device_uids.get(device_id, {})

    async def _read_uids(self) -> dict[int, dict[int, str]]:
        rows = await self._database.fetch("SELECT device_id, message_id, uid FROM device_uid")
        known: dict[int, dict[int, str]] = {}
        for device, message_id, uid in rows:
            known.setdefault(device, {})[message_id] = uid
        return known

    async def removed_upstream(self, account_id: int) -> frozenset[int]:
        rows = await self._database.fetch(
            "SELECT id FROM message WHERE account_id = ? AND upstream = 'gone' AND NOT hidden",
            (account_id,),
        )
        return frozenset(message_id for (message_id,) in rows)

    async def commit_session(
        self,
        device_id: int,
        *,
        retrieved: Collection[int],
        deleted: Collection[int],
        everywhere: bool,
        at: float,
    ) -> None:
        if not retrieved and not deleted:
            return
        done = asyncio.get_running_loop().create_future()
        commit = _Commit(device_id, retrieved, deleted, everywhere, at, done)
        self._waiting_commits.append(commit)
        if len(self._waiting_commits) == 1:
            # The first of a group writes for all that join while the store is busy. It is not
            # this session's task, so that a session that dies takes no other one with it.
            writing = asyncio.get_running_loop().create_task(self._write_commits())
            self._writing.add(writing)
            writing.add_done_callback(self._writing.discard)
        self.commits_waiting += 1
        try:
            await done
        finally:
            self.commits_waiting -= 1

    async def _write_commits(self) -> None:
        group: list[_Commit] = []
        here: set[int] = set()
        everywhere: set[int] = set()
        try:
            async with self._database.transaction() as change:
                group, self._waiting_commits = self._waiting_commits, []
                here = await _devices_here(change, group)
                for commit in group:
                    if commit.device_id in here:
                        everywhere |= await self._write_commit(change, commit)
        except Exception as error:
            if not group:
                group, self._waiting_commits = self._waiting_commits, []
            for commit in group:
                if not commit.done.done():
                    commit.done.set_exception(error)
            return
        # Only now: a view cut before the commit must not be taken for one cut after it.
        self._database.versions.update(everywhere)
        for commit in group:
            self._database.device_versions[commit.device_id] += 1
            if commit.done.done():
                continue
            if commit.device_id in here:
                commit.done.set_result(None)
            else:
                commit.done.set_exception(NotFound("the device has been removed"))

    async def _write_commit(self, change: Connection, commit: _Commit) -> set[int]:
        """Returns the accounts in which messages are now hidden from all devices."""
        deleted = set(commit.deleted)
        marks = [
            (
                commit.at if message_id in commit.retrieved else None,
                commit.at if message_id in deleted else None,
                commit.device_id,
                message_id,
            )
            for message_id in {*commit.retrieved, *deleted}
        ]
        await change.executemany(MARK, marks)
        await self._confirm(change, commit.device_id, {*commit.retrieved, *deleted})
        if not commit.everywhere or not deleted:
            return set()
        await change.executemany(
            "UPDATE message SET deleted_at = coalesce(deleted_at, ?) WHERE id = ? "
            "AND account_id = (SELECT account_id FROM device WHERE id = ?)",
            [(commit.at, message_id, commit.device_id) for message_id in deleted],
        )
        accounts = await change.fetch(
            "SELECT account_id FROM device WHERE id = ?", (commit.device_id,)
        )
        return {account_id for (account_id,) in accounts}


async def _devices_here(change: Connection, group: list[_Commit]) -> set[int]:
    """Those of the group that have not been removed."""
    ids = json.dumps([commit.device_id for commit in group])
    rows = await change.fetch(
        "SELECT id FROM device WHERE id IN (SELECT value FROM json_each(?))", (ids,)
    )
    return {device_id for (device_id,) in rows}
