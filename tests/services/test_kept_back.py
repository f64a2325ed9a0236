"""What came whole and the store could not take: kept, and stored by the next sync without RETR."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy.adapters.store import SqliteStore
from proxy.domain.errors import StoreUnavailable, UpstreamUnreachable
from proxy.domain.facts import SyncFinished
from proxy.domain.model import Credentials
from proxy.interfaces.store import IN_MEMORY
from proxy.services import fetch, kept_back
from proxy.services.upstream import WINDOW_COMMANDS
from tests.rude_upstream import RudeUpstream, mail
from tests.services.house import House, declared, house, policy_for


@pytest.fixture
async def rude() -> AsyncIterator[RudeUpstream]:
    async with RudeUpstream().listening() as upstream:
        yield upstream


@pytest.fixture
async def home(rude: RudeUpstream, tmp_path: Path) -> AsyncIterator[House]:
    policy = policy_for(rude.port)
    async with house(tmp_path, policy, declared(policy)) as home:
        yield home


def store_of(home: House) -> SqliteStore:
    assert isinstance(home.store, SqliteStore)
    return home.store


def staged(home: House) -> int:
    return len(store_of(home)._blobs.staged)


@contextmanager
def full_disk(home: House) -> Iterator[None]:
    """No row can be written; files can."""

    async def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_of(home)._database._writer, "executemany", full)
        yield


async def sync(home: House) -> SyncFinished:
    """One that nothing holds up."""
    credentials = Credentials("alice", b"secret")
    home.core.syncs.try_again("alice", credentials)
    return await home.core.syncs.start("alice", credentials).finished


async def sync_in_vain(home: House) -> None:
    with full_disk(home), pytest.raises(StoreUnavailable):
        await sync(home)


def retrs(rude: RudeUpstream) -> Counter[str]:
    return Counter(command for command in rude.commands if command.startswith("RETR"))


@pytest.mark.parametrize("pipelining", [True, False])
async def test_what_the_store_could_not_take_is_not_asked_for_again(
    home: House, rude: RudeUpstream, pipelining: bool
) -> None:
    if not pipelining:
        rude.capabilities = ["TOP", "UIDL", "USER"]
    count = 2 * fetch.BATCH_MESSAGES + 10
    rude.mails[:] = [(f"u{n}", mail(str(n))) for n in range(count)]
    await sync_in_vain(home)
    assert staged(home) == retrs(rude).total() > 0
    await sync(home)
    assert retrs(rude).total() == count
    assert set(retrs(rude).values()) == {1}
    assert sorted(await home.read()) == sorted(octets for _, octets in rude.mails)
    assert staged(home) == 0


async def test_a_batch_that_could_not_be_written_is_not_passed_over(
    home: House, rude: RudeUpstream
) -> None:
    """The sync has failed, and the next one does not take the mailbox for unchanged."""
    rude.mails[:] = [("u1", mail("1")), ("u2", mail("2"))]
    await sync_in_vain(home)
    assert not home.facts.of(SyncFinished)
    assert home.core.syncs._states["alice"].memory.mark is None
    assert await sync(home)
    assert await home.uids() == ["u1", "u2"]


@pytest.mark.parametrize("pipelining", [True, False])
async def test_once_a_batch_could_not_be_written_nothing_more_is_asked_for(
    home: House, rude: RudeUpstream, pipelining: bool
) -> None:
    ahead = WINDOW_COMMANDS
    if not pipelining:
        rude.capabilities = ["TOP", "UIDL", "USER"]
        ahead = 1
    rude.mails[:] = [(f"u{n}", mail(str(n))) for n in range(400)]
    await sync_in_vain(home)
    assert retrs(rude).total() <= 2 * fetch.BATCH_MESSAGES + ahead
    before = retrs(rude)
    for _ in range(3):
        # What is kept is tried first, and shows that the store still takes nothing.
        await sync_in_vain(home)
    assert retrs(rude) == before
    assert staged(home) == before.total()
    assert (await sync(home)).fetched == 400 - before.total()
    assert set(retrs(rude).values()) == {1}


async def test_large_ones_are_kept_in_their_files(
    home: House, rude: RudeUpstream, tmp_path: Path
) -> None:
    large = mail("large") + (b"x" * 70 + b"\r\n") * (IN_MEMORY // 36)
    rude.mails[:] = [("u1", mail("1")), ("large", large)]
    await sync_in_vain(home)
    await sync(home)
    assert set(retrs(rude).values()) == {1}
    assert await home.read() == [mail("1"), large]
    assert list((tmp_path / "blobs" / "tmp").iterdir()) == []


async def test_a_message_that_is_another_one_by_now_is_fetched(
    home: House, rude: RudeUpstream
) -> None:
    """The same UIDL and the same size, where servers number their messages."""
    rude.mails[:] = [("1", mail("a")), ("2", mail("b"))]
    await sync_in_vain(home)
    rude.mails[1] = ("2", mail("c"))
    await sync(home)
    assert retrs(rude) == {"RETR 1": 1, "RETR 2": 2}
    assert await home.read() == [mail("a"), mail("c")]
    assert staged(home) == 0


async def test_a_message_under_another_name_is_fetched_and_the_old_one_let_go(
    home: House, rude: RudeUpstream
) -> None:
    rude.mails[:] = [("u1", mail("1")), ("u2", mail("2"))]
    await sync_in_vain(home)
    rude.mails[1] = ("other", mail("2"))
    await sync(home)
    assert await home.uids() == ["u1", "other"]
    for n in range(kept_back.MISSED):
        rude.mails.append((f"new{n}", mail(f"new{n}")))
        await sync(home)
    assert staged(home) == 0


async def test_what_cannot_be_compared_is_fetched(home: House, rude: RudeUpstream) -> None:
    rude.mails[:] = [("u1", mail("1")), ("", mail("2")), ("u3", mail("3", identified=False))]
    await sync_in_vain(home)
    assert staged(home) == 1
    rude.refusals["TOP 1"] = b"-ERR no TOP here\r\n"
    await sync(home)
    assert retrs(rude)["RETR 1"] == 2
    assert len(await home.read()) == 3
    assert staged(home) == 0


async def test_a_server_that_breaks_over_the_comparison_holds_up_nothing(
    home: House, rude: RudeUpstream
) -> None:
    rude.mails[:] = [("u1", mail("1")), ("u2", mail("2"))]
    await sync_in_vain(home)
    rude.hang_up_on = {"TOP 2"}
    with pytest.raises(UpstreamUnreachable):
        await sync(home)
    assert staged(home) == 0
    await sync(home)
    assert await home.uids() == ["u1", "u2"]


async def test_no_more_is_kept_than_an_account_may(
    home: House, rude: RudeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_back, "MESSAGES", 5)
    rude.mails[:] = [(f"u{n}", mail(str(n))) for n in range(300)]
    await sync_in_vain(home)
    assert staged(home) == 5
    assert retrs(rude).total() < 300
    await sync(home)
    assert sum(count - 1 for count in retrs(rude).values()) == retrs(rude).total() - 300
    assert len(await home.uids()) == 300


async def test_the_oldest_make_room_for_those_of_other_accounts(
    rude: RudeUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_back, "MESSAGES_IN_ALL", 5)
    rude.mails[:] = [(f"u{n}", mail(str(n))) for n in range(4)]
    policy = policy_for(rude.port)
    both = declared(policy), declared(policy, "bob")
    async with house(tmp_path, policy, *both) as home:
        await sync_in_vain(home)
        with full_disk(home), pytest.raises(StoreUnavailable):
            await home.core.syncs.start("bob", Credentials("bob", b"secret")).finished
        assert staged(home) == 5
        rude.commands.clear()
        await home.core.syncs.start("bob", Credentials("bob", b"secret")).finished
        assert not retrs(rude)
        await sync(home)
        assert retrs(rude).total() == 3
        assert staged(home) == 0


async def test_a_removed_account_leaves_nothing(home: House, rude: RudeUpstream) -> None:
    rude.mails[:] = [("u1", mail("1"))]
    await sync_in_vain(home)
    assert staged(home) == 1
    home.core.syncs.forget("alice")
    await asyncio.sleep(0)
    assert staged(home) == 0


async def test_a_sync_that_is_broken_off_leaves_nothing_behind(
    home: House, rude: RudeUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rude.mails[:] = [("u1", mail("1")), ("u2", mail("2"))]
    writing, over = asyncio.Event(), asyncio.Event()

    async def fails_late(*_: object) -> None:
        writing.set()
        await over.wait()
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(store_of(home)._database._writer, "executemany", fails_late)
        run = home.core.syncs.start("alice", Credentials("alice", b"secret"))
        await writing.wait()
        ended = asyncio.create_task(home.core.syncs.break_off("alice"))
        await asyncio.sleep(0)
        over.set()
        await ended
    assert run.finished.done()
    assert staged(home) == 0
    assert list((tmp_path / "blobs" / "tmp").iterdir()) == []
