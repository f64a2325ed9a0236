"""Troubles that a person has to know of: when one begins, and when it is over.

What is told of each stands in `trouble_texts`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

from proxy.domain.facts import UidlsChanged
from proxy.domain.model import Account, Unfetched
from proxy.domain.policy import DAY, HOUR, AccountPolicy
from proxy.domain.room import ACCOUNT_FULL, NO_ROOM, for_mail
from proxy.domain.survey import Space

TroubleKind = Literal[
    "password_refused",
    "consent_needed",
    "no_sync",
    "too_large",
    "uidls_changed",
    "shared_device",
    "clock_jump",
    "same_mailbox",
    "store_low",
    "store_full",
    "account_full",
    "lost_mail",
    "orphans",
]
"""`clock_jump`, `store_low` and `orphans` are for the operator alone, `store_full` for devices
alone."""

ReportKind = Literal["digest"]
"""Kept like a trouble, from the beginning of its period on."""

REFUSALS = 2
"""Refused logins in a row; a single one may be a fault of the provider's."""

NO_SYNC = DAY
"""Seconds without a successful sync; at least two intervals, where those are longer."""

GRACE = HOUR
"""Seconds after the start in which nothing is said of syncs that were missed while it was off."""

TELLS_FOR = 7 * DAY
"""Seconds for which changed UIDLs count as one change, and are told of."""

MIB = 1024**2
LOW = 200 * MIB
LOW_SHARE, LOW_AT_MOST = 0.05, 5 * 1024 * MIB
LOW_RESERVES = 2
"""Room is low below `LOW`, below this share of the whole where that is not plenty, or below so many
times the reserve."""
MARGIN = 1.2
"""So many times as much room has to be there until there is enough again."""

TOO_LARGE = "larger than max_message_size"
"""How `Unfetched.why` begins for a message over the limit."""

HANGS_TOGETHER: frozenset[TroubleKind] = frozenset(("password_refused", "consent_needed"))
"""Where one of these is told of, it also says why there is no sync."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """One that was noticed."""

    id: int
    account_id: int | None
    """None: the machine's."""
    kind: TroubleKind | ReportKind
    since: float
    subject: str
    body: str
    marks: tuple[str, ...]
    """UIDLs of the messages it is about, or names of devices; the counts of a digest."""
    message_id: int | None
    """Of the notice in the account's maildrops, if there is one."""
    over_at: float | None
    alerted_at: float | None
    """When the operator was told that it began."""
    recovered_at: float | None
    """When the operator was told that it is over."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What is known of an account beside what the store keeps."""

    policy: AccountPolicy
    declared: bool
    refusals: int
    """Logins that upstream refused in a row."""
    renamed: UidlsChanged | None
    """UIDLs have just changed."""
    shared: Collection[str] = field(default=())
    """Devices that two mail programs seem to use."""
    twins: Collection[str] = field(default=())
    """Names of accounts that seem to stand for the same mailbox."""
    lost: Collection[str] = field(default=())
    """UIDLs of stored messages that are lost, and that upstream has no more."""


def begun(
    account: Account, watched: Watched, open: Collection[Trouble], *, running: float, now: float
) -> list[TroubleKind]:
    """Kinds that begin now; `open` are this account's, `running` is for how many seconds we are."""
    known = {trouble.kind for trouble in open}
    found: list[TroubleKind] = []
    if watched.declared and account.failure_kind == "ConsentNeeded":
        found.append("consent_needed")
    if watched.declared and account.failure_kind == "UpstreamRefusedLogin":
        found += ["password_refused"] if watched.refusals >= REFUSALS else []
    if watched.declared and running > GRACE and not HANGS_TOGETHER & {*known, *found}:
        patience = max(NO_SYNC, 2 * watched.policy.sync.interval)
        last = account.synced_at or account.created_at
        found += ["no_sync"] if now - last > patience else []
    if is_account_full(account):
        found.append("account_full")
    if watched.renamed is not None:
        found.append("uidls_changed")
    fresh: list[TroubleKind] = [kind for kind in found if kind not in known]
    if new_too_large(account, open):
        fresh.append("too_large")
    if new_shared(watched.shared, open):
        fresh.append("shared_device")
    if new_twins(watched.twins, open):
        fresh.append("same_mailbox")
    if new_lost(watched.lost, open):
        fresh.append("lost_mail")
    return fresh


def too_large(account: Account) -> list[Unfetched]:
    return [one for one in account.unfetched if one.why.startswith(TOO_LARGE)]


def is_account_full(account: Account) -> bool:
    return any(one.why.startswith(ACCOUNT_FULL) for one in account.unfetched)


def lacks_room(account: Account, space: Space) -> bool:
    """Whether mail was left upstream that would find no room now either."""
    room = for_mail(space)
    return any(
        one.why.startswith(NO_ROOM) and one.octets * MARGIN + MIB > room
        for one in account.unfetched
    )


def mark(message: Unfetched) -> str:
    return message.uid or f"{message.octets} octets"


def new_too_large(account: Account, open: Collection[Trouble]) -> list[Unfetched]:
    """Those that no open trouble is about."""
    told = {each for trouble in open if trouble.kind == "too_large" for each in trouble.marks}
    return [one for one in too_large(account) if mark(one) not in told]


def new_shared(shared: Collection[str], open: Collection[Trouble]) -> list[str]:
    """Those devices that no open trouble is about."""
    told = {each for trouble in open if trouble.kind == "shared_device" for each in trouble.marks}
    return sorted(set(shared) - told)


def new_twins(twins: Collection[str], open: Collection[Trouble]) -> list[str]:
    """Those accounts that no open trouble is about."""
    told = {each for trouble in open if trouble.kind == "same_mailbox" for each in trouble.marks}
    return sorted(set(twins) - told)


def new_lost(lost: Collection[str], open: Collection[Trouble]) -> list[str]:
    """Those messages that no open trouble is about."""
    told = {each for trouble in open if trouble.kind == "lost_mail" for each in trouble.marks}
    return [uid for uid in lost if uid not in told]


def is_over(
    trouble: Trouble,
    account: Account,
    *,
    declared: bool,
    shared: Collection[str] = (),
    twins: Collection[str] = (),
    lost: Collection[str] = (),
    now: float,
) -> bool:
    """Of an account's trouble."""
    match trouble.kind:
        case "password_refused" | "consent_needed":
            return account.failed_at is None or not declared
        case "no_sync":
            return (account.synced_at or 0.0) >= trouble.since or not declared
        case "too_large":
            return not {mark(one) for one in too_large(account)}.intersection(trouble.marks)
        case "account_full":
            return not is_account_full(account)
        case "shared_device":
            return not set(shared).intersection(trouble.marks)
        case "same_mailbox":
            return not set(twins).intersection(trouble.marks)
        case "lost_mail":
            return not set(lost).intersection(trouble.marks)
        case "uidls_changed":
            return now - trouble.since > TELLS_FOR
        case _:
            return False


def is_low(space: Space, *, already: bool) -> bool:
    """Whether the operator has to make room; `already`: it was low when last looked at."""
    share = min(LOW_SHARE * space.size, LOW_AT_MOST)
    least = max(LOW, share, LOW_RESERVES * space.reserve)
    return space.free < least * (MARGIN if already else 1)


def is_full(space: Space, *, already: bool) -> bool:
    """Whether there is no room for mail."""
    return for_mail(space) < space.reserve * (MARGIN - 1 if already else 0)
