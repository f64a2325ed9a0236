"""When a device has a message: what its sessions did, and how they ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.adapters.net import SocketNetwork
from proxy.domain.errors import StoreUnavailable
from proxy.domain.facts import SessionEnded
from proxy.domain.model import Delivery, Holding, Message
from proxy.domain.policy import DAY, DevicePolicy, RetentionPolicy
from proxy.domain.view import Listing, View
from proxy.interfaces.store import BlobReader
from proxy.services.maildrops import DeviceMaildrop
from proxy.wire.pop3 import NEVER
from tests.rude_upstream import RudeUpstream, mail
from tests.services.house import START, House, SetClock, house, policy_for
from tests.services.house import Facts as HouseFacts

TIMEOUT = 20
DELIVERED = RetentionPolicy(upstream="delivered")
LONG = mail("long") + b"x" * 70 + b"\r\n"
LONG += (b"y" * 70 + b"\r\n") * 200_000


class Program:
    """A mail program with one session."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, home: House
    ) -> None:
        self.reader, self.writer = reader, writer
        self._home = home
        self._ended = len(home.facts.of(SessionEnded))

    async def line(self) -> bytes:
        async with asyncio.timeout(TIMEOUT):
            return await self.reader.readline()

    async def says(self, *commands: str) -> None:
        """Each is sent when the one before is answered, all of it."""
        for command in commands:
            self.writer.write(f"{command}\r\n".encode())
            assert (await self.line()).startswith(b"+OK"), command
            if command.split()[0] in ("RETR", "TOP") or command in ("UIDL", "LIST"):
                while await self.line() != b".\r\n":
                    pass

    async def vanishes(self) -> None:
        self.writer.transport.abort()
        await self.is_over()

    async def is_over(self) -> None:
        async with asyncio.timeout(TIMEOUT):
            while len(self._home.facts.of(SessionEnded)) == self._ended:
                self._home.facts._changed.clear()
                await self._home.facts._changed.wait()
        await self._home.core.maildrops.settle()


@asynccontextmanager
async def program(home: House, login: str = "alice+laptop") -> AsyncIterator[Program]:
    listener = await SocketNetwork(None).listen("127.0.0.1:0", lambda: home.core.session(tls=False))
    port = int(listener.addresses[0].rpartition(":")[2])
    made = Program(*await asyncio.open_connection("127.0.0.1", port), home)
    try:
        await made.line()
        await made.says(f"USER {login}", "PASS secret")
        yield made
    finally:
        made.writer.close()
        await listener.close()


async def session(home: House, *commands: str, login: str = "alice+laptop") -> None:
    """One that ends as the last command says: with QUIT, or the device vanishes."""
    async with program(home, login) as device:
        await device.says(*commands)
        if commands and commands[-1] == "QUIT":
            await device.is_over()
        else:
            await device.vanishes()


async def deliveries(home: House, uid: str = "u1") -> list[Delivery]:
    account = await home.store.account("alice")
    assert account is not None
    record = await home.store.record(account.id, uid)
    assert record is not None
    return await home.store.deliveries(record.id)


async def shown(home: House, login: str = "alice+laptop") -> list[str]:
    return await home.uids(login)


async def holding(home: House, *, present: bool) -> Holding:
    account = await home.store.account("alice")
    assert account is not None
    retention = home.directory.policy("alice").retention
    ran = home.store.ran
    holdings = await home.store.holdings(account.id, present=present, retention=retention, ran=ran)
    return holdings[0]


# --- sessions that were cut off -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("later", "had"),
    [
        (("UIDL", "QUIT"), True),
        (("UIDL", "RETR 2", "QUIT"), True),
        (("UIDL", "TOP 1 0", "QUIT"), True),
        (("UIDL", "DELE 2", "QUIT"), True),
        (("UIDL", "RETR 1", "QUIT"), True),
        (("QUIT",), False),
        (("LIST", "QUIT"), False),
        (("UIDL 1", "QUIT"), False),
        (("DELE 1", "UIDL", "RSET", "QUIT"), False),
        (("UIDL",), False),
        (("UIDL", "RETR 2"), False),
    ],
)
async def test_a_message_sent_whole_is_had_when_a_later_session_passes_it_over(
    home: House, later: tuple[str, ...], had: bool
) -> None:
    await session(home, "UIDL", "RETR 1")
    assert await deliveries(home) == []
    home.clock.time += 60
    await session(home, *later)
    assert await deliveries(home) == ([Delivery("laptop", START + 60, None)] if had else [])


async def test_it_is_concluded_from_sessions_of_that_device_alone(home: House) -> None:
    await session(home, "UIDL", "RETR 1")
    await session(home, "UIDL", "QUIT", login="alice+phone")
    assert await deliveries(home) == []


