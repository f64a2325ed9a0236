"""While syncs fail, devices have one tried at a bounded pace, and the background backs off."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import cast

import pytest

from proxy.adapters.store import SqliteStore
from proxy.domain.directory import DeclaredAccount, Directory
from proxy.domain.errors import StoreUnavailable
from proxy.domain.facts import Fact, SyncFailed
from proxy.domain.model import Credentials
from proxy.domain.policy import (
    HOUR,
    MINUTE,
    AccountPolicy,
    LimitsPolicy,
    Seconds,
    SessionPolicy,
    SyncPolicy,
    UpstreamServer,
)
from proxy.domain.schedule import LOGIN_RETRY, LOGIN_RETRY_BUSY
from proxy.services.core import Core
from proxy.services.face import PasswordProof
from tests.sim.disk import SimDisk
from tests.sim.world import SimWorld, seeds, simulate

PASSWORD = "secret"
DEVICES = 8
WAIT = 5.0
"""Seconds that a login waits for its sync."""


@dataclass
class Provider:
    """Whose mailboxes hold the same mail; `ails` says what goes wrong."""

    ails: str = ""
    mails: list[str] = field(default_factory=lambda: ["u1"])
    connections: list[float] = field(default_factory=list)
    logins: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """When passwords were shown, by user name."""

    def session(self) -> asyncio.Protocol:
        return _Session(self)


class _Session(asyncio.Protocol):
    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._input = b""
        self._user = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._provider.connections.append(asyncio.get_running_loop().time())
        if self._provider.ails == "away":
            self._transport.abort()
        else:
            self._transport.write(b"+OK provider\r\n")

    def data_received(self, data: bytes) -> None:
        self._input += data
        while b"\r\n" in self._input:
            line, _, self._input = self._input.partition(b"\r\n")
            verb, _, argument = line.decode().partition(" ")
            answer = self._answer(verb.upper(), argument)
            if answer is None:
                self._transport.abort()
                return
            self._transport.write(answer.encode())

    def _answer(self, verb: str, argument: str) -> str | None:
        provider, mails = self._provider, self._provider.mails
        text = "Message-ID: <%s@sim>\r\n\r\nmail\r\n"
        octets = sum(len(text % uid) for uid in mails)
        match verb:
            case "CAPA":
                return "+OK\r\nUSER\r\nUIDL\r\nTOP\r\n.\r\n"
            case "USER":
                self._user = argument
            case "PASS":
                provider.logins[self._user].append(asyncio.get_running_loop().time())
                if provider.ails == "hangs up":
                    return None
                if provider.ails.startswith("-ERR"):
                    return f"{provider.ails}\r\n"
            case "STAT":
                return f"+OK {len(mails)} {octets}\r\n"
            case "LIST":
                if provider.ails == "breaks":
                    return None
                lines = [f"{n} {len(text % uid)}\r\n" for n, uid in enumerate(mails, 1)]
                return "+OK\r\n" + "".join(lines) + ".\r\n"
            case "UIDL" if argument:
                return f"+OK {argument} {mails[int(argument) - 1]}\r\n"
            case "UIDL":
                lines = [f"{n} {uid}\r\n" for n, uid in enumerate(mails, 1)]
                return "+OK\r\n" + "".join(lines) + ".\r\n"
            case "RETR":
                return "+OK\r\n" + text % mails[int(argument) - 1] + ".\r\n"
            case "TOP":
                uid = mails[int(argument.split()[0]) - 1]
                return "+OK\r\n" + (text % uid).partition("mail")[0] + ".\r\n"
        return "+OK\r\n"


@dataclass
class Witness:
    failed: list[SyncFailed] = field(default_factory=list)

    def observe(self, fact: Fact) -> None:
        if isinstance(fact, SyncFailed):
            self.failed.append(fact)


@dataclass
class Stage:
    sim: SimWorld
    core: Core
    store: SqliteStore
    provider: Provider
    witness: Witness

    async def uids(self, name: str) -> int:
        maildrop = await self.core.logins.login(PasswordProof(name, PASSWORD.encode()), "192.0.2.1")
        maildrop.close()
        return maildrop.view.count

    async def poll(self, account: str, seconds: float) -> None:
        """Eager devices, for so long."""

        async def device(number: int) -> None:
            luck = self.sim.random(f"{account} {number}")
            while True:
                await self.uids(f"{account}+device{number}")
                await asyncio.sleep(luck.uniform(0.1, 10.0))

        devices = [asyncio.create_task(device(number)) for number in range(DEVICES)]
        await asyncio.sleep(seconds)
        for task in devices:
            task.cancel()
        await asyncio.gather(*devices, return_exceptions=True)

    async def seconds_until(self, account: str, count: int) -> float:
        """Until a device that polls every second sees so many messages."""
        now = asyncio.get_running_loop().time
        begin = now()
        for _ in range(int(HOUR)):
            if await self.uids(f"{account}+device0") == count:
                return now() - begin
            await asyncio.sleep(1.0)
        raise AssertionError("it never came")


def play(
    seed: int,
    folder: Path,
    story: Callable[[Stage], Coroutine[None, None, None]],
    *accounts: str,
) -> None:
    """Accounts that were synced well, and whose devices are known."""

    async def main(sim: SimWorld) -> None:
        provider, witness = Provider(), Witness()
        await sim.host("upstream").network.listen("0.0.0.0:110", provider.session)
        sync = SyncPolicy(Seconds(5 * MINUTE), Seconds(1), Seconds(WAIT))
        policy = AccountPolicy(
            UpstreamServer("upstream", 110, "none", plaintext_login="always"), sync
        )
        declared = [
            DeclaredAccount(name, Credentials(name, PASSWORD.encode()), policy)
            for name in accounts or ("alice",)
        ]
        host = sim.host("proxy")
        store = await SimDisk(folder, sim.random("disk")).open(host.process)
        directory = Directory(declared, policy, pass_through=False)
        core = Core(host.world, store, witness, directory, SessionPolicy(), LimitsPolicy())
        stage = Stage(sim, core, store, provider, witness)
        for account in declared:
            for number in range(DEVICES):
                await stage.uids(f"{account.name}+device{number}")
        await asyncio.sleep(10)
        provider.logins.clear()
        provider.connections.clear()
        await story(stage)

    simulate(seed, main, max_steps=20_000_000)


def check_pace(times: list[float], seconds: float) -> None:
    assert all(b - a >= seconds for a, b in pairwise(times))


@pytest.mark.parametrize("seed", seeds(3))
@pytest.mark.parametrize("ails", ["away", "hangs up", "breaks", "store"])
def test_eager_devices_have_it_tried_once_in_a_while_and_have_mail_soon_after(
    ails: str, seed: int, tmp_path: Path
) -> None:
    async def story(stage: Stage) -> None:
        provider, store = stage.provider, stage.store
        provider.mails.append("u2")
        if ails == "store":
            add_messages = store.add_messages

            async def full(*_: object, **__: object) -> None:
                raise StoreUnavailable("No space left on device")

            store.add_messages = full  # type: ignore[method-assign]
        else:
            provider.ails = ails
        await stage.poll("alice", 15 * MINUTE)
        times = provider.connections if ails == "away" else provider.logins["alice"]
        check_pace(times, LOGIN_RETRY)
        # And no less often: the mail is wanted.
        assert len(times) > 15 * MINUTE / (2 * LOGIN_RETRY)
        if ails == "store":
            store.add_messages = add_messages  # type: ignore[method-assign]
        provider.ails = ""
        assert await stage.seconds_until("alice", 2) <= LOGIN_RETRY + WAIT

    play(seed, tmp_path, story)


def test_a_store_that_fails_is_no_fault_of_upstreams(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        async def full(*_: object, **__: object) -> None:
            raise StoreUnavailable("No space left on device")

        stage.provider.mails.append("u2")
        stage.store.add_messages = full  # type: ignore[method-assign]
        await stage.poll("alice", 5 * MINUTE)
        syncs = stage.core.syncs
        assert {fact.kind for fact in stage.witness.failed} == {"StoreUnavailable"}
        assert {fact.retry_in for fact in stage.witness.failed} == {0.0}
        assert syncs.retry_in("alice") == 0.0
        assert not syncs.places.is_away("upstream")
        account = await stage.store.account("alice")
        assert account is not None
        assert account.failure == "the proxy's own store: No space left on device"

    play(0, tmp_path, story)


def test_a_refused_password_is_not_tried_again_and_again(tmp_path: Path) -> None:
    """Providers lock an account for that."""

    async def story(stage: Stage) -> None:
        stage.provider.ails = "-ERR [AUTH] wrong"
        await stage.poll("alice", 2 * HOUR)
        # After 5, 10, 20, 40 and then every 60 minutes.
        assert len(stage.provider.logins["alice"]) <= 6
        check_pace(stage.provider.logins["alice"], 5 * MINUTE)

    play(0, tmp_path, story)


@pytest.mark.parametrize(
    ("ails", "least"),
    [
        ("-ERR [LOGIN-DELAY] minimum 15 minutes between logins", 15 * MINUTE),
        ("-ERR [SYS/TEMP] not now", LOGIN_RETRY),
        ("-ERR [IN-USE] locked", LOGIN_RETRY),
    ],
)
def test_what_upstream_says_about_time_holds_for_logins_too(
    ails: str, least: float, tmp_path: Path
) -> None:
    async def story(stage: Stage) -> None:
        stage.provider.ails = ails
        await stage.poll("alice", HOUR)
        times = stage.provider.logins["alice"]
        check_pace(times, least)
        longest = max(b - a for a, b in pairwise(times))
        assert longest <= max(1.25 * least, LOGIN_RETRY_BUSY) + 30.0
        # "Not now" is said to be for a while: not as often as a broken line is tried again.
        assert len(times) < HOUR / LOGIN_RETRY / 4

    play(0, tmp_path, story)


def test_all_accounts_share_one_try_of_a_host_that_is_away(tmp_path: Path) -> None:
    names = [f"account{number}" for number in range(5)]

    async def story(stage: Stage) -> None:
        stage.provider.ails = "away"
        stage.provider.mails.append("u2")
        # The first of them find out, each for itself.
        await asyncio.gather(*(stage.uids(f"{name}+device0") for name in names))
        stage.provider.connections.clear()
        await asyncio.gather(*(stage.poll(name, 10 * MINUTE) for name in names))
        # Besides, each may have it tried when its own back-off is over, which doubles.
        assert len(stage.provider.connections) <= 10 * MINUTE / LOGIN_RETRY + len(names) * 5
        stage.provider.ails = ""
        waits = await asyncio.gather(*(stage.seconds_until(name, 2) for name in names))
        assert max(waits) <= LOGIN_RETRY + WAIT

    play(0, tmp_path, story, *names)


@pytest.mark.parametrize("ails", ["hangs up", "away"])
def test_one_account_that_fails_holds_up_no_other(ails: str, tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.provider.ails = ails
        await stage.uids("alice+device0")
        stage.provider.ails = ""
        stage.provider.mails.append("u2")
        assert await stage.uids("bob+device0") == 2

    play(0, tmp_path, story, "alice", "bob")


def test_the_background_backs_off_as_ever(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.provider.ails = "hangs up"
        stage.core.syncs.follow_directory()
        await asyncio.sleep(6 * HOUR)
        times = stage.provider.logins["alice"]
        gaps = [b - a for a, b in pairwise(times)]
        assert max(gaps) > 0.9 * HOUR
        assert len(times) < 15
        await stage.core.syncs.stop()

    play(0, tmp_path, story)
