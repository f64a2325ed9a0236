"""Making one account of two that stand for the same mailbox.

Every device goes on as if it had been alone with its account: it sees each mail under the UIDL that
it knows, nothing that it had comes again, and what it was to get still comes. So a mail that both
accounts hold becomes one message with what the devices of either did with it; where the accounts
knew it by two UIDLs, those devices whose name for it went keep that name for themselves.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from proxy.domain.model import OWN_UID_PREFIX, minted_uids


@dataclass(frozen=True, slots=True)
class Row:
    """One message of one of the accounts, purged or not."""

    id: int
    uid: str
    upstream_uid: str
    digest: bytes
    header_digest: bytes | None
    content_digest: bytes | None
    received_at: float
    deleted: bool
    """For all devices."""
    purged: bool
    own: bool
    only_device: int | None
    dated: bool
    """`received_at` is what it says of itself."""


@dataclass(frozen=True, slots=True)
class Reader:
    """One device."""

    id: int
    name: str
    since: float | None
    backlog_to: int


@dataclass(frozen=True, slots=True)
class Side:
    """One of the accounts."""

    rows: Sequence[Row]
    """In order of arrival."""
    devices: Sequence[Reader]
    had: frozenset[tuple[int, int]]
    """Device and message: retrieved or deleted, or sent whole without a QUIT."""
    uids: Mapping[tuple[int, int], str]
    """Device and message: the name it has for that, where it is not `Row.uid`."""

    def name(self, device: Reader, row: Row) -> str:
        return self.uids.get((device.id, row.id), row.uid)


@dataclass(slots=True)
class Plan:
    """What to do; ids are those that stay."""

    same: dict[int, int] = field(default_factory=dict)
    """Messages of the source, and those of the target that they are."""
    joined: dict[int, int] = field(default_factory=dict)
    """Devices of the source, and those of the target that have their names."""
    renamed: dict[int, str] = field(default_factory=dict)
    """Messages of the source whose UIDL names another message of the target, and the new one."""
    reserved: list[int] = field(default_factory=list)
    """Messages of the source that are one of the target, and had another UIDL, which must not be
    used again."""
    uids: list[tuple[int, int, str]] = field(default_factory=list)
    """Device, message, and what it calls that, for all devices of the source."""
    hidden: list[tuple[int, int]] = field(default_factory=list)
    """Device and message: not for it, and nothing but a mark would say so any more."""
    backlog_to: dict[int, int] = field(default_factory=dict)
    """Of each device."""


def plan_merge(source: Side, target: Side) -> Plan:
    return _Planner(source, target).plan()


def same_mail(source: Sequence[Row], target: Sequence[Row]) -> dict[int, int]:
    """Messages of one account, and which of the other's is the same mail, each at most once.

    The octets decide, the UIDL among equal ones. Where a provider changed the header on the way, so
    that the octets differ, UIDL and what stays of the message must both agree.
    """
    same: dict[int, int] = {}
    taken: set[int] = set()
    for key in _KEYS:
        waiting: defaultdict[Hashable, deque[int]] = defaultdict(deque)
        for row in target:
            if not row.own and row.id not in taken:
                waiting[key(row)].append(row.id)
        for row in source:
            if row.own or row.id in same or (known := key(row)) is None:
                continue
            if found := waiting.get(known):
                same[row.id] = found.popleft()
                taken.add(same[row.id])
    return same


_KEYS: tuple[Callable[[Row], Hashable], ...] = (
    lambda row: (row.digest, row.uid),
    lambda row: (row.digest, row.upstream_uid) if row.upstream_uid else None,
    lambda row: row.digest,
    lambda row: (row.uid, row.content_digest) if row.content_digest else None,
    lambda row: (row.uid, row.header_digest) if row.header_digest else None,
    lambda row: (
        (row.upstream_uid, row.content_digest) if row.upstream_uid and row.content_digest else None
    ),
    lambda row: (
        (row.upstream_uid, row.header_digest) if row.upstream_uid and row.header_digest else None
    ),
)
"""What makes two messages the same, the surest first; None: nothing does."""


@dataclass(frozen=True, slots=True)
class _Mail:
    """One message of the account that comes of it, and the one or two that it was."""

    id: int
    uid: str
    source: Row | None
    target: Row | None

    @property
    def rows(self) -> list[Row]:
        return [row for row in (self.source, self.target) if row]

    @property
    def is_over(self) -> bool:
        """It only keeps its UIDL from being used again: nobody will ever see it."""
        return all(row.own and row.purged for row in self.rows)


class _Planner:
    def __init__(self, source: Side, target: Side) -> None:
        self._source = source
        self._target = target
        self._taken = {
            uid
            for side in (source, target)
            for uid in (*(row.uid for row in side.rows), *side.uids.values())
        }
        self._plan = Plan()
        self._mails: list[_Mail] = []

    def plan(self) -> Plan:
        plan, source, target = self._plan, self._source, self._target
        plan.same = same_mail(source.rows, target.rows)
        names = {device.name.lower(): device for device in target.devices}
        joined = {
            device.id: names[device.name.lower()]
            for device in source.devices
            if device.name.lower() in names
        }
        plan.joined = {id_: device.id for id_, device in joined.items()}
        self._name_what_moves()
        for device in source.devices:
            self._settle(device, joined.get(device.id))
        for device in target.devices:
            if device.id not in plan.joined.values():
                self._hide(None, device)
        return plan

    def _name_what_moves(self) -> None:
        target = self._target
        used = {row.uid for row in target.rows} | set(target.uids.values())
        of_target = {row.id: row for row in target.rows}
        for row in self._source.rows:
            if row.id in self._plan.same:
                twin = of_target.pop(self._plan.same[row.id])
                if row.uid not in used:
                    self._plan.reserved.append(row.id)
                self._mails.append(_Mail(twin.id, twin.uid, row, twin))
                continue
            uid = row.uid
            if uid in used:
                uid = self._plan.renamed[row.id] = self._mint(row)
            self._mails.append(_Mail(row.id, uid, row, None))
        self._mails += [_Mail(row.id, row.uid, None, row) for row in of_target.values()]

    def _mint(self, row: Row) -> str:
        fresh = minted_uids(row.digest, OWN_UID_PREFIX if row.own else "")
        uid = next(uid for uid in fresh if uid not in self._taken)
        self._taken.add(uid)
        return uid

    def _settle(self, device: Reader, namesake: Reader | None) -> None:
        """A device of the source, and the one of the target that it becomes one with."""
        firm, loose, remembered = self._names(device, namesake)
        calls: dict[str, _Mail] = {}
        lasting = namesake.id if namesake else device.id
        for mail, uid in firm:
            if calls.setdefault(uid, mail) is not mail:
                # One program has fetched two mails under one name: it keeps both, and sees one.
                self._plan.hidden.append((lasting, mail.id))
                calls[self._mint(mail.rows[0])] = mail
        for mail, uid in loose:
            new = uid not in remembered and uid not in calls
            calls[uid if new else self._mint(mail.rows[0])] = mail
        self._plan.uids += [
            (lasting, mail.id, uid) for uid, mail in calls.items() if uid != mail.uid
        ]
        self._hide(device, namesake)

    def _names(
        self, device: Reader, namesake: Reader | None
    ) -> tuple[list[tuple[_Mail, str]], list[tuple[_Mail, str]], set[str]]:
        """What it calls the mails: names that must stay, names that may change, and names that it
        may remember.

        A device that was in one account keeps every name it saw there. One that was in both keeps
        those of mails that it had.
        """
        firm, loose, remembered = [], [], set[str]()
        for mail in self._mails:
            names, had = [], []
            for side, reader, row in (
                (self._target, namesake, mail.target),
                (self._source, device, mail.source),
            ):
                if reader and row:
                    names.append(side.name(reader, row))
                    if namesake is None or (reader.id, row.id) in side.had:
                        had.append(names[-1])
            remembered.update(had)
            if mail.is_over:
                continue
            if had:
                firm.append((mail, had[0]))
            else:
                known = names and mail.id not in self._plan.renamed
                loose.append((mail, names[0] if known else mail.uid))
        return firm, loose, remembered

    def _hide(self, device: Reader | None, namesake: Reader | None) -> None:
        """Marks for what was hidden from it before and would show now."""
        readers = [reader for reader in (device, namesake) if reader]
        lasting = readers[-1]
        since = earliest(reader.since for reader in readers)
        backlog_to = min(reader.backlog_to for reader in readers)
        mails = [(mail, _were_hidden(mail, device, namesake)) for mail in self._mails]
        for mail, before in mails:
            owner = device if device and mail.source else lasting
            # It came to it as new mail, and is now one with another that was there before.
            if before and not all(before) and _is_hidden(mail.rows, _at(owner, since, mail.id)):
                backlog_to = min(backlog_to, mail.id - 1)
        self._plan.backlog_to[lasting.id] = backlog_to
        for mail, before in mails:
            # A notice or a copy that the proxy made was for the devices of the one account.
            was_hidden = all(before) if before else mail.rows[0].own
            owner = device if device and mail.source else lasting
            if was_hidden and not _is_hidden(mail.rows, _at(owner, since, backlog_to)):
                self._plan.hidden.append((lasting.id, mail.id))


def _were_hidden(mail: _Mail, device: Reader | None, namesake: Reader | None) -> list[bool]:
    """Whether each of its devices did not see it."""
    pairs = ((device, mail.source), (namesake, mail.target))
    return [_is_hidden([row], reader) for reader, row in pairs if reader and row]


def _at(device: Reader, since: float | None, backlog_to: int) -> Reader:
    return replace(device, since=since, backlog_to=backlog_to)


def _is_hidden(rows: Sequence[Row], device: Reader) -> bool:
    """Whether this message, of one or two rows, is hidden by more than the device's own marks.

    Of two, the last one stays.
    """
    since = device.since
    is_backlog = rows[-1].id <= device.backlog_to or all(row.dated for row in rows)
    return (
        all(row.purged for row in rows)
        or all(row.deleted for row in rows)
        or (is_backlog and since is not None and max(r.received_at for r in rows) <= since)
        or any(row.only_device not in (None, device.id) for row in rows)
    )


def earliest(since: Iterable[float | None]) -> float | None:
    """The `since` of a device that was several: of all of them, the one that lets most mail in."""
    known = list(since)
    times = [each for each in known if each is not None]
    return min(times) if len(times) == len(known) else None


@dataclass(frozen=True, slots=True)
class Merging:
    """What comes of it, in numbers and names for an operator."""

    devices: tuple[str, ...]
    """Of the source, that move."""
    joined: tuple[str, ...]
    """Of both: each becomes one device."""
    messages: int
    """Of the source, in the store."""
    same: int
    """Of these, in the target as well."""
    moved: int
    """Of these, new to the target."""
    without_scram: tuple[str, ...]
    """Devices whose app password works on, but by SCRAM."""
    without_password: tuple[str, ...]
    """Devices of the source whose app password ends: their namesake keeps its own."""
    without_certificate: tuple[str, ...]
    """Likewise, of certificates."""
