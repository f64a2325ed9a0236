"""The device's maildrop: its view, cut from the account's messages, and the commit of its marks.

Views are cached in memory and checked against the store's versions, so that a poll which finds
nothing new touches no disk.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, TypeVar

from proxy.domain.errors import StoreUnavailable, Temporary
from proxy.domain.facts import BlobDamaged
from proxy.domain.model import Account, Device, Message
from proxy.domain.policy import AccountPolicy, ViewKind
from proxy.domain.retention import expire_days
from proxy.domain.view import Listing, View
from proxy.interfaces.observer import Observer
from proxy.interfaces.store import BlobReader, Store
from proxy.interfaces.world import Clock
from proxy.wire.pop3 import Expire

SEEN_RESOLUTION = 600.0
"""Seconds of running time between two writes of a device's last login; expiry counts in days."""

CACHED = 256
"""Accounts and views kept in memory. A view of 100,000 messages takes some 30 MB once for the
account, and little more for each device that hides nothing."""

K = TypeVar("K")
V = TypeVar("V")


class _Cache(Generic[K, V]):
    """The values used last, each with the version it was made from."""

    def __init__(self) -> None:
        self._entries: OrderedDict[K, tuple[object, V]] = OrderedDict()

    def get(self, key: K, version: object) -> V | None:
        entry = self._entries.get(key)
        if entry is None or entry[0] != version:
            return None
        self._entries.move_to_end(key)
        return entry[1]

    def put(self, key: K, version: object, value: V) -> V:
        self._entries[key] = (version, value)
        self._entries.move_to_end(key)
        if len(self._entries) > CACHED:
            self._entries.popitem(last=False)
        return value


@dataclass(slots=True)
class DeviceMaildrop:
    """One session's maildrop; see `face.Maildrop`."""

    account: str
    device: str
    view: View
    expire: Expire
    _store: Store
    _clock: Clock
    _observer: Observer
    _device_id: int
    _undelivered: bool
    _everywhere: bool
    _on_close: Callable[[DeviceMaildrop], None]
    committed: bool = False

    def open(self, message: Message) -> BlobReader:
        return self._store.open_blob(
            message,
            device=self._device_id,
            on_lost=lambda: self._observer.observe(BlobDamaged(self.account, message.id)),
        )

    async def commit(self) -> None:
        retrieved, deleted = self.view.retrieved_ids(), self.view.deleted_ids()
        if not self._undelivered:
            retrieved |= self.view.passed_over_ids()
        elif self.view.deletes:
            # A program that deletes what it has stored could not store the rest.
            retrieved &= deleted
        if retrieved or deleted:
            await self._store.commit_session(
                self._device_id,
                retrieved=retrieved,
                deleted=deleted,
                everywhere=self._everywhere,
                at=self._clock.now(),
            )
        self.committed = True

    def close(self) -> None:
        self._on_close(self)

    @property
    def was_cut_off(self) -> bool:
        """Whether the session has ended without a commit, and the device may have a message all the
        same. A program that cannot remember UIDLs will tell nothing of that."""
        view = self.view
        fetched = bool(view.sent_ids() or view.broken_ids())
        return fetched and not self._undelivered and not self.committed

    async def note_cut_off(self) -> None:
        sent, broken = self.view.sent_ids(), self.view.broken_ids()
        # What cannot be noted is concluded from by nobody.
        with suppress(StoreUnavailable):
            await self._store.note_cut_off(self._device_id, sent=sent, broken=broken)


class Maildrops:
    def __init__(self, store: Store, clock: Clock, observer: Observer) -> None:
        self._store = store
        self._clock = clock
        self._observer = observer
        self._accounts: _Cache[int, Listing] = _Cache()
        self._devices: _Cache[int, tuple[Listing, Collection[int]]] = _Cache()
        self._seen: dict[int, float] = {}
        self._open: Counter[int] = Counter()
        self._gates: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._noting: set[asyncio.Task[None]] = set()

    async def settle(self) -> None:
        """Wait until the ends of all sessions are on disk; none may be open."""
        await asyncio.gather(*self._noting)

    def gate(self, account_id: int) -> asyncio.Lock:
        """Held while a view of this account is cut: no session opens while another holds it."""
        return self._gates[account_id]

    def has_sessions(self, account_id: int) -> bool:
        """Whether any session of this account is open; its blobs are then not purged."""
        return self._open[account_id] > 0

    async def open(self, account: Account, device: Device, policy: AccountPolicy) -> DeviceMaildrop:
        """The maildrop of one session, as the store has it now.

        Raises:
            Temporary: the account has become another one in the meantime.
        """
        await self._note_seen(device)
        async with self.gate(account.id):
            known = await self._store.account(account.name)
            if known is None or known.id != account.id:
                # An empty maildrop would have a program forget all the UIDLs that it remembers.
                raise Temporary("the account has just been removed or merged")
            view = View(*await self._listing(account, device, policy))
            self._open[account.id] += 1
        return DeviceMaildrop(
            account=account.name,
            device=device.name,
            view=view,
            expire=Expire(expire_days(policy, device)),
            _store=self._store,
            _clock=self._clock,
            _observer=self._observer,
            _device_id=device.id,
            _undelivered=_kind(device, policy) == "undelivered",
            _everywhere=policy.retention.on_delete == "everywhere",
            _on_close=partial(self._closed, account.id),
        )

    def _closed(self, account_id: int, maildrop: DeviceMaildrop) -> None:
        if maildrop.was_cut_off:
            noting = asyncio.get_running_loop().create_task(maildrop.note_cut_off())
            self._noting.add(noting)
            noting.add_done_callback(self._noting.discard)
        self._open[account_id] -= 1
        if not self._open[account_id]:
            del self._open[account_id]

    async def _note_seen(self, device: Device) -> None:
        ran = self._store.ran
        seen = self._seen.get(device.id, device.seen_ran if device.seen_at else -SEEN_RESOLUTION)
        if ran - seen < SEEN_RESOLUTION:
            return
        # A full disk must not keep anybody from reading mail.
        with suppress(StoreUnavailable):
            await self._store.note_seen(device.id, at=self._clock.now())
            self._seen[device.id] = ran

    async def _listing(
        self, account: Account, device: Device, policy: AccountPolicy
    ) -> tuple[Listing, Collection[int]]:
        """With what is unconfirmed."""
        kind = _kind(device, policy)
        follow = policy.retention.follow_upstream_removals
        version = (
            self._store.version(account.id),
            self._store.device_version(device.id),
            kind,
            follow,
        )
        cached = self._devices.get(device.id, version)
        if cached is not None:
            return cached
        whole = await self._whole_listing(account)
        hidden = await self._store.hidden(device.id, kind)
        if follow:
            hidden |= await self._store.removed_upstream(account.id)
        # Devices that hide nothing share the account's listing and its rendered replies.
        uids = await self._store.uids_of(device.id)
        listing = whole
        if hidden or uids:
            listing = Listing(
                tuple(
                    replace(m, uid=uids[m.id]) if m.id in uids else m
                    for m in whole.messages
                    if m.id not in hidden
                )
            )
        unconfirmed = await self._store.unconfirmed(device.id)
        return self._devices.put(device.id, version, (listing, unconfirmed))

    async def _whole_listing(self, account: Account) -> Listing:
        version = self._store.version(account.id)
        cached = self._accounts.get(account.id, version)
        if cached is not None:
            return cached
        listing = Listing(await self._store.messages(account.id))
        return self._accounts.put(account.id, version, listing)


def _kind(device: Device, policy: AccountPolicy) -> ViewKind:
    return device.view or policy.devices.view
