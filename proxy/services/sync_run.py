"""One sync under way, and what is remembered of an account between two."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from proxy.domain.errors import ProxyError
from proxy.domain.facts import SyncFinished
from proxy.domain.model import Account, Credentials
from proxy.services.sync_memory import SyncMemory
from proxy.services.upstream_memory import LoginMemory


class SyncRun:
    """One sync under way. Everybody who wants this account synced now waits for the same one."""

    def __init__(self, credentials: Credentials, *, proven: bool) -> None:
        """`proven`: the credentials are known to be the account's, by our own records."""
        loop = asyncio.get_running_loop()
        self.credentials = credentials
        self.proven = proven
        """Also once upstream has taken them. Until then the run changes nothing of the account."""
        self.shown = False
        """Whether upstream may have seen the password."""
        self.accepted: asyncio.Future[Account] = loop.create_future()
        """The account, as soon as upstream has taken the login; or why it has not."""
        self.finished: asyncio.Future[SyncFinished] = loop.create_future()
        self.progress: Callable[[], tuple[int, int]] = lambda: (0, 0)
        """Messages fetched in the session under way, and how many it is to fetch."""
        self.task: asyncio.Task[None] | None = None
        """That makes it."""

    def succeed(self, result: SyncFinished) -> None:
        self.finished.set_result(result)

    def accept(self, account: Account) -> None:
        self.proven = True
        if not self.accepted.done():
            self.accepted.set_result(account)

    def fail(self, error: ProxyError) -> None:
        for future in (self.accepted, self.finished):
            if not future.done():
                future.set_exception(error)
                # Nobody need be waiting.
                future.exception()


@dataclass(slots=True)
class AccountState:
    """What is remembered of an account while the process runs. Times are the event loop's."""

    memory: SyncMemory = field(default_factory=SyncMemory)
    synced_at: float | None = None
    not_before: float = 0.0
    """Back-off of the background after a failure of upstream's."""
    logins_not_before: float = 0.0
    """The same for syncs that logins of devices ask for; never later."""
    store_not_before: float = 0.0
    """Likewise for these, after a failure of the store's."""
    failures: int = 0
    progress: int = 0
    """Messages that the last session brought."""
    logged_in_at: float | None = None
    announced_delay: float = 0.0
    """Seconds between logins that upstream announces (RFC 2449 §6.5)."""
    learnt_delay: float = 0.0
    """The same, as refusals have taught; kept in the store."""
    logins: LoginMemory = field(default_factory=LoginMemory)

    set_delay: float = 0.0
    """The same, as the configuration says."""

    def holds_logins(self, now: float) -> bool:
        """Whether a sync that a login asks for has to wait after a failure."""
        return now < max(min(self.not_before, self.logins_not_before), self.store_not_before)

    def upstream_is_well(self) -> None:
        """No back-off."""
        self.failures, self.not_before = 0, 0.0

    def until_login(self, now: float) -> float:
        """Seconds until upstream takes another login."""
        if self.logged_in_at is None:
            return 0.0
        return max(self.logged_in_at + self.login_delay - now, 0.0)

    @property
    def login_delay(self) -> float:
        return max(self.announced_delay, self.learnt_delay, self.set_delay)
