"""What the proxy has deleted upstream itself is never taken for removed by somebody else.

The account deletes by age and follows removals upstream, so that a message taken for removed by
somebody else would be hidden from a device that is still to get it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from proxy.demo.upstream import Mailbox, MailboxMaildrop, MailboxServer
from proxy.domain.directory import DeclaredAccount, Directory
from proxy.domain.errors import ProxyError, StoreUnavailable
from proxy.domain.facts import Fact
from proxy.domain.model import Credentials
from proxy.domain.policy import (
    AccountPolicy,
    LimitsPolicy,
    RetentionPolicy,
    Seconds,
    SessionPolicy,
    SyncPolicy,
    UpstreamServer,
)
from proxy.domain.view import Listing, View
from proxy.interfaces.world import Network
from proxy.services.core import Core
from proxy.services.face import PasswordProof, Proof
from proxy.services.rights import Claim
from tests.sim.disk import SimDisk
from tests.sim.process import CrashedError
from tests.sim.world import SimWorld, simulate

LOGIN = Credentials("alice", b"secret")
AGE = 600.0
NEVER = 10.0**9


class Silent:
    def observe(self, fact: Fact) -> None:
        pass


class Server(MailboxServer):
    """Lets a test do something at the worst moments."""

    def __init__(self, mailbox: Mailbox, network: Network) -> None:
        super().__init__(mailbox, network)
        self.at_dele: Callable[[], None] = lambda: None
        """Called at each DELE, which is refused if this raises."""
        self.at_quit: Callable[[], None] = lambda: None
        """Called when QUIT has deleted, before it is answered."""
        self.deletes_at_once = False
        """At DELE; others do at QUIT."""

    async def login(self, proof: Proof, peer: str, claim: Claim) -> MailboxMaildrop:
        await super().login(proof, peer, claim)
        return _Maildrop(self)


class _Maildrop(MailboxMaildrop):
    def __init__(self, server: Server) -> None:
        super().__init__(server.mailbox)
        self.view = _View(self.view._listing, server, self._uids)
        self._server = server

    async def commit(self) -> None:
        deletes = bool(self.view.deleted_ids())
        await super().commit()
        if deletes:
            self._server.at_quit()
            # Whoever dies of that dies before the answer.
            await asyncio.sleep(1)


class _View(View):
    def __init__(self, listing: Listing, server: Server, uids: list[str]) -> None:
        super().__init__(listing)
        self._server = server
        self._uids = uids

    def mark_deleted(self, number: int) -> None:
        self._server.at_dele()
        super().mark_deleted(number)
        if self._server.deletes_at_once:
            self._server.mailbox.delete(self._uids[number - 1])


class Stage:
    """A mailbox of 5 old messages, of which DELE is due, and 6 new ones; the proxy has had them
    all, and no device any."""

    def __init__(self, sim: SimWorld, folder: Path) -> None:
        self.sim = sim
        self.mailbox = Mailbox(LOGIN.username, LOGIN.password)
        self.server = Server(self.mailbox, sim.host("upstream").network)
        self.host = sim.host("proxy")
        self.disk = SimDisk(folder, sim.random("disk"))
        sync = SyncPolicy(interval=Seconds(NEVER), max_age=Seconds(NEVER))
        retention = RetentionPolicy(
            upstream="age", upstream_age=Seconds(AGE), follow_upstream_removals=True
        )
        server = UpstreamServer("upstream", 110, "none", plaintext_login="always")
        self._policy = AccountPolicy(server, sync, retention=retention)
        self._core: Core | None = None

    async def set_up(self) -> None:
        await self.sim.host("upstream").network.listen("0.0.0.0:110", self.server.session)
        self.deliver(range(5))
        await self.sync()
        await asyncio.sleep(AGE + 60)
        self.deliver(range(5, 11))

    def deliver(self, numbers: range) -> None:
        for number in numbers:
            self.mailbox.deliver(b"Message-ID: <%d@x>\r\n\r\nbody %d\r\n" % (number, number))

    async def sync(self) -> None:
        """One sync, whatever comes of it; the proxy is started where it does not run."""
        with suppress(ProxyError, CrashedError):
            await self.host.run(self._sync())

    async def shown(self) -> int:
        """Messages that a device sees which has had none."""
        return await self.host.run(self._shown())

    def crash(self) -> None:
        """The upstream that calls this goes on."""
        self._core = None
        self.sim.loop.call_soon(self.host.crash)

    async def _life(self) -> Core:
        if self._core is None:
            store = await self.disk.open(self.host.process)
            declared = DeclaredAccount("alice", LOGIN, self._policy)
            directory = Directory([declared], self._policy, pass_through=False)
            self._core = Core(
                self.host.world, store, Silent(), directory, SessionPolicy(), LimitsPolicy()
            )
            await self._core.timekeeper.start()
            self.host.spawn(self._core.timekeeper.work())
        return self._core

    async def _sync(self) -> None:
        core = await self._life()
        await core.syncs.start("alice", LOGIN).finished

    async def _shown(self) -> int:
        core = await self._life()
        proof = PasswordProof("alice+laptop", LOGIN.password)
        drop = await core.logins.login(proof, "192.0.2.1")
        drop.close()
        return drop.view.count


def play(folder: Path, story: Callable[[Stage], Coroutine[Any, Any, None]]) -> None:
    async def main(sim: SimWorld) -> None:
        stage = Stage(sim, folder)
        await stage.set_up()
        await story(stage)

    simulate(1, main)


def refuse() -> None:
    raise StoreUnavailable("-ERR, though it is done")


@pytest.mark.parametrize(
    "ending", ["well", "crash at DELE", "crash", "full disk", "cut", "silent", "refused"]
)
def test_what_our_own_dele_took_away_is_hidden_from_no_device(tmp_path: Path, ending: str) -> None:
    async def story(stage: Stage) -> None:
        server = stage.server
        if ending == "crash at DELE":
            server.deletes_at_once = True
            server.at_dele = stage.crash
        server.at_quit = {
            "crash": stage.crash,
            "full disk": lambda: setattr(stage.disk, "fault_probability", 1.0),
            "cut": lambda: stage.sim.fabric.reset("proxy"),
            "silent": lambda: stage.sim.fabric.black_hole("proxy"),
            "refused": refuse,
        }.get(ending, server.at_quit)
        await stage.sync()
        stage.disk.fault_probability = 0.0
        server.at_dele = server.at_quit = lambda: None
        stage.sim.fabric.restore("proxy")
        assert len(stage.mailbox.mails) == 6
        await stage.sync()
        await stage.sync()
        assert await stage.shown() == 11

    play(tmp_path, story)


def test_what_somebody_else_removed_is_hidden_though_our_own_dele_was_refused(
    tmp_path: Path,
) -> None:
    async def story(stage: Stage) -> None:
        stage.server.at_dele = refuse
        await stage.sync()
        assert len(stage.mailbox.mails) == 11
        first = next(iter(stage.mailbox.mails))
        stage.mailbox.delete(first)
        await stage.sync()
        assert await stage.shown() == 10

    play(tmp_path, story)


def test_what_is_listed_again_and_then_removed_by_somebody_else_is_hidden(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        kept = dict(stage.mailbox.mails)
        stage.server.at_quit = refuse
        await stage.sync()
        # Upstream has deleted nothing after all, and from now on deletes nothing more.
        stage.mailbox.mails.clear()
        stage.mailbox.mails.update(kept)
        stage.server.at_dele = refuse
        await stage.sync()
        stage.mailbox.delete(next(iter(kept)))
        await stage.sync()
        assert await stage.shown() == 10

    play(tmp_path, story)


def test_no_dele_goes_out_that_could_not_be_noted_before(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        asked = []
        stage.server.at_dele = lambda: asked.append(1)
        core = await stage.host.run(stage._life())
        real = core._store.is_intact

        async def is_intact(digest: bytes) -> bool:
            found = await real(digest)
            stage.disk.fault_probability = 1.0
            return found

        core._store.is_intact = is_intact  # type: ignore[method-assign]
        await stage.sync()
        assert not asked
        assert len(stage.mailbox.mails) == 11

    play(tmp_path, story)
