"""Tells the operator by e-mail what `troubles` has found, and how a day or a week went.

What is still to be told is in the store, so that neither a restart nor an SMTP server that is away
for hours loses any of it. A mail tells all that there is to tell; so what the limit holds back
comes together in the next one. Only a crash right after the server has taken a mail lets it be sent
again, with the same Message-ID.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial

from proxy.domain.alert_texts import PERIODS, Counts, alert, digest
from proxy.domain.directory import Directory
from proxy.domain.errors import MailNotSent, StoreUnavailable
from proxy.domain.facts import (
    AlertFailed,
    AlertSent,
    Fact,
    SyncFailed,
    SyncFinished,
    Unexpected,
)
from proxy.domain.notice import compose
from proxy.domain.policy import DAY, HOUR, MINUTE, AlertsPolicy
from proxy.domain.survey import Space
from proxy.domain.trouble import Trouble
from proxy.domain.trouble_texts import Telling
from proxy.interfaces.observer import Observer
from proxy.interfaces.postman import Postman
from proxy.interfaces.store import Store
from proxy.interfaces.world import Clock
from proxy.services.survey import Surveyor

EVERY = 30.0
"""Seconds between two rounds, if nothing happens."""

FIRST_RETRY, LAST_RETRY = MINUTE, HOUR
"""Seconds until a mail that was not taken is tried again: twice as long each time, up to this."""

TELLS_OF_PAST = DAY
"""Seconds after the end of a trouble in which it is told of, if it never was before."""

FLUSH = 10 * MINUTE
"""Seconds of a digest's counts that a crash may lose."""

NOT_FOR_OPERATORS = ("digest", "store_full")
"""The first is no trouble; of the second one the operator was told as "store_low"."""


