"""Running time and the wall clock, as the catalogue knows them; see `interfaces.store.Time`."""

from __future__ import annotations

from collections.abc import Callable

from proxy.adapters.sqlite.people import PeopleInMemory
from proxy.domain.timekeeping import JUMP, LONGEST, Reading, Timekeeping

_READ = """
SELECT last_now, last_ran, right_now, right_ran, doubt, doubted_ran, wrong_since FROM clock
"""

_KEEP = """
UPDATE clock SET last_now = ?, last_ran = ?, right_now = ?, right_ran = ?, doubt = ?,
  doubted_ran = ?, wrong_since = ?
"""

_STAMPS = (
    ("message", "fetched_at", "fetched_ran"),
    ("message", "received_at", "CASE WHEN dated THEN NULL ELSE fetched_ran END"),
    ("message", "left_upstream_at", "left_ran"),
    ("message", "deleted_at", "NULL"),
    ("message", "purged_at", "NULL"),
    # Of two stamps that differ, only the later one was made at `ran`.
    (
        "delivery",
        "retrieved_at",
        "CASE WHEN coalesce(deleted_at, retrieved_at) = retrieved_at THEN ran END",
    ),
    ("delivery", "deleted_at", "ran"),
    ("device", "seen_at", "seen_ran"),
    ("seen_uid", "imported_at", "imported_ran"),
    ("sent", "sent_at", "sent_ran"),
    ("account", "created_at", "NULL"),
    ("account", "synced_at", "NULL"),
    ("account", "failed_at", "NULL"),
    ("trouble", "since", "NULL"),
    ("trouble", "over_at", "NULL"),
    ("trouble", "alerted_at", "NULL"),
    ("trouble", "recovered_at", "NULL"),
)
"""Table, column of Unix time, and what has the running time of the same moment."""

# ?1: now; ?2: what that is less running time; ?3: running time of the first wrong stamp; ?4: JUMP.
_CORRECT = """
UPDATE {table} SET {column} = coalesce(?2 + {ran}, ?1)
WHERE {column} > ?1 + ?4 OR ({ran} > ?3 AND abs({column} - ?2 - {ran}) > ?4)
"""

_CORRECT_DEVICES = """
UPDATE device SET since = since + ?2 + created_ran - created_at, created_at = ?2 + created_ran
WHERE created_at > ?1 + ?4 OR (created_ran > ?3 AND abs(created_at - ?2 - created_ran) > ?4)
"""
"""`since` counts from when the device was made."""


class Time(PeopleInMemory):
    timekeeping: Timekeeping = Timekeeping()

    @property
    def ran(self) -> float:
        return self._database.ledger.ran

    def start_running(self, awake: Callable[[], float], *, longest: float = LONGEST) -> None:
        self._database.ledger.start(awake, longest)

    async def read_time(self) -> None:
        """What was kept by an earlier life."""
        ((*readings, doubt, doubted_ran, wrong_since),) = await self._database.fetch(_READ)
        last_now, last_ran, right_now, right_ran = readings
        self.timekeeping = Timekeeping(
            last=None if last_now is None else Reading(last_now, last_ran),
            right=None if right_now is None else Reading(right_now, right_ran),
            doubt=doubt,
            doubted_ran=doubted_ran,
            wrong_since=wrong_since,
        )

    async def keep_time(self, kept: Timekeeping) -> None:
        self.timekeeping = kept
        last, right = kept.last, kept.right
        async with self._database.transaction() as change:
            await change.execute(
                _KEEP,
                (
                    last and last.now,
                    last and last.ran,
                    right and right.now,
                    right and right.ran,
                    kept.doubt,
                    kept.doubted_ran,
                    kept.wrong_since,
                ),
            )

    async def correct_stamps(self, *, wrong_since: float | None, right: Reading) -> None:
        ids = [account.id for account in (await self._known_people()).accounts.values()]
        async with self._change_people(*ids) as change:
            ran, begin = self.ran, right.now - right.ran
            given = (begin + ran, begin, ran if wrong_since is None else wrong_since, JUMP)
            await change.execute(_CORRECT_DEVICES, given)
            for table, column, stamp in _STAMPS:
                await change.execute(
                    _CORRECT.format(table=table, column=column, ran=f"({stamp})"), given
                )
        # Views hide by them.
        self._database.versions.update(ids)
