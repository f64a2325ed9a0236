"""Mails that devices have sent; see `interfaces.store.SentMails`."""

from __future__ import annotations

from proxy.adapters.sqlite.connection import Connection
from proxy.adapters.sqlite.database import Database
from proxy.adapters.sqlite.views import IN_BACKLOG, MARK
from proxy.domain.model import Sending
from proxy.domain.policy import DAY

KEPT = 7 * DAY
"""Seconds of running time in which a mail that was sent may come back."""

_UNDER_WAY = """
SELECT sent.id, account.name, coalesce(device.name, ''), sent.message_id
FROM sent JOIN account ON account.id = sent.account_id
  LEFT JOIN device ON device.id = sent.device_id
WHERE under_way ORDER BY sent.id
"""

_HAVE_IT = f"""
SELECT device.id FROM sent JOIN device ON device.account_id = sent.account_id
  LEFT JOIN message ON message.id = sent.copy_id
WHERE sent.id = ?
  AND (device.id = sent.device_id
       OR (message.id IS NOT NULL AND message.deleted_at IS NULL AND message.purged_at IS NULL
           AND {IN_BACKLOG}))
"""  # noqa: S608 - a condition of ours
"""The device that has sent it, and those that see its copy."""


class SentMails:
    _database: Database

    async def note_sending(
        self, account_id: int, device_id: int | None, message_id: str, *, at: float
    ) -> int:
        async with self._database.transaction() as change:
            await change.execute(
                "DELETE FROM sent WHERE sent_ran < (SELECT ran FROM clock) - ? AND NOT under_way",
                (KEPT,),
            )
            return await change.execute(
                "INSERT INTO sent (account_id, device_id, message_id, sent_at, sent_ran) "
                "VALUES (?, (SELECT id FROM device WHERE id = ?), ?, ?, (SELECT ran FROM clock))",
                (account_id, device_id, message_id, at),
            )

    async def forget_sending(self, sending: int) -> None:
        async with self._database.transaction() as change:
            await change.execute("DELETE FROM sent WHERE id = ?", (sending,))

    async def settle_sending(self, sending: int) -> None:
        async with self._database.transaction() as change:
            # Who has sent it was done with what came back when it came.
            await change.execute("UPDATE sent SET under_way = 0 WHERE id = ?", (sending,))

    async def sendings(self) -> list[Sending]:
        return [Sending(*row) for row in await self._database.fetch(_UNDER_WAY)]


async def settle(change: Connection, sending: int, copy: int, at: float) -> None:
    """The mail was sent, and this is its copy."""
    await change.execute("UPDATE sent SET under_way = 0, copy_id = ? WHERE id = ?", (copy, sending))
    for (returned,) in await change.fetch(
        "SELECT returned_id FROM sent WHERE id = ? AND returned_id IS NOT NULL", (sending,)
    ):
        await _hide(change, sending, returned, at)


async def hide_returned(
    change: Connection, account_id: int, id_: int, name: str, at: float
) -> None:
    """A message of this Message-ID has come: devices that have it from elsewhere are done with it.

    While the mail is under way there is no copy yet, which may still fail: until then it is hidden
    from nobody but the sender.
    """
    for (sending,) in await change.fetch(
        "SELECT id FROM sent WHERE account_id = ? AND message_id = ? "
        "AND sent_ran > (SELECT ran FROM clock) - ?",
        (account_id, name, KEPT),
    ):
        await change.execute(
            "UPDATE sent SET returned_id = ? WHERE id = ? AND returned_id IS NULL", (id_, sending)
        )
        await _hide(change, sending, id_, at)


async def _hide(change: Connection, sending: int, id_: int, at: float) -> None:
    having = await change.fetch(_HAVE_IT, (sending,))
    await change.executemany(MARK, [(at, at, device_id, id_) for (device_id,) in having])
