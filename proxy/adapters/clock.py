"""The machine's clocks."""

from __future__ import annotations

import time

system_time = time.time
"""What `SystemClock.now` says, for what stands outside a world."""


class SystemClock:
    """See `interfaces.world.Clock`."""

    def now(self) -> float:
        return time.time()

    def awake(self) -> float:
        return time.monotonic()

    def elapsed(self) -> float:
        # Of Linux. Elsewhere a sleep is taken for a jump of the wall clock, which is told of.
        if hasattr(time, "CLOCK_BOOTTIME"):
            return time.clock_gettime(time.CLOCK_BOOTTIME)
        return time.monotonic()