async def test_what_was_never_sent_is_not_had_for_being_passed_over(home: House) -> None:
    await session(home, "UIDL", "TOP 1 0")
    await session(home, "UIDL", "QUIT")
    assert await deliveries(home) == []


async def test_a_message_that_was_cut_off_in_the_middle_is_not_had(tmp_path: Path) -> None:
    async with (
        RudeUpstream([("u1", LONG)]).listening() as rude,
        house(tmp_path, policy_for(rude.port)) as home,
    ):
        async with program(home) as device:
            device.writer.write(b"RETR 1\r\n")
            assert await device.line() == f"+OK {len(LONG)} octets\r\n".encode()
            await device.vanishes()
        await session(home, "UIDL", "QUIT")
        assert await deliveries(home) == []


async def test_a_session_that_was_open_before_proves_nothing(home: House) -> None:
    """Its list says nothing of what another one has fetched meanwhile."""
    async with program(home) as early:
        await early.says("UIDL")
        await session(home, "UIDL", "RETR 1")
        await early.says("UIDL", "QUIT")
        await early.is_over()
    assert await deliveries(home) == []


async def test_who_fetches_it_again_and_is_cut_off_again_did_not_have_it(tmp_path: Path) -> None:
    async with (
        RudeUpstream([("u1", LONG), ("u2", mail("2"))]).listening() as rude,
        house(tmp_path, policy_for(rude.port)) as home,
    ):
        await session(home, "UIDL", "RETR 1")
        async with program(home) as device:
            device.writer.write(b"RETR 1\r\n")
            await device.line()
            await device.vanishes()
        await session(home, "UIDL", "QUIT")
        assert await deliveries(home) == []


