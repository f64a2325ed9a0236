"""`device import-seen`: a device goes on where it was while it used the upstream directly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from proxy.domain.directory import Directory
from proxy.domain.errors import AlreadyExists, BadRequest, NotFound
from proxy.domain.login_name import spelled
from proxy.domain.model import Account, Device, Upstream, is_valid_device_name
from proxy.interfaces.store import Store
from proxy.services.timekeeper import Timekeeper
from proxy.wire.seen_files import UIDS_LIMIT, is_seen_uid


class ImportSeen:
    def __init__(self, store: Store, timekeeper: Timekeeper, directory: Directory) -> None:
        self._store = store
        self._timekeeper = timekeeper
        self._directory = directory

    async def run(
        self, account: str, device: str, uids: Sequence[str], slashes_lost: bool = False
    ) -> dict[str, Any]:
        """Mark what the device has had; account and device are made if a login would make them.

        Raises:
            BadRequest: not UIDLs, or they can tell nothing here.
            NotFound: a login of this account would be refused.
        """
        if not is_valid_device_name(device):
            raise BadRequest(f"{device!r} is no device name: 1 to 32 of A-Z a-z 0-9 . _ -")
        if not 0 < len(uids) <= UIDS_LIMIT or not all(
            isinstance(uid, str) and is_seen_uid(uid) for uid in uids
        ):
            raise BadRequest(f"these are not 1 to {UIDS_LIMIT} UIDLs")
        owner = await self._account(account)
        await self._check_upstream(owner)
        found, made = await self._device(owner, device)
        at = self._timekeeper.best_now()
        imported = await self._store.import_seen(found.id, uids, slashes_lost=slashes_lost, at=at)
        return {
            "account": owner.name,
            "device": found.name,
            "new_device": made,
            "uids": imported.known + imported.waiting + imported.ambiguous,
            **asdict(imported),
        }

    async def _account(self, name: str) -> Account:
        account = await self._store.account(name)
        if account is not None:
            return account
        if not self._directory.uses(name):
            raise NotFound(f"no account {name}")
        declared = self._directory.declared(name)
        return await self._store.ensure_account(
            declared.name if declared else spelled(name),
            declared=declared is not None,
            at=self._timekeeper.best_now(),
        )

    async def _check_upstream(self, account: Account) -> None:
        messages = await self._store.known(account.id)
        present = [message for message in messages if message.upstream is Upstream.PRESENT]
        if present and not any(message.upstream_uid for message in present):
            raise BadRequest(
                f"the upstream of {account.name} gives no UIDLs, so its mail cannot be told by them"
            )

    async def _device(self, account: Account, name: str) -> tuple[Device, bool]:
        """The device, and whether it was made now.

        No backlog policy hides mail from a new one: the file says what it has had, and all else is
        mail it still has to get.
        """
        device = await self._store.device(account.id, name)
        if device is not None:
            return device, False
        try:
            made = await self._store.add_device(
                account.id, name, since=None, at=self._timekeeper.best_now()
            )
        except AlreadyExists:
            # Its first login has made it meanwhile.
            return await self._device(account, name)
        return made, True
