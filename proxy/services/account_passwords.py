"""The passwords of declared accounts, fetched from where each is when it is first needed."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from proxy.domain.directory import Directory
from proxy.domain.errors import BadConfig, ConsentNeeded, PasswordUnavailable, VaultLocked
from proxy.interfaces.password_sources import PasswordSources
from proxy.services.tokens import KeptSecrets


async def fetch_passwords(directory: Directory, sources: PasswordSources) -> None:
    """Put into `directory` those that the configuration leads to, all side by side.

    Raises:
        BadConfig: with every one that cannot be had.
    """
    problems: list[str] = []

    async def fetch(name: str) -> None:
        try:
            await _fetch(name, directory, sources)
        except PasswordUnavailable as error:
            problems.append(str(error))

    await asyncio.gather(*(fetch(account.name) for account in directory.all_declared()))
    if problems:
        raise BadConfig(sorted(problems))


async def _fetch(name: str, directory: Directory, sources: PasswordSources) -> None:
    account = directory.declared(name)
    if account is not None and account.password_source is not None:
        password = await sources.fetch(account.password_source, directory.secret_variables)
        directory.set_password(name, password)


class AccountPasswords:
    def __init__(
        self, directory: Directory, kept: KeptSecrets, sources: PasswordSources | None
    ) -> None:
        """Without `sources`, passwords are in the directory or in the store."""
        self._directory = directory
        self._kept = kept
        self._sources = sources

    async def of(self, name: str) -> bytes:
        """The password of a declared account, which the directory has from then on.

        Raises:
            ConsentNeeded: the store is to keep it, and has none so far.
            PasswordUnavailable, VaultLocked: it cannot be had.
        """
        account = self._directory.declared(name)
        if account is not None and account.password_source is not None and self._sources:
            await _fetch(name, self._directory, self._sources)
        elif password := await self._kept.password(name):
            self._directory.set_password(name, password)
        known = self._directory.declared(name)
        if known is None or not known.credentials.password:
            raise ConsentNeeded(
                f"no password is kept: run `pop3-sync-proxy account set-password {name}`"
            )
        return known.credentials.password

    async def load(self, directory: Directory) -> None:
        """Put all passwords into `directory`, so that devices can log in.

        The sync of an account tells when what the store keeps cannot be decrypted.

        Raises:
            BadConfig: with every one that the configuration leads to and that cannot be had.
        """
        if self._sources is not None:
            await fetch_passwords(directory, self._sources)
        for account in directory.all_declared():
            if account.password_stored:
                with suppress(VaultLocked):
                    password = await self._kept.password(account.name)
                    directory.set_password(account.name, password or b"")
