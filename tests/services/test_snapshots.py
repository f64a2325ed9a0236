"""A view is a snapshot: of one moment, whole, and for as long as its session lasts (promise 5).

The store is held at the very step that matters, on connections that never wait for a thread.
"""

from __future__ import annotations

import asyncio
import math
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from proxy.adapters.blobs import InlineRunner
from proxy.adapters.sqlite.connection import Connection, InlineConnection, Parameters
from proxy.adapters.store import SqliteStore, open_store
from proxy.domain.directory import Directory
from proxy.domain.facts import Unexpected
from proxy.domain.model import Account, Device, Sighting
from proxy.domain.policy import AccountPolicy, RetentionPolicy, Seconds, UpstreamServer
from proxy.services.janitor import Janitor
from proxy.services.maildrops import DeviceMaildrop, Maildrops
from proxy.services.timekeeper import Timekeeper
from tests.interfaces.store_contract import NOW, add, fetched
from tests.services.house import Facts, SetClock

POLICY = AccountPolicy(
    UpstreamServer("upstream", 110, "none"), retention=RetentionPolicy(local_keep=Seconds(0))
)
EVERYWHERE = AccountPolicy(POLICY.upstream, retention=RetentionPolicy(on_delete="everywhere"))


class Held(InlineConnection):
    """Stops before COMMIT while it is told to."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        self.go = asyncio.Event()
        self.go.set()
        self.at_commit = asyncio.Event()

    async def execute(self, sql: str, parameters: Parameters = ()) -> int:
        if sql == "COMMIT" and not self.go.is_set():
            self.at_commit.set()
            await self.go.wait()
        return await super().execute(sql, parameters)


@dataclass
class Stage:
    store: SqliteStore
    writer: Held
    clock: SetClock
    maildrops: Maildrops
    account: Account
    laptop: Device
    phone: Device

    def janitor(self, facts: Facts | None = None) -> Janitor:
        facts, directory = facts or Facts(), Directory([], POLICY, pass_through=False)
        timekeeper = Timekeeper(self.store, self.clock, facts)
        return Janitor(self.store, self.clock, facts, directory, self.maildrops, timekeeper)

    async def open(self, device: Device, policy: AccountPolicy = POLICY) -> DeviceMaildrop:
        return await self.maildrops.open(self.account, device, policy)

    async def shown(self, device: Device) -> list[str]:
        """In a new session."""
        maildrop = await self.open(device)
        maildrop.close()
        return uids(maildrop)

    async def quits(self, device: Device, *deleted: int, policy: AccountPolicy = POLICY) -> None:
        maildrop = await self.open(device, policy)
        for number in deleted:
            maildrop.view.mark_deleted(number)
        await maildrop.commit()
        maildrop.close()


def uids(maildrop: DeviceMaildrop) -> list[str]:
    lines = b"".join(maildrop.view.uidl_lines()).decode().splitlines()
    return [line.split()[1] for line in lines]


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    made: list[Held] = []

    async def connect(path: Path) -> Connection:
        made.append(Held(sqlite3.connect(path, isolation_level=None)))
        return made[-1]

    store = await open_store(tmp_path, connect=connect, run=InlineRunner())
    clock = SetClock()
    store.start_running(clock.awake, longest=math.inf)
    account = await store.ensure_account("alice", declared=True, at=NOW)
    devices = [
        await store.add_device(account.id, name, since=None, at=NOW) for name in ("laptop", "phone")
    ]
    for name in ("a", "b", "c"):
        await add(store, account, f"{name}\r\n".encode(), name)
    yield Stage(store, made[0], clock, Maildrops(store, clock, Facts()), account, *devices)
    await store.close()


async def turns() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


# --- an open session ----------------------------------------------------------------------------


async def test_an_open_session_s_list_does_not_change_whatever_happens(stage: Stage) -> None:
    store, account = stage.store, stage.account
    maildrop = await stage.open(stage.laptop)
    before = (
        uids(maildrop),
        b"".join(maildrop.view.list_lines()),
        maildrop.view.count,
        maildrop.view.octets,
    )
    first, second, third = (maildrop.view.message(n).id for n in (1, 2, 3))
    await add(store, account, b"new\r\n", "d")
    await stage.quits(stage.laptop, 1)
    await stage.quits(stage.phone, 2, policy=EVERYWHERE)
    await store.note_listing(
        account.id, gone=[third], seen=[Sighting(first, "renamed", 999)], at=NOW
    )
    await store.note_expunged([second], at=NOW)
    janitor = stage.janitor()
    stage.clock.time += 1e9
    assert await janitor.clean(account) is None
    after = (
        uids(maildrop),
        b"".join(maildrop.view.list_lines()),
        maildrop.view.count,
        maildrop.view.octets,
    )
    assert after == before
    for number in (1, 2, 3):
        message = maildrop.view.message(number)
        reader = maildrop.open(message)
        assert reader.read(100) == f"{message.uid}\r\n".encode()
        reader.close()
    maildrop.close()
    assert await stage.shown(stage.laptop) == ["c", "d"]


# --- the cache of views -------------------------------------------------------------------------

Change = Callable[[Stage], Awaitable[None]]


async def _quit(stage: Stage) -> None:
    await stage.quits(stage.laptop, 1)


async def _quit_everywhere(stage: Stage) -> None:
    await stage.quits(stage.phone, 1, policy=EVERYWHERE)


async def _arrival(stage: Stage) -> None:
    await stage.store.add_messages(
        stage.account.id, [await fetched(stage.store, b"d\r\n", "d")], at=NOW
    )


CHANGES = {
    _quit: ["b", "c"],
    _quit_everywhere: ["b", "c"],
    _arrival: ["a", "b", "c", "d"],
}


@pytest.mark.parametrize(("change", "after"), CHANGES.items())
async def test_a_view_cut_before_a_commit_is_not_taken_for_one_cut_after_it(
    stage: Stage, change: Change, after: list[str]
) -> None:
    assert await stage.shown(stage.laptop) == ["a", "b", "c"]
    stage.writer.go.clear()
    task = asyncio.ensure_future(change(stage))
    await stage.writer.at_commit.wait()
    assert await stage.shown(stage.laptop) == ["a", "b", "c"]
    stage.writer.go.set()
    await task
    assert await stage.shown(stage.laptop) == after


@pytest.mark.parametrize("read", ["messages", "hidden", "uids_of", "unconfirmed"])
@pytest.mark.parametrize(("change", "after"), CHANGES.items())
async def test_what_changes_while_a_view_is_cut_is_seen_by_the_next(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, read: str, change: Change, after: list[str]
) -> None:
    """What was read before is not kept under the version of after."""
    honest = getattr(stage.store, read)

    async def slow(*arguments: Any) -> Any:
        monkeypatch.setattr(stage.store, read, honest)
        found = await honest(*arguments)
        await asyncio.gather(asyncio.ensure_future(without_gate(stage, change)))
        return found

    monkeypatch.setattr(stage.store, read, slow)
    await stage.shown(stage.laptop)
    assert await stage.shown(stage.laptop) == after


async def without_gate(stage: Stage, change: Change) -> None:
    """As by a session that was open before."""
    other = Stage(**{**vars(stage), "maildrops": Maildrops(stage.store, stage.clock, Facts())})
    await change(other)


# --- the janitor --------------------------------------------------------------------------------


async def test_the_janitor_outlives_what_nobody_planned_for(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail() -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(stage.store, "settle", fail)
    facts = Facts()
    work = asyncio.create_task(stage.janitor(facts).work())
    assert (await facts.first(Unexpected)).where == "janitor"
    assert not work.done()
    work.cancel()


@pytest.mark.parametrize("step", ["holdings", "purge"])
async def test_a_login_while_the_janitor_looks_or_purges_sees_what_is_there_afterwards(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    for device in (stage.laptop, stage.phone):
        maildrop = await stage.open(device)
        for number in (1, 2):
            maildrop.view.mark_retrieved(number)
        await maildrop.commit()
        maildrop.close()
    ids = [known.id for known in await stage.store.known(stage.account.id)]
    await stage.store.note_listing(stage.account.id, gone=ids, seen=[], at=NOW)
    stage.clock.time += 1
    honest = getattr(stage.store, step)
    logins: list[asyncio.Future[DeviceMaildrop]] = []

    async def slow(*arguments: Any, **named: Any) -> Any:
        logins.append(asyncio.ensure_future(stage.open(stage.laptop)))
        await turns()
        return await honest(*arguments, **named)

    monkeypatch.setattr(stage.store, step, slow)
    purged = await stage.janitor().clean(stage.account)
    assert purged is not None
    assert purged.messages == 2
    maildrop = await logins[0]
    assert uids(maildrop) == ["c"]
    maildrop.open(maildrop.view.message(1)).close()
