"""What people are told of; see `interfaces.store.Troubles`."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from proxy.adapters.blobs import Blobs, to_the_end
from proxy.adapters.sqlite.connection import Row
from proxy.adapters.sqlite.database import Database, storage_errors
from proxy.adapters.sqlite.own import WITHDRAW, insert_own
from proxy.domain.model import Blob
from proxy.domain.trouble import ReportKind, Trouble, TroubleKind

_TROUBLES = """
SELECT id, account_id, kind, since, subject, body, marks, message_id, over_at, alerted_at,
       recovered_at
FROM trouble ORDER BY id
"""

_INSERT = """
INSERT INTO trouble (account_id, kind, since, subject, body, marks, message_id)
VALUES (?, ?, ?, ?, ?, ?, ?)
"""


class Troubles:
    _database: Database
    _blobs: Blobs

    async def troubles(self) -> list[Trouble]:
        return [_trouble(row) for row in await self._database.fetch(_TROUBLES)]

    async def add_trouble(
        self,
        account_id: int | None,
        kind: TroubleKind | ReportKind,
        *,
        subject: str,
        body: str,
        marks: Sequence[str] = (),
        notice: Blob | None = None,
        at: float,
    ) -> None:
        given = (kind, at, subject, body, json.dumps(list(marks)))
        if account_id is None or notice is None:
            async with self._database.transaction() as change:
                await change.execute(_INSERT, (account_id, *given, None))
            return
        # Whole even when cancelled: told of without a row, it would be told of again.
        await to_the_end(self._add_with_notice(account_id, notice, given, at))

    async def _add_with_notice(
        self, account_id: int, notice: Blob, given: tuple[str | float, ...], at: float
    ) -> None:
        async with self._blobs.lock:
            with storage_errors():
                await self._blobs.make_durable([notice])
            async with self._database.transaction(account=account_id) as change:
                message_id = await insert_own(change, account_id, notice, at)
                await change.execute(_INSERT, (account_id, *given, message_id))

    async def end_trouble(self, trouble: Trouble, *, at: float) -> None:
        async with self._database.transaction(account=trouble.account_id) as change:
            await change.execute(
                "UPDATE trouble SET over_at = coalesce(over_at, ?) WHERE id = ?", (at, trouble.id)
            )
            await change.execute(WITHDRAW, (at, trouble.message_id, trouble.account_id))

    async def set_marks(self, trouble_id: int, marks: Sequence[str]) -> None:
        async with self._database.transaction() as change:
            await change.execute(
                "UPDATE trouble SET marks = ? WHERE id = ?", (json.dumps(list(marks)), trouble_id)
            )

    async def note_alerted(
        self, *, began: Collection[int], over: Collection[int], at: float
    ) -> None:
        async with self._database.transaction() as change:
            await change.executemany(
                "UPDATE trouble SET alerted_at = coalesce(alerted_at, ?) WHERE id = ?",
                [(at, each) for each in began],
            )
            await change.executemany(
                "UPDATE trouble SET recovered_at = coalesce(recovered_at, ?) WHERE id = ?",
                [(at, each) for each in over],
            )

    async def drop_troubles(self, *, over_before: float) -> None:
        async with self._database.transaction() as change:
            await change.execute("DELETE FROM trouble WHERE over_at < ?", (over_before,))


def _trouble(row: Row) -> Trouble:
    id_, account_id, kind, since, subject, body, marks, *rest = row
    return Trouble(id_, account_id, kind, since, subject, body, tuple(json.loads(marks)), *rest)
