"""Looks at accounts and devices in the store, for metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from proxy.domain.directory import Directory
from proxy.domain.errors import StoreUnavailable
from proxy.domain.facts import Unexpected
from proxy.domain.model import Account, AccountSize, Device
from proxy.domain.survey import AccountState, DeviceState
from proxy.interfaces.observer import Observer
from proxy.interfaces.store import Store

EVERY = 30.0
"""Seconds between two rounds."""

V = TypeVar("V")

NOTHING = AccountSize(0, 0, 0)


class _Remembered(Generic[V]):
    """Values of the last round, each with the version it was made from: what has not changed since
    costs no query."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[object, V]] = {}
        self._round: dict[int, tuple[object, V]] = {}

    async def get(self, key: int, version: object, ask: Callable[[int], Awaitable[V]]) -> V:
        known = self._last.get(key)
        if known is None or known[0] != version:
            known = version, await ask(key)
        self._round[key] = known
        return known[1]

    def next_round(self) -> None:
        self._last, self._round = self._round, {}


class Surveyor:
    def __init__(self, store: Store, observer: Observer, directory: Directory) -> None:
        self._store = store
        self._observer = observer
        self._directory = directory
        self._sizes: _Remembered[AccountSize] = _Remembered()
        self._backlogs: _Remembered[int] = _Remembered()

    async def work(self, show: Callable[[list[AccountState]], None]) -> None:
        """Make rounds until cancelled."""
        while True:
            try:
                show(await self.survey())
            except StoreUnavailable:
                # Those who cannot do without the store tell of it.
                pass
            except Exception as error:
                self._observer.observe(Unexpected("survey", error))
            await asyncio.sleep(EVERY)

    async def survey(self) -> list[AccountState]:
        """All accounts that may be used, by name.

        Raises:
            StoreUnavailable
        """
        known = {account.name: account for account in await self._store.accounts()}
        names = {declared.name for declared in self._directory.all_declared()}
        if self._directory.pass_through:
            names |= {name for name in known if self._directory.allows(name)}
        states = [await self._account(name, known.get(name)) for name in sorted(names)]
        self._sizes.next_round()
        self._backlogs.next_round()
        return states

    async def _account(self, name: str, account: Account | None) -> AccountState:
        size, devices = NOTHING, list[Device]()
        if account is not None:
            version = self._store.version(account.id)
            size = await self._sizes.get(account.id, version, self._store.size)
            devices = await self._store.devices(account.id)
        never = account is None or account.synced_at is None
        kind = account.failure_kind if account else ""
        return AccountState(
            name=name,
            messages=size.messages,
            octets=size.octets,
            upstream_messages=None if account is None or never else account.upstream_count,
            synced_at=(account.synced_at if account else None) or 0.0,
            sync_interval=self._interval(name, account),
            consent_needed=kind == "ConsentNeeded",
            login_refused=kind == "UpstreamRefusedLogin",
            devices=tuple([await self._device(device) for device in devices]),
        )

    async def _device(self, device: Device) -> DeviceState:
        store = self._store
        version = store.version(device.account_id), store.device_version(device.id)
        backlog = await self._backlogs.get(device.id, version, store.waiting)
        return DeviceState(device.name, backlog, device.seen_at)

    def _interval(self, name: str, account: Account | None) -> float | None:
        declared = self._directory.declared(name)
        if declared is None:
            return None
        policy = declared.policy
        learnt = account.login_interval if account else 0.0
        return max(policy.sync.interval, policy.upstream.login_interval, learnt)
