"""How many files and connections the process may have open."""

from __future__ import annotations

import resource

RESERVE = 200
"""Descriptors for what are no device sessions: upstream, database, blobs, listeners."""


def allow_connections(wanted: int) -> int:
    """Raise the process's own limit as far as that is needed and allowed.

    Returns how many connections there is room for.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + RESERVE
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else min(wanted, soft - RESERVE)
