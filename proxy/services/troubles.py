"""Notices what a person has to know of, and puts it into the maildrops of the account concerned.

What there is to tell follows from the store and from a few facts. What was told is in the store as
well, each trouble with its notice in one transaction, so that a restart tells nothing twice.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

from proxy.domain import trouble_texts as texts
from proxy.domain.device_texts import shared_device
from proxy.domain.directory import Directory
from proxy.domain.errors import StoreUnavailable
from proxy.domain.facts import (
    BlobDamaged,
    Fact,
    SyncFailed,
    SyncFinished,
    TroubleBegan,
    TroubleOver,
    UidlsChanged,
    Unexpected,
)
from proxy.domain.model import Account, Upstream
from proxy.domain.policy import DAY, AlertsPolicy
from proxy.domain.survey import Space
from proxy.domain.trouble import (
    Trouble,
    TroubleKind,
    Watched,
    begun,
    is_full,
    is_low,
    is_over,
    lacks_room,
    mark,
    new_lost,
    new_shared,
    new_too_large,
    new_twins,
)
from proxy.domain.trouble_texts import Telling
from proxy.interfaces.observer import Observer
from proxy.interfaces.store import Store
from proxy.interfaces.world import World
from proxy.services.notices import Notices
from proxy.services.sharing import Sharing

EVERY = 30.0
"""Seconds between two rounds, if nothing happens."""
PAUSE = 1.0
"""Seconds between two rounds in any case."""

KEPT = 30 * DAY
"""Seconds for which a trouble that is over is remembered."""


class Troubles:
    """Also an observer: it has to hear of every fact."""

    def __init__(
        self,
        store: Store,
        world: World,
        observer: Observer,
        directory: Directory,
        policy: AlertsPolicy,
        space: Callable[[], Space | None],
        changed: Callable[[], None],
    ) -> None:
        """`changed` is called after a trouble has begun or ended."""
        self.policy = policy
        self._store = store
        self._clock = world.clock
        self._notices = Notices(store, world)
        self._observer = observer
        self._directory = directory
        self._space = space
        self._changed = changed
        self._wake = asyncio.Event()
        self._started = store.ran
        self._refusals: Counter[str] = Counter()
        self._renamed: dict[str, UidlsChanged] = {}
        self._sharing = Sharing(store, world.clock)
        self._suspects: Collection[str] = ()
        """Names of accounts of which a device may be shared."""
        self._twins: dict[int, list[Account]] = {}
        """By an account's id, those that seem to stand for the same mailbox."""
        self._troubled: set[str] = set()
        """Names of accounts of which something is open."""

    def observe(self, fact: Fact) -> None:
        if self._sharing.observe(fact):
            self._wake.set()
        match fact:
            case SyncFailed(account=name, kind=kind) if self._directory.declared(name):
                self._refusals[name] += kind == "UpstreamRefusedLogin"
                self._wake.set()
            case SyncFinished(account=name, failed=failed):
                self._refusals.pop(name, None)
                if failed or name in self._troubled:
                    self._wake.set()
            case BlobDamaged():
                self._wake.set()
            case UidlsChanged(account=name):
                self._renamed[name] = fact
                self._wake.set()

    def wake(self) -> None:
        """Something may have changed that is no fact."""
        self._wake.set()

    async def work(self) -> None:
        """Make rounds until cancelled."""
        seeded = False
        while True:
            self._wake.clear()
            try:
                if not seeded:
                    await self._remember_refusals()
                    seeded = True
                await self.round()
            except StoreUnavailable:
                # Those who cannot do without the store tell of it.
                pass
            except Exception as error:
                self._observer.observe(Unexpected("troubles", error))
            await asyncio.sleep(PAUSE)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), EVERY)

    async def _remember_refusals(self) -> None:
        """The refusal before a restart counts."""
        for account in await self._store.accounts():
            if account.failure_kind == "UpstreamRefusedLogin":
                self._refusals.setdefault(account.name, 1)

    async def round(self) -> None:
        """Look at everything once.

        Raises:
            StoreUnavailable
        """
        now = self._clock.now()
        kept = await self._store.troubles()
        old = any(trouble.over_at and trouble.over_at < now - KEPT for trouble in kept)
        if old and not self._store.timekeeping.in_doubt:
            await self._store.drop_troubles(over_before=now - KEPT)
        open: dict[int | None, list[Trouble]] = defaultdict(list)
        for trouble in kept:
            if trouble.over_at is None and trouble.kind != "digest":
                open[trouble.account_id].append(trouble)
        space = self._space()
        accounts = await self._store.accounts()
        stopped = space is not None and any(lacks_room(account, space) for account in accounts)
        await self._look_at_clock([t for t in open[None] if t.kind == "clock_jump"], now)
        low = [trouble for trouble in open[None] if trouble.kind == "store_low"]
        await self._look_at_machine(low, space, now, stopped=stopped)
        aside = [trouble for trouble in open[None] if trouble.kind == "orphans"]
        await self._look_at_orphans(aside, now)
        self._suspects = self._sharing.suspects()
        self._twins = await self._read_twins(accounts)
        troubled = set()
        for account in accounts:
            if await self._look_at(account, open[account.id], space, now):
                troubled.add(account.name)
        self._troubled = troubled

    async def _look_at_clock(self, open: Sequence[Trouble], now: float) -> None:
        known = self._store.timekeeping
        if not known.in_doubt:
            for trouble in open:
                await self._end(trouble, "", now)
        elif not open:
            await self._begin(None, "clock_jump", texts.clock_jump(known, now), (), now)

    async def _read_twins(self, accounts: Sequence[Account]) -> dict[int, list[Account]]:
        by_id = {account.id: account for account in accounts}
        twins: dict[int, list[Account]] = defaultdict(list)
        for first, second in await self._store.same_mailboxes():
            if first in by_id and second in by_id:
                twins[first].append(by_id[second])
                twins[second].append(by_id[first])
        return twins

    async def _look_at_machine(
        self, open: Sequence[Trouble], space: Space | None, now: float, *, stopped: bool
    ) -> None:
        """`stopped`: there is mail that found no room, be it for its size alone."""
        if space is None:
            return
        if not (stopped or is_low(space, already=bool(open))):
            for trouble in open:
                await self._end(trouble, "", now)
        elif not open:
            await self._begin(None, "store_low", texts.store_low(space), (), now)

    async def _look_at_orphans(self, open: Sequence[Trouble], now: float) -> None:
        orphans = await self._store.orphans()
        if orphans and not open:
            await self._begin(None, "orphans", texts.orphans(len(orphans)), (), now)
        elif not orphans:
            for trouble in open:
                await self._end(trouble, "", now)

    async def _look_at(
        self, account: Account, open: list[Trouble], space: Space | None, now: float
    ) -> bool:
        """Whether something of this account is open now."""
        name = account.name
        declared = self._directory.declared(name) is not None
        used = self._directory.uses(name)
        was_full = any(trouble.kind == "store_full" for trouble in open)
        full = was_full
        if space is not None:
            full = is_full(space, already=was_full) or lacks_room(account, space)
        told = [trouble for trouble in open if trouble.kind == "shared_device"]
        shared: Collection[str] = ()
        if told or name in self._suspects:
            shared = await self._sharing.shared(account, told, now)
        twins = [twin.name for twin in self._twins.get(account.id, ())]
        lost = await self._lost(account)
        for trouble in list(open):
            over = is_over(
                trouble,
                account,
                declared=declared,
                shared=shared,
                twins=twins,
                lost=lost,
                now=now,
            )
            if over or not used or (trouble.kind == "store_full" and not full):
                await self._end(trouble, name, now)
                open.remove(trouble)
        renamed = self._renamed.get(name)
        policy = self._directory.policy(name)
        watched = Watched(policy, declared, self._refusals[name], renamed, shared, twins, lost)
        began = (
            begun(account, watched, open, running=self._store.ran - self._started, now=now)
            if used
            else []
        )
        for kind in began:
            telling, marks = self._told(account, kind, open, watched)
            await self._begin(account, kind, telling, marks, now)
        # A change that came in the meantime waits for the next round.
        if self._renamed.get(name) is renamed:
            self._renamed.pop(name, None)
        if used and full and not was_full and space is not None:
            await self._begin(account, "store_full", texts.store_full(account, space), (), now)
            return True
        return bool(open or began)

    async def _lost(self, account: Account) -> list[str]:
        """What can be had from upstream comes again by itself, and what devices have deleted for
        all is missed by none."""
        return [
            record.uid
            for record in await self._store.lost(account.id)
            if record.upstream is not Upstream.PRESENT and record.deleted_at is None
        ]

    def _told(
        self,
        account: Account,
        kind: TroubleKind,
        open: Sequence[Trouble],
        watched: Watched,
    ) -> tuple[Telling, Sequence[str]]:
        policy, renamed = watched.policy, watched.renamed
        declared = self._directory.declared(account.name)
        match kind:
            case "password_refused" if declared:
                return texts.password_refused(account, declared), ()
            case "consent_needed" if declared:
                return texts.consent_needed(account, declared), ()
            case "no_sync":
                return texts.no_sync(account, policy.upstream), ()
            case "account_full":
                return texts.account_full(account), ()
            case "uidls_changed" if renamed:
                return texts.uidls_changed(account, renamed), ()
            case "too_large":
                new = new_too_large(account, open)
                told = texts.too_large(account, new, policy.sync.max_message_size)
                return told, [mark(one) for one in new]
            case "shared_device":
                devices = new_shared(watched.shared, open)
                return shared_device(account, devices, self._directory.separator), devices
            case "same_mailbox":
                others = new_twins(watched.twins, open)
                return texts.same_mailbox(account, others[0], self._merge(account, others[0])), [
                    others[0]
                ]
            case "lost_mail":
                lost = new_lost(watched.lost, open)
                return texts.lost_mail(account, lost), lost
        raise AssertionError(kind)

    def _merge(self, account: Account, other: str) -> tuple[str, str]:
        """Which of two is to become part of the other: a declared one cannot."""
        (twin,) = (each for each in self._twins[account.id] if each.name == other)
        ends, stays = sorted(
            (account, twin),
            key=lambda each: (self._directory.declared(each.name) is not None, -each.created_at),
        )
        return ends.name, stays.name

    async def _begin(
        self,
        account: Account | None,
        kind: TroubleKind,
        telling: Telling,
        marks: Sequence[str],
        now: float,
    ) -> None:
        notice = None
        if account is not None and self.policy.notices:
            notice = await self._notices.write(
                account, kind, telling, ending=texts.GOES_BY_ITSELF, at=now
            )
        await self._store.add_trouble(
            account.id if account else None,
            kind,
            subject=telling.subject,
            body=telling.body,
            marks=marks,
            notice=notice,
            at=now,
        )
        name = account.name if account else ""
        self._observer.observe(TroubleBegan(name, kind, notice is not None))
        self._changed()

    async def _end(self, trouble: Trouble, account: str, now: float) -> None:
        await self._store.end_trouble(trouble, at=now)
        self._observer.observe(TroubleOver(account, trouble.kind, trouble.since))
        self._changed()
