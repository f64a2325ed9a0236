"""A hundred guessers, five owners, and upstreams that refuse in every way there is."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from proxy.domain.directory import DeclaredAccount, Directory
from proxy.domain.errors import BadLogin, NotJudged, ProxyError
from proxy.domain.facts import Fact
from proxy.domain.model import Credentials
from proxy.domain.policy import (
    MINUTE,
    AccountPolicy,
    LimitsPolicy,
    SessionPolicy,
    SyncPolicy,
    UpstreamServer,
)
from proxy.services.core import Core
from proxy.services.face import PasswordProof, ScramProof
from proxy.services.gate import WINDOW
from proxy.services.replies import reply_to
from proxy.wire.scram import scram_keys
from tests.sim.disk import SimDisk
from tests.sim.world import SimWorld, simulate

OWNERS = [f"owner{n}@example.com" for n in range(5)]
DECLARED = "declared@example.com"
NOBODIES = [f"nobody{n}@example.com" for n in range(5)]
ATTACKERS = 100
STORY = 20 * MINUTE
LIMITS = LimitsPolicy()

Say = Callable[[bytes], None]

REFUSALS: dict[str, bytes | None] = {
    "clear": b"-ERR [AUTH] no",
    "in words": b"-ERR wrong password",
    "temporary": b"-ERR [SYS/TEMP] not now",
    "too many": b"-ERR too many failures, try again later",
    "too often": b"-ERR [LOGIN-DELAY] wait 30 minutes between logins",
    "hangs up": b"",
    "silent": None,
}


@dataclass
class Provider:
    """Tells right from wrong by itself; every mailbox is empty."""

    refusal: bytes | None
    passwords: dict[str, str] = field(default_factory=dict)
    wrong: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """When it was shown wrong passwords, by name."""
    also_right: str = ""
    """A password of everybody beside their own."""
    breaks: set[str] = field(default_factory=set)
    """Whose sessions break at LIST."""
    drips: set[str] = field(default_factory=set)
    """Whose LIST goes on as long as they are in here."""

    def session(self) -> asyncio.Protocol:
        return _ProviderSession(self)


class _ProviderSession(asyncio.Protocol):
    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._input = b""
        self._user = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(b"+OK provider\r\n")

    def data_received(self, data: bytes) -> None:
        self._input += data
        while b"\r\n" in self._input:
            line, _, self._input = self._input.partition(b"\r\n")
            verb, _, argument = line.decode().partition(" ")
            self._command(verb.upper(), argument)

    def _command(self, verb: str, argument: str) -> None:
        match verb:
            case "CAPA":
                self._transport.write(b"+OK\r\nUSER\r\nUIDL\r\n.\r\n")
            case "USER":
                self._user = argument
                self._transport.write(b"+OK\r\n")
            case "PASS":
                self._password(argument)
            case "STAT":
                has_mail = self._user in self._provider.breaks | self._provider.drips
                self._transport.write(b"+OK 1 100\r\n" if has_mail else b"+OK 0 0\r\n")
            case "LIST" if self._user in self._provider.drips:
                self._transport.write(b"+OK\r\n")
                self._drip(1)
            case "LIST" if self._user in self._provider.breaks:
                self._transport.abort()
            case "LIST" | "UIDL":
                self._transport.write(b"+OK\r\n.\r\n")
            case "QUIT":
                self._transport.write(b"+OK\r\n")
                self._transport.close()
            case _:
                self._transport.write(b"+OK\r\n")

    def _drip(self, number: int) -> None:
        if self._user in self._provider.drips:
            self._transport.write(b"%d 100\r\n" % number)
            asyncio.get_running_loop().call_later(20.0, self._drip, number + 1)
        elif not self._transport.is_closing():
            self._transport.write(b".\r\n")

    def _password(self, password: str) -> None:
        provider = self._provider
        if password in (provider.passwords.get(self._user), provider.also_right or None):
            self._transport.write(b"+OK\r\n")
            return
        provider.wrong[self._user].append(asyncio.get_running_loop().time())
        if provider.refusal == b"":
            self._transport.abort()
        elif provider.refusal is not None:
            self._transport.write(provider.refusal + b"\r\n")


class Silence:
    def observe(self, fact: Fact) -> None:
        pass


@dataclass
class Stage:
    core: Core
    provider: Provider
    declared: str = "declared secret"

    async def log_in(self, name: str, password: str, peer: str) -> ProxyError | None:
        """Why not; None: it went well."""
        try:
            maildrop = await self.core.logins.login(PasswordProof(name, password.encode()), peer)
        except ProxyError as error:
            return error
        maildrop.close()
        return None


async def stage(sim: SimWorld, folder: Path, refusal: bytes | None, *, sessions: int = 4) -> Stage:
    """`sessions` are as many as go to the provider at once."""
    provider = Provider(refusal, {owner: f"old of {owner}" for owner in OWNERS})
    upstream = sim.host("upstream").network
    await upstream.listen("0.0.0.0:110", provider.session)
    return Stage(await proxy(sim, folder, sessions=sessions), provider)


async def proxy(sim: SimWorld, folder: Path, *, sessions: int = 4) -> Core:
    sync = SyncPolicy(max_sessions_per_host=sessions)
    policy = AccountPolicy(UpstreamServer("upstream", 110, "none", plaintext_login="always"), sync)
    elsewhere = AccountPolicy(UpstreamServer("elsewhere", 110, "none", plaintext_login="always"))
    credentials = Credentials(DECLARED, b"declared secret")
    declared = DeclaredAccount(DECLARED, credentials, elsewhere)
    directory = Directory([declared], policy, pass_through=True)
    host = sim.host("proxy")
    store = await SimDisk(folder, sim.random("disk")).open(host.process)
    return Core(host.world, store, Silence(), directory, SessionPolicy(), LIMITS)


def home_of(owner: int) -> str:
    return f"192.0.2.{owner + 1}"


async def attack(stage: Stage, luck: random.Random, number: int) -> None:
    """Many guesses from one address, at everybody."""
    loop = asyncio.get_running_loop()
    until = loop.time() + STORY
    # Half of them from one network, half from all over the world, one in an owner's home.
    peer = f"203.0.113.{number}" if number % 2 else f"198.{number}.{number}.7"
    if number == 0:
        peer = home_of(0)
    guess = 0
    while loop.time() < until:
        guess += 1
        name = luck.choice([*OWNERS, DECLARED, *NOBODIES])
        assert await stage.log_in(f"{name}+x", f"guess {number} {guess}", peer) is not None
        await asyncio.sleep(luck.uniform(0.0, 5.0))


async def poll(stage: Stage, owner: int, password: str, device: str, peer: str) -> list[str]:
    """Every minute; what was refused of it."""
    loop = asyncio.get_running_loop()
    until = loop.time() + STORY
    refused: list[str] = []
    while loop.time() < until:
        error = await stage.log_in(f"{OWNERS[owner]}+{device}", password, peer)
        if error is not None:
            refused.append(f"{device} of {owner}: {error!r}")
        await asyncio.sleep(60.0)
    return refused


@pytest.mark.parametrize("seed", range(1))
@pytest.mark.parametrize("way", REFUSALS)
def test_owners_are_never_refused_and_upstream_never_sees_more_than_the_limit(
    way: str, seed: int, tmp_path: Path
) -> None:
    async def story(sim: SimWorld) -> None:
        scene = await stage(sim, tmp_path, REFUSALS[way])
        provider = scene.provider
        for number, owner in enumerate(OWNERS):
            assert (
                await scene.log_in(f"{owner}+pc", provider.passwords[owner], home_of(number))
                is None
            )
        changed = {owner: f"new of {owner}" for owner in OWNERS[:2]}
        old = dict(provider.passwords)
        provider.passwords.update(changed)
        strangers = [
            asyncio.create_task(attack(scene, sim.random(f"attacker {n}"), n))
            for n in range(ATTACKERS)
        ]
        # One PC still has the old password, at the same home as the one with the new.
        forgotten = [
            asyncio.create_task(poll(scene, n, old[OWNERS[n]], "old", home_of(n))) for n in (0, 1)
        ]
        await asyncio.sleep(30.0)
        right = [
            *(poll(scene, n, provider.passwords[OWNERS[n]], "pc", home_of(n)) for n in range(5)),
            *(poll(scene, n, provider.passwords[OWNERS[n]], "road", "198.18.0.9") for n in (2, 3)),
        ]
        refused = [line for lines in await asyncio.gather(*right) for line in lines]
        assert refused == []
        for task in (*strangers, *forgotten):
            task.cancel()
        await asyncio.gather(*strangers, *forgotten, return_exceptions=True)
        check_what_upstream_saw(provider)

    simulate(seed, story, max_steps=20_000_000)


def check_what_upstream_saw(provider: Provider) -> None:
    everything = sorted(at for seen in provider.wrong.values() for at in seen)
    for name, seen in provider.wrong.items():
        assert most_in_a_window(seen) <= LIMITS.upstream_refusals, name
    assert most_in_a_window(everything) <= LIMITS.upstream_refusals_per_host
    assert everything, "the attack went past upstream"


def most_in_a_window(seen: list[float]) -> int:
    return max((sum(at <= other < at + WINDOW for other in seen) for at in seen), default=0)


@pytest.mark.parametrize("way", REFUSALS)
@pytest.mark.parametrize("seed", range(2))
def test_no_answer_tells_what_kind_of_account_it_is(way: str, seed: int, tmp_path: Path) -> None:
    """In its words and in its time, however upstream refuses and whatever was tried before."""

    async def story(sim: SimWorld) -> None:
        scene = await stage(sim, tmp_path, REFUSALS[way])
        owner = OWNERS[0]
        assert await scene.log_in(owner, scene.provider.passwords[owner], "192.0.2.1") is None
        # What upstream does with a wrong password is known from the first one on.
        await scene.log_in("first@example.com", "x", "198.51.0.1")
        for turn in range(12):
            # At once: how long an account has had peace is no secret of its kind.
            answers = await asyncio.gather(
                *(
                    refused(scene, name, f"guess {turn}", f"198.51.{turn}.{number}")
                    for number, name in enumerate((DECLARED, owner, NOBODIES[0]))
                )
            )
            assert len(set(answers)) == 1, (turn, answers)

    simulate(seed, story, max_steps=20_000_000)


async def refused(scene: Stage, name: str, password: str, peer: str) -> tuple[float, object]:
    """How long it took, and the reply."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    error = await scene.log_in(name, password, peer)
    assert error is not None
    return round(loop.time() - began, 6), reply_to(error)


