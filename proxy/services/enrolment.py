"""Which device of an account somebody is, and making it where it is new."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.domain.device_texts import new_device, not_named
from proxy.domain.directory import Directory
from proxy.domain.errors import AlreadyExists, BadLogin, DeviceNotNamed, UnfitDeviceName
from proxy.domain.facts import DeviceEnrolled, DeviceUsed
from proxy.domain.login_name import unfit_device_name
from proxy.domain.model import DEFAULT_DEVICE, Account, Blob, Device
from proxy.domain.peers import device_of_address, device_of_host
from proxy.domain.policy import AccountPolicy, IdentifyBy, backlog_age
from proxy.interfaces.observer import Observer
from proxy.interfaces.store import Store
from proxy.interfaces.world import World
from proxy.services.newcomers import Newcomers
from proxy.services.notices import Notices
from proxy.services.rights import Right
from proxy.services.sync_run import SyncRun
from proxy.services.timekeeper import Timekeeper


def since(backlog: str, now: float) -> float | None:
    """The `Device.since` of a device made now under this backlog policy."""
    age = backlog_age(backlog)
    return None if age is None else now - age


@dataclass(frozen=True, slots=True)
class Admitted:
    """Who has proved to be an account."""

    account: Account
    right: Right
    """What a session of his rests on."""
    device: Device | None = None
    """The device whose own credential it was; None: the account's password."""
    password: bytes | None = field(default=None, repr=False)
    """That, where it is upstream's and the configuration does not know it."""
    run: SyncRun | None = None
    """The sync that upstream accepted the password in."""


class Enrolment:
    def __init__(
        self,
        world: World,
        store: Store,
        observer: Observer,
        directory: Directory,
        newcomers: Newcomers,
        timekeeper: Timekeeper,
        *,
        notices: bool,
    ) -> None:
        self.notices = notices
        """Whether an account's devices are told of a new one."""
        self._notices = Notices(store, world)
        self._directory = directory
        self._newcomers = newcomers
        self._timekeeper = timekeeper
        self._world = world
        self._store = store
        self._observer = observer

    async def of_reader(
        self, admitted: Admitted, asked: str | None, policy: AccountPolicy, peer: str
    ) -> Device:
        """The device that reads; `asked` is the name behind the login's separator.

        Raises:
            BadLogin: it may not be this one.
            BadDevice: that can be no device's name, or it has none, or is one too many.
        """
        name = await self._name(admitted, asked, policy, peer)
        device = await self._device(admitted, name or DEFAULT_DEVICE, policy, peer)
        self._observer.observe(
            DeviceUsed(peer, admitted.account.name, device.name, named=name is not None)
        )
        return device

    async def of_sender(
        self, admitted: Admitted, asked: str | None, policy: AccountPolicy, peer: str
    ) -> Device | None:
        """The device that hands in mail; None: one that nobody named, and that never read.

        Raises:
            BadLogin, BadDevice: as `of_reader`.
        """
        name = await self._name(admitted, asked, policy, peer)
        if name is None and policy.devices.enrol == "auto":
            # A device that nobody named is not made for having sent: mail would wait for it.
            return await self._store.device(admitted.account.id, DEFAULT_DEVICE)
        return await self._device(admitted, name or DEFAULT_DEVICE, policy, peer)

    async def _name(
        self, admitted: Admitted, asked: str | None, policy: AccountPolicy, peer: str
    ) -> str | None:
        """None: nothing names it, and nothing need.

        Raises:
            DeviceNotNamed, UnfitDeviceName
        """
        own = admitted.device
        for way in policy.devices.identify_by:
            name = await self._named_by(way, own, asked, peer)
            if name is not None:
                return name
        if own is not None:
            return own.name
        if policy.devices.unnamed == "refuse":
            by_login = "login" in policy.devices.identify_by
            account, separator = admitted.account.name, self._directory.separator
            raise DeviceNotNamed(not_named(account, separator, by_login=by_login))
        return None

    async def _device(
        self, admitted: Admitted, name: str, policy: AccountPolicy, peer: str
    ) -> Device:
        own = admitted.device
        if own is None:
            return await self._found_or_made(admitted.account, name, policy, peer)
        if name.lower() != own.name.lower():
            raise BadLogin("the credential of another device")
        return own

    async def _named_by(
        self, way: IdentifyBy, own: Device | None, asked: str | None, peer: str
    ) -> str | None:
        match way:
            case "login":
                if asked is not None and (fault := unfit_device_name(asked)):
                    raise UnfitDeviceName(f"login refused: {fault}")
                return asked
            case "app-password":
                return own.name if own else None
            case "address":
                return device_of_address(peer)
            case "reverse-name":
                host = await self._world.network.host_name(peer)
                return device_of_host(host) if host else None

    async def _found_or_made(
        self, account: Account, name: str, policy: AccountPolicy, peer: str
    ) -> Device:
        device = await self._store.device(account.id, name)
        if device is not None:
            return device
        if policy.devices.enrol == "closed":
            raise BadLogin(f"no device {name}, and enrolment is closed")
        now = self._timekeeper.best_now()
        try:
            device = await self._store.add_device(
                account.id,
                name,
                since=since(policy.devices.backlog, now),
                at_most=self._newcomers.max_devices,
                notice=await self._notice(account, name, peer, now),
                at=now,
            )
        except AlreadyExists:
            # Two first logins at once: the other one made it.
            device = await self._store.device(account.id, name)
            if device is None:
                raise
            return device
        self._observer.observe(DeviceEnrolled(account.name, device.name))
        return device

    async def _notice(self, account: Account, name: str, peer: str, now: float) -> Blob | None:
        """For the other devices, if there are any, and one more is let in."""
        others, most = len(await self._store.devices(account.id)), self._newcomers.max_devices
        if not self.notices or not 0 < others < most:
            return None
        telling = new_device(account, name, peer, at=now, count=others + 1, most=most)
        return await self._notices.write(account, "new_device", telling, at=now)
