"""Several observers as one."""

from __future__ import annotations

from collections.abc import Iterable

from proxy.domain.facts import Fact
from proxy.interfaces.observer import Observer


class TeeObserver:
    """Tells every observer, in the order given."""

    def __init__(self, observers: Iterable[Observer]) -> None:
        self._observers = tuple(observers)

    def observe(self, fact: Fact) -> None:
        for observer in self._observers:
            observer.observe(fact)