# --- stories of one thing that stands in another's way --------------------------------------------


@pytest.mark.parametrize("way", ["clear", "hangs up"])
def test_after_a_restart_owners_get_in_though_strangers_go_on(way: str, tmp_path: Path) -> None:
    """Nothing is remembered then but the verifiers."""

    async def story(sim: SimWorld) -> None:
        scene = await stage(sim, tmp_path, REFUSALS[way])
        passwords = scene.provider.passwords
        for number, owner in enumerate(OWNERS):
            assert await scene.log_in(f"{owner}+pc", passwords[owner], home_of(number)) is None
        sim.host("proxy").crash()
        scene.core = await proxy(sim, tmp_path)
        strangers = [
            asyncio.create_task(attack(scene, sim.random(f"attacker {n}"), n))
            for n in range(1, ATTACKERS)
        ]
        await asyncio.sleep(120.0)
        for number, owner in enumerate(OWNERS):
            assert await scene.log_in(f"{owner}+pc", passwords[owner], home_of(number)) is None
        for task in strangers:
            task.cancel()
        await asyncio.gather(*strangers, return_exceptions=True)

    simulate(1, story, max_steps=20_000_000)


@pytest.mark.parametrize("pause", [0.0, 10.0, 30.0, 50.0])
@pytest.mark.parametrize("way", REFUSALS)
def test_a_new_password_is_taken_beside_a_program_with_the_old_one(
    way: str, pause: float, tmp_path: Path
) -> None:
    async def story(sim: SimWorld) -> None:
        scene = await stage(sim, tmp_path, REFUSALS[way])
        owner, home = OWNERS[0], home_of(0)
        assert await scene.log_in(f"{owner}+pc", f"old of {owner}", home) is None
        await asyncio.sleep(3600.0)
        scene.provider.passwords[owner] = "new"
        other = asyncio.create_task(poll(scene, 0, f"old of {owner}", "old", home))
        await asyncio.sleep(pause)
        assert await poll(scene, 0, "new", "pc", home) == []
        other.cancel()

    simulate(1, story, max_steps=20_000_000)


