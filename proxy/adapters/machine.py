"""What the machine tells of itself: room on its disks, and how late it is."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

from proxy.domain.survey import Space

LAG_EVERY = 1.0
"""Seconds between two measurements."""


def space(path: Path) -> Space | None:
    """The file system that holds a path; None when it does not say.

    The reserve is none of its business.
    """
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    # Some file systems over a network say that they have no size at all.
    if not found.f_blocks:
        return None
    return Space(
        found.f_bavail * found.f_frsize,
        found.f_blocks * found.f_frsize,
        found.f_favail if found.f_files else None,
    )


async def watch_loop(report: Callable[[float], None]) -> None:
    """Report how many seconds late a timer of the event loop fires, for ever.

    The loop's own clock does not do: uvloop's stands still while callbacks run.
    """
    while True:
        due = time.monotonic() + LAG_EVERY
        await asyncio.sleep(LAG_EVERY)
        report(max(time.monotonic() - due, 0.0))
