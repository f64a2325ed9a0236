"""What people are told of in their maildrops: when, how often, and until when."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

import pytest

from proxy.adapters.blobs import blob_path
from proxy.domain.directory import Directory
from proxy.domain.errors import StoreUnavailable
from proxy.domain.facts import SyncFailed, SyncFinished, TroubleBegan, TroubleOver, UidlsChanged
from proxy.domain.model import Account, Device, Unfetched
from proxy.domain.policy import DAY, HOUR, AlertsPolicy
from proxy.domain.survey import Space
from proxy.domain.trouble import TELLS_FOR, TOO_LARGE
from proxy.interfaces.store import Store
from proxy.services.troubles import Troubles
from tests.interfaces.store_contract import add, commit
from tests.services.house import START, House, declared, house, policy_for, world_of

PLENTY = Space(100 * 1024**3, 200 * 1024**3)


class Desk:
    """Troubles over a real store, without syncs: what they do is noted by hand."""

    def __init__(self, home: House, folder: Path) -> None:
        self.home = home
        self.folder = folder
        self.space = PLENTY
        self.policy = AlertsPolicy()
        self.troubles = self.fresh()

    def fresh(self) -> Troubles:
        """As after a restart."""
        world = world_of(self.folder, self.home.clock, self.home.passwords)
        return Troubles(
            self.store,
            world,
            self.home.facts,
            self.home.directory,
            self.policy,
            lambda: self.space,
            lambda: None,
        )

    @property
    def store(self) -> Store:
        return self.home.store

    async def account(self, name: str = "alice") -> Account:
        return await self.store.ensure_account(
            name, declared=self.home.directory.declared(name) is not None, at=START
        )

    async def device(self, name: str, account: str = "alice") -> Device:
        return await self.store.add_device((await self.account(account)).id, name, since=None, at=0)

    async def fails(
        self, kind: str = "UpstreamRefusedLogin", said: str = "no", name: str = "alice"
    ) -> None:
        account = await self.account(name)
        await self.store.note_sync(
            account.id, at=self.home.clock.time, failure=said, failure_kind=kind
        )
        self.troubles.observe(SyncFailed(name, kind, said, 60.0))
        await self.troubles.round()

    async def succeeds(self, *unfetched: Unfetched, name: str = "alice") -> None:
        account = await self.account(name)
        await self.store.note_sync(account.id, at=self.home.clock.time, unfetched=unfetched)
        self.troubles.observe(SyncFinished(name, 9, 0, 0, 0, 0, len(unfetched), 0.1))
        await self.troubles.round()

    async def later(self, seconds: float) -> None:
        self.home.clock.time += seconds
        await self.troubles.round()

    async def notices(self, name: str = "alice") -> list[EmailMessage]:
        """What a device would see."""
        found = []
        for message in await self.store.messages((await self.account(name)).id):
            reader = self.store.open_blob(message)
            mail = message_from_bytes(reader.read(message.octets), policy=default)
            reader.close()
            found.append(mail)
        return found

    async def subjects(self, name: str = "alice") -> list[str]:
        return [mail["Subject"] for mail in await self.notices(name)]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    policy = policy_for(1)
    accounts = [declared(policy), declared(policy, "bob")]
    async with house(tmp_path, policy, *accounts) as home:
        yield Desk(home, tmp_path)


async def test_a_single_refusal_says_nothing(desk: Desk) -> None:
    await desk.fails()
    assert await desk.subjects() == []


async def test_the_second_refusal_in_a_row_is_told_once(desk: Desk) -> None:
    for _ in range(5):
        await desk.fails()
    assert await desk.subjects() == ["The mail provider refuses the password of alice"]
    assert desk.home.facts.of(TroubleBegan) == [TroubleBegan("alice", "password_refused", True)]


async def test_mail_that_is_lost_is_told_of_until_somebody_brings_it_back(desk: Desk) -> None:
    account = await desk.account()
    message = await add(desk.store, account, b"a\r\n", "u1")
    path = blob_path(desk.folder / "blobs", hashlib.sha256(b"a\r\n").digest())
    path.write_bytes(b"b\r\n")
    assert not await desk.store.is_intact(hashlib.sha256(b"a\r\n").digest())
    await desk.troubles.round()
    # Upstream has it, so it comes again.
    assert desk.home.facts.of(TroubleBegan) == []
    await desk.store.note_listing(account.id, gone=[message], seen=(), at=START)
    for _ in range(3):
        await desk.troubles.round()
    assert desk.home.facts.of(TroubleBegan) == [TroubleBegan("alice", "lost_mail", True)]
    (trouble,) = await desk.store.troubles()
    assert trouble.marks == ("u1",)
    assert "1 message of alice" in trouble.subject
    assert "verify" in trouble.body
    path.write_bytes(b"a\r\n")
    assert await desk.store.is_intact(hashlib.sha256(b"a\r\n").digest())
    await desk.troubles.round()
    assert [over.trouble for over in desk.home.facts.of(TroubleOver)] == ["lost_mail"]


async def test_lost_mail_that_all_have_deleted_is_missed_by_none(desk: Desk) -> None:
    account, laptop = await desk.account(), await desk.device("laptop")
    message = await add(desk.store, account, b"a\r\n", "u1")
    await desk.store.note_listing(account.id, gone=[message], seen=(), at=START)
    await commit(desk.store, laptop, deleted={message}, everywhere=True)
    blob_path(desk.folder / "blobs", hashlib.sha256(b"a\r\n").digest()).unlink()
    assert not await desk.store.is_intact(hashlib.sha256(b"a\r\n").digest())
    await desk.troubles.round()
    assert desk.home.facts.of(TroubleBegan) == []


async def test_no_other_account_hears_of_it(desk: Desk) -> None:
    await desk.account("bob")
    await desk.fails()
    await desk.fails()
    assert await desk.subjects("bob") == []


async def test_a_refusal_behind_a_broken_connection_is_the_second_one(desk: Desk) -> None:
    await desk.fails()
    await desk.fails("UpstreamUnreachable")
    assert await desk.subjects() == []
    await desk.fails()
    assert len(await desk.subjects()) == 1


async def test_a_success_in_between_begins_anew(desk: Desk) -> None:
    await desk.fails()
    await desk.succeeds()
    await desk.fails()
    assert await desk.subjects() == []


async def test_a_guess_at_an_account_that_is_not_declared_is_no_trouble(desk: Desk) -> None:
    for _ in range(3):
        await desk.fails(name="mallory")
    assert await desk.subjects("mallory") == []


async def test_it_is_withdrawn_once_it_is_over(desk: Desk) -> None:
    await desk.fails()
    await desk.fails()
    await desk.succeeds()
    assert await desk.subjects() == []
    assert desk.home.facts.of(TroubleOver) == [TroubleOver("alice", "password_refused", START)]


async def test_the_same_trouble_later_is_told_again(desk: Desk) -> None:
    for _ in range(2):
        await desk.fails()
        await desk.fails()
        assert len(await desk.subjects()) == 1
        await desk.succeeds()


async def test_a_restart_tells_nothing_twice(desk: Desk) -> None:
    await desk.fails()
    await desk.fails()
    desk.troubles = desk.fresh()
    await desk.fails()
    await desk.fails()
    assert len(await desk.subjects()) == 1
    await desk.succeeds()
    assert await desk.subjects() == []


async def test_consent_is_asked_for_at_once_and_by_the_right_command(desk: Desk) -> None:
    oauth = replace(desk.home.directory.default.upstream, oauth_client_id="id", host="pop.test")
    policy = replace(desk.home.directory.default, upstream=oauth)
    other = declared(policy, "carol@example.com")
    desk.home.directory.replace(Directory([other], policy, pass_through=False))
    await desk.fails("ConsentNeeded", "revoked", name="carol@example.com")
    (mail,) = await desk.notices("carol@example.com")
    assert mail["Subject"] == "carol@example.com needs your consent again"
    assert mail["To"] == "carol@example.com"
    assert "    pop3-sync-proxy account authorize carol@example.com\r\n" in mail.get_content()


async def test_no_sync_for_a_day_is_told_but_not_right_after_a_start(desk: Desk) -> None:
    await desk.succeeds()
    desk.home.clock.time += DAY + 1
    desk.troubles = desk.fresh()
    await desk.fails("UpstreamUnreachable", "no connection")
    assert await desk.subjects() == []
    await desk.later(HOUR + 1)
    # Two intervals of a day, as the policy of these tests has it.
    assert await desk.subjects() == []
    await desk.later(DAY)
    assert await desk.subjects() == ["No new mail for alice for a day"]


async def test_syncs_that_do_not_even_fail_are_missed_too(desk: Desk) -> None:
    await desk.succeeds()
    await desk.later(2 * DAY + 1)
    assert await desk.subjects() == ["No new mail for alice for a day"]
    await desk.succeeds()
    assert await desk.subjects() == []


async def test_a_refused_password_explains_why_there_is_no_sync(desk: Desk) -> None:
    await desk.succeeds()
    await desk.fails()
    await desk.fails()
    await desk.later(9 * DAY)
    assert len(await desk.subjects()) == 1


async def test_messages_too_large_are_told_together_and_each_once(desk: Desk) -> None:
    one, two, three = (Unfetched(f"u{n}", n * 10**9, f"{TOO_LARGE}, 9 octets") for n in (1, 2, 3))
    other = Unfetched("u4", 7, "upstream does not send it as POP3 wants")
    await desk.succeeds(one, two, other)
    await desk.succeeds(one, two)
    (mail,) = await desk.notices()
    assert mail["Subject"] == "2 messages are too large to be fetched for alice"
    assert "UIDL u1" in mail.get_content()
    assert "u4" not in mail.get_content()
    await desk.succeeds(one, two, three)
    assert (await desk.subjects())[1:] == ["A message is too large to be fetched for alice"]
    await desk.succeeds(three)
    assert await desk.subjects() == ["A message is too large to be fetched for alice"]
    await desk.succeeds()
    assert await desk.subjects() == []


async def test_changed_uidls_are_told_once_a_week_at_most(desk: Desk) -> None:
    await desk.account()
    for _ in range(3):
        desk.troubles.observe(UidlsChanged("alice", 4711, 1))
        await desk.later(HOUR)
    (mail,) = await desk.notices()
    words = " ".join(mail.get_content().split())
    assert "given 4711 messages of alice new" in words
    assert "fetch 1 message in" in words
    desk.home.clock.time += TELLS_FOR
    await desk.succeeds()
    assert await desk.subjects() == []


async def test_a_disk_that_fills_up_is_the_operator_s_business_until_syncs_stop(desk: Desk) -> None:
    await desk.account()
    desk.space = Space(150 * 1024**2, 200 * 1024**3)
    await desk.later(1)
    assert await desk.subjects() == []
    assert desk.home.facts.of(TroubleBegan) == [TroubleBegan("", "store_low", False)]
    desk.space = Space(40 * 1024**2, 200 * 1024**3, reserve=50 * 1024**2)
    await desk.later(1)
    await desk.later(1)
    assert await desk.subjects() == ["The mail proxy has no room for new mail"]
    desk.space = Space(55 * 1024**2, 200 * 1024**3, reserve=50 * 1024**2)
    await desk.later(1)
    assert len(await desk.subjects()) == 1
    desk.space = PLENTY
    await desk.later(1)
    assert await desk.subjects() == []
    assert [fact.trouble for fact in desk.home.facts.of(TroubleOver)] == ["store_low", "store_full"]


async def test_notices_can_be_switched_off(desk: Desk) -> None:
    desk.troubles.policy = AlertsPolicy(notices=False)
    await desk.fails()
    await desk.fails()
    assert await desk.subjects() == []
    assert desk.home.facts.of(TroubleBegan) == [TroubleBegan("alice", "password_refused", False)]


async def test_an_account_that_is_no_longer_let_in_has_no_trouble(desk: Desk) -> None:
    await desk.fails()
    await desk.fails()
    desk.home.directory.replace(Directory([], desk.home.directory.default, pass_through=False))
    await desk.later(1)
    assert await desk.subjects() == []


async def test_each_device_gets_it_once_and_one_that_was_away_never_sees_it(desk: Desk) -> None:
    laptop, tablet = await desk.device("laptop"), await desk.device("tablet")
    await desk.fails()
    await desk.fails()
    waiting = [await desk.store.waiting(device.id) for device in (laptop, tablet)]
    (message,) = await desk.store.messages((await desk.account()).id)
    await desk.store.commit_session(
        laptop.id, retrieved=[message.id], deleted=[message.id], everywhere=False, at=START
    )
    await desk.later(60)
    assert waiting == [1, 1]
    assert await desk.store.waiting(laptop.id) == 0
    await desk.succeeds()
    assert await desk.store.waiting(tablet.id) == 0


async def test_a_store_that_fails_is_told_nothing_by_halves(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise StoreUnavailable("disk full")

    await desk.fails()
    with monkeypatch.context() as broken:
        broken.setattr(desk.store, "add_trouble", fail)
        with pytest.raises(StoreUnavailable):
            await desk.fails()
    assert await desk.subjects() == []
    await desk.later(30)
    assert len(await desk.subjects()) == 1