def test_a_guess_behind_a_long_sync_holds_up_nobody(tmp_path: Path) -> None:
    async def story(sim: SimWorld) -> None:
        scene = await stage(sim, tmp_path, REFUSALS["clear"])
        alice, bob = OWNERS[:2]
        assert await scene.log_in(alice, f"old of {alice}", home_of(0)) is None
        scene.provider.drips.add(alice)
        await asyncio.sleep(3600.0)
        assert await scene.log_in(alice, f"old of {alice}", home_of(0)) is None
        assert scene.core.syncs.places.open == 1
        guesses = [
            asyncio.create_task(scene.log_in(alice, f"guess {n}", f"198.51.100.{n}"))
            for n in range(3)
        ]
        await asyncio.sleep(600.0)
        assert all(guess.done() for guess in guesses)
        loop = asyncio.get_running_loop()
        for number in range(2):
            began = loop.time()
            assert await scene.log_in(bob, f"typo {number}", home_of(1)) is not None
            assert loop.time() - began < 70.0
        await asyncio.sleep(60.0)
        assert await scene.log_in(bob, f"old of {bob}", home_of(1)) is None
        scene.provider.drips.clear()
        await asyncio.sleep(120.0)
        assert scene.core.syncs.places.open == 0

    simulate(1, story, max_steps=20_000_000)


