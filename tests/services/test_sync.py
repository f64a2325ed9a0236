"""Syncs against an upstream that can be told to misbehave; the store and the sockets are real."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from proxy.adapters.blobs import blob_path
from proxy.domain.errors import BadLogin, StoreUnavailable, UpstreamUnreachable
from proxy.domain.facts import ListingDoubted, MessageSkipped, SyncFailed, SyncFinished
from proxy.domain.policy import (
    DAY,
    DevicePolicy,
    Octets,
    RetentionPolicy,
    Seconds,
    SyncPolicy,
    UpstreamRetention,
)
from proxy.services import syncs
from tests.rude_upstream import RudeUpstream, mail
from tests.services.house import START, House, declared, house, policy_for


@pytest.fixture
async def rude() -> AsyncIterator[RudeUpstream]:
    async with RudeUpstream([("u1", mail("1")), ("u2", mail("2"))]).listening() as upstream:
        yield upstream


@pytest.fixture
async def home(rude: RudeUpstream, tmp_path: Path) -> AsyncIterator[House]:
    policy = policy_for(rude.port)
    async with house(tmp_path, policy, declared(policy)) as home:
        yield home


async def test_each_message_is_fetched_once_for_any_number_of_devices(
    home: House, rude: RudeUpstream
) -> None:
    for device in ("a", "b", "c"):
        assert await home.read(f"alice+{device}") == [mail("1"), mail("2")]
    rude.mails.append(("u3", mail("3")))
    for device in ("a", "b", "c"):
        assert len(await home.uids(f"alice+{device}")) == 3
    assert rude.retrieved() == 3


async def test_an_unchanged_mailbox_costs_no_listing(home: House, rude: RudeUpstream) -> None:
    await home.uids()
    rude.commands.clear()
    await home.uids()
    assert [c for c in rude.commands if c not in ("AUTH", "CAPA")] == ["STAT", "UIDL 2", "QUIT"]


async def test_an_unchanged_mailbox_is_listed_again_after_an_hour(
    home: House, rude: RudeUpstream
) -> None:
    await home.uids()
    home.clock.time += 3601
    rude.commands.clear()
    await home.uids()
    assert "LIST" in rude.commands


async def test_a_message_cut_off_is_fetched_again_and_those_before_it_are_not(
    home: House, rude: RudeUpstream
) -> None:
    rude.mails.append(("u3", mail("3")))
    rude.hang_up_on = {"RETR 2"}
    assert await home.uids() == ["u1"]
    assert isinstance(home.facts.of(SyncFailed)[0], SyncFailed)
    rude.hang_up_on = set()
    home.core.syncs._states["alice"].not_before = 0
    assert sorted(await home.uids()) == ["u1", "u2", "u3"]
    assert [c for c in rude.commands if c.startswith("RETR")].count("RETR 1") == 1


async def test_a_refused_message_does_not_stop_the_others_and_is_asked_for_again(
    home: House, rude: RudeUpstream
) -> None:
    rude.refusals["RETR 1"] = b"-ERR cannot read it\r\n"
    assert await home.uids() == ["u2"]
    assert home.facts.of(SyncFinished)[0].failed == 1
    rude.refusals.clear()
    assert sorted(await home.uids()) == ["u1", "u2"]


@pytest.mark.parametrize("pipelining", [True, False])
async def test_a_message_that_upstream_cannot_send_right_holds_up_no_other(
    home: House, rude: RudeUpstream, pipelining: bool
) -> None:
    """A server that does not stuff the first dot of a message ends it there, and garbage follows.

    Dovecot 2.3 is one.
    """
    if not pipelining:
        rude.capabilities = ["TOP", "UIDL", "USER"]
    body = mail("2").replace(b"\r\n", b" ") * 3
    rude.refusals["RETR 2"] = b"+OK\r\n.\r\nrest of it: " + body + b"\r\n.\r\n"
    rude.mails.append(("u3", mail("3")))
    assert await home.uids() == ["u1", "u3"]
    assert home.facts.of(SyncFinished)[-1].failed == 1
    assert home.facts.of(MessageSkipped)[0].uid == "u2"
    rude.refusals.clear()
    home.clock.time += DAY
    assert await home.uids() == ["u1", "u3", "u2"]
    assert await home.read() == [mail("1"), mail("3"), mail("2")]


async def test_after_a_failure_logins_are_served_without_asking_upstream_until_the_back_off_ends(
    home: House, rude: RudeUpstream
) -> None:
    await home.uids()
    rude.refusals["STAT"] = b"-ERR oops\r\n"
    await home.uids()
    seen = len(rude.commands)
    assert await home.uids() == ["u1", "u2"]
    assert len(rude.commands) == seen
    assert home.core.syncs.retry_in("alice") > 0


async def test_logins_within_max_age_ask_upstream_once(rude: RudeUpstream, tmp_path: Path) -> None:
    sync = SyncPolicy(max_age=Seconds(3600), login_wait=Seconds(20))
    policy = policy_for(rude.port, sync=sync)
    async with house(tmp_path, policy, declared(policy)) as home:
        for _ in range(3):
            await home.uids()
    assert rude.commands.count("QUIT") == 1


async def test_login_delay_is_honoured(home: House, rude: RudeUpstream) -> None:
    """RFC 2449 §6.5."""
    assert rude.capabilities is not None
    rude.capabilities.append("LOGIN-DELAY 900")
    await home.uids()
    await home.uids()
    assert rude.commands.count("QUIT") == 1


async def test_the_background_syncs_declared_accounts(home: House, rude: RudeUpstream) -> None:
    home.core.syncs.follow_directory()
    await home.facts.first(SyncFinished)
    assert rude.retrieved() == 2


# --- upstreams that UIDL does not help with ------------------------------------------------------


@pytest.mark.parametrize("has_top", [True, False])
async def test_an_upstream_without_uidl(home: House, rude: RudeUpstream, has_top: bool) -> None:
    rude.has_uidl, rude.has_top = False, has_top
    first = await home.uids()
    assert len(set(first)) == 2
    rude.mails[:] = [rude.mails[1], ("", mail("3"))]
    after = await home.uids()
    assert after[:2] == first
    assert len(set(after)) == 3
    if has_top:
        assert rude.retrieved() == 3


@pytest.mark.parametrize("uid", ["x" * 71, "with space", "\xff", ""])
async def test_an_invalid_uidl_is_replaced_by_one_that_stays(
    home: House, rude: RudeUpstream, uid: str
) -> None:
    rude.mails[:] = [(uid, mail("1")), ("u2", mail("2"))]
    first = await home.uids()
    assert first[1] == "u2"
    assert first[0].isalnum()
    rude.mails.append(("u3", mail("3")))
    assert await home.uids() == [*first, "u3"]
    assert rude.retrieved() == 3


async def test_one_uidl_for_two_messages_keeps_both(home: House, rude: RudeUpstream) -> None:
    rude.mails[:] = [("same", mail("1")), ("same", mail("2"))]
    first = await home.uids()
    assert first[0] == "same"
    assert len(set(first)) == 2
    rude.mails.append(("other", mail("3")))
    assert await home.uids() == [*first, "other"]
    assert rude.retrieved() == 3


async def test_a_uidl_used_again_for_another_message_gets_a_new_one(
    home: House, rude: RudeUpstream
) -> None:
    assert await home.uids() == ["u1", "u2"]
    rude.mails[:] = [("u2", mail("2")), ("u1", mail("another"))]
    after = await home.uids()
    assert after[:2] == ["u1", "u2"]
    assert after[2] not in after[:2]


async def test_identical_twins_are_two_messages(home: House, rude: RudeUpstream) -> None:
    rude.mails[:] = [("a", mail("1")), ("b", mail("1"))]
    assert await home.read() == [mail("1"), mail("1")]


# --- what leaves the upstream --------------------------------------------------------------------


async def test_what_upstream_drops_stays_for_devices_that_have_not_got_it(
    home: House, rude: RudeUpstream
) -> None:
    await home.uids()
    del rude.mails[0]
    assert await home.uids() == ["u1", "u2"]
    assert home.facts.of(SyncFinished)[-1].left == 1


async def test_follow_upstream_removals_hides_what_upstream_dropped(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    policy = policy_for(rude.port, retention=RetentionPolicy(follow_upstream_removals=True))
    async with house(tmp_path, policy, declared(policy)) as home:
        await home.uids()
        del rude.mails[0]
        assert await home.uids() == ["u2"]


async def test_a_listing_that_is_suddenly_empty_is_believed_the_second_time(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    policy = policy_for(rude.port, retention=RetentionPolicy(follow_upstream_removals=True))
    async with house(tmp_path, policy, declared(policy)) as home:
        await home.uids()
        await home.uids()
        rude.mails.clear()
        assert await home.uids() == ["u1", "u2"]
        assert home.facts.of(ListingDoubted) == [ListingDoubted("alice", 2)]
        assert await home.uids() == []


# --- retention -----------------------------------------------------------------------------------


def keeping(upstream: UpstreamRetention, **more: Any) -> RetentionPolicy:
    return RetentionPolicy(upstream=upstream, **more)


async def test_keep_never_deletes_upstream(home: House, rude: RudeUpstream) -> None:
    await home.read(delete=True)
    home.clock.time += 1000 * DAY
    await home.uids()
    assert not any(c.startswith("DELE") for c in rude.commands)


async def test_delivered_deletes_upstream_once_every_device_has_the_message(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    policy = policy_for(rude.port, retention=keeping("delivered"))
    async with house(tmp_path, policy, declared(policy)) as home:
        await home.uids("alice+a")
        await home.uids("alice+b")
        await home.read("alice+a")
        await home.uids("alice+a")
        assert rude.deleted == []
        await home.read("alice+b")
        await home.uids("alice+a")
        assert rude.deleted == ["u1", "u2"]
        assert await home.uids("alice+c") == ["u1", "u2"], "the store still has it"


async def test_delivered_does_not_wait_for_a_device_long_gone(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    retention = keeping("delivered", device_expiry=Seconds(90 * DAY))
    policy = policy_for(rude.port, retention=retention)
    async with house(tmp_path, policy, declared(policy)) as home:
        await home.uids("alice+gone")
        home.clock.time = START + 91 * DAY
        await home.read("alice+here")
        await home.uids("alice+here")
        assert rude.deleted == ["u1", "u2"]


async def test_a_session_without_quit_delivers_nothing(rude: RudeUpstream, tmp_path: Path) -> None:
    policy = policy_for(rude.port, retention=keeping("delivered"))
    async with house(tmp_path, policy, declared(policy)) as home:
        maildrop = await home.login()
        maildrop.view.mark_retrieved(1)
        maildrop.view.mark_retrieved(2)
        maildrop.close()
        await home.uids()
        assert rude.deleted == []


async def test_age_deletes_upstream_and_the_store_keeps_it_for_the_devices(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    policy = policy_for(rude.port, retention=keeping("age", upstream_age=Seconds(30 * DAY)))
    async with house(tmp_path, policy, declared(policy)) as home:
        await home.uids()
        home.clock.time += 31 * DAY
        await home.uids()
        assert rude.deleted == ["u1", "u2"]
        assert await home.uids("alice+late") == ["u1", "u2"]


async def test_delete_everywhere_hides_from_all_and_deletes_upstream(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    policy = policy_for(rude.port, retention=RetentionPolicy(on_delete="everywhere"))
    async with house(tmp_path, policy, declared(policy)) as home:
        await home.uids("alice+b")
        await home.read("alice+a", delete=True)
        assert await home.uids("alice+b") == []
        assert rude.deleted == ["u1", "u2"]


async def test_deletions_count_only_when_quit_is_answered(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    policy = policy_for(rude.port, retention=keeping("delivered"))
    async with house(tmp_path, policy, declared(policy)) as home:
        await home.read()
        rude.hang_up_on = {"QUIT"}
        await home.uids()
        assert rude.deleted == []
        rude.hang_up_on = set()
        home.core.syncs._states["alice"].not_before = 0
        await home.uids()
        assert rude.deleted == ["u1", "u2"]


async def upstream_states(home: House) -> list[str]:
    return [message.upstream.value for message in await home.store.known(1)]


async def test_what_quit_has_confirmed_is_expunged_at_once(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    policy = policy_for(rude.port, retention=keeping("delivered"))
    async with house(tmp_path, policy, declared(policy)) as home:
        await home.read()
        await home.uids()
        assert await upstream_states(home) == ["expunged", "expunged"]
        assert home.facts.of(SyncFinished)[-1].expunged == 2


async def test_a_dele_that_upstream_refuses_counts_for_nothing(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    policy = policy_for(rude.port, retention=keeping("delivered"))
    async with house(tmp_path, policy, declared(policy)) as home:
        await home.read()
        rude.refusals["DELE 1"] = b"-ERR read only\r\n"
        await home.uids()
        assert rude.deleted == ["u2"]
        assert await upstream_states(home) == ["present", "expunged"]
        assert not any(message.deleting for message in await home.store.known(1))
        rude.refusals.clear()
        await home.uids()
        assert rude.deleted == ["u2", "u1"]


async def test_a_quit_that_is_refused_counts_for_nothing(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    policy = policy_for(rude.port, retention=keeping("delivered"))
    async with house(tmp_path, policy, declared(policy)) as home:
        await home.read()
        rude.refusals["QUIT"] = b"-ERR some messages were not deleted\r\n"
        await home.uids()
        assert await upstream_states(home) == ["present", "present"]
        assert home.facts.of(SyncFinished)[-1].expunged == 0
        rude.refusals.clear()
        await home.uids()
        assert rude.deleted == ["u1", "u2"]


async def test_what_is_listed_again_is_no_longer_ours_when_it_is_gone_later(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    retention = keeping("delivered", follow_upstream_removals=True)
    policy = policy_for(rude.port, retention=retention)
    async with house(tmp_path, policy, declared(policy)) as home:
        await home.read()
        rude.refusals["QUIT"] = b"-ERR some messages were not deleted\r\n"
        await home.uids()
        rude.refusals.clear()
        await home.store.add_device(1, "late", since=None, at=home.clock.now())
        assert await home.uids("alice+late") == ["u1", "u2"]
        del rude.mails[0]
        assert await home.uids("alice+late") == ["u2"]


@pytest.mark.parametrize("lie", ["STAT", "LIST", "most is missing"])
async def test_nothing_is_deleted_on_the_strength_of_a_doubted_listing(
    rude: RudeUpstream, tmp_path: Path, lie: str
) -> None:
    policy = policy_for(rude.port, retention=keeping("delivered"))
    rude.mails.append(("u3", mail("3")))
    async with house(tmp_path, policy, declared(policy)) as home:
        await home.uids()
        await home.read()
        whole = list(rude.mails)
        if lie == "STAT":
            rude.refusals["STAT"] = b"+OK 9 999\r\n"
        elif lie == "LIST":
            one = len(whole[0][1])
            rude.refusals["LIST"] = b"+OK\r\n1 %d\r\n2 what\r\n3 %d\r\n.\r\n" % (one, one)
        else:
            del rude.mails[1:]
        await home.uids()
        assert not any(c.startswith("DELE") for c in rude.commands)
        rude.refusals.clear()
        rude.mails[:] = whole
        await home.uids()
        await home.uids()
        assert rude.deleted == ["u1", "u2", "u3"]


async def test_a_damaged_blob_is_never_deleted_upstream_but_fetched_again(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    policy = policy_for(rude.port, retention=keeping("delivered"))
    async with house(tmp_path, policy, declared(policy)) as home:
        await home.read()
        _damage(tmp_path, mail("1"))
        await home.uids()
        assert rude.deleted == ["u2"]
        await home.uids()
        assert await home.read() == [mail("1"), mail("2")]
        await home.uids()
        assert rude.deleted == ["u2", "u1"]


async def test_an_unreadable_blob_fails_no_sync_is_not_deleted_upstream_and_fetched_again(
    rude: RudeUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = policy_for(rude.port, retention=keeping("delivered"))
    async with house(tmp_path, policy, declared(policy)) as home:
        await home.read()
        unreadable = hashlib.sha256(mail("1")).hexdigest()
        compare = hashlib.file_digest

        def failing(file: Any, kind: str) -> Any:
            if unreadable in str(Path(f"/proc/self/fd/{file.fileno()}").readlink()):
                raise OSError(5, "Input/output error")
            return compare(file, kind)

        with monkeypatch.context() as patch:
            patch.setattr(hashlib, "file_digest", failing)
            await home.uids()
            assert home.facts.of(SyncFailed) == []
            assert rude.deleted == ["u2"]
            await home.uids()
            assert rude.retrieved() == 3
            assert rude.deleted == ["u2"]
        await home.uids()
        assert rude.deleted == ["u2", "u1"]


async def test_a_blob_lost_while_a_sync_went_on_is_fetched_by_the_next_one(
    rude: RudeUpstream, home: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the sync leaves for the next must not say that nothing is to be done."""
    await home.uids()
    rude.mails.append(("u3", mail("3")))
    note = home.store.note_listing

    async def beside_a_device(*arguments: Any, **more: Any) -> None:
        await note(*arguments, **more)
        _damage(tmp_path, mail("1"))
        assert not await home.store.is_intact(hashlib.sha256(mail("1")).digest())

    with monkeypatch.context() as patch:
        patch.setattr(home.store, "note_listing", beside_a_device)
        await home.uids()
    await home.uids()
    assert await home.read() == [mail("1"), mail("2"), mail("3")]