async def test_who_asks_for_it_again_and_is_refused_has_not_passed_it_over(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await session(home, "UIDL", "RETR 1")

    def unreadable(message: Message, **_: object) -> BlobReader:
        raise StoreUnavailable(message.uid)

    with monkeypatch.context() as patch:
        patch.setattr(home.store, "open_blob", unreadable)
        async with program(home) as device:
            await device.says("UIDL")
            device.writer.write(b"RETR 1\r\n")
            assert (await device.line()).startswith(b"-ERR")
            await device.says("QUIT")
            await device.is_over()
    assert await deliveries(home) == []


async def test_what_was_sent_whole_is_known_after_a_restart(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    async with house(tmp_path, policy_for(rude.port)) as home:
        await session(home, "UIDL", "RETR 1")
    async with house(tmp_path, policy_for(rude.port)) as home:
        await session(home, "UIDL", "QUIT")
        assert len(await deliveries(home)) == 1


async def test_nothing_is_concluded_from_what_could_not_be_noted(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object, **__: object) -> None:
        raise StoreUnavailable("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(home.store, "note_cut_off", full)
        await session(home, "UIDL", "RETR 1")
    await session(home, "UIDL", "QUIT")
    assert await deliveries(home) == []


async def test_it_leaves_upstream_and_stays_here_for_local_keep_from_then_on(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    async with house(tmp_path, policy_for(rude.port, retention=DELIVERED)) as home:
        await session(home, "UIDL", "RETR 1", "RETR 2")
        home.clock.time += 100 * DAY
        await session(home, "UIDL")
        assert rude.deleted == []
        await session(home, "UIDL", "QUIT")
        concluded, ran = home.clock.time, home.store.ran
        await session(home, "QUIT")
        assert rude.deleted == ["u1", "u2"]
        account = await home.store.account("alice")
        assert account is not None
        assert (await holding(home, present=False)).last_delivery_ran == ran
        home.clock.time = concluded + DELIVERED.local_keep - 1
        await home.core.janitor.clean(account)
        assert await shown(home) == ["u1", "u2"]


async def test_a_poll_with_nothing_unconfirmed_asks_the_store_for_nothing(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await session(home, "UIDL", "RETR 1", "RETR 2", "QUIT")
    await session(home, "UIDL", "QUIT")
    asked: list[object] = []
    monkeypatch.setattr(home.store, "unconfirmed", asked.append)
    monkeypatch.setattr(home.store, "note_cut_off", asked.append)
    monkeypatch.setattr(home.store, "commit_session", asked.append)
    await session(home, "UIDL", "QUIT")
    await session(home, "UIDL")
    assert asked == []


# --- the view "undelivered" ---------------------------------------------------------------------


@pytest.fixture
async def forgetful(tmp_path: Path) -> AsyncIterator[House]:
    """Its devices cannot remember UIDLs."""
    mails = [(f"u{n}", mail(str(n))) for n in range(1, 6)]
    async with RudeUpstream(mails).listening() as rude:
        policy = policy_for(
            rude.port, devices=DevicePolicy(view="undelivered"), retention=DELIVERED
        )
        async with house(tmp_path, policy) as home:
            yield home


FETCH_ALL = tuple(f"RETR {n}" for n in range(1, 6))


@pytest.mark.parametrize(
    ("commands", "left"),
    [
        ((*FETCH_ALL, "QUIT"), []),
        ((*FETCH_ALL, "DELE 1", "DELE 2", "QUIT"), ["u3", "u4", "u5"]),
        (("RETR 1", "DELE 1", *FETCH_ALL[1:], "QUIT"), ["u2", "u3", "u4", "u5"]),
        (("DELE 4", "QUIT"), ["u1", "u2", "u3", "u5"]),
        ((*FETCH_ALL, "DELE 1", "RSET", "QUIT"), ["u1", "u2", "u3", "u4", "u5"]),
        ((*FETCH_ALL, "DELE 1", "RSET", "DELE 2", "QUIT"), ["u1", "u3", "u4", "u5"]),
        (("TOP 1 0", "QUIT"), ["u1", "u2", "u3", "u4", "u5"]),
        (FETCH_ALL, ["u1", "u2", "u3", "u4", "u5"]),
    ],
)
async def test_a_program_that_deletes_has_what_it_deleted(
    forgetful: House, commands: tuple[str, ...], left: list[str]
) -> None:
    await session(forgetful, *commands)
    assert await shown(forgetful) == left
    for n in range(1, 6):
        assert bool(await deliveries(forgetful, f"u{n}")) == (f"u{n}" not in left)


async def test_what_it_could_not_store_stays_upstream_as_well(
    forgetful: House, rude: RudeUpstream
) -> None:
    await session(forgetful, *FETCH_ALL, "DELE 1", "DELE 2", "QUIT")
    account = await forgetful.store.account("alice")
    assert account is not None
    ran, retention = forgetful.store.ran, DELIVERED
    await session(forgetful, "QUIT")
    present = await forgetful.store.holdings(account.id, present=True, retention=retention, ran=ran)
    assert [h.waiting for h in present] == [1, 1, 1]
    gone = await forgetful.store.holdings(account.id, present=False, retention=retention, ran=ran)
    assert [h.waiting for h in gone] == [0, 0]


async def test_it_is_told_nothing_by_being_passed_over(forgetful: House) -> None:
    await session(forgetful, "UIDL", *FETCH_ALL)
    await session(forgetful, "UIDL", "QUIT")
    assert await shown(forgetful) == ["u1", "u2", "u3", "u4", "u5"]


async def test_a_program_that_remembers_has_what_it_fetched_beside_what_it_deletes(
    home: House,
) -> None:
    """It fetches what is new and deletes what has been with it for long."""
    await session(home, "RETR 1", "DELE 2", "QUIT")
    assert len(await deliveries(home, "u1")) == 1


@dataclass
class Commits:
    """A store that takes commits and keeps what they said."""

    had: set[int] = field(default_factory=set)

    async def commit_session(self, device_id: int, **marks: Any) -> None:
        self.had = {*marks["retrieved"], *marks["deleted"]}


numbers = st.integers(1, 4)
steps = st.lists(
    st.tuples(st.sampled_from(["RETR", "TOP", "DELE"]), numbers) | st.just(("RSET", 0)),
    max_size=12,
)


@given(steps, st.sampled_from(["all", "undelivered"]))
def test_whatever_a_session_does_quit_commits_what_the_view_says(
    done: list[tuple[str, int]], kind: str
) -> None:
    view = View(Listing([Message(n, f"u{n}", b"", 10, dots=False) for n in range(1, 5)]))
    store, clock = Commits(), SetClock()
    maildrop = DeviceMaildrop(
        *("alice", "laptop", view, NEVER, store, clock, HouseFacts(), 1),  # type: ignore[arg-type]
        _undelivered=kind == "undelivered",
        _everywhere=False,
        _on_close=lambda _: None,
    )
    retrieved, deleted, ever_deleted = set[int](), set[int](), False
    for verb, number in done:
        if verb == "RSET":
            view.reset()
            deleted.clear()
        elif number not in deleted and verb == "RETR":
            view.mark_retrieved(number)
            retrieved.add(number)
        elif number not in deleted and verb == "DELE":
            view.mark_deleted(number)
            deleted.add(number)
            ever_deleted = True
    asyncio.run(maildrop.commit())
    if kind == "undelivered" and ever_deleted:
        assert store.had == deleted
    else:
        assert store.had == retrieved | deleted
