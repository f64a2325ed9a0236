"""Syncs for which there is no room: what fits comes, the rest waits upstream, nobody is blamed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.adapters.store import SqliteStore
from proxy.domain.errors import StoreUnavailable
from proxy.domain.facts import SyncFailed, SyncFinished
from proxy.domain.model import Account, Blob, Credentials
from proxy.domain.policy import Octets, StorePolicy
from proxy.domain.room import ACCOUNT_FULL, NO_ROOM
from proxy.domain.survey import Space
from proxy.domain.trouble import is_account_full, lacks_room
from proxy.services import room
from proxy.services.room import Room
from tests.rude_upstream import RudeUpstream, mail
from tests.services.house import House, declared, house, policy_for

MIB = 1024**2
RESERVE = 100 * MIB
SIZE = 100_000 * MIB


def large(name: str, octets: int) -> bytes:
    line = f"{name} ".encode().ljust(76, b"x") + b"\r\n"
    return mail(name) + line * (octets // len(line))


@dataclass
class Disk:
    above: int
    """Octets free above the reserve, but for what is in the folder."""
    folder: Path | None = None
    """None: the store takes nothing of it, so that what is free is what tests say."""

    def space(self) -> Space:
        taken = 0
        if self.folder is not None:
            taken = sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())
        return Space(RESERVE + self.above - taken, SIZE)


@pytest.fixture(autouse=True)
def looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LOOK_EVERY", 0.0)


@pytest.fixture
async def rude() -> AsyncIterator[RudeUpstream]:
    async with RudeUpstream().listening() as upstream:
        yield upstream


@asynccontextmanager
async def home_on(
    disk: Disk, rude: RudeUpstream, folder: Path, *, account: int = 0
) -> AsyncIterator[House]:
    policy = policy_for(rude.port)
    store = StorePolicy(Octets(RESERVE), Octets(account))
    async with house(folder, policy, declared(policy), room=Room(disk.space, store)) as home:
        yield home


async def alice(home: House) -> Account:
    account = await home.store.account("alice")
    assert account is not None
    return account


@pytest.mark.parametrize("pipelining", [True, False])
async def test_what_does_not_fit_waits_upstream_and_the_rest_comes(
    rude: RudeUpstream, tmp_path: Path, pipelining: bool
) -> None:
    if not pipelining:
        rude.capabilities = ["TOP", "UIDL", "USER"]
    disk = Disk(MIB)
    rude.mails[:] = [("u1", mail("1")), ("big", large("big", 3 * MIB)), ("u2", mail("2"))]
    async with home_on(disk, rude, tmp_path) as home:
        assert await home.uids() == ["u1", "u2"]
        account = await alice(home)
        assert [(one.uid, one.why) for one in account.unfetched] == [("big", NO_ROOM)]
        assert lacks_room(account, home_room(home).space() or Space(0, 0))
        # Nobody's fault: no back-off, and no failure.
        assert account.failed_at is None
        assert not home.facts.of(SyncFailed)
        assert home.core.syncs.retry_in("alice") == 0
        assert home.facts.of(SyncFinished)[-1].failed == 1
        for _ in range(3):
            assert await home.uids() == ["u1", "u2"]
        assert rude.retrieved() == 2
        disk.above = 10 * MIB
        assert await home.uids() == ["u1", "u2", "big"]
        assert rude.retrieved() == 3
        assert (await alice(home)).unfetched == ()
        assert len(await home.read()) == 3


def home_room(home: House) -> Room:
    return home.core.submissions.room


async def test_below_the_reserve_nothing_comes_and_quit_commits(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    disk = Disk(MIB)
    rude.mails[:] = [("u1", mail("1"))]
    async with home_on(disk, rude, tmp_path) as home:
        assert await home.uids() == ["u1"]
        disk.above = -5 * MIB
        rude.mails += [(f"n{n}", mail(f"n{n}")) for n in range(300)]
        assert await home.uids("alice+new") == ["u1"]
        assert len(await home.read("alice+new", delete=True)) == 1
        assert await home.uids("alice+new") == []
        assert rude.retrieved() == 1
        disk.above = 10 * MIB
        assert len(await home.uids("alice+new")) == 300
        assert rude.retrieved() == 301


async def test_a_message_that_is_longer_than_listed_is_broken_off_and_not_asked_for_again(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    """Not with as little room as that: nobody fetches megabytes every five minutes in vain."""
    disk = Disk(2 * MIB, tmp_path / "blobs")
    rude.mails[:] = [("u1", mail("1")), ("liar", large("liar", 6 * MIB)), ("u2", mail("2"))]
    rude.sizes = lambda octets: min(len(octets), 1000)
    async with home_on(disk, rude, tmp_path) as home:
        assert "liar" not in await home.uids()
        assert [one.uid for one in (await alice(home)).unfetched] == ["liar"]
        # More is promised step by step, so that a second try may go a little further.
        await home.uids()
        asked = rude.commands.count("RETR 2")
        assert asked <= 2
        for _ in range(3):
            assert await home.uids() == ["u1", "u2"]
        assert rude.commands.count("RETR 2") == asked
        assert not home.facts.of(SyncFailed)
        assert not list((tmp_path / "blobs" / "tmp").iterdir())
        disk.above = 20 * MIB
        assert sorted(await home.uids()) == ["liar", "u1", "u2"]


async def test_a_disk_that_fills_up_meanwhile_breaks_off_what_is_under_way(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    disk = Disk(50 * MIB)
    rude.mails[:] = [("u1", mail("1")), ("big", large("big", 8 * MIB))]

    class FillsUp(Disk):
        looks = 0

        def space(self) -> Space:
            # Others write to the disk once the first of it has come.
            self.looks += 1
            return disk.space() if self.looks < 12 else Space(RESERVE - 1, SIZE)

    async with home_on(FillsUp(0), rude, tmp_path) as home:
        assert await home.uids() == ["u1"]
        assert not home.facts.of(SyncFailed)
        assert [one.why for one in (await alice(home)).unfetched] == [NO_ROOM]


async def test_an_account_gets_no_more_than_is_set(rude: RudeUpstream, tmp_path: Path) -> None:
    disk = Disk(1000 * MIB)
    rude.mails[:] = [(f"u{n}", large(f"u{n}", 100_000)) for n in range(10)]
    limit = 350_000
    async with home_on(disk, rude, tmp_path, account=limit) as home:
        assert await home.uids() == ["u0", "u1", "u2"]
        account = await alice(home)
        assert {one.why for one in account.unfetched} == {ACCOUNT_FULL}
        assert is_account_full(account)
        assert not lacks_room(account, disk.space())
        assert (await home.store.size(account.id)).octets <= limit
        assert len(await home.read("alice+new", delete=True)) == 3
        assert await home.uids() == ["u0", "u1", "u2"]
        assert rude.retrieved() == 3
        home_room(home).follow(StorePolicy(Octets(RESERVE), Octets(650_000)))
        assert len(await home.uids()) == 6
        home_room(home).follow(StorePolicy(Octets(RESERVE)))
        assert len(await home.uids()) == 10
        assert rude.retrieved() == 10
        assert not is_account_full(await alice(home))


@pytest.mark.parametrize("said", [1000, 10**9])
async def test_what_listings_say_lets_no_account_have_more(
    rude: RudeUpstream, tmp_path: Path, said: int
) -> None:
    rude.mails[:] = [("u1", large("u1", 500_000)), ("u2", large("u2", 500_000))]
    rude.sizes = lambda _: said
    async with home_on(Disk(10**10), rude, tmp_path, account=800_000) as home:
        for _ in range(3):
            await home.uids()
        assert (await home.store.size((await alice(home)).id)).octets <= 800_000
        assert rude.retrieved() <= 2


async def test_accounts_together_take_no_more_than_there_is(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    """The disk of this test never gets fuller, so that only what was promised counts."""
    disk = Disk(4 * MIB)
    rude.mails[:] = [("big", large("big", 3 * MIB))]
    async with home_on(disk, rude, tmp_path) as home:
        first = home_room(home).claim(2 * MIB)
        assert first
        assert await home.uids() == []
        first.end()
        assert await home.uids() == ["big"]
        assert not home_room(home)._claims


async def test_a_store_that_fails_keeps_no_room_for_what_it_did_not_take(
    rude: RudeUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rude.mails = [(f"u{number}", large(str(number), MIB // 2)) for number in range(6)]
    async with home_on(Disk(above=4 * MIB), rude, tmp_path) as home:
        assert isinstance(home.store, SqliteStore)
        make_durable = home.store._blobs.make_durable

        async def fails(blobs: Collection[Blob], *, keep: bool) -> None:
            await make_durable(blobs, keep=keep)
            raise OSError("an I/O error")

        with monkeypatch.context() as broken:
            broken.setattr(home.store._blobs, "make_durable", fails)
            for _ in range(4):
                home.core.syncs.try_again("alice", home.directory.all_declared()[0].credentials)
                with pytest.raises(StoreUnavailable):
                    await home.core.syncs.start("alice", Credentials("alice", b"secret")).finished
        home.core.syncs.try_again("alice", home.directory.all_declared()[0].credentials)
        await home.core.syncs.start("alice", Credentials("alice", b"secret")).finished
        assert len(await home.store.messages((await alice(home)).id)) == 6
