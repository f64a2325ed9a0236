"""Which account and which device a login name means.

A name means the account that it is the whole name of; or else a device of the account that it
begins with; or else one that upstream may know. But a login that a device has been using is not
captured by an account that came later; and what begins with a known account never goes upstream as
a name of its own, whatever is wrong with what follows.
"""

from __future__ import annotations

from proxy.domain.directory import Directory
from proxy.domain.login_name import spelled, splits, unheard_of
from proxy.domain.model import Account
from proxy.interfaces.store import Store


class LoginNames:
    def __init__(self, store: Store, directory: Directory) -> None:
        self._store = store
        self._directory = directory

    async def resolve(self, login: str) -> tuple[str, str | None]:
        """The account in its own spelling, and what is said of the device: None, nothing.

        The account need not exist, and the device need not be fit to be one.

        Raises:
            StoreUnavailable
        """
        separator = self._directory.separator
        whole = await self._store.account(login)
        if self._is_declared(login, whole):
            return await self._own_spelling(login), None
        for account, device in splits(login, separator):
            known = await self._store.account(account)
            if known is None and self._directory.declared(account) is None:
                continue
            if whole is None or await self._was_first(known, device, whole):
                return await self._own_spelling(account), device
        return (whole.name, None) if whole else unheard_of(login, separator)

    def _is_declared(self, login: str, known: Account | None) -> bool:
        names = [login, known.name] if known else [login]
        return any(self._directory.declared(name) for name in names)

    async def _own_spelling(self, name: str) -> str:
        known = await self._store.account(name)
        if known is not None:
            return known.name
        declared = self._directory.declared(name)
        return declared.name if declared else spelled(name)

    async def _was_first(self, owner: Account | None, device: str, whole: Account) -> bool:
        """Whether the device was there before the account that has its login for a name, or is one
        of that account itself, which had the name before it was merged into it."""
        found = await self._store.device(owner.id, device) if owner else None
        if owner is None or found is None:
            return False
        return owner.id == whole.id or found.created_at <= whole.created_at
