"""When to believe that mail has left the upstream.

A mailbox that suddenly lists little is in trouble, or on its way to other software, more often than
cleared by a person. A person can wait until that is believed. What has left so may come back under
other UIDLs, also long after it was believed.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy.domain.policy import DAY, HOUR

FEW = 4
"""Where fewer messages than this were missing, the second listing that lacks some is believed:
a mailbox of three is cleared in a moment."""

BELIEVED_AFTER = 6 * HOUR
LISTINGS = 3
"""What lacks more is believed after so many seconds, and so many listings, that all lacked it."""

MANY = 10
"""So many messages that leave at once may come back under other UIDLs, however many stay."""

COMES_BACK_WITHIN = 30 * DAY
"""Seconds in which messages that left at once are looked for in what nobody knows."""


@dataclass(frozen=True, slots=True)
class Spell:
    """Listings in a row that lack what was there, and are not believed so far."""

    since: float
    """When the first of them was, in running time."""
    listings: int
    most: int
    """Messages that one of them lacked."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """Of what one listing lacks."""

    spell: Spell | None
    """The one that it begins or goes on with; None: what is missing has left."""
    left_at: float | None
    """When that left, in running time, where it may come back under any id."""


def judge(
    before: Spell | None, missing: int, *, odd: bool, by_retr: bool, for_good: bool, ran: float
) -> Judgement:
    """`before`: the spell so far; `odd`: most is missing, or the listing leaves open what is;
    `by_retr`: our own RETR seems to have hidden what is missing; `for_good`: as it did before.

    A spell that has begun lasts until all is back, even in portions, or until it is believed.
    """
    at_once = odd or before is not None or missing >= MANY
    return Judgement(
        spell=None if by_retr else _going_on(before, missing, odd=odd, ran=ran),
        left_at=ran if at_once and not for_good else None,
    )


def _going_on(spell: Spell | None, missing: int, *, odd: bool, ran: float) -> Spell | None:
    if not missing or (spell is None and not odd):
        return None
    if spell is None:
        return Spell(ran, 1, missing)
    listings, most = spell.listings + 1, max(spell.most, missing)
    lasts = listings >= LISTINGS and ran - spell.since >= BELIEVED_AFTER
    return None if lasts or most < FEW else Spell(spell.since, listings, most)
