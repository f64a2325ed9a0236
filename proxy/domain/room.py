"""How much of the disk mail may take: what is kept free of it, and what one account may have."""

from __future__ import annotations

from dataclasses import replace

from proxy.domain.policy import StorePolicy
from proxy.domain.survey import Space

MIB = 1024**2

RESERVE_SHARE, RESERVE_AT_MOST = 0.05, 500 * MIB
RESERVE_AT_LEAST = 16 * MIB
"""What is kept free unless `store.reserve` says otherwise. The least is several times what SQLite's
write-ahead log grows to (4 MiB), whatever the share of a small disk comes to."""

RESERVED_FILES = 1000
"""Files that can still be made when nothing more is fetched: small mail can use up a file system's
inodes long before its octets."""

NO_ROOM = "no room left on the proxy's disk (store.reserve)"
ACCOUNT_FULL = "the account has reached store.max_account_size"
"""How `Unfetched.why` begins for messages that wait for room."""


def with_reserve(space: Space, policy: StorePolicy) -> Space:
    share = int(RESERVE_SHARE * space.size)
    usual = max(min(share, RESERVE_AT_MOST), RESERVE_AT_LEAST)
    return replace(space, reserve=policy.reserve or usual)


def for_mail(space: Space) -> int:
    """Octets that mail may still take; below 0: so much of the reserve is gone."""
    if space.files is not None and space.files < RESERVED_FILES:
        return min(space.free - space.reserve, 0)
    return space.free - space.reserve
