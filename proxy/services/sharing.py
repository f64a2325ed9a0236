"""Which devices seem to be used by two mail programs; the rule is in `domain.sharing`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection

from proxy.domain.facts import DeviceUsed, Fact, SessionEnded
from proxy.domain.model import DEFAULT_DEVICE, Account, Device
from proxy.domain.sharing import CALM, DeviceUse
from proxy.domain.trouble import Trouble
from proxy.interfaces.store import Store
from proxy.interfaces.world import Clock

REMEMBERED = 5000
"""Devices; those unheard of for longest go first."""


class Sharing:
    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._started = clock.now()
        self._uses: OrderedDict[tuple[str, str], DeviceUse] = OrderedDict()
        """By account and device, the latter in lower case."""

    def observe(self, fact: Fact) -> bool:
        """Whether a device is found to be shared, for the first time."""
        match fact:
            case DeviceUsed(account=account, device=device):
                use, now = self._use(account, device), self._clock.now()
                known = use.shared_at
                use.logged_in(fact.peer, now, named=fact.named)
            case SessionEnded(account=account, device=device, ended="quit") if account:
                use, now = self._use(account, device), self._clock.now()
                known = use.shared_at
                use.quit(fact.peer, now - fact.seconds, now)
            case _:
                return False
        return known is None and use.shared_at is not None

    def _use(self, account: str, device: str) -> DeviceUse:
        key = account, device.lower()
        use = self._uses.setdefault(key, DeviceUse())
        self._uses.move_to_end(key)
        if len(self._uses) > REMEMBERED:
            self._uses.popitem(last=False)
        return use

    def suspects(self) -> dict[str, list[DeviceUse]]:
        """Accounts with a device that is to be looked at."""
        found: dict[str, list[DeviceUse]] = {}
        for (account, _), use in self._uses.items():
            if use.shared_at is not None or use.unnamed_at is not None:
                found.setdefault(account, []).append(use)
        return found

    async def shared(self, account: Account, told: Collection[Trouble], now: float) -> set[str]:
        """Names of devices that are shared as far as can be told; `told` are open troubles, which
        stay so for a while though this process knows nothing of why.

        Raises:
            StoreUnavailable
        """
        devices = await self._store.devices(account.id)
        marked = {
            name.lower()
            for trouble in told
            if now - max(trouble.since, self._started) <= CALM
            for name in trouble.marks
        }
        return {
            device.name
            for device in devices
            if device.name.lower() in marked or self._is_shared(account, device, devices, now)
        }

    def _is_shared(
        self, account: Account, device: Device, devices: Collection[Device], now: float
    ) -> bool:
        use = self._uses.get((account.name, device.name.lower()))
        if use is None:
            return False
        if _lately(use.shared_at, now):
            return True
        others = any(_lately(one.seen_at, now) for one in devices if one.id != device.id)
        return device.name == DEFAULT_DEVICE and others and _lately(use.unnamed_at, now)


def _lately(at: float | None, now: float) -> bool:
    return at is not None and now - at <= CALM
