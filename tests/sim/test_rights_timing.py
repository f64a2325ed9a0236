"""How long a login waits for upstream's verdict, how long a session lasts: in virtual time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from proxy.demo.upstream import Mailbox, MailboxMaildrop, MailboxServer
from proxy.domain.directory import Directory
from proxy.domain.errors import BadLogin
from proxy.domain.facts import Fact, SessionEnded
from proxy.domain.model import Credentials
from proxy.domain.policy import (
    DAY,
    AccountPolicy,
    LimitsPolicy,
    Seconds,
    SessionPolicy,
    UpstreamServer,
)
from proxy.services.core import Core
from proxy.services.face import PasswordProof, Proof
from proxy.services.maildrops import DeviceMaildrop
from proxy.services.pass_through import VERDICT_WAIT
from proxy.services.rights import Claim, Loss
from proxy.services.upstream_dial import open_session
from tests.sim.disk import SimDisk
from tests.sim.world import SimWorld, simulate

NAME = "alice@example.com"
OLD, NEW = b"old", b"new"
PEER = "192.0.2.1"


class Slow(MailboxServer):
    """It takes its time to refuse."""

    delay = 0.0

    async def login(self, proof: Proof, peer: str, claim: Claim) -> MailboxMaildrop:
        try:
            return await super().login(proof, peer, claim)
        except BadLogin:
            await asyncio.sleep(self.delay)
            raise


@dataclass(eq=False)
class Guest:
    lost: list[tuple[float, Loss]] = field(default_factory=list)

    def proved(self) -> None:
        pass

    def lose(self, loss: Loss) -> None:
        self.lost.append((asyncio.get_running_loop().time(), loss))


class Witness:
    def __init__(self) -> None:
        self.ended: list[SessionEnded] = []

    def observe(self, fact: Fact) -> None:
        if isinstance(fact, SessionEnded):
            self.ended.append(fact)


@dataclass
class Stage:
    core: Core
    server: Slow
    witness: Witness

    async def login(self, password: bytes, guest: Guest) -> DeviceMaildrop:
        claim = self.core.rights.claim(guest)
        return await self.core.logins.login(PasswordProof(NAME, password), PEER, claim)

    async def verifier(self) -> str | None:
        account = await self.core._store.account(NAME)
        assert account is not None
        return account.verifier


async def staged(sim: SimWorld, folder: Path) -> Stage:
    """An account whose password OLD was right until a while ago."""
    upstream = sim.host("upstream").network
    server = Slow(Mailbox(NAME, OLD), upstream)
    await upstream.listen("0.0.0.0:110", server.session)
    policy = AccountPolicy(UpstreamServer("upstream", 110, "none", plaintext_login="always"))
    host = sim.host("proxy")
    store = await SimDisk(folder, sim.random("disk")).open(host.process)
    witness = Witness()
    core = Core(
        host.world,
        store,
        witness,
        Directory([], policy, pass_through=True),
        SessionPolicy(plaintext_login="always"),
        LimitsPolicy(login_delay=Seconds(0)),
    )
    await host.network.listen("0.0.0.0:1110", lambda: core.session(tls=False))
    stage = Stage(core, server, witness)
    (await stage.login(OLD, Guest())).close()
    # The next login is to ask upstream again.
    await asyncio.sleep(2 * policy.sync.max_age)
    server.mailbox.password = NEW
    return stage


@pytest.mark.parametrize("delay", [0.0, 3.0, 12.0, 17.0])
def test_an_old_password_opens_nothing_while_upstream_may_still_refuse_it(
    delay: float, tmp_path: Path
) -> None:
    async def story(sim: SimWorld) -> None:
        stage = await staged(sim, tmp_path)
        stage.server.delay = delay
        with pytest.raises(BadLogin):
            await stage.login(OLD, Guest())
        assert await stage.verifier() is None

    simulate(1, story)


def test_a_refusal_that_comes_too_late_for_the_login_ends_its_session(tmp_path: Path) -> None:
    async def story(sim: SimWorld) -> None:
        stage = await staged(sim, tmp_path)
        stage.server.delay = 30.0
        loop = asyncio.get_running_loop()
        guest, began = Guest(), loop.time()
        (await stage.login(OLD, guest)).close()
        assert loop.time() - began == pytest.approx(VERDICT_WAIT, abs=0.5)
        await asyncio.sleep(30)
        ((ended, loss),) = guest.lost
        assert loss == "revoked"
        assert ended - began == pytest.approx(30, abs=1)
        assert await stage.verifier() is None

    simulate(1, story)


def test_another_s_guess_that_occupies_upstream_does_not_hide_the_question(tmp_path: Path) -> None:
    """Without a guess in the way the old password would be refused after 12 s."""

    async def story(sim: SimWorld) -> None:
        stage = await staged(sim, tmp_path)
        stage.server.delay = 12.0
        guess = stage.core.syncs.start(NAME, Credentials(NAME, b"guess"))
        guest, began = Guest(), asyncio.get_running_loop().time()
        (await stage.login(OLD, guest)).close()
        await asyncio.sleep(15)
        assert guess.finished.exception() is not None
        ((ended, loss),) = guest.lost
        assert loss == "revoked"
        assert ended - began == pytest.approx(24, abs=1)

    simulate(1, story)


def test_a_short_guess_in_the_way_only_makes_the_refusal_later(tmp_path: Path) -> None:
    async def story(sim: SimWorld) -> None:
        stage = await staged(sim, tmp_path)
        stage.server.delay = 7.0
        stage.core.syncs.start(NAME, Credentials(NAME, b"guess"))
        with pytest.raises(BadLogin):
            await stage.login(OLD, Guest())

    simulate(1, story)


@pytest.mark.parametrize("silent", [False, True])
def test_with_upstream_down_or_silent_the_stored_mail_is_served(
    tmp_path: Path, silent: bool
) -> None:
    async def story(sim: SimWorld) -> None:
        stage = await staged(sim, tmp_path)
        if silent:
            stage.server.delay = 10_000.0
        else:
            sim.host("upstream").crash()
        loop = asyncio.get_running_loop()
        began, guest = loop.time(), Guest()
        (await stage.login(OLD, guest)).close()
        assert loop.time() - began < VERDICT_WAIT + 0.5
        assert guest.lost == []

    simulate(1, story)


def test_who_says_noop_for_ever_is_told_after_a_day(tmp_path: Path) -> None:
    async def story(sim: SimWorld) -> None:
        stage = await staged(sim, tmp_path)
        login = Credentials(NAME, NEW)
        server = UpstreamServer("proxy", 1110, "none", plaintext_login="always")
        session = await open_session(sim.host("laptop").world, server, login)
        try:
            while not stage.witness.ended:
                await asyncio.sleep(300)
                if not stage.witness.ended:
                    await session.ask(b"NOOP")
        finally:
            session.abort()
        (ended,) = stage.witness.ended
        assert ended.ended == "max_session"
        assert ended.seconds == pytest.approx(DAY, abs=1)

    simulate(1, story)
