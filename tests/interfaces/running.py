"""Letting a store's proxy run, without waiting for it."""

from __future__ import annotations

import math

from proxy.interfaces.store import Store


def run_for(store: Store, seconds: float) -> None:
    """So many seconds of running time pass, and then it stands still."""
    awake = 0.0
    store.start_running(lambda: awake, longest=math.inf)
    awake = seconds
    assert store.ran >= seconds
