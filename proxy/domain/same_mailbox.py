"""When two accounts are taken for two names of one mailbox."""

from __future__ import annotations

from dataclasses import dataclass

LOOKED_AT = 100
"""The newest messages of an account that are looked at."""

AGREE = 3
"""Messages that have to be the same at least: one circular that both have got proves nothing."""


@dataclass(frozen=True, slots=True)
class Alike:
    """Another account with messages of the same UIDL, size and header.

    All three: servers that number UIDLs give the same ones to everybody.
    """

    account_id: int
    same: int
    """Of the newest messages of the one that was asked about; equal headers count once."""
    ours: int
    """How many of those there are."""
    theirs: int
    """Messages that the other has ever had; no more than `LOOKED_AT` are counted."""

    @property
    def is_proof(self) -> bool:
        """Most of the smaller side: the other may have been synced long ago, or have just begun."""
        return self.same >= AGREE and 2 * self.same > min(self.ours, self.theirs)
