"""The commands behind `sync`, `gc` and `verify`: what takes its time."""

from __future__ import annotations

import asyncio
from functools import partial

from proxy.domain.directory import Directory
from proxy.domain.errors import BadRequest, ProxyError, StoreUnavailable
from proxy.domain.facts import SyncFinished
from proxy.interfaces.store import Store
from proxy.interfaces.world import Clock
from proxy.services.admin_names import Names, Report, Row
from proxy.services.adoption import Adoption
from proxy.services.janitor import Janitor
from proxy.services.sync_run import SyncRun
from proxy.services.syncs import Syncs
from proxy.services.timekeeper import Timekeeper

REPORT_EVERY = 100
"""Blobs."""

LOOK = 0.2
"""Seconds between two reports of a sync."""


class Upkeep:
    def __init__(
        self,
        store: Store,
        clock: Clock,
        directory: Directory,
        names: Names,
        syncs: Syncs,
        janitor: Janitor,
        timekeeper: Timekeeper,
    ) -> None:
        self._timekeeper = timekeeper
        self._store = store
        self._clock = clock
        self._directory = directory
        self._names = names
        self._syncs = syncs
        self._janitor = janitor

    async def sync(self, report: Report) -> list[Row]:
        """Sync all declared accounts now, side by side, and say what came of each."""
        runs = {
            account.name: self._syncs.start(account.name, account.credentials)
            for account in self._directory.all_declared()
        }
        await _watch(list(runs.values()), report)
        rows = []
        for name, run in runs.items():
            error = run.finished.exception()
            result = {"failure": str(error)} if error else sync_row(run.finished.result())
            rows.append({"account": name, "failure": "", **result})
        return rows

    async def sync_one(self, report: Report, account: str) -> Row:
        """Raises:
        BadRequest: it can't be synced now.
        ProxyError: why it failed.
        """
        declared = self._directory.declared(account)
        if declared is None:
            await self._names.account(account)
            raise BadRequest(
                f"{account} is a pass-through account: it is synced when a device logs in, since "
                "the proxy does not keep its password"
            )
        run = self._syncs.start(declared.name, declared.credentials)
        await _watch([run], report)
        return {"account": declared.name, **sync_row(await run.finished)}

    async def gc(self) -> list[Row]:
        """Let go, now, of what retention no longer keeps; of nothing while in doubt."""
        rows = []
        for account in await self._store.accounts():
            purged = await self._janitor.clean(account)
            rows.append(
                {
                    "account": account.name,
                    "messages": purged.messages if purged else 0,
                    "octets": purged.octets if purged else 0,
                    "in_use": purged is None,
                    "in_doubt": self._timekeeper.in_doubt,
                }
            )
        return rows

    async def verify(self, report: Report, adopt: bool = False, account: str = "") -> Row:
        """Compare every blob with its digest, and fetch again what is damaged, missing or
        unreadable.

        With `adopt`, what no row names is taken in before; see `Adoption`.
        """
        adopted = None
        if adopt:
            sync = partial(self.sync, report)
            adoption = Adoption(self._store, self._clock, self._names, sync)
            adopted = await adoption.run(report, account)
        digests = await self._store.blobs()
        before = await self._lost()
        lost, found_again, uncompared = [], 0, []
        for number, digest in enumerate(digests):
            if number % REPORT_EVERY == 0:
                await report(number, len(digests))
            try:
                if not await self._store.is_intact(digest):
                    lost.append(digest)
                elif digest in before:
                    found_again += 1
            except StoreUnavailable as error:
                uncompared.append(f"{digest.hex()}: {error}")
        failures = await self._fetch_again(lost, report)
        still = await self._lost()
        found = [await self._damage_row(digest, still) for digest in lost]
        return {
            "blobs": len(digests),
            "damaged": found,
            "repaired": sum(row["repaired"] for row in found),
            "found_again": found_again,
            "uncompared": uncompared,
            "failures": failures,
            "catalogue": await self._store.damage(),
            "set_aside": len(await self._store.orphans()),
            "adopted": adopted,
        }

    async def _fetch_again(self, lost: list[bytes], report: Report) -> list[str]:
        """By a sync of each account concerned; returns why some failed."""
        names = {name for digest in lost for name in await self._store.account_names_with(digest)}
        failures = []
        for name in sorted(names):
            if self._directory.declared(name) is None:
                failures.append(f"{name}: is synced at its next login")
                continue
            try:
                await self.sync_one(report, name)
            except ProxyError as error:
                failures.append(f"{name}: {error}")
        return failures

    async def _lost(self) -> set[bytes]:
        accounts = await self._store.accounts()
        return {r.digest for each in accounts for r in await self._store.lost(each.id)}

    async def _damage_row(self, digest: bytes, still: set[bytes]) -> Row:
        return {
            "sha256": digest.hex(),
            "accounts": await self._store.account_names_with(digest),
            "repaired": digest not in still,
        }


async def _watch(runs: list[SyncRun], report: Report) -> None:
    """Until all have finished, however."""
    waiting = {run.finished for run in runs}
    while waiting:
        _, waiting = await asyncio.wait(waiting, timeout=LOOK)
        progress = [run.progress() for run in runs]
        await report(sum(done for done, _ in progress), sum(total for _, total in progress))


def sync_row(result: SyncFinished) -> Row:
    return {
        "listed": result.listed,
        "fetched": result.fetched,
        "octets": result.octets,
        "expunged": result.expunged,
        "left": result.left,
        "failed": result.failed,
        "seconds": round(result.seconds, 3),
        "doubted": result.doubted,
    }
