"""A provider moves: its mailbox lists nothing for a while, then comes back with new UIDLs.

No device sees a mail twice, and a crash in the middle makes the proxy fetch little again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.demo.upstream import Mailbox, MailboxServer
from proxy.domain.directory import DeclaredAccount, Directory
from proxy.domain.doubt import BELIEVED_AFTER
from proxy.domain.facts import Fact, MessageFetched
from proxy.domain.model import Credentials
from proxy.domain.policy import (
    AccountPolicy,
    LimitsPolicy,
    Seconds,
    SessionPolicy,
    SyncPolicy,
    UpstreamServer,
)
from proxy.services.core import Core
from proxy.services.face import PasswordProof
from proxy.services.fetch import SIGHTINGS
from tests.sim.disk import SimDisk
from tests.sim.process import CrashedError
from tests.sim.world import SimWorld, simulate

LOGIN = Credentials("alice", b"secret")
SELDOM = Seconds(10**9)


class Watch:
    """Counts messages that came whole, and does something at one of them."""

    def __init__(self) -> None:
        self.fetched = 0
        self.at = 0
        self.then: Callable[[], None] = lambda: None

    def observe(self, fact: Fact) -> None:
        if isinstance(fact, MessageFetched):
            self.fetched += 1
            if self.fetched == self.at:
                self.then()


class Stage:
    """One upstream mailbox, and the proxy over all its lives."""

    def __init__(self, sim: SimWorld, folder: Path, mails: int) -> None:
        self.watch = Watch()
        self.host = sim.host("proxy")
        self._disk = SimDisk(folder, sim.random("disk"))
        self._sim = sim
        self.box = Mailbox("alice", b"secret")
        for n in range(mails):
            self.box.deliver(
                b"Received: by mx; %d\r\nMessage-ID: <%d@x>\r\n\r\nbody %d\r\n" % (n, n, n)
            )

    async def begin(self) -> None:
        """All mail is stored, and upstream has shown that it keeps what was retrieved."""
        network = self._sim.host("upstream").network
        await network.listen("0.0.0.0:110", MailboxServer(self.box, network).session)
        await self.start()
        await self.sync()
        await self.sync()

    async def start(self) -> None:
        server = UpstreamServer("upstream", 110, "none", plaintext_login="always")
        policy = AccountPolicy(server, SyncPolicy(interval=SELDOM, max_age=SELDOM))
        directory = Directory([DeclaredAccount("alice", LOGIN, policy)], policy, pass_through=False)
        store = await self._disk.open(self.host.process)
        self._core = Core(
            self.host.world, store, self.watch, directory, SessionPolicy(), LimitsPolicy()
        )

    async def sync(self) -> None:
        async def work() -> None:
            await self._core.syncs.start("alice", LOGIN).finished

        await self.host.run(work())

    async def spell(self, listings: int, pause: float) -> dict[str, bytes]:
        """Returns what is away."""
        away = dict(self.box.mails)
        self.box.mails.clear()
        for _ in range(listings):
            await asyncio.sleep(pause)
            await self.sync()
        return away

    async def shown(self) -> int:
        login = self._core.logins.login(PasswordProof("alice+laptop", b"secret"), "192.0.2.1")
        return (await self.host.run(login)).view.count


@pytest.mark.parametrize("listings", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("pause", [0.0, BELIEVED_AFTER])
def test_mail_that_comes_back_with_new_uidls_is_not_doubled(
    tmp_path: Path, listings: int, pause: float
) -> None:
    async def story(sim: SimWorld) -> tuple[int, int]:
        stage = Stage(sim, tmp_path, mails=5)
        await stage.begin()
        away = await stage.spell(listings, pause)
        for number, mail in enumerate(away.values()):
            stage.box.mails[f"new-{number}"] = mail
        await stage.sync()
        return await stage.shown(), stage.watch.fetched

    assert simulate(1, story).result == (5, 5)


@pytest.mark.parametrize("listings", [0, 4])
def test_a_crash_while_mail_is_known_again_by_its_octets_costs_little(
    tmp_path: Path, listings: int
) -> None:
    """The new software has changed each header, so that each mail has to come once more."""
    mails, before = 3 * SIGHTINGS, 2 * SIGHTINGS + 20

    async def story(sim: SimWorld) -> tuple[int, int]:
        stage = Stage(sim, tmp_path, mails)
        await stage.begin()
        for number, mail in enumerate((await stage.spell(listings, BELIEVED_AFTER)).values()):
            stage.box.mails[f"new-{number}"] = b"X-Moved: yes\r\n" + mail
        stage.watch.at = mails + before
        stage.watch.then = stage.host.crash
        with pytest.raises(CrashedError):
            await stage.sync()
        await stage.start()
        await stage.sync()
        return await stage.shown(), stage.watch.fetched - stage.watch.at

    shown, fetched = simulate(1, story).result
    assert shown == mails
    assert fetched <= mails - before + SIGHTINGS
