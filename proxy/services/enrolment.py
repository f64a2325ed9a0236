"""Which device of an account somebody is, and making it where it is new."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.domain.errors import AlreadyExists, BadLogin
from proxy.domain.facts import DeviceEnrolled
from proxy.domain.model import DEFAULT_DEVICE, Account, Device
from proxy.domain.peers import device_of_address, device_of_host
from proxy.domain.policy import AccountPolicy, IdentifyBy, backlog_age
from proxy.interfaces.observer import Observer
from proxy.interfaces.store import Store
from proxy.interfaces.world import World
from proxy.services.sync_run import SyncRun


def since(backlog: str, now: float) -> float | None:
    """The `Device.since` of a device made now under this backlog policy."""
    age = backlog_age(backlog)
    return None if age is None else now - age


@dataclass(frozen=True, slots=True)
class Admitted:
    """Who has proved to be an account."""

    account: Account
    device: Device | None
    """The device whose own credential it was; None: the account's password."""
    password: bytes | None = field(default=None, repr=False)
    """That, where it is upstream's and the configuration does not know it."""
    run: SyncRun | None = None
    """The sync that upstream accepted the password in."""


class Enrolment:
    def __init__(self, world: World, store: Store, observer: Observer) -> None:
        self._world = world
        self._store = store
        self._observer = observer

    async def of_reader(
        self, admitted: Admitted, asked: str | None, policy: AccountPolicy, peer: str
    ) -> Device:
        """The device that reads; `asked` is the name behind the login's separator.

        Raises:
            BadLogin: it may not be this one.
        """
        name = await self._name(admitted, asked, policy, peer)
        return await self._device(admitted, name or DEFAULT_DEVICE, policy)

    async def of_sender(
        self, admitted: Admitted, asked: str | None, policy: AccountPolicy, peer: str
    ) -> Device | None:
        """The device that hands in mail; None: one that nobody named, and that never read.

        Raises:
            BadLogin: as `of_reader`.
        """
        name = await self._name(admitted, asked, policy, peer)
        if name is None and policy.devices.enrol == "auto":
            # A device that nobody named is not made for having sent: mail would wait for it.
            return await self._store.device(admitted.account.id, DEFAULT_DEVICE)
        return await self._device(admitted, name or DEFAULT_DEVICE, policy)

    async def _name(
        self, admitted: Admitted, asked: str | None, policy: AccountPolicy, peer: str
    ) -> str | None:
        """None: nothing names it."""
        own = admitted.device
        for way in policy.devices.identify_by:
            name = await self._named_by(way, own, asked, peer)
            if name is not None:
                return name
        return own.name if own else None

    async def _device(self, admitted: Admitted, name: str, policy: AccountPolicy) -> Device:
        own = admitted.device
        if own is None:
            return await self._found_or_made(admitted.account, name, policy)
        if name.lower() != own.name.lower():
            raise BadLogin("the credential of another device")
        return own

    async def _named_by(
        self, way: IdentifyBy, own: Device | None, asked: str | None, peer: str
    ) -> str | None:
        match way:
            case "login":
                return asked
            case "app-password":
                return own.name if own else None
            case "address":
                return device_of_address(peer)
            case "reverse-name":
                host = await self._world.network.host_name(peer)
                return device_of_host(host) if host else None

    async def _found_or_made(self, account: Account, name: str, policy: AccountPolicy) -> Device:
        device = await self._store.device(account.id, name)
        if device is not None:
            return device
        if policy.devices.enrol == "closed":
            raise BadLogin(f"no device {name}, and enrolment is closed")
        now = self._world.clock.now()
        try:
            device = await self._store.add_device(
                account.id, name, since=since(policy.devices.backlog, now), at=now
            )
        except AlreadyExists:
            # Two first logins at once: the other one made it.
            device = await self._store.device(account.id, name)
            if device is None:
                raise
            return device
        self._observer.observe(DeviceEnrolled(account.name, device.name))
        return device
