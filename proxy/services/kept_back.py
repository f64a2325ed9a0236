"""Messages that came whole and that the store could not take: kept for the next sync.

They are in memory, the larger ones in their temporary files, and in no row: after a restart they
are fetched again.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import dataclass

from proxy.domain.fingerprint import Fingerprint
from proxy.domain.model import Blob
from proxy.domain.plan import Entry
from proxy.interfaces.store import BlobWriter
from proxy.services.upstream import UpstreamSession

MESSAGES, OCTETS = 512, 32 * 1024**2
"""Of one account."""
MESSAGES_IN_ALL, OCTETS_IN_ALL = 2048, 128 * 1024**2
"""Of the process; for more, the oldest ones go."""

MISSED = 3
"""Listings in a row without a message, after which it is not kept any more: one may be wrong."""

Key = tuple[str, str, int]
"""The account's name; UIDL and size as upstream lists them."""


@dataclass(slots=True, eq=False)
class Whole:
    """A message that came whole, on its way to the store."""

    entry: Entry
    blob: Blob
    fingerprint: Fingerprint
    writer: BlobWriter
    missed: int = 0


class KeptBack:
    """One for a process."""

    def __init__(self) -> None:
        self._kept: dict[Key, Whole] = {}
        """The oldest first."""

    async def keep(self, account: str, whole: Whole) -> bool:
        """False: it cannot be known again, or there is no room for it; it is let go."""
        entry, octets = whole.entry, whole.blob.octets
        own = [each for key, each in self._kept.items() if key[0] == account]
        fits = len(own) < MESSAGES and _octets(own) + octets <= OCTETS
        key = account, entry.uid, entry.octets
        if not (entry.uid and whole.fingerprint.header_digest and fits) or key in self._kept:
            await whole.writer.abort()
            return False
        while self._kept and (
            len(self._kept) >= MESSAGES_IN_ALL
            or _octets(self._kept.values()) + octets > OCTETS_IN_ALL
        ):
            await self._kept.pop(next(iter(self._kept))).writer.abort()
        whole.missed = 0
        self._kept[key] = whole
        return True

    async def forget(self, account: str) -> None:
        """The account is gone."""
        for key in [key for key in self._kept if key[0] == account]:
            await self._kept.pop(key).writer.abort()

    async def listed(self, account: str, entries: Iterable[Entry]) -> list[Entry]:
        """Those of the entries to be fetched that are kept; what is never listed is let go."""
        found: dict[Key, Entry] = {}
        for entry in entries:
            found.setdefault((account, entry.uid, entry.octets), entry)
        for key in [key for key in self._kept if key[0] == account]:
            whole = self._kept[key]
            whole.missed = 0 if key in found else whole.missed + 1
            if whole.missed >= MISSED:
                del self._kept[key]
                await whole.writer.abort()
        return [entry for key, entry in found.items() if key in self._kept]

    async def take(
        self, account: str, entries: Iterable[Entry], session: UpstreamSession
    ) -> list[Whole]:
        """Those that upstream still has under these names, by their headers; each is the caller's
        from now on. The others are let go.

        Raises:
            UpstreamUnreachable: all are let go, since the question may have been the reason.
        """
        asked = list(entries)
        left = {e.number: self._kept.pop((account, e.uid, e.octets)) for e in asked}
        same: list[Whole] = []
        try:
            async with aclosing(session.headers(asked)) as headers:
                async for entry, header in headers:
                    whole = left[entry.number]
                    shown = Fingerprint.of(header or b"").header_digest
                    if shown == whole.fingerprint.header_digest:
                        whole.entry = entry
                        same.append(whole)
        except BaseException:
            same.clear()
            raise
        finally:
            for whole in left.values():
                if whole not in same:
                    await whole.writer.abort()
        return same


def _octets(kept: Iterable[Whole]) -> int:
    return sum(whole.blob.octets for whole in kept)
