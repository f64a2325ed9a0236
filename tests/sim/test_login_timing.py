"""A refused login tells nothing about what was wrong, neither in its text nor in its time."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from proxy.demo.upstream import Mailbox, MailboxServer
from proxy.domain.directory import DeclaredAccount, Directory
from proxy.domain.errors import BadLogin, NotJudged, TooManyFailures
from proxy.domain.facts import Fact, LoginRefused
from proxy.domain.model import Credentials
from proxy.domain.policy import AccountPolicy, LimitsPolicy, SessionPolicy, UpstreamServer
from proxy.services.core import Core
from proxy.services.face import PasswordProof, Proof, ScramProof
from proxy.services.replies import reply_to
from tests.sim.disk import SimDisk
from tests.sim.world import SimWorld, simulate

PASSED = "passed@example.com"
DECLARED = "declared@example.com"
PASSWORD = b"secret"
LIMITS = LimitsPolicy()


class Witness:
    def __init__(self) -> None:
        self.refused: list[LoginRefused] = []

    def observe(self, fact: Fact) -> None:
        if isinstance(fact, LoginRefused):
            self.refused.append(fact)


async def proxy(sim: SimWorld, folder: Path, witness: Witness) -> Core:
    """With one declared account, and one that has passed through before."""
    upstream = sim.host("upstream").network
    server = MailboxServer(Mailbox(PASSED, PASSWORD), upstream)
    await upstream.listen("0.0.0.0:110", server.session)
    policy = AccountPolicy(UpstreamServer("upstream", 110, "none", plaintext_login="always"))
    declared = DeclaredAccount(DECLARED, Credentials(DECLARED, PASSWORD), policy)
    directory = Directory([declared], policy, pass_through=True)
    host = sim.host("proxy")
    store = await SimDisk(folder, sim.random("disk")).open(host.process)
    core = Core(host.world, store, witness, directory, SessionPolicy(), LIMITS)
    (await core.logins.login(PasswordProof(PASSED, PASSWORD), "192.0.2.1")).close()
    # The very first challenge of a store makes the secret that all salts come from.
    await core.logins.scram("anybody", "192.0.2.1")
    return core


async def try_once(core: Core, name: str, peer: str, password: bytes, *, scram: bool) -> None:
    proof: Proof = PasswordProof(name, password)
    if scram:
        proof = ScramProof(await core.logins.scram(name, peer), None)
    await core.logins.login(proof, peer)


async def refused(
    core: Core, name: str, peer: str, *, scram: bool
) -> tuple[float, tuple[str, str]]:
    """How long it took, and the reply."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(BadLogin) as error:
        await try_once(core, name, peer, f"guess from {peer}".encode(), scram=scram)
    return loop.time() - began, reply_to(error.value)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scram", [False, True])
def test_unknown_names_and_wrong_passwords_cannot_be_told_apart(
    seed: int, tmp_path: Path, scram: bool
) -> None:
    async def story(sim: SimWorld) -> None:
        witness = Witness()
        core = await proxy(sim, tmp_path, witness)
        names = [PASSED, DECLARED, "nobody@example.com", f"{DECLARED}+laptop", f"{PASSED}+x"]
        answers = []
        for number, name in enumerate(names):
            # From another address each time, so that no penalty grows.
            seconds, reply = await refused(core, name, f"198.51.100.{number}", scram=scram)
            answers.append((round(seconds, 6), reply))
        # As long as an upstream would take that waits for two seconds before it refuses.
        assert set(answers) == {(2 * LIMITS.login_delay, answers[0][1])}
        assert len(witness.refused) == len(names)

    simulate(seed, story)


@pytest.mark.parametrize("scram", [False, True])
def test_every_other_guess_counts_whatever_the_mechanism(tmp_path: Path, scram: bool) -> None:
    async def story(sim: SimWorld) -> None:
        core = await proxy(sim, tmp_path, Witness())

        async def guess_on() -> None:
            for number in range(100):
                with suppress(BadLogin, NotJudged):
                    await try_once(core, DECLARED, "198.51.100.1", b"%d" % number, scram=scram)

        with pytest.raises(TooManyFailures):
            await guess_on()

    simulate(1, story)


def test_a_scram_challenge_for_nobody_is_as_lasting_as_one_for_somebody(tmp_path: Path) -> None:
    """RFC 5802 §9: otherwise two tries would tell who exists."""

    async def story(sim: SimWorld) -> None:
        core = await proxy(sim, tmp_path, Witness())
        for name in (DECLARED, PASSED, "nobody@example.com"):
            one, other = [await core.logins.scram(name, "192.0.2.1") for _ in range(2)]
            assert (one.salt, one.iterations) == (other.salt, other.iterations)
            assert one.nonce != other.nonce
        salts = {(await core.logins.scram(n, "x")).salt for n in (DECLARED, PASSED, "nobody")}
        assert len(salts) == 3

    simulate(1, story)
