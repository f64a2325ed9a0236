"""What is deleted upstream is proven to be what the store has: a UIDL may name other mail now."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from proxy.adapters.blobs import blob_path
from proxy.domain.facts import SyncFailed, SyncFinished
from proxy.domain.model import Sighting
from proxy.domain.policy import DAY, Octets, RetentionPolicy, Seconds, StorePolicy
from proxy.services import deletion
from proxy.services.room import Room
from tests.rude_upstream import RudeUpstream, mail
from tests.services.house import House, declared, house, policy_for

POLICIES = {
    "delivered": RetentionPolicy(upstream="delivered", local_keep=Seconds(DAY)),
    "age": RetentionPolicy(upstream="age", upstream_age=Seconds(30 * DAY)),
    "everywhere": RetentionPolicy(on_delete="everywhere"),
}


@pytest.fixture
async def rude() -> AsyncIterator[RudeUpstream]:
    mails = [("1", mail("a")), ("2", mail("b"))]
    async with RudeUpstream(mails).listening() as upstream:
        yield upstream


async def make_due(home: House, policy: str) -> None:
    """So that the next sync is to delete what the store has now."""
    await home.read(delete=policy == "everywhere")
    if policy == "age":
        home.clock.time += 31 * DAY


@pytest.mark.parametrize("identified", [True, False])
@pytest.mark.parametrize("has_top", [True, False])
@pytest.mark.parametrize("policy", POLICIES)
async def test_a_uidl_given_to_other_mail_of_the_same_size_brings_that_mail_to_all_devices(
    rude: RudeUpstream, tmp_path: Path, policy: str, has_top: bool, identified: bool
) -> None:
    rude.has_top = has_top
    first, other = mail("a", identified=identified), mail("z", identified=identified)
    assert len(first) == len(other)
    rude.mails[0] = ("1", first)
    settings = policy_for(rude.port, retention=POLICIES[policy])
    async with house(tmp_path, settings, declared(settings)) as home:
        assert await home.read("alice+b") == [first, mail("b")]
        await make_due(home, policy)
        rude.mails[0] = ("1", other)
        await home.uids()
        assert rude.deleted == ["2"], "what is not in the store was deleted"
        assert other in await home.read("alice+a")
        assert other in await home.read("alice+b")
        uids = await home.uids("alice+c")
        assert len(set(uids)) == len(uids)
        known = {m.digest: m.upstream.value for m in await home.store.known(1)}
        assert next(iter(known.values())) == "gone"


@pytest.mark.parametrize("uidls", ["shared", "refused"])
async def test_where_uidls_tell_nothing_headers_prove_what_is_deleted(
    rude: RudeUpstream, tmp_path: Path, uidls: str
) -> None:
    if uidls == "shared":
        rude.mails[:] = [("1", octets) for _, octets in rude.mails]
    else:
        rude.refusals["UIDL"] = b"-ERR unknown command\r\n"
    settings = policy_for(rude.port, retention=POLICIES["delivered"])
    async with house(tmp_path, settings, declared(settings)) as home:
        await home.read()
        await home.uids()
        assert rude.mails == []
        assert await home.read("alice+late") == [mail("a"), mail("b")]


@pytest.mark.parametrize("policy", POLICIES)
async def test_headers_are_asked_for_once_and_together(
    rude: RudeUpstream, tmp_path: Path, policy: str
) -> None:
    settings = policy_for(rude.port, retention=POLICIES[policy])
    async with house(tmp_path, settings, declared(settings)) as home:
        await make_due(home, policy)
        rude.commands.clear()
        await home.uids()
        asked = [c for c in rude.commands if c[:4] in ("TOP ", "RETR", "DELE", "QUIT")]
        assert asked == ["TOP 1 0", "TOP 2 0", "DELE 1", "DELE 2", "QUIT"]


async def test_uidls_that_are_numbers_delete_nothing_else_and_bring_nothing_twice(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    """Somebody else has removed the first of some mails of one size, and the others moved up."""
    rude.mails[:] = [(str(n), mail(text)) for n, text in enumerate("abcd", 1)]
    settings = policy_for(rude.port, retention=POLICIES["delivered"])
    async with house(tmp_path, settings, declared(settings)) as home:
        await home.read()
        rude.mails[:] = [(str(n), mail(text)) for n, text in enumerate("bcde", 1)]
        await home.store.add_device(1, "late", since=None, at=home.clock.now())
        await home.store.commit_session(
            (await home.store.devices(1))[1].id,
            retrieved={1, 2},
            deleted=set(),
            everywhere=False,
            at=home.clock.now(),
        )
        # Due are a and b; of these b is there, under the UIDL of a.
        await home.uids()
        assert rude.deleted == ["1"]
        assert [octets for _, octets in rude.mails] == [mail(text) for text in "cde"]
        assert await home.read("alice+new") == [mail(text) for text in "abcde"]
        assert home.facts.of(SyncFinished)[-1].fetched == 0
        assert rude.retrieved() == 5


@pytest.mark.parametrize("header", [b"Status: RO\r\n", b"Received: by x; today\r\n"])
async def test_a_header_that_servers_write_into_is_no_other_mail(
    rude: RudeUpstream, tmp_path: Path, header: bytes
) -> None:
    settings = policy_for(rude.port, retention=POLICIES["delivered"])
    rude.sizes = lambda _: 100
    async with house(tmp_path, settings, declared(settings)) as home:
        await home.read()
        rude.mails[:] = [(uid, header + octets) for uid, octets in rude.mails]
        await home.uids()
        assert rude.deleted == ["1", "2"]
        assert len(await home.uids()) == 2
        assert rude.retrieved() == (2 if header.startswith(b"Status") else 4)


@pytest.mark.parametrize("announced", [True, False])
async def test_without_top_a_message_is_retrieved_once_more_and_then_deleted(
    rude: RudeUpstream, tmp_path: Path, announced: bool
) -> None:
    rude.has_top = False
    if not announced:
        rude.capabilities = ["UIDL", "USER"]
    rude.mails += [(str(n), mail(str(n))) for n in range(3, 6)]
    settings = policy_for(rude.port, retention=POLICIES["delivered"])
    async with house(tmp_path, settings, declared(settings)) as home:
        await home.read()
        rude.commands.clear()
        await home.uids()
        assert rude.deleted == ["1", "2", "3", "4", "5"]
        assert rude.retrieved() == 5
        assert sum(c.startswith("TOP") for c in rude.commands) == (5 if announced else 1)
        assert len(await home.uids("alice+late")) == 5


async def test_a_message_that_upstream_does_not_delete_is_not_retrieved_at_each_poll(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    rude.has_top = False
    rude.refusals["DELE"] = b"-ERR read only\r\n"
    settings = policy_for(rude.port, retention=POLICIES["delivered"])
    async with house(tmp_path, settings, declared(settings)) as home:
        await home.read()
        for _ in range(3):
            await home.uids()
        assert rude.retrieved() == 4
        home.clock.time += DAY
        await home.uids()
        assert rude.retrieved() == 6


async def test_only_so_many_messages_are_retrieved_once_more_in_one_session(
    rude: RudeUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletion, "RETRIEVED_AT_ONCE", 2)
    rude.has_top = False
    rude.mails += [("3", mail("c"))]
    settings = policy_for(rude.port, retention=POLICIES["delivered"])
    async with house(tmp_path, settings, declared(settings)) as home:
        await home.read()
        await home.uids()
        assert rude.deleted == ["1", "2"]
        await home.uids()
        assert rude.deleted == ["1", "2", "3"]


def _refused(rude: RudeUpstream) -> None:
    rude.refusals["RETR 1"] = b"-ERR not now\r\n"


def _cut(rude: RudeUpstream) -> None:
    rude.hang_up_on = {"RETR 1"}


@pytest.mark.parametrize("trouble", [_refused, _cut])
async def test_what_could_not_be_compared_is_neither_deleted_nor_taken_for_gone(
    rude: RudeUpstream, tmp_path: Path, trouble: Callable[[RudeUpstream], None]
) -> None:
    rude.has_top = False
    settings = policy_for(rude.port, retention=POLICIES["delivered"])
    async with house(tmp_path, settings, declared(settings)) as home:
        await home.read()
        trouble(rude)
        await home.uids()
        assert "1" not in rude.deleted
        assert (await home.store.known(1))[0].upstream.value == "present"
        rude.refusals.clear()
        rude.hang_up_on = set()
        home.core.syncs._states["alice"].not_before = 0
        home.clock.time += DAY
        await home.uids()
        assert sorted(rude.deleted) == ["1", "2"]


@pytest.mark.parametrize("has_top", [True, False])
async def test_what_is_compared_needs_no_room(
    rude: RudeUpstream, tmp_path: Path, has_top: bool
) -> None:
    """An account that has reached its limit could otherwise never get rid of anything."""
    rude.has_top = has_top
    settings = policy_for(rude.port, retention=POLICIES["delivered"])
    size = sum(len(octets) for _, octets in rude.mails)
    room = Room(lambda: None, StorePolicy(max_account_size=Octets(size)))
    async with house(tmp_path, settings, declared(settings), room=room) as home:
        await home.read()
        # As of a server whose TOP writes into the header, and whose RETR does not.
        await forget_headers(home)
        await home.uids()
        assert rude.deleted == ["1", "2"]
        account = await home.store.account("alice")
        assert account is not None
        assert account.unfetched == ()


async def forget_headers(home: House, *ids: int) -> None:
    """As if upstream had shown others before; of all messages, if none is named."""
    known = [m for m in await home.store.known(1) if m.id in ids or not ids]
    seen = [Sighting(m.id, m.upstream_uid, m.upstream_octets, b"another") for m in known]
    await home.store.note_listing(1, gone=[], seen=seen, at=home.clock.now())


@pytest.mark.parametrize("has_top", [True, False])
async def test_a_lost_message_that_is_due_is_fetched_again_once_and_deleted(
    rude: RudeUpstream, tmp_path: Path, has_top: bool
) -> None:
    rude.has_top = has_top
    settings = policy_for(rude.port, retention=POLICIES["delivered"])
    async with house(tmp_path, settings, declared(settings)) as home:
        await home.read()
        digest = hashlib.sha256(mail("a")).digest()
        blob_path(tmp_path / "blobs", digest).write_bytes(b"damaged")
        assert not await home.store.is_intact(digest)
        assert await home.uids() == ["1", "2"]
        assert sorted(rude.deleted) == ["1", "2"]
        assert await home.read("alice+late") == [mail("a"), mail("b")]


@pytest.mark.parametrize("quit", [b"-ERR not deleted\r\n", None], ids=["refused", "cut"])
async def test_a_quit_that_fails_has_nothing_retrieved_again_at_each_poll(
    rude: RudeUpstream, tmp_path: Path, quit: bytes | None
) -> None:
    rude.has_top = False
    settings = policy_for(rude.port, retention=POLICIES["delivered"])
    async with house(tmp_path, settings, declared(settings)) as home:
        await home.read()
        if quit is None:
            rude.hang_up_on = {"QUIT"}
        else:
            rude.refusals["QUIT"] = quit
        for _ in range(3):
            await home.uids()
            home.core.syncs._states["alice"].not_before = 0
        assert rude.retrieved() == 4


async def test_messages_that_are_refused_keep_no_others_from_being_compared(
    rude: RudeUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletion, "RETRIEVED_AT_ONCE", 1)
    rude.has_top = False
    settings = policy_for(rude.port, retention=POLICIES["delivered"])
    async with house(tmp_path, settings, declared(settings)) as home:
        await home.read()
        rude.refusals["RETR 1"] = b"-ERR not now\r\n"
        await home.uids()
        await home.uids()
        assert rude.deleted == ["2"]


async def test_what_stands_beside_other_mail_is_retrieved_in_a_bounded_number_and_once_a_day(
    rude: RudeUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mail of a machine, of one size, that no header tells apart."""
    monkeypatch.setattr(deletion, "RETRIEVED_AT_ONCE", 2)
    rude.mails[:] = [(str(n), mail(text, identified=False)) for n, text in enumerate("abcdefgh")]
    rude.mails[0] = ("0", mail("a"))
    rude.sizes = lambda _: 100
    settings = policy_for(rude.port, retention=POLICIES["delivered"])
    async with house(tmp_path, settings, declared(settings)) as home:
        await home.read()
        laptop = (await home.store.devices(1))[0]
        await home.store.add_device(1, "late", since=None, at=home.clock.now())
        late = (await home.store.devices(1))[1]
        assert laptop.id != late.id
        ids = [m.id for m in await home.store.known(1)]
        await home.store.commit_session(
            late.id, retrieved=ids[:1], deleted=(), everywhere=False, at=home.clock.now()
        )
        await forget_headers(home, ids[0])
        before = rude.retrieved()
        await home.uids()
        # The one that is due, and two beside it.
        assert rude.retrieved() == before + 3
        assert rude.deleted == ["0"]


async def test_a_message_that_breaks_the_session_keeps_no_other_from_being_deleted(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    rude.has_top = False
    settings = policy_for(rude.port, retention=POLICIES["delivered"])
    async with house(tmp_path, settings, declared(settings)) as home:
        await home.read()
        rude.refusals["RETR 1"] = b"+OK\r\nthe beginning of it\r\n"
        rude.hang_up_on = {"RETR 2"}
        await home.uids()
        assert home.facts.of(SyncFailed)
        rude.hang_up_on = set()
        home.core.syncs._states["alice"].not_before = 0
        await home.uids()
        assert rude.deleted == ["2"]


async def test_a_server_that_breaks_over_top_is_asked_for_it_no_more(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    settings = policy_for(rude.port, retention=POLICIES["delivered"])
    async with house(tmp_path, settings, declared(settings)) as home:
        await home.read()
        rude.hang_up_on = {"TOP"}
        rude.mails.append(("3", mail("c")))
        for _ in range(deletion.TOP_BREAKS):
            assert "3" in await home.uids()
            home.core.syncs._states["alice"].not_before = 0
        assert home.facts.of(SyncFailed)
        assert rude.deleted == ["1", "2"]
