"""How an oracle says that something is wrong."""

from __future__ import annotations


class Violation(AssertionError):
    """The code under test did what it must not do."""


def expect(condition: bool, rule: str) -> None:
    """Raises:
    Violation: the rule is broken.
    """
    if not condition:
        raise Violation(rule)