async def test_what_is_whole_again_is_noticed_though_nobody_has_it_upstream(
    rude: RudeUpstream, home: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await home.uids()
    digest = hashlib.sha256(mail("1")).digest()
    _damage(tmp_path, mail("1"))
    assert not await home.store.is_intact(digest)
    del rude.mails[0]
    assert await home.uids() == ["u2"]
    blob_path(tmp_path / "blobs", digest).write_bytes(mail("1"))
    looked, look = asyncio.Event(), home.store.is_intact

    async def watched(digest: bytes) -> bool:
        intact = await look(digest)
        looked.set()
        return intact

    monkeypatch.setattr(home.store, "is_intact", watched)
    janitor = asyncio.create_task(home.core.janitor.work())
    async with asyncio.timeout(20):
        await looked.wait()
    janitor.cancel()
    assert await home.uids() == ["u1", "u2"]


async def test_a_missing_blob_is_fetched_again_after_a_device_asked_for_it(
    home: House, rude: RudeUpstream, tmp_path: Path
) -> None:
    await home.uids()
    _damage(tmp_path, mail("1"), remove=True)
    maildrop = await home.login()
    with pytest.raises(StoreUnavailable):
        maildrop.open(maildrop.view.message(1))
    maildrop.close()
    await home.uids()
    assert await home.read() == [mail("1"), mail("2")]
    assert rude.retrieved() == 3


async def test_the_store_lets_go_of_what_is_delivered_and_gone_and_knows_it_for_ever(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    retention = RetentionPolicy(local_keep=Seconds(30 * DAY))
    policy = policy_for(rude.port, retention=retention)
    async with house(tmp_path, policy, declared(policy)) as home:
        await home.read()
        gone = rude.mails.pop(0)
        await home.uids()
        account = await home.store.account("alice")
        assert account is not None
        home.clock.time += 29 * DAY
        await home.core.janitor.clean(account)
        assert await home.uids() == ["u1", "u2"]
        home.clock.time += 2 * DAY
        await home.core.janitor.clean(account)
        assert await home.uids() == ["u2"]
        assert len(list((tmp_path / "blobs").glob("??/*"))) == 1
        rude.mails.append((gone[0], mail("another")))
        assert (await home.uids())[-1] != "u1", "a UIDL was used twice"


async def test_nothing_is_purged_under_an_open_session(rude: RudeUpstream, tmp_path: Path) -> None:
    policy = policy_for(rude.port, retention=RetentionPolicy(local_keep=Seconds(DAY)))
    async with house(tmp_path, policy, declared(policy)) as home:
        await home.read()
        del rude.mails[0]
        maildrop = await home.login()
        account = await home.store.account("alice")
        assert account is not None
        home.clock.time += 2 * DAY
        await home.core.janitor.clean(account)
        with closing(maildrop.open(maildrop.view.message(1))) as reader:
            assert reader.read(1000) == mail("1")
        maildrop.close()


async def test_the_undelivered_view_shows_each_message_once(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    policy = policy_for(rude.port, devices=DevicePolicy(view="undelivered"))
    async with house(tmp_path, policy, declared(policy)) as home:
        assert len(await home.read("alice+a")) == 2
        assert await home.read("alice+a") == []
        assert len(await home.read("alice+b")) == 2
        rude.mails.append(("u3", mail("3")))
        assert await home.read("alice+a") == [mail("3")]


async def test_a_failed_sync_says_why(home: House, rude: RudeUpstream) -> None:
    rude.refusals["STAT"] = b"-ERR oops\r\n"
    run = home.core.syncs.start("alice", declared(home.directory.policy("alice")).credentials)
    with pytest.raises(UpstreamUnreachable, match="oops"):
        await run.finished
    row = await home.core.admin.account_show("alice")
    assert "oops" in row["failure"]


def _damage(data_dir: Path, octets: bytes, *, remove: bool = False) -> None:
    for path in (data_dir / "blobs").glob("??/*"):
        if path.read_bytes() == octets:
            if remove:
                path.unlink()
            else:
                path.chmod(0o600)
                path.write_bytes(octets[::-1])


# --- what syncs remember -------------------------------------------------------------------------


async def test_a_name_that_upstream_refuses_leaves_no_trace(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    async with house(tmp_path, policy_for(rude.port)) as home:
        for name in ("mallory", "trudy"):
            with pytest.raises(BadLogin):
                await home.login(name, b"guess")
        assert not home.core.syncs._states
        assert not await home.store.accounts()


async def test_an_interval_learnt_from_a_refusal_is_kept_and_kept_to(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    policy = policy_for(rude.port)
    async with house(tmp_path, policy, declared(policy)) as home:
        await home.uids()
        rude.refusals["AUTH"] = b"-ERR You may log in once every 10 minutes\r\n"
        await home.uids()
        account = await home.store.account("alice")
        assert account is not None
        assert (account.login_interval, account.failure_kind) == (600, "UpstreamBusy")
        assert 599 < home.core.syncs.retry_in("alice") <= 600
        rude.refusals.clear()
    # A new life of the proxy waits for the rest of it.
    async with house(tmp_path, policy, declared(policy)) as home:
        home.clock.time += 60
        left = await home.core.syncs._login_delay_left("alice")
        assert left == 540


async def test_a_message_that_is_too_large_is_left_and_told(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    sync = SyncPolicy(Seconds(86400), Seconds(0), Seconds(20), max_message_size=Octets(5000))
    policy = policy_for(rude.port, sync=sync)
    rude.mails.insert(1, ("large", mail("x" * 3000)))
    async with house(tmp_path, policy, declared(policy)) as home:
        assert await home.uids() == ["u1", "u2"]
        account = await home.store.account("alice")
        assert account is not None
        (left,) = account.unfetched
        assert (left.uid, "max_message_size" in left.why) == ("large", True)
        assert rude.retrieved() == 2
        rude.commands.clear()
        await home.uids()
        assert "LIST" not in rude.commands
        assert len(home.facts.of(MessageSkipped)) == 1


async def test_a_message_larger_than_listed_is_broken_off_and_left(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    sync = SyncPolicy(Seconds(86400), Seconds(0), Seconds(20), max_message_size=Octets(5000))
    policy = policy_for(rude.port, sync=sync)
    rude.mails.insert(1, ("large", mail("x" * 300_000)))
    rude.sizes = lambda _: 100
    async with house(tmp_path, policy, declared(policy)) as home:
        assert await home.uids() == ["u1", "u2"]
        assert home.facts.of(MessageSkipped)[0].uid == "large"
        assert (await home.store.size(1)).messages == 2


async def test_a_server_that_closes_after_some_messages_is_asked_again_at_once(
    home: House, rude: RudeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syncs, "RECONNECT_PAUSE", 0.0)
    rude.mails[:] = [(f"u{n}", mail(str(n))) for n in range(1, 10)]
    rude.close_after = 2
    assert len(await home.uids()) == 9
    assert len([c for c in rude.commands if c == "AUTH"]) >= 5
    assert home.facts.of(SyncFinished)[-1].fetched == 9
    assert not home.facts.of(SyncFailed)


async def test_mail_of_a_later_session_is_as_old_as_a_server_s_stamp_that_is_older_than_the_account(
    home: House, rude: RudeUpstream
) -> None:
    """A mailbox shown in portions: what comes second is as old as what came first."""
    await home.uids()
    stamp = b"Received: by mx; Mon, 05 Jan 2026 10:00:00 +0000\r\n"
    rude.mails += [("old", stamp + mail("3")), ("new", mail("4"))]
    await home.uids()
    account = await home.store.account("alice")
    assert account is not None
    device = await home.store.add_device(account.id, "late", since=START - DAY, at=START)
    hidden = await home.store.hidden(device.id, "all")
    shown = {m.uid for m in await home.store.messages(account.id) if m.id not in hidden}
    assert "new" in shown
    assert "old" not in shown
