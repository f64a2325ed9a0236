"""What the operator is told by e-mail: troubles, their ends, and how a day or a week went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from proxy.domain.plain_text import one_line
from proxy.domain.policy import DAY
from proxy.domain.survey import AccountState, Space
from proxy.domain.trouble import Trouble
from proxy.domain.trouble_texts import NAME, Telling, name_of, paragraphs, size, when

TOLD_WHOLE = 5
"""Troubles of one mail that are told with all that helps; of the others, the subjects."""
LISTED = 100
"""Troubles, accounts or devices of one mail."""

PERIODS = {"daily": DAY, "weekly": 7 * DAY}


@dataclass(frozen=True, slots=True)
class Counts:
    """What happened in the period of a digest."""

    fetched: int = 0
    octets: int = 0
    synced: int = 0
    failed: int = 0

    @classmethod
    def of(cls, marks: Sequence[str]) -> Counts:
        return cls(*map(int, marks))

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            *(mine + theirs for mine, theirs in zip(self._all(), other._all(), strict=True))
        )

    def __sub__(self, other: Counts) -> Counts:
        return Counts(
            *(mine - theirs for mine, theirs in zip(self._all(), other._all(), strict=True))
        )

    def _all(self) -> tuple[int, int, int, int]:
        return self.fetched, self.octets, self.synced, self.failed

    def marks(self) -> list[str]:
        return [str(each) for each in self._all()]


def alert(began: Sequence[Trouble], over: Sequence[Trouble]) -> Telling:
    """One mail about all of these; a trouble in both came and went before it could be told of."""
    gone = {trouble.id for trouble in over}
    news = [*began, *(trouble for trouble in over if trouble not in began)]
    if len(news) == 1:
        subject = f"Over: {news[0].subject}" if gone else news[0].subject
    else:
        counts = (
            (sum(1 for trouble in news if trouble.id not in gone), "new"),
            (len(gone), "over"),
        )
        subject = f"{len(news)} troubles: " + ", ".join(f"{n} {what}" for n, what in counts if n)
    parts = [_told(trouble, whole=n < TOLD_WHOLE) for n, trouble in enumerate(news[:LISTED])]
    if len(news) > LISTED:
        parts.append(f"And {len(news) - LISTED} more; pop3-sync-proxy status tells of all.\n")
    return Telling(one_line(f"[pop3-sync-proxy] {subject}", 200), "\n\n".join(parts))


def _told(trouble: Trouble, *, whole: bool) -> str:
    if trouble.over_at is not None:
        times = f"It began on {when(trouble.since)} and is over since {when(trouble.over_at)}."
        return paragraphs(f"OVER: {trouble.subject}", times) + "\n"
    begin = paragraphs(trouble.subject)
    since = f"Noticed on {when(trouble.since)}."
    return f"{begin}\n\n{trouble.body}\n{since}\n" if whole else f"{begin}\n{since}\n"


def digest(
    counts: Counts,
    accounts: Sequence[AccountState],
    open: Sequence[Trouble],
    space: Space | None,
    *,
    since: float,
    now: float,
) -> Telling:
    """How the time from `since` to `now` went."""
    stored = sum(account.octets for account in accounts)
    messages = sum(account.messages for account in accounts)
    lines = [
        f"    messages fetched   {counts.fetched:,} ({size(counts.octets)})",
        f"    syncs              {counts.synced:,} done, {counts.failed:,} failed",
        f"    in the store       {messages:,} messages ({size(stored)})",
    ]
    if space is not None:
        lines.append(f"    free on the disk   {size(space.free)} of {size(space.size)}")
    troubles = [f"    {one_line(trouble.subject, NAME)}" for trouble in open]
    unseen = [
        f"    {name_of(account.name)}, {device.name}: "
        + (f"last seen {when(device.seen_at)}" if device.seen_at else "never seen")
        for account in accounts
        for device in account.devices
        if (device.seen_at or 0.0) < since
    ]
    body = paragraphs(
        f"From {when(since)} to {when(now)}:",
        "\n".join(lines),
        *_listed("Troubles that are not over:", troubles),
        *_listed("Devices that did not log in in that time:", unseen),
    )
    return Telling(
        f"[pop3-sync-proxy] {_count(counts.fetched, 'message')}, {_count(len(open), 'trouble')}",
        body + "\n",
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _listed(title: str, lines: Sequence[str]) -> tuple[str, ...]:
    if not lines:
        return ()
    more = [f"    and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
    return title, "\n".join([*lines[:LISTED], *more])
