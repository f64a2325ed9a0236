"""What sessions have sent whole that ended without QUIT; see `interfaces.store.Views`."""

from __future__ import annotations

from collections.abc import Collection

from proxy.adapters.sqlite.connection import Connection
from proxy.adapters.sqlite.database import Database

_NOTE = """
INSERT OR IGNORE INTO unconfirmed (device_id, message_id)
SELECT device.id, message.id FROM device JOIN message USING (account_id)
WHERE device.id = ?1 AND message.id = ?2
  AND NOT EXISTS (SELECT 1 FROM delivery WHERE device_id = ?1 AND message_id = ?2)
"""
"""Selecting both ends drops messages and devices that are gone."""

_FORGET = "DELETE FROM unconfirmed WHERE device_id = ? AND message_id = ?"


class Unconfirmed:
    _database: Database
    _any_unconfirmed: bool | None = None
    """False: the table is empty, as it mostly is; None: nobody has looked yet."""

    async def note_cut_off(
        self, device_id: int, *, sent: Collection[int], broken: Collection[int]
    ) -> None:
        if not sent and self._any_unconfirmed is False:
            return
        # Not only once it is on disk: a commit that is cancelled may have gone through.
        self._any_unconfirmed = self._any_unconfirmed or bool(sent) or None
        async with self._database.transaction(device=device_id) as change:
            await change.executemany(_NOTE, [(device_id, message_id) for message_id in sent])
            await change.executemany(_FORGET, [(device_id, message_id) for message_id in broken])

    async def unconfirmed(self, device_id: int) -> Collection[int]:
        if self._any_unconfirmed is None:
            found = bool(await self._database.fetch("SELECT 1 FROM unconfirmed LIMIT 1"))
            self._any_unconfirmed = self._any_unconfirmed or found
        if not self._any_unconfirmed:
            return ()
        rows = await self._database.fetch(
            "SELECT message_id FROM unconfirmed WHERE device_id = ?", (device_id,)
        )
        return frozenset(message_id for (message_id,) in rows)

    async def _confirm(
        self, change: Connection, device_id: int, message_ids: Collection[int]
    ) -> None:
        """Something was committed of these."""
        if self._any_unconfirmed is not False:
            await change.executemany(_FORGET, [(device_id, one) for one in message_ids])