class Alerts:
    """Also an observer: it counts for the digest."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        observer: Observer,
        directory: Directory,
        policy: AlertsPolicy,
        space: Callable[[], Space | None],
        postman: Postman,
    ) -> None:
        self._policy = policy
        self._store = store
        self._clock = clock
        self._observer = observer
        self._surveyor = Surveyor(store, observer, directory)
        self._space = space
        self._postman = postman
        self._wake = asyncio.Event()
        self._failures = 0
        self._not_before = 0.0
        """Running time."""
        self._counted = Counts()
        """Since they were last added to the digest's."""
        self._flushed_at = store.ran
        self._owed: list[Callable[[], Awaitable[None]]] = []
        """Of mails that were sent: what the store has still to take down."""

    def follow(self, policy: AlertsPolicy) -> None:
        """Take over another policy, and try again at once what failed under the old one."""
        self._policy = policy
        self._failures, self._not_before = 0, 0.0
        self.wake()

    def wake(self) -> None:
        """There may be something to tell."""
        self._wake.set()

    def observe(self, fact: Fact) -> None:
        match fact:
            case SyncFinished(fetched=fetched, octets=octets):
                self._counted += Counts(fetched=fetched, octets=octets, synced=1)
            case SyncFailed(account=name) if name:
                self._counted += Counts(failed=1)

    async def work(self) -> None:
        """Make rounds until cancelled."""
        while True:
            self._wake.clear()
            try:
                await self.round()
            except StoreUnavailable:
                # Those who cannot do without the store tell of it.
                pass
            except Exception as error:
                self._observer.observe(Unexpected("alerts", error))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), EVERY)

    async def round(self) -> None:
        """Send what there is to be sent.

        Raises:
            StoreUnavailable
        """
        policy, now = self._policy, self._clock.now()
        if not policy.to:
            return
        await self._settle()
        kept = await self._store.troubles()
        if self._store.ran >= self._not_before:
            try:
                await self._tell(policy, kept, now)
                await self._report(policy, kept, now)
            except MailNotSent as error:
                self._failures += 1
                delay = min(FIRST_RETRY * 2.0 ** (self._failures - 1), LAST_RETRY)
                self._not_before = self._store.ran + delay
                self._observer.observe(AlertFailed(str(error), delay))

    async def _settle(self) -> None:
        """Note what was sent. While the store cannot, nothing is sent, or it would be again and
        again."""
        while self._owed:
            await self._owed[0]()
            del self._owed[0]

    async def _tell(self, policy: AlertsPolicy, kept: Sequence[Trouble], now: float) -> None:
        ours = [t for t in kept if t.kind not in NOT_FOR_OPERATORS]
        began = [t for t in ours if t.alerted_at is None and _is_news(t, now)]
        over = [
            t
            for t in ours
            if t.over_at is not None and t.recovered_at is None and _ends(t) and _told(t, began)
        ]
        sent = {at for t in ours for at in (t.alerted_at, t.recovered_at) if at is not None}
        lately = sum(1 for at in sent if now - HOUR < at <= now)
        if not (began or over) or lately >= policy.max_per_hour:
            return
        await self._send(policy, alert(began, over), "alert", began, over, now)
        self._observer.observe(AlertSent(len({t.id for t in (*began, *over)})))
        ids = [[t.id for t in each] for each in (began, over)]
        self._owed.append(partial(self._store.note_alerted, began=ids[0], over=ids[1], at=now))
        await self._settle()

    async def _send(
        self,
        policy: AlertsPolicy,
        telling: Telling,
        kind: str,
        began: Sequence[Trouble],
        over: Sequence[Trouble],
        now: float,
    ) -> None:
        state = [[(t.id, t.since) for t in began], [(t.id, t.since) for t in over]]
        mail = compose(
            subject=telling.subject,
            body=telling.body,
            kind=kind,
            token=hashlib.sha256(repr((kind, state)).encode()).hexdigest()[:32],
            at=now,
            sender=policy.envelope_sender,
            to=policy.to,
        )
        await self._postman.send(policy, mail)
        self._failures = 0

    # --- digests --------------------------------------------------------------------------------

    async def _report(self, policy: AlertsPolicy, kept: Sequence[Trouble], now: float) -> None:
        """The row of a digest is there from the beginning of its period on."""
        running = next((t for t in kept if t.kind == "digest" and t.over_at is None), None)
        if policy.digest == "off":
            if running is not None:
                await self._store.end_trouble(running, at=now)
        elif running is None:
            self._counted = Counts()
            await self._begin_period(now)
        # A clock that is set back must not put it off for a year.
        elif abs(now - running.since) >= PERIODS[policy.digest]:
            await self._send_digest(policy, running, kept, now)
        elif self._store.ran - self._flushed_at >= FLUSH:
            counted = self._counted
            await self._store.set_marks(running.id, (Counts.of(running.marks) + counted).marks())
            self._counted -= counted
            self._flushed_at = self._store.ran

    async def _send_digest(
        self, policy: AlertsPolicy, running: Trouble, kept: Sequence[Trouble], now: float
    ) -> None:
        counted = self._counted
        telling = digest(
            Counts.of(running.marks) + counted,
            await self._surveyor.survey(),
            [t for t in kept if t.over_at is None and t.kind not in NOT_FOR_OPERATORS],
            self._space(),
            since=running.since,
            now=now,
        )
        await self._send(policy, telling, "digest", [running], [], now)
        self._counted -= counted
        self._observer.observe(AlertSent(0))
        self._owed.append(partial(self._store.end_trouble, running, at=now))
        self._owed.append(partial(self._begin_period, now))
        await self._settle()

    async def _begin_period(self, now: float) -> None:
        await self._store.add_trouble(
            None, "digest", subject="", body="", marks=Counts().marks(), at=now
        )


def _is_news(trouble: Trouble, now: float) -> bool:
    return trouble.over_at is None or now - trouble.over_at < TELLS_OF_PAST


def _ends(trouble: Trouble) -> bool:
    """Whether there is a recovery to tell of."""
    return trouble.kind != "uidls_changed"


def _told(trouble: Trouble, now_told: Sequence[Trouble]) -> bool:
    return trouble.alerted_at is not None or trouble in now_told
