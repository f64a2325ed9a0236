"""Waiting for a condition, with a deadline: the only way these tests wait."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 30.0
"""Seconds; generous, since only a test that fails ever waits so long."""


def eventually(
    condition: Callable[[], bool],
    *,
    what: str = "the condition",
    within: float = PATIENCE,
    otherwise: Callable[[], str] = str,
) -> None:
    """Return as soon as the condition holds.

    Raises:
        AssertionError: it did not in time; says what `otherwise` returns.
    """
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {within:.0f} s for {what}\n{otherwise()}")
        time.sleep(0.01)
