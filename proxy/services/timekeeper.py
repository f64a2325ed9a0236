"""Looks at the wall clock, and stops what cannot be undone while that is in doubt.

The rules are in `domain.timekeeping`. The clock is looked at where something depends on it, and
every so often besides; what comes of it is kept in the store, and survives a restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from proxy.domain.errors import BadRequest, StoreUnavailable
from proxy.domain.facts import Unexpected
from proxy.domain.policy import MINUTE
from proxy.domain.timekeeping import EARLIEST, Looked, Reading, looked, started, trusted
from proxy.interfaces.observer import Observer
from proxy.interfaces.store import Store
from proxy.interfaces.world import Clock

EVERY = 10.0
"""Seconds between two looks."""

KEEP_EVERY = 5 * MINUTE
"""Seconds of running time after which it is written down, if nothing else has been."""


class Timekeeper:
    def __init__(self, store: Store, clock: Clock, observer: Observer) -> None:
        """From now on it is running time. The clock is looked at at once, by what the store knew
        last; nothing is kept."""
        self._store = store
        self._clock = clock
        store.start_running(clock.awake)
        self._observer = observer
        self.changed: Callable[[], None] = lambda: None
        """Told when the clock has come into doubt, or out of it, and that is written down."""
        self._awake, self._elapsed = clock.awake(), clock.elapsed()
        self._corrections: list[tuple[float | None, Reading]] = []
        """Still to be made: see `Store.correct_stamps`."""
        self._kept_at = -KEEP_EVERY
        self._keeping = asyncio.Lock()
        self._take(started(store.timekeeping, self._reading()))

    @property
    def _is_news(self) -> bool:
        return self._known.doubt != self._store.timekeeping.doubt or bool(self._corrections)

    @property
    def in_doubt(self) -> bool:
        """Whether nothing may be done, now, that cannot be undone."""
        self.look()
        return self._known.in_doubt

    def best_now(self) -> float:
        """The likeliest Unix time, for what decides on more than what people read."""
        self.look()
        return self._known.best(self._reading())

    def between(self) -> tuple[float, float]:
        """The earliest and the latest Unix time that it may be, unless the clock is behind."""
        self.look()
        return self._known.between(self._reading())

    def look(self) -> None:
        """In memory, no I/O."""
        awake, elapsed = self._clock.awake(), self._clock.elapsed()
        passed, slept = elapsed - self._elapsed, (elapsed - self._elapsed) - (awake - self._awake)
        self._awake, self._elapsed = awake, elapsed
        self._take(looked(self._known, self._reading(), passed, slept))

    async def start(self) -> None:
        """Have on disk from the beginning what the clock said."""
        # A full disk must not keep anybody from reading mail: `work` tries again.
        with suppress(StoreUnavailable):
            await self.keep()

    async def work(self) -> None:
        """Go on looking until cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            try:
                self.look()
                if self._is_news or self._store.ran - self._kept_at >= KEEP_EVERY:
                    await self.keep()
            except StoreUnavailable:
                # Those who cannot do without the store tell of it.
                pass
            except Exception as error:
                self._observer.observe(Unexpected("timekeeper", error))

    async def keep(self) -> None:
        """Write down what is known, and put right what a wrong clock has stamped.

        Raises:
            StoreUnavailable
        """
        # One after the other: what is written last is what was known last.
        async with self._keeping:
            self.look()
            known, was = self._known, self._store.timekeeping
            # First, since it can be done twice: who finds the doubt over has no reason to do it.
            while self._corrections:
                wrong_since, right = self._corrections[0]
                await self._store.correct_stamps(wrong_since=wrong_since, right=right)
                del self._corrections[0]
            try:
                await self._store.keep_time(known)
            finally:
                if known.doubt != was.doubt:
                    self.changed()
            self._kept_at = self._store.ran

    async def stop(self) -> None:
        """The last thing before the store is closed."""
        with suppress(StoreUnavailable):
            await self.keep()

    async def trust(self) -> float:
        """A person says that the clock is right; returns what it says. The trouble is over.

        Raises:
            BadRequest: it cannot be.
            StoreUnavailable
        """
        reading = self._reading()
        if reading.now < EARLIEST:
            raise BadRequest(
                "the clock of this computer says a time at which this program did not exist: set "
                "it first"
            )
        self._take(trusted(reading))
        await self.keep()
        for trouble in await self._store.troubles():
            if trouble.kind == "clock_jump" and trouble.over_at is None:
                await self._store.end_trouble(trouble, at=reading.now)
        return reading.now

    def _reading(self) -> Reading:
        return Reading(self._clock.now(), self._store.ran)

    def _take(self, found: Looked) -> None:
        self._known = found.kept
        right = found.kept.right
        if right is not None and (found.back_since is not None or found.settled):
            self._corrections.append((found.back_since, right))