@pytest.mark.parametrize("sessions", [1, 2])
def test_two_right_passwords_at_once_leave_the_host_its_places(
    sessions: int, tmp_path: Path
) -> None:
    async def story(sim: SimWorld) -> None:
        scene = await stage(sim, tmp_path, REFUSALS["clear"], sessions=sessions)
        for owner in OWNERS[:3]:
            assert await scene.log_in(owner, f"old of {owner}", "192.0.2.1") is None
        scene.provider.also_right = "second"
        await asyncio.sleep(3600.0)
        both = []
        for owner in OWNERS[:3]:
            both.append(asyncio.create_task(scene.log_in(owner, "second", "192.0.2.1")))
            await asyncio.sleep(0.3)
            both.append(asyncio.create_task(scene.log_in(owner, f"old of {owner}", "192.0.2.1")))
        assert await asyncio.gather(*both) == [None] * 6
        await asyncio.sleep(3600.0)
        assert (scene.core.syncs.places.open, scene.core.syncs.places.waiting) == (0, 0)
        assert await scene.log_in(OWNERS[4], f"old of {OWNERS[4]}", "192.0.2.1") is None

    simulate(1, story, max_steps=20_000_000)


def test_a_program_with_a_removed_app_password_uses_nobody_s_tries_up(tmp_path: Path) -> None:
    async def story(sim: SimWorld) -> None:
        scene = await stage(sim, tmp_path, REFUSALS["clear"])
        owner = OWNERS[0]
        assert await scene.log_in(owner, f"old of {owner}", home_of(0)) is None
        removed = asyncio.create_task(poll(scene, 0, "a" * 32, "tablet", home_of(0)))
        await asyncio.sleep(10 * MINUTE)
        scene.provider.passwords[owner] = "new"
        assert await scene.log_in(owner, "new", "198.18.0.9") is None
        removed.cancel()

    simulate(1, story, max_steps=20_000_000)


def test_one_mailbox_that_breaks_turns_nobody_else_away(tmp_path: Path) -> None:
    async def story(sim: SimWorld) -> None:
        scene = await stage(sim, tmp_path, REFUSALS["clear"])
        sick, bob = OWNERS[:2]
        scene.provider.breaks.add(sick)
        assert await scene.log_in(sick, f"old of {sick}", home_of(0)) is None
        await asyncio.sleep(1.0)
        assert await scene.log_in(bob, f"old of {bob}", home_of(1)) is None

    simulate(1, story, max_steps=20_000_000)


def test_what_was_tried_before_tells_no_kind_of_account_either(tmp_path: Path) -> None:
    """The same wrong password again and again."""

    async def story(sim: SimWorld) -> None:
        scene = await stage(sim, tmp_path, REFUSALS["clear"])
        owner = OWNERS[0]
        assert await scene.log_in(owner, f"old of {owner}", "192.0.2.1") is None
        for turn in range(8):
            answers = await asyncio.gather(
                *(
                    refused(scene, name, "the same", f"198.51.100.{number}")
                    for number, name in enumerate((DECLARED, owner, NOBODIES[0]))
                )
            )
            assert len(set(answers)) == 1, (turn, answers)

    simulate(1, story, max_steps=20_000_000)


def test_a_program_that_polls_by_scram_with_an_old_password_locks_its_home_out_of_nothing(
    tmp_path: Path,
) -> None:
    async def story(sim: SimWorld) -> None:
        scene = await stage(sim, tmp_path, REFUSALS["clear"])
        logins, home = scene.core.logins, home_of(0)
        old = b"declared secret"
        assert await scene.log_in(DECLARED, old.decode(), home) is None
        await logins.scram(DECLARED, home)
        scene.core._directory.set_password(DECLARED, b"new")
        for _ in range(20):
            challenge = await logins.scram(DECLARED, home)
            keys = scram_keys(old, challenge.salt, challenge.iterations)
            known = keys in challenge.candidates
            proof = ScramProof(challenge, challenge.candidates.index(keys) if known else None)
            with pytest.raises((BadLogin, NotJudged)):
                await logins.login(proof, home)
            await asyncio.sleep(60.0)
        assert await scene.log_in(DECLARED, "new", home) is None

    simulate(1, story, max_steps=20_000_000)
