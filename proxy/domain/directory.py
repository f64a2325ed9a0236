"""Which accounts there may be, and what policy each has: the configuration as services see it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from proxy.domain.allowed import Allowed
from proxy.domain.login_name import canonical
from proxy.domain.model import Credentials
from proxy.domain.password_source import PasswordSource
from proxy.domain.policy import AccountPolicy, SyncPolicy
from proxy.domain.retention import expire_days


@dataclass(frozen=True, slots=True)
class DeclaredAccount:
    """An account of the configuration."""

    name: str
    credentials: Credentials
    """For upstream, and for devices. No password (b""): it has not been fetched, or none has been
    kept so far, or the account logs in by tokens and its devices by app passwords."""
    policy: AccountPolicy
    password_stored: bool = False
    """The password is kept in the store, by `account set-password`."""
    password_source: PasswordSource | None = None
    """Where the password is fetched from; None: it stands in the configuration, or in none."""


class Directory:
    """One per process; a reload replaces its content, so that all who hold it see the new one."""

    def __init__(
        self,
        declared: Iterable[DeclaredAccount],
        default: AccountPolicy,
        *,
        pass_through: bool,
        allowed: Allowed | None = None,
    ) -> None:
        """`allowed`: which accounts may come beside the declared ones; None: any."""
        self._declared = {canonical(account.name): account for account in declared}
        self.default = default
        self.pass_through = pass_through
        self._allowed = allowed or Allowed()
        days = {expire_days(account.policy) for account in self._declared.values()}
        self.expire_differs = bool(days - {expire_days(default)})
        """Whether messages of some account stay for another time than the default policy's."""

    def replace(self, new: Directory) -> None:
        """Take over the content of another one."""
        self._declared = new._declared
        self.default = new.default
        self.pass_through = new.pass_through
        self._allowed = new._allowed
        self.expire_differs = new.expire_differs

    def copy(self) -> Directory:
        return Directory(
            self._declared.values(),
            self.default,
            pass_through=self.pass_through,
            allowed=self._allowed,
        )

    def set_password(self, name: str, password: bytes) -> None:
        """Of a declared account, once it is known."""
        account = self.declared(name)
        if account is None:
            # A reload has just taken it away.
            return
        credentials = replace(account.credentials, password=password)
        self._declared[canonical(name)] = replace(account, credentials=credentials)

    def respell(self, spellings: Mapping[str, str]) -> None:
        """Declared accounts, by name, that the store knows under these names go on under those.

        What they log in with upstream stays what the configuration says.
        """
        for name, known in spellings.items():
            account = self._declared.pop(canonical(name))
            self._declared.setdefault(canonical(known), replace(account, name=known))

    @property
    def secret_variables(self) -> frozenset[str]:
        """Names of the environment variables that hold passwords."""
        sources = [account.password_source for account in self._declared.values()]
        return frozenset(
            name
            for source in sources
            if source and source.kind == "variable"
            for name in source.value
        )

    def declared(self, name: str) -> DeclaredAccount | None:
        """By any spelling of its name."""
        return self._declared.get(canonical(name))

    @property
    def separator(self) -> str:
        """What stands between account and device in a login name, whatever account it is."""
        return self.default.devices.separator

    def allows(self, name: str) -> bool:
        """Whether this account may come at all."""
        return canonical(name) in self._declared or name in self._allowed

    def uses(self, name: str) -> bool:
        """Whether there may be an account of this name as things stand."""
        return canonical(name) in self._declared or (self.pass_through and name in self._allowed)

    def all_declared(self) -> list[DeclaredAccount]:
        return list(self._declared.values())

    def password(self, name: str) -> bytes:
        """That of the configuration or of the store; b"": it has none, or upstream judges it."""
        declared = self.declared(name)
        return declared.credentials.password if declared else b""

    def standing(self, name: str) -> object:
        """What decides what may be done as this account, its password apart: compared after a
        reload with what it was before."""
        declared = self.declared(name)
        username = declared.credentials.username if declared else None
        # How often to sync is nobody's right.
        return username, self.uses(name), replace(self.policy(name), sync=SyncPolicy())

    def policy(self, name: str) -> AccountPolicy:
        declared = self.declared(name)
        return declared.policy if declared else self.default
