"""The machine's wall clock."""

from __future__ import annotations

import time


class SystemClock:
    """See `interfaces.world.Clock`."""

    def now(self) -> float:
        return time.time()
