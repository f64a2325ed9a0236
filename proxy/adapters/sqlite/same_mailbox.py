"""Which accounts may stand for one mailbox; see `interfaces.store.SameMailboxes`."""

from __future__ import annotations

from proxy.adapters.sqlite.database import Database
from proxy.domain.same_mailbox import LOOKED_AT, Alike

_ALIKE = """
WITH ours AS (
  SELECT upstream_uid, upstream_octets, header_digest FROM message
  WHERE account_id = ?1 AND upstream = 'present' AND NOT own
    AND header_digest IS NOT NULL AND upstream_uid <> ''
  ORDER BY id DESC LIMIT ?2
)
SELECT other.account_id, count(DISTINCT ours.header_digest),
       (SELECT count(DISTINCT header_digest) FROM ours),
       (SELECT count(*) FROM (SELECT 1 FROM message AS one WHERE one.account_id = other.account_id
          AND NOT one.own AND one.header_digest IS NOT NULL LIMIT ?2))
FROM ours CROSS JOIN message AS other ON other.header_digest = ours.header_digest
  AND other.upstream_uid = ours.upstream_uid AND other.upstream_octets = ours.upstream_octets
WHERE other.account_id <> ?1 AND NOT other.own AND NOT EXISTS (
  SELECT 1 FROM same_mailbox
  WHERE first_id = min(?1, other.account_id) AND second_id = max(?1, other.account_id))
GROUP BY other.account_id
"""


class SameMailboxes:
    _database: Database

    async def alike(self, account_id: int) -> list[Alike]:
        return [Alike(*row) for row in await self._database.fetch(_ALIKE, (account_id, LOOKED_AT))]

    async def note_same_mailbox(self, account_id: int, other_id: int) -> None:
        async with self._database.transaction() as change:
            await change.execute(
                # Either of them may have been removed meanwhile.
                "INSERT OR IGNORE INTO same_mailbox (first_id, second_id) "
                "SELECT one.id, two.id FROM account AS one, account AS two "
                "WHERE one.id = ? AND two.id = ?",
                sorted((account_id, other_id)),
            )

    async def tell_apart(self, account_id: int, other_id: int) -> None:
        async with self._database.transaction() as change:
            await change.execute(
                "INSERT OR REPLACE INTO same_mailbox (first_id, second_id, told_apart) "
                "VALUES (?, ?, 1)",
                sorted((account_id, other_id)),
            )

    async def same_mailboxes(self) -> list[tuple[int, int]]:
        rows = await self._database.fetch(
            "SELECT first_id, second_id FROM same_mailbox WHERE NOT told_apart "
            "ORDER BY first_id, second_id"
        )
        return [(first, second) for first, second in rows]

    async def may_share_mailbox(self, account_id: int) -> bool:
        rows = await self._database.fetch(
            "SELECT 1 FROM same_mailbox WHERE first_id = ?1 AND NOT told_apart UNION ALL "
            "SELECT 1 FROM same_mailbox WHERE second_id = ?1 AND NOT told_apart LIMIT 1",
            (account_id,),
        )
        return bool(rows)
