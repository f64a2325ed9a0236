"""Who may come at all: the names and patterns of `accounts.allow`."""

from __future__ import annotations

from collections.abc import Collection

from proxy.domain.login_name import canonical

DOMAIN = "*@"
"""How a pattern begins that stands for all names of a domain."""


class Allowed:
    """A set of account names; without any pattern, all of them."""

    def __init__(self, patterns: Collection[str] = ()) -> None:
        """Raises:
        ValueError: as `check_pattern`.
        """
        for pattern in patterns:
            check_pattern(pattern)
        self.patterns = tuple(patterns)
        """As they were written."""
        forms = {canonical(pattern) for pattern in patterns}
        self._domains = {form.removeprefix(DOMAIN) for form in forms if form.startswith(DOMAIN)}
        self._names = {form for form in forms if not form.startswith(DOMAIN)}

    def __contains__(self, name: str) -> bool:
        if not self.patterns:
            return True
        form = canonical(name)
        _, at, domain = form.rpartition("@")
        return form in self._names or (bool(at) and domain in self._domains)


def check_pattern(pattern: str) -> None:
    """Raises:
    ValueError: no account can have a name that this matches; the text says why.
    """
    form = canonical(pattern)
    domain = form.removeprefix(DOMAIN)
    if not form or not form.isprintable():
        raise ValueError("is no name on one line")
    if form == DOMAIN:
        raise ValueError('names no domain behind the "*@"')
    if "*" in domain:
        raise ValueError('"*" stands for all that is before the last "@", and for nothing else')
    if domain != form and ("@" in domain or " " in domain):
        raise ValueError('no domain is called what stands behind the "*@"')
