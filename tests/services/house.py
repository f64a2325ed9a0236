"""The services over a real store and real sockets, with a clock that tests set.

A `House` is one proxy without its listeners: logins, syncs and views are called directly.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from proxy.adapters.device_certificate import OwnIssuer
from proxy.adapters.entropy import SystemEntropy
from proxy.adapters.net import SocketNetwork
from proxy.adapters.store import open_store
from proxy.adapters.vault import AesVault, KeySource
from proxy.adapters.web import WebClient
from proxy.domain.directory import DeclaredAccount, Directory
from proxy.domain.facts import Fact
from proxy.domain.model import Credentials
from proxy.domain.policy import (
    AccountPolicy,
    LimitsPolicy,
    Seconds,
    SessionPolicy,
    SyncPolicy,
    UpstreamServer,
)
from proxy.interfaces.store import Store
from proxy.interfaces.submission import SmtpDialer
from proxy.interfaces.world import World
from proxy.services.core import Core
from proxy.services.face import PasswordProof
from proxy.services.maildrops import DeviceMaildrop
from proxy.services.room import Room

START = 1_793_700_000.0
"""3 November 2026, 10:00 UTC."""

NO_DELAY = LimitsPolicy(login_delay=Seconds(0))
"""Refused logins are answered at once, so that tests need not wait."""


@dataclass
class SetClock:
    time: float = START
    """The true time: the proxy runs all of it."""
    wrong_by: float = 0.0
    """Seconds that the wall clock is ahead of it."""

    def now(self) -> float:
        return self.time + self.wrong_by

    def awake(self) -> float:
        return self.time

    def elapsed(self) -> float:
        return self.time


class QuickPasswords:
    """Counts how often a slow hash would have been needed."""

    def __init__(self) -> None:
        self.verified = 0

    async def hash(self, password: bytes) -> str:
        return hashlib.sha256(password).hexdigest()

    async def verify(self, verifier: str, password: bytes) -> bool:
        self.verified += 1
        return verifier == hashlib.sha256(password).hexdigest()


@dataclass
class Facts:
    seen: list[Fact] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def observe(self, fact: Fact) -> None:
        self.seen.append(fact)
        self._changed.set()

    async def first(self, kind: type) -> Any:
        """The first fact of this kind, as soon as there is one."""
        async with asyncio.timeout(20):
            while not (found := self.of(kind)):
                self._changed.clear()
                await self._changed.wait()
        return found[0]

    def of(self, kind: type) -> list[Any]:
        return [fact for fact in self.seen if isinstance(fact, kind)]


@dataclass
class House:
    core: Core
    store: Store
    directory: Directory
    clock: SetClock
    passwords: QuickPasswords
    facts: Facts

    async def login(
        self, username: str = "alice", password: bytes = b"secret", peer: str = "127.0.0.1"
    ) -> DeviceMaildrop:
        return await self.core.logins.login(PasswordProof(username, password), peer)

    async def read(self, username: str = "alice", *, delete: bool = False) -> list[bytes]:
        """One session as a device without memory makes it: RETR of all, QUIT."""
        maildrop = await self.login(username)
        mails = []
        for number in range(1, maildrop.view.count + 1):
            message = maildrop.view.message(number)
            reader = maildrop.open(message)
            mails.append(reader.read(message.octets))
            reader.close()
            maildrop.view.mark_retrieved(number)
            if delete:
                maildrop.view.mark_deleted(number)
        await maildrop.commit()
        maildrop.close()
        return mails

    async def uids(self, username: str = "alice") -> list[str]:
        maildrop = await self.login(username)
        maildrop.close()
        return [
            line.split()[1] for line in b"".join(maildrop.view.uidl_lines()).decode().splitlines()
        ]


def policy_for(port: int, **sections: Any) -> AccountPolicy:
    """Every login syncs, and waits for it; `sections` replace those of the policy."""
    base = AccountPolicy(
        upstream=UpstreamServer("127.0.0.1", port, "none"),
        sync=SyncPolicy(interval=Seconds(86400), max_age=Seconds(0), login_wait=Seconds(20)),
    )
    return replace(base, **sections)


def declared(policy: AccountPolicy, name: str = "alice") -> DeclaredAccount:
    return DeclaredAccount(name, Credentials(name, b"secret"), policy)


def world_of(folder: Path, clock: SetClock, passwords: QuickPasswords) -> World:
    """The real one, but for the clock and the slow hash."""
    return World(
        SocketNetwork(None),
        clock,
        SystemEntropy(),
        passwords,
        OwnIssuer(folder),
        AesVault(KeySource("", folder / "key", ""), SystemEntropy().token),
        WebClient(),
    )


@asynccontextmanager
async def house(
    data_dir: Path,
    policy: AccountPolicy,
    *accounts: DeclaredAccount,
    limits: LimitsPolicy = NO_DELAY,
    pass_through: bool = True,
    dialer: SmtpDialer | None = None,
    room: Room | None = None,
    clock: SetClock | None = None,
) -> AsyncIterator[House]:
    """A house whose pass-through accounts have `policy`, with these declared accounts."""
    store = await open_store(data_dir)
    clock, passwords, facts = clock or SetClock(), QuickPasswords(), Facts()
    world = world_of(data_dir, clock, passwords)
    directory = Directory(accounts, policy, pass_through=pass_through)
    core = Core(world, store, facts, directory, SessionPolicy(), limits, dialer=dialer, room=room)
    # Tests let months pass between two looks.
    store.start_running(clock.awake, longest=math.inf)
    try:
        yield House(core, store, directory, clock, passwords, facts)
    finally:
        await core.syncs.stop()
        await core.maildrops.settle()
        await store.close()
