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
from proxy.domain.errors import ProxyError
from proxy.domain.facts import Fact
from proxy.domain.model import Credentials
from proxy.domain.policy import (
    MINUTE,
    AccountPolicy,
    LimitsPolicy,
    SessionPolicy,
    UpstreamServer,
)
from proxy.services.core import Core
from proxy.services.face import PasswordProof
from proxy.services.gate import WINDOW
from proxy.services.replies import reply_to
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
                self._transport.write(b"+OK 0 0\r\n")
            case "LIST" | "UIDL":
                self._transport.write(b"+OK\r\n.\r\n")
            case "QUIT":
                self._transport.write(b"+OK\r\n")
                self._transport.close()
            case _:
                self._transport.write(b"+OK\r\n")

    def _password(self, password: str) -> None:
        provider = self._provider
        if provider.passwords.get(self._user) == password:
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


async def stage(sim: SimWorld, folder: Path, refusal: bytes | None) -> Stage:
    provider = Provider(refusal, {owner: f"old of {owner}" for owner in OWNERS})
    upstream = sim.host("upstream").network
    await upstream.listen("0.0.0.0:110", provider.session)
    policy = AccountPolicy(UpstreamServer("upstream", 110, "none", plaintext_login="always"))
    elsewhere = AccountPolicy(UpstreamServer("elsewhere", 110, "none", plaintext_login="always"))
    credentials = Credentials(DECLARED, b"declared secret")
    declared = DeclaredAccount(DECLARED, credentials, elsewhere)
    directory = Directory([declared], policy, pass_through=True)
    host = sim.host("proxy")
    store = await SimDisk(folder, sim.random("disk")).open(host.process)
    core = Core(host.world, store, Silence(), directory, SessionPolicy(), LIMITS)
    return Stage(core, provider)


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
