"""Two accounts for one mailbox: told of, and nothing deleted upstream until it is settled."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest

from proxy.domain.facts import SyncFailed, TroubleBegan, TroubleOver
from proxy.domain.policy import AlertsPolicy, RetentionPolicy, UpstreamServer
from proxy.services.troubles import Troubles
from tests.rude_upstream import RudeUpstream, mail
from tests.services.house import House, declared, house, policy_for, world_of

DELIVERED = RetentionPolicy(upstream="delivered")
OTHER = "alice@example.com"


@pytest.fixture
async def rude() -> AsyncIterator[RudeUpstream]:
    """One mailbox, whatever the name."""
    mails = [(f"u{n}", mail(str(n))) for n in range(4)]
    async with RudeUpstream(mails).listening() as upstream:
        yield upstream


@pytest.fixture
async def home(rude: RudeUpstream, tmp_path: Path) -> AsyncIterator[House]:
    policy = policy_for(rude.port, retention=DELIVERED)
    async with house(tmp_path, policy, declared(policy)) as home:
        yield home


def troubles_of(home: House, folder: Path) -> Troubles:
    world = world_of(folder, home.clock, home.passwords)
    return Troubles(
        home.store,
        world,
        home.facts,
        home.directory,
        AlertsPolicy(notices=True),
        lambda: None,
        lambda: None,
    )


async def have_it_all(home: House, *names: str) -> None:
    """Each has all mail; whatever is due after that is deleted."""
    for name in names:
        await home.read(name)
    for name in names:
        await home.uids(name)
    assert not home.facts.of(SyncFailed)


async def test_neither_of_two_names_for_one_mailbox_deletes_what_the_other_may_need(
    home: House, rude: RudeUpstream
) -> None:
    await home.uids()
    await have_it_all(home, OTHER, "alice")
    rude.mails.append(("u9", mail("9")))
    await have_it_all(home, "alice", OTHER)
    assert rude.deleted == []
    assert len(await home.uids(f"{OTHER}+late")) == 5


async def test_both_accounts_are_told_with_the_cure_until_they_are_merged(
    home: House, rude: RudeUpstream, tmp_path: Path
) -> None:
    desk = troubles_of(home, tmp_path)
    await home.uids()
    await home.uids(OTHER)
    await desk.round()
    await desk.round()
    assert home.facts.of(TroubleBegan) == [
        TroubleBegan(name, "same_mailbox", True) for name in ("alice", OTHER)
    ]
    told = [trouble for trouble in await home.store.troubles() if trouble.over_at is None]
    assert {trouble.marks for trouble in told} == {("alice",), (OTHER,)}
    for trouble in told:
        # The declared one stays, whoever reads it.
        assert f"account merge {OTHER} alice" in trouble.body
        assert "account distinct" in trouble.body
    await home.core.admin.call("account merge", {"account": OTHER, "into": "alice"})
    await desk.round()
    assert len(home.facts.of(TroubleOver)) == 2
    await have_it_all(home, "alice")
    assert rude.deleted == ["u0", "u1", "u2", "u3"]


async def test_what_an_operator_has_told_apart_is_two_mailboxes_for_good(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    policy = policy_for(rude.port, retention=DELIVERED)
    async with house(tmp_path, policy, declared(policy)) as home:
        desk = troubles_of(home, tmp_path)
        await home.uids()
        await home.uids(OTHER)
        await desk.round()
        await home.core.admin.call("account distinct", {"account": OTHER, "other": "alice"})
        await desk.round()
        assert len(home.facts.of(TroubleOver)) == 2
    async with house(tmp_path, policy, declared(policy)) as home:
        rude.mails.append(("u9", mail("9")))
        await have_it_all(home, OTHER)
        assert await home.store.same_mailboxes() == []
        assert len(rude.deleted) == 5


async def test_an_account_that_is_removed_holds_nothing_up(home: House, rude: RudeUpstream) -> None:
    await home.uids()
    await home.uids(OTHER)
    await home.core.admin.call("account remove", {"account": OTHER})
    await have_it_all(home, "alice")
    assert len(rude.deleted) == 4


async def test_a_mailbox_too_small_to_tell_is_noticed_as_mail_comes(
    home: House, rude: RudeUpstream
) -> None:
    del rude.mails[2:]
    await home.uids()
    await home.uids(OTHER)
    assert await home.store.same_mailboxes() == []
    rude.mails.append(("u9", mail("9")))
    await home.uids(OTHER)
    assert await home.store.same_mailboxes() == []
    await home.uids()
    assert await home.store.same_mailboxes() == [(1, 2)]


async def test_a_session_that_broke_behind_new_mail_keeps_it_from_being_noticed_no_longer(
    home: House, rude: RudeUpstream
) -> None:
    del rude.mails[2:]
    await home.uids()
    await home.uids(OTHER)
    rude.mails += [("u8", mail("8")), ("u9", mail("9"))]
    await home.uids()
    rude.hang_up_on = {"RETR 4"}
    await home.uids(OTHER)
    assert await home.store.same_mailboxes() == []
    del rude.mails[3]
    rude.hang_up_on = set()
    home.core.syncs._states[OTHER].not_before = 0
    await home.uids(OTHER)
    assert await home.store.same_mailboxes() == [(1, 2)]


async def test_an_account_that_is_removed_while_they_are_compared_is_no_error(home: House) -> None:
    await home.uids()
    await home.store.note_same_mailbox(1, 99)
    assert await home.store.same_mailboxes() == []


async def test_accounts_that_an_earlier_version_has_made_are_noticed_before_anything_is_deleted(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    policy = policy_for(rude.port, retention=DELIVERED)
    async with house(tmp_path, policy, declared(policy)) as home:
        await home.read("alice")
        await home.read(OTHER)
    with closing(sqlite3.connect(tmp_path / "catalogue.db")) as catalogue, catalogue:
        catalogue.execute("DELETE FROM same_mailbox")
    async with house(tmp_path, policy, declared(policy)) as home:
        await have_it_all(home, "alice")
        assert await home.store.same_mailboxes() == [(1, 2)]
        assert rude.deleted == []


async def test_an_unchanged_mailbox_is_not_compared_again(home: House, rude: RudeUpstream) -> None:
    asked = []
    real = home.store.alike

    async def alike(account_id: int) -> object:
        asked.append(account_id)
        return await real(account_id)

    home.store.alike = alike  # type: ignore[method-assign,assignment]
    for _ in range(3):
        await home.uids()
        home.clock.time += 4000
    assert asked == [1]
    rude.mails.append(("u9", mail("9")))
    await home.uids()
    assert asked == [1, 1]


CIRCULAR = [(f"u{n}", mail(f"circular {n}")) for n in range(3)]


@pytest.mark.parametrize(
    ("alices", "bobs"),
    [
        (CIRCULAR[:1], CIRCULAR[:1]),
        (CIRCULAR[:2], CIRCULAR[:2]),
        # Numbered by each mailbox, and of one size.
        ([(str(n), mail(f"a{n}")) for n in range(9)], [(str(n), mail(f"b{n}")) for n in range(9)]),
        (
            [*CIRCULAR, *((f"a{n}", mail(f"a{n}")) for n in range(3))],
            [*CIRCULAR, *((f"b{n}", mail(f"b{n}")) for n in range(3))],
        ),
        # Equal mail under other UIDLs, and without a header that identifies it.
        (CIRCULAR, [(f"x{uid}", octets) for uid, octets in CIRCULAR]),
        (
            [(str(n), mail(str(n), identified=False)) for n in range(9)],
            [(str(n), mail(str(n), identified=False)) for n in range(9)],
        ),
    ],
    ids=["one", "two", "numbers", "half", "other UIDLs", "anonymous"],
)
async def test_mail_that_two_people_have_got_does_not_make_their_mailboxes_one(
    tmp_path: Path, alices: list[tuple[str, bytes]], bobs: list[tuple[str, bytes]]
) -> None:
    async with AsyncExitStack() as stack:
        sides = [
            await stack.enter_async_context(RudeUpstream(list(mails)).listening())
            for mails in (alices, bobs)
        ]
        policies = [policy_for(side.port, retention=DELIVERED) for side in sides]
        accounts = [
            declared(policy, name) for policy, name in zip(policies, ("alice", "bob"), strict=True)
        ]
        home = await stack.enter_async_context(house(tmp_path, policies[0], *accounts))
        await have_it_all(home, "alice", "bob")
        assert await home.store.same_mailboxes() == []
        assert [len(side.deleted) for side in sides] == [len(alices), len(bobs)]


async def test_the_same_mail_at_another_host_is_another_mailbox(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    here = policy_for(rude.port)
    there = policy_for(rude.port, upstream=UpstreamServer("localhost", rude.port, "none"))
    async with house(tmp_path, here, declared(here), declared(there, "bob")) as home:
        await home.uids()
        assert await home.uids("bob") == await home.uids()
        assert await home.store.same_mailboxes() == []
