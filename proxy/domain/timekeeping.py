"""Running time, and whether the wall clock is to be believed.

A wall clock may be set to anything at any moment. What cannot be undone is measured in the seconds
that the proxy has run, which nobody sets; the wall clock dates what people read. A clock that jumps
against that, or that disagrees with what the store knew last, is in doubt until it has been steady
for a day, or a person says that it is right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from proxy.domain.policy import DAY, HOUR

JUMP = HOUR
"""Seconds by which a clock may be set without a word, as it is at boot, or by a server of time."""

FAR = 30 * DAY
"""Seconds that a proxy may have been off, or asleep, without a doubt about its clock."""

STEADY = DAY
"""Seconds of running time without a jump, after which a clock is believed."""

EARLIEST = 1_767_225_600.0
"""1 January 2026: this program is younger, and a clock that is behind that is wrong."""

LONGEST = HOUR
"""Seconds of running time between two looks at it at most: of a longer gap nobody knows whether the
proxy ran."""


class Ledger:
    """Counts the seconds that the proxy runs, on from those of its earlier lives."""

    def __init__(self, ran: float) -> None:
        self._ran = ran
        self._awake: Callable[[], float] | None = None
        self._longest = LONGEST
        self._looked_at = 0.0

    def start(self, awake: Callable[[], float], longest: float = LONGEST) -> None:
        """Grow from now on, by a clock that nobody sets; until then it stands."""
        self._awake, self._longest, self._looked_at = awake, longest, awake()

    @property
    def ran(self) -> float:
        if self._awake is not None:
            now = self._awake()
            self._ran += min(max(now - self._looked_at, 0.0), self._longest)
            self._looked_at = now
        return self._ran


Doubt = Literal["", "jumped", "behind", "ahead", "too_early"]
"""Why the clock is in doubt. It jumped while we ran; or, at a start, it was behind or far ahead of
what the store knew last, or earlier than this program is."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Both times at one moment."""

    now: float
    """Unix time, as the wall clock said."""
    ran: float
    """Running time."""


@dataclass(frozen=True, slots=True)
class Timekeeping:
    """What the store keeps of it."""

    last: Reading | None = None
    """The last one taken; None: none was ever."""
    right: Reading | None = None
    """The last one that was believed; None: none was ever."""
    doubt: Doubt = ""
    doubted_ran: float = 0.0
    """Running time since which the clock has been steady, while it is in doubt."""
    wrong_since: float = 0.0
    """Running time since which stamps of wall time may be wrong."""

    slack: float = FAR
    """Seconds that the clock may be ahead of `right`, while it is in doubt: how long the proxy may
    have been off since. Not kept: after a start nobody knows."""

    @property
    def in_doubt(self) -> bool:
        return self.doubt != ""

    @property
    def is_wrong(self) -> bool:
        """Whether the clock was certainly not right when it was last looked at."""
        return self.in_doubt and self.last is not None and not self.is_plausible(self.last)

    def is_plausible(self, reading: Reading) -> bool:
        """Whether the clock may say that, by what was believed last."""
        if self.right is None:
            return reading.now >= EARLIEST
        past = reading.now - self.right.now - (reading.ran - self.right.ran)
        return -JUMP <= past <= self.slack

    def best(self, reading: Reading) -> float:
        """The likeliest Unix time; moves with running time where the clock is not to be believed.

        One that is far ahead at a start is taken for right: the proxy was off for a season.
        """
        if not self.in_doubt or self.doubt == "ahead" or self.is_plausible(reading):
            return reading.now
        if self.right is None:
            return max(reading.now, EARLIEST)
        return self.right.now + reading.ran - self.right.ran

    def between(self, reading: Reading) -> tuple[float, float]:
        """The earliest and the latest Unix time that it may be.

        A clock in doubt makes it no earlier than running time does, and may be right if it is
        ahead of that.
        """
        if not self.in_doubt or self.right is None:
            return self.best(reading), self.best(reading)
        earliest = self.right.now + reading.ran - self.right.ran
        return earliest, max(earliest, reading.now)


@dataclass(frozen=True, slots=True)
class Looked:
    """What comes of looking at the clock."""

    kept: Timekeeping
    back_since: float | None = None
    """The clock says again what the store knew: stamps of wall time that were made since this
    running time are wrong. None: it does not."""
    settled: bool = False
    """A clock that was in doubt is believed from now on."""


def started(kept: Timekeeping, reading: Reading) -> Looked:
    """At the start, when nobody knows how long the proxy was off."""
    kept, last, was_wrong = replace(kept, slack=FAR), kept.last, kept.is_wrong
    doubt: Doubt = ""
    if reading.now < EARLIEST:
        doubt = "too_early"
    elif last is not None and reading.now < last.now - JUMP:
        doubt = "behind"
    elif last is not None and reading.now > last.now + FAR:
        doubt = "ahead"
    if doubt:
        kept = _doubted(kept, doubt, reading.ran, wrong_since=reading.ran)
    return _steady(kept, reading, was_wrong=was_wrong)


def looked(kept: Timekeeping, reading: Reading, passed: float, slept: float) -> Looked:
    """`passed` seconds after `kept.last` was taken, of which the machine `slept` so many."""
    last, right, was_wrong = kept.last, kept.right, kept.is_wrong
    if not kept.in_doubt:
        kept = replace(kept, slack=JUMP)
    if right is not None:
        kept = replace(kept, right=Reading(right.now + passed, reading.ran))
    # Nobody sleeps for a season; and then nobody knows what the clock did meanwhile.
    if last is not None and (abs(reading.now - last.now - passed) > JUMP or slept > FAR):
        kept = _doubted(kept, "jumped", reading.ran, wrong_since=last.ran)
    return _steady(kept, reading, was_wrong=was_wrong)


def trusted(reading: Reading) -> Looked:
    """A person says that the clock is right."""
    return Looked(Timekeeping(last=reading, right=reading), settled=True)


def _doubted(kept: Timekeeping, doubt: Doubt, ran: float, *, wrong_since: float) -> Timekeeping:
    since = kept.wrong_since if kept.in_doubt else wrong_since
    return replace(kept, doubt=doubt, doubted_ran=ran, wrong_since=since)


def _steady(kept: Timekeeping, reading: Reading, *, was_wrong: bool) -> Looked:
    if not kept.in_doubt:
        return Looked(Timekeeping(last=reading, right=reading))
    if reading.now >= EARLIEST and reading.ran - kept.doubted_ran >= STEADY:
        return trusted(reading)
    kept = replace(kept, last=reading)
    if was_wrong and kept.is_plausible(reading):
        back = replace(kept, right=reading, wrong_since=reading.ran)
        return Looked(back, back_since=kept.wrong_since)
    return Looked(kept)
