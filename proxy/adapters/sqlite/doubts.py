"""Listings that are not believed; see `interfaces.store.Doubts`."""

from __future__ import annotations

from proxy.adapters.sqlite.database import Database
from proxy.domain.doubt import Spell

_NOTE = """
INSERT INTO spell (account_id, since, listings, most) SELECT id, ?2, ?3, ?4 FROM account
WHERE id = ?1
"""


class Doubts:
    _database: Database

    async def spell(self, account_id: int) -> Spell | None:
        rows = await self._database.fetch(
            "SELECT since, listings, most FROM spell WHERE account_id = ?", (account_id,)
        )
        return Spell(*rows[0]) if rows else None

    async def note_spell(self, account_id: int, spell: Spell | None) -> None:
        async with self._database.transaction() as change:
            await change.execute("DELETE FROM spell WHERE account_id = ?", (account_id,))
            if spell is not None:
                await change.execute(_NOTE, (account_id, spell.since, spell.listings, spell.most))
