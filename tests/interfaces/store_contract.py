"""What every store must do: DESIGN section 3, by the docstrings of `interfaces.store`.

Subclass `StoreContract` and provide the fixture `store`.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from proxy.domain.doubt import Spell
from proxy.domain.errors import AlreadyExists, NotFound, TooManyDevices
from proxy.domain.model import (
    OWN_UID_PREFIX,
    Account,
    AccountSize,
    Delivery,
    Device,
    Fetched,
    Sighting,
    Upstream,
    is_own_uid,
)
from proxy.domain.policy import DAY, RetentionPolicy, Seconds
from proxy.interfaces.store import Store
from tests.interfaces.running import run_for

NOW = 1_000_000.0


async def fetched(
    store: Store,
    octets: bytes,
    uid: str = "uid",
    *,
    received_at: float = NOW,
    repairs: int | None = None,
    dated: bool = False,
) -> Fetched:
    """A message as the sync hands it over, its octets written in two parts."""
    writer = store.new_blob()
    await writer.write(octets[: len(octets) // 2])
    await writer.write(octets[len(octets) // 2 :])
    blob = await writer.finish()
    return Fetched(uid, len(octets), blob, None, None, received_at, repairs, dated)


async def add(store: Store, account: Account, octets: bytes, uid: str = "uid") -> int:
    """Store one message; returns its id."""
    await store.add_messages(account.id, [await fetched(store, octets, uid)], at=NOW)
    return (await store.known(account.id))[-1].id


async def commit(
    store: Store,
    device: Device,
    retrieved: set[int] | None = None,
    deleted: set[int] | None = None,
    *,
    everywhere: bool = False,
    at: float = NOW,
) -> None:
    await store.commit_session(
        device.id,
        retrieved=retrieved or set(),
        deleted=deleted or set(),
        everywhere=everywhere,
        at=at,
    )


class StoreContract:
    @pytest.fixture
    async def alice(self, store: Store) -> Account:
        return await store.ensure_account("alice", declared=True, at=NOW)

    @pytest.fixture
    async def laptop(self, store: Store, alice: Account) -> Device:
        return await store.add_device(alice.id, "laptop", since=None, at=NOW)

    async def test_a_purge_leaves_the_blob_that_another_account_names(
        self, store: Store, alice: Account
    ) -> None:
        bob = await store.ensure_account("bob", declared=True, at=NOW)
        message = await add(store, alice, b"both\r\n")
        await add(store, bob, b"both\r\n")
        assert await store.purge(alice.id, [message], at=NOW) == 0
        (kept,) = await store.messages(bob.id)
        assert await store.is_intact(kept.digest)
        assert await store.messages(alice.id) == ()

    # --- accounts and devices -------------------------------------------------------------------

    async def test_an_account_is_made_once(self, store: Store, alice: Account) -> None:
        again = await store.ensure_account("alice", declared=True, at=NOW + 5)
        assert again == alice
        other = await store.ensure_account("bob", declared=False, at=NOW)
        assert await store.accounts() == [alice, other]
        assert await store.account("Alice") == alice

    async def test_whether_an_account_is_declared_is_kept_up_to_date(
        self, store: Store, alice: Account
    ) -> None:
        changed = await store.ensure_account("alice", declared=False, at=NOW)
        assert changed == replace(alice, declared=False)

    async def test_a_removed_account_takes_along_what_is_its_own_alone(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        bob = await store.ensure_account("bob", declared=True, at=NOW)
        for account, octets in ((alice, b"both\r\n"), (bob, b"both\r\n"), (alice, b"a\r\n")):
            await add(store, account, octets, octets.decode())
        shared, own = await store.messages(alice.id)
        await store.remove_account(alice.id)
        assert await store.accounts() == [bob]
        assert await store.device(alice.id, "laptop") is None
        assert await store.blobs() == [shared.digest]
        assert await store.is_intact(shared.digest)
        assert not await store.is_intact(own.digest)
        again = await store.ensure_account("alice", declared=True, at=NOW)
        assert await store.messages(again.id) == ()

    async def test_a_verifier_is_set_and_dropped(self, store: Store, alice: Account) -> None:
        for verifier in ("$argon2id$x", None):
            await store.set_verifier(alice.id, verifier)
            account = await store.account("alice")
            assert account is not None
            assert account.verifier == verifier
        assert "argon2id" not in repr(replace(alice, verifier="$argon2id$x"))

    async def test_how_syncs_ended_is_remembered(self, store: Store, alice: Account) -> None:
        await store.note_sync(alice.id, at=NOW, upstream_count=7)
        await store.note_sync(alice.id, at=NOW + 1, failure="cut off")
        account = await store.account("alice")
        assert account is not None
        assert (account.synced_at, account.failed_at, account.failure) == (NOW, NOW + 1, "cut off")
        await store.note_sync(alice.id, at=NOW + 2, upstream_count=8)
        account = await store.account("alice")
        assert account is not None
        assert (account.synced_at, account.failed_at, account.failure) == (NOW + 2, None, "")
        assert account.upstream_count == 8

    async def test_device_names_are_unique_in_an_account_without_case(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        assert await store.device(alice.id, "LAPTOP") == laptop
        with pytest.raises(AlreadyExists):
            await store.add_device(alice.id, "Laptop", since=None, at=NOW)
        bob = await store.ensure_account("bob", declared=True, at=NOW)
        await store.add_device(bob.id, "laptop", since=None, at=NOW)
        assert [d.name for d in await store.devices(alice.id)] == ["laptop"]

    async def test_no_more_devices_are_made_than_there_may_be(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        bob = await store.ensure_account("bob", declared=True, at=NOW)
        await store.add_device(bob.id, "other", since=None, at=NOW)
        await store.add_device(alice.id, "desktop", since=None, at_most=2, at=NOW)
        made = (
            store.add_device(alice.id, name, since=None, at_most=3, at=NOW) for name in "abcdef"
        )
        outcomes = await asyncio.gather(*made, return_exceptions=True)
        assert sum(isinstance(outcome, TooManyDevices) for outcome in outcomes) == 5
        assert len(await store.devices(alice.id)) == 3
        await store.remove_device(laptop.id)
        await store.add_device(alice.id, "phone", since=None, at_most=3, at=NOW)

    async def test_a_device_is_made_with_the_notice_of_it_for_those_that_are_there(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        blobs = [(await fetched(store, octets)).blob for octets in (b"1\r\n", b"2\r\n", b"3\r\n")]
        version = store.version(alice.id)
        phone = await store.add_device(
            alice.id, "phone", since=None, at_most=2, notice=blobs[0], at=NOW
        )
        assert store.version(alice.id) > version
        (message,) = await store.messages(alice.id)
        assert is_own_uid(message.uid)
        late = await store.add_device(alice.id, "late", since=None, at=NOW)
        assert [await store.waiting(device.id) for device in (laptop, phone, late)] == [1, 0, 0]
        for device in (phone, late):
            assert await store.hidden(device.id, "all") == {message.id}
        assert await store.hidden(laptop.id, "all") == frozenset()
        # Where none is made, none is told of, and nothing is left of it.
        with pytest.raises(AlreadyExists):
            await store.add_device(alice.id, "Phone", since=None, notice=blobs[1], at=NOW)
        with pytest.raises(TooManyDevices):
            await store.add_device(alice.id, "x", since=None, at_most=2, notice=blobs[2], at=NOW)
        assert len(await store.messages(alice.id)) == 1
        for blob in blobs[1:]:
            assert not await store.is_intact(blob.digest)

    async def test_a_device_is_renamed_unless_the_name_is_taken(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        await store.add_device(alice.id, "desktop", since=None, at=NOW)
        with pytest.raises(AlreadyExists):
            await store.rename_device(laptop.id, "Desktop")
        await store.rename_device(laptop.id, "office")
        assert [d.name for d in await store.devices(alice.id)] == ["desktop", "office"]

    async def test_a_device_is_found_by_the_hash_of_its_app_password(
        self, store: Store, alice: Account
    ) -> None:
        phone = await store.add_device(
            alice.id, "phone", since=None, app_password_hash=b"h" * 32, at=NOW
        )
        assert phone.has_app_password
        assert await store.device_by_app_password(alice.id, b"h" * 32) == phone
        assert await store.device_by_app_password(alice.id, b"x" * 32) is None
        bob = await store.ensure_account("bob", declared=True, at=NOW)
        assert await store.device_by_app_password(bob.id, b"h" * 32) is None

    async def test_a_removed_device_is_forgotten_with_its_deliveries(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        message = await add(store, alice, b"a\r\n")
        await commit(store, laptop, {message})
        await store.remove_device(laptop.id)
        assert await store.devices(alice.id) == []
        assert await store.deliveries(message) == []
        again = await store.add_device(alice.id, "laptop", since=None, at=NOW)
        assert again.id != laptop.id

    async def test_when_a_device_was_seen_is_noted(self, store: Store, laptop: Device) -> None:
        await store.note_seen(laptop.id, at=NOW + 9)
        seen = await store.device(laptop.account_id, "laptop")
        assert seen is not None
        assert seen.seen_at == NOW + 9

    # --- messages -------------------------------------------------------------------------------

    async def test_stored_messages_are_listed_in_order_and_read_back(
        self, store: Store, alice: Account
    ) -> None:
        contents = [b"one\r\n", b".two\r\n", b"", b"x" * 300_000 + b"\r\n.\r\n"]
        batch = [await fetched(store, c, f"u{n}") for n, c in enumerate(contents)]
        await store.add_messages(alice.id, batch, at=NOW)
        messages = await store.messages(alice.id)
        assert [m.uid for m in messages] == ["u0", "u1", "u2", "u3"]
        assert [m.octets for m in messages] == [len(c) for c in contents]
        assert [m.dots for m in messages] == [False, True, False, True]
        for message, content in zip(messages, contents, strict=True):
            reader = store.open_blob(message)
            assert reader.read(10**6) == content
            reader.close()
        octets = sum(map(len, contents))
        assert await store.size(alice.id) == AccountSize(4, octets, octets)

    @pytest.mark.parametrize("uid", ["", "x" * 71, "with space", "ü"])
    async def test_an_invalid_uid_is_replaced_by_one_from_the_digest(
        self, store: Store, alice: Account, uid: str
    ) -> None:
        await add(store, alice, b"a\r\n", uid)
        (message,) = await store.messages(alice.id)
        assert message.uid == message.digest.hex()[:40]

    async def test_a_uid_is_never_given_twice(self, store: Store, alice: Account) -> None:
        batch = [await fetched(store, b"a\r\n", uid) for uid in ("same", "same", "same", "")]
        await store.add_messages(alice.id, batch, at=NOW)
        uids = [m.uid for m in await store.messages(alice.id)]
        minted = uids[1]
        assert uids == ["same", minted, f"{minted}-2", f"{minted}-3"]
        # Upstream comes up with the very name that was minted.
        await add(store, alice, b"b\r\n", minted)
        assert len({m.uid for m in await store.messages(alice.id)}) == 5

    async def test_a_purged_messages_uid_is_not_given_again(
        self, store: Store, alice: Account
    ) -> None:
        message = await add(store, alice, b"a\r\n", "u")
        assert await store.purge(alice.id, [message], at=NOW) == 3
        await add(store, alice, b"b\r\n", "u")
        assert [m.uid for m in await store.messages(alice.id)] != ["u"]
        assert [k.blob_kept for k in await store.known(alice.id)] == [False, True]

    async def test_equal_octets_stay_until_the_last_message_with_them_is_purged(
        self, store: Store, alice: Account
    ) -> None:
        first = await add(store, alice, b"twin\r\n", "u1")
        await add(store, alice, b"twin\r\n", "u2")
        assert await store.purge(alice.id, [first], at=NOW) == 0
        (left,) = await store.messages(alice.id)
        store.open_blob(left).close()
        assert await store.purge(alice.id, [left.id], at=NOW + 1) == 6

    async def test_purges_of_one_instant_count_their_own_octets(self, store: Store) -> None:
        accounts = [await store.ensure_account(name, declared=True, at=NOW) for name in ("a", "b")]
        first = await add(store, accounts[0], b"four\r\n")
        second = await add(store, accounts[1], b"2\r\n")
        assert await store.purge(accounts[0].id, [first], at=NOW) == 6
        assert await store.purge(accounts[1].id, [second], at=NOW) == 3
        assert await store.purge(accounts[1].id, [second], at=NOW) == 0

    async def test_two_syncs_may_bring_the_same_octets_at_once(self, store: Store) -> None:
        accounts = [await store.ensure_account(name, declared=True, at=NOW) for name in ("a", "b")]
        batches = [[await fetched(store, b"same\r\n")] for _ in accounts]
        await asyncio.gather(
            *(store.add_messages(a.id, b, at=NOW) for a, b in zip(accounts, batches, strict=True))
        )
        for account in accounts:
            (message,) = await store.messages(account.id)
            store.open_blob(message).close()

    async def test_what_is_known_is_what_was_fetched(self, store: Store, alice: Account) -> None:
        message = await add(store, alice, b"a\r\n", "with space")
        (known,) = await store.known(alice.id)
        assert (known.id, known.upstream_uid, known.upstream_octets) == (message, "with space", 3)
        assert (known.upstream, known.blob_kept) == (Upstream.PRESENT, True)

    async def test_a_listing_changes_where_messages_are(self, store: Store, alice: Account) -> None:
        first = await add(store, alice, b"a\r\n", "u1")
        second = await add(store, alice, b"b\r\n", "u2")
        await store.note_expunged([second], at=NOW)
        await store.note_listing(alice.id, gone=[first, second], seen=[], at=NOW)
        states = [k.upstream for k in await store.known(alice.id)]
        assert states == [Upstream.GONE, Upstream.EXPUNGED]
        assert await store.removed_upstream(alice.id) == {first}
        seen = [Sighting(first, "new name", 99)]
        await store.note_listing(alice.id, gone=[], seen=seen, at=NOW)
        back = (await store.known(alice.id))[0]
        assert (back.upstream_uid, back.upstream_octets) == ("new name", 99)
        assert back.upstream is Upstream.PRESENT
        assert [m.uid for m in await store.messages(alice.id)] == ["u1", "u2"]

    async def test_what_left_at_once_is_remembered_until_it_is_back(
        self, store: Store, alice: Account
    ) -> None:
        first, second = await add(store, alice, b"1"), await add(store, alice, b"2")
        await store.note_listing(alice.id, gone=[first], seen=[], at=NOW, at_once=7.0)
        await store.note_listing(alice.id, gone=[second], seen=[], at=NOW)
        assert [k.left_at_once for k in await store.known(alice.id)] == [7.0, None]
        seen = [Sighting(first, "new", 1)]
        await store.note_listing(alice.id, gone=[], seen=seen, at=NOW)
        await store.note_listing(alice.id, gone=[first], seen=[], at=NOW)
        assert [k.left_at_once for k in await store.known(alice.id)] == [None, None]

    async def test_what_came_back_and_was_deleted_by_us_has_not_left_at_once(
        self, store: Store, alice: Account
    ) -> None:
        message = await add(store, alice, b"1")
        await store.note_listing(alice.id, gone=[message], seen=[], at=NOW, at_once=7.0)
        seen = [Sighting(message, "new", 1)]
        await store.note_listing(alice.id, gone=[], seen=seen, at=NOW)
        await store.note_expunged([message], at=NOW)
        assert [k.left_at_once for k in await store.known(alice.id)] == [None]

    async def test_the_header_that_a_message_has_got_is_remembered(
        self, store: Store, alice: Account
    ) -> None:
        message = await add(store, alice, b"1")
        for given, kept in ((b"new", b"new"), (None, b"new"), (b"newer", b"newer")):
            seen = [Sighting(message, "uid", 1, given)]
            await store.note_listing(alice.id, gone=[], seen=seen, at=NOW)
            assert [k.header_digest for k in await store.known(alice.id)] == [kept]

    async def test_a_spell_is_remembered_until_it_is_over(
        self, store: Store, alice: Account
    ) -> None:
        other = await store.ensure_account("other", declared=True, at=NOW)
        for spell in (Spell(7.0, 1, 5), Spell(7.0, 2, 5), None, Spell(9.0, 1, 5)):
            await store.note_spell(alice.id, spell)
            assert await store.spell(alice.id) == spell
            assert await store.spell(other.id) is None
        await store.remove_account(alice.id)
        assert await store.spell(alice.id) is None
        await store.note_spell(alice.id, Spell(9.0, 1, 5))
        assert await store.spell(alice.id) is None

    async def test_what_left_after_our_dele_was_about_to_be_sent_is_expunged(
        self, store: Store, alice: Account
    ) -> None:
        ids = [await add(store, alice, b"%d\r\n" % n, f"u{n}") for n in range(4)]
        await store.note_deleting(ids[:3], at=NOW)
        assert [k.deleting for k in await store.known(alice.id)] == [True] * 3 + [False]
        await store.note_not_deleted(ids[1:2])
        seen = [Sighting(ids[2], "u2", 3)]
        await store.note_listing(alice.id, gone=[], seen=seen, at=NOW)
        await store.note_listing(alice.id, gone=ids, seen=[], at=NOW)
        states = [k.upstream for k in await store.known(alice.id)]
        assert states == [Upstream.EXPUNGED] + [Upstream.GONE] * 3
        assert await store.removed_upstream(alice.id) == set(ids[1:])
        assert not any(k.deleting for k in await store.known(alice.id))

    async def test_a_purged_message_is_repaired_with_equal_octets_alone(
        self, store: Store, alice: Account
    ) -> None:
        message = await add(store, alice, b"a\r\n", "u")
        await store.purge(alice.id, [message], at=NOW)
        repair = await fetched(store, b"a\r\n", "u", repairs=message)
        await store.add_messages(alice.id, [repair], at=NOW)
        assert [m.id for m in await store.messages(alice.id)] == [message]
        wrong = await fetched(store, b"b\r\n", "u", repairs=message)
        with pytest.raises(ValueError, match="equal"):
            await store.add_messages(alice.id, [wrong], at=NOW)

    # --- views and commits ----------------------------------------------------------------------

    async def test_marks_hide_messages_from_their_device_alone(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        desktop = await store.add_device(alice.id, "desktop", since=None, at=NOW)
        first = await add(store, alice, b"a\r\n", "u1")
        second = await add(store, alice, b"b\r\n", "u2")
        await commit(store, laptop, {first}, {second})
        assert await store.hidden(laptop.id, "all") == {second}
        assert await store.hidden(laptop.id, "undelivered") == {first, second}
        assert await store.hidden(desktop.id, "undelivered") == frozenset()
        assert (await store.waiting(laptop.id), await store.waiting(desktop.id)) == (0, 2)
        assert await store.deliveries(first) == [Delivery("laptop", NOW, None)]

    async def test_commits_on_their_way_to_the_disk_are_counted(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        message = await add(store, alice, b"a\r\n")
        commits = [asyncio.create_task(commit(store, laptop, {message})) for _ in range(2)]
        # All that they do before they wait for the disk takes one turn of the loop.
        await asyncio.sleep(0)
        assert store.commits_waiting == 2
        await asyncio.gather(*commits)
        assert store.commits_waiting == 0

    async def test_committing_twice_is_harmless_and_the_first_time_counts(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        message = await add(store, alice, b"a\r\n")
        await commit(store, laptop, {message}, at=NOW)
        await commit(store, laptop, {message}, {message}, at=NOW + 5)
        await commit(store, laptop, deleted={message}, at=NOW + 9)
        assert await store.deliveries(message) == [Delivery("laptop", NOW, NOW + 5)]

    async def test_a_delete_everywhere_hides_from_all(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        message = await add(store, alice, b"a\r\n")
        before = store.version(alice.id)
        await commit(store, laptop, deleted={message}, everywhere=True)
        assert await store.messages(alice.id) == ()
        assert store.version(alice.id) > before

    async def test_marks_of_a_removed_device_are_refused_and_harm_no_other(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        desktop = await store.add_device(alice.id, "desktop", since=None, at=NOW)
        message = await add(store, alice, b"a\r\n")
        await store.remove_device(laptop.id)
        refused, taken = await asyncio.gather(
            commit(store, laptop, {message}),
            commit(store, desktop, {message}),
            return_exceptions=True,
        )
        assert isinstance(refused, NotFound)
        assert taken is None
        assert await store.deliveries(message) == [Delivery("desktop", NOW, None)]

    async def test_a_removed_device_deletes_nothing_from_the_others(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        message = await add(store, alice, b"a\r\n")
        await store.remove_device(laptop.id)
        with pytest.raises(NotFound):
            await commit(store, laptop, deleted={message}, everywhere=True)
        assert [m.id for m in await store.messages(alice.id)] == [message]

    async def test_mail_from_before_its_since_is_not_for_a_device(
        self, store: Store, alice: Account
    ) -> None:
        batch = [
            await fetched(store, b"a\r\n", "old", received_at=NOW - 1),
            await fetched(store, b"b\r\n", "new", received_at=NOW + 1),
        ]
        await store.add_messages(alice.id, batch, at=NOW)
        late = await store.add_device(alice.id, "late", since=NOW, at=NOW)
        old, _ = await store.messages(alice.id)
        assert await store.hidden(late.id, "all") == {old.id}
        assert await store.waiting(late.id) == 1
        await store.reset_device(late.id)
        assert await store.hidden(late.id, "all") == frozenset()

    async def test_a_reset_device_sees_everything_again(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        message = await add(store, alice, b"a\r\n")
        await commit(store, laptop, {message}, {message})
        before = store.device_version(laptop.id)
        await store.reset_device(laptop.id)
        assert await store.hidden(laptop.id, "undelivered") == frozenset()
        assert store.device_version(laptop.id) > before

    async def test_versions_grow_with_what_they_stand_for(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        account, device = store.version(alice.id), store.device_version(laptop.id)
        message = await add(store, alice, b"a\r\n")
        assert store.version(alice.id) > account
        account = store.version(alice.id)
        await commit(store, laptop, {message}, {message})
        assert store.version(alice.id) == account, "one device's marks void all views"
        assert store.device_version(laptop.id) > device
        await store.purge(alice.id, [message], at=NOW)
        assert store.version(alice.id) > account

    # --- retention ------------------------------------------------------------------------------

    async def test_holdings_count_who_waits_and_who_has(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        await store.add_device(alice.id, "desktop", since=None, at=NOW)
        message = await add(store, alice, b"a\r\n")
        await store.add_device(alice.id, "late", since=NOW + 1, at=NOW)
        run_for(store, 7)
        await commit(store, laptop, {message}, at=NOW + 7)
        retention = RetentionPolicy(device_expiry=Seconds(90 * DAY))
        (held,) = await store.holdings(alice.id, present=True, retention=retention, ran=7)
        assert (held.waiting, held.having, held.last_delivery_ran) == (1, 1, 7)
        assert await store.holdings(alice.id, present=False, retention=retention, ran=7) == []
        later = 91 * DAY
        (held,) = await store.holdings(alice.id, present=True, retention=retention, ran=later)
        assert held.waiting == 0

    async def test_holdings_follow_messages_out_of_the_upstream(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        message = await add(store, alice, b"a\r\n")
        run_for(store, 3)
        await store.note_expunged([message], at=NOW + 3)
        retention = RetentionPolicy()
        (held,) = await store.holdings(alice.id, present=False, retention=retention, ran=3)
        assert (held.left_ran, held.waiting) == (3, 1)
        await commit(store, laptop, deleted={message}, everywhere=True)
        (held,) = await store.holdings(alice.id, present=False, retention=retention, ran=3)
        assert (held.deleted_everywhere, held.waiting) == (True, 0)

    async def test_an_intact_blob_is_told_from_nothing(self, store: Store, alice: Account) -> None:
        await add(store, alice, b"a\r\n")
        (message,) = await store.messages(alice.id)
        assert await store.is_intact(message.digest)
        assert not await store.is_intact(b"\0" * 32)

    async def test_a_writable_store_says_so(self, store: Store) -> None:
        assert await store.is_writable()

    # --- for an operator ------------------------------------------------------------------------

    async def test_a_record_tells_all_of_a_message_even_once_purged(
        self, store: Store, alice: Account
    ) -> None:
        message = await add(store, alice, b"a\r\n", "one")
        await store.note_expunged([message], at=NOW + 3)
        (record,) = await store.records(alice.id)
        assert (record.uid, record.octets, record.fetched_at) == ("one", 3, NOW)
        assert (record.upstream, record.left_upstream_at) == (Upstream.EXPUNGED, NOW + 3)
        await store.purge(alice.id, [message], at=NOW + 9)
        assert await store.records(alice.id) == []
        assert await store.record(alice.id, "one") == replace(record, purged_at=NOW + 9)
        assert await store.record(alice.id, "two") is None

    async def test_a_copy_is_one_devices_alone_and_no_business_of_the_sync(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        message = await add(store, alice, b"a\r\n", "one")
        desktop = await store.add_device(alice.id, "desktop", since=NOW, at=NOW)
        await commit(store, laptop, {message}, {message})
        uid = await store.add_copy(alice.id, message, laptop.id, at=NOW + 1)
        assert uid != "one"
        copy = next(shown for shown in await store.messages(alice.id) if shown.uid == uid)
        assert copy.id not in await store.hidden(laptop.id, "undelivered")
        assert copy.id in await store.hidden(desktop.id, "all")
        later = await store.add_device(alice.id, "later", since=None, at=NOW + 2)
        assert copy.id in await store.hidden(later.id, "all")
        assert [await store.waiting(one.id) for one in (laptop, desktop, later)] == [1, 0, 1]
        assert [known.id for known in await store.known(alice.id)] == [message]
        again = await store.add_copy(alice.id, message, laptop.id, at=NOW + 1)
        assert len({again, uid, "one"}) == 3

    async def test_an_own_message_is_for_all_but_one_and_no_business_of_the_sync(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        desktop = await store.add_device(alice.id, "desktop", since=NOW - 1, at=NOW)
        blob = (await fetched(store, b"From: the proxy\r\n.\r\n")).blob
        message = await store.add_own(alice.id, blob, but_not_for=laptop.id, at=NOW)
        (shown,) = await store.messages(alice.id)
        assert (shown.id, shown.octets, shown.dots) == (message, blob.octets, True)
        assert is_own_uid(shown.uid)
        store.open_blob(shown).close()
        assert await store.hidden(laptop.id, "all") == {message}
        assert await store.hidden(desktop.id, "undelivered") == frozenset()
        assert await store.known(alice.id) == []
        again = (await fetched(store, b"From: the proxy\r\n.\r\n")).blob
        await store.add_own(alice.id, again, at=NOW)
        assert len({one.uid for one in await store.messages(alice.id)}) == 2

    async def test_a_withdrawn_message_is_shown_no_more_and_leaves(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        upstreams = await add(store, alice, b"a\r\n")
        blob = (await fetched(store, b"own\r\n")).blob
        own = await store.add_own(alice.id, blob, at=NOW)
        await store.withdraw(alice.id, [own, upstreams], at=NOW + 1)
        assert [shown.id for shown in await store.messages(alice.id)] == [upstreams]
        (held,) = await store.holdings(alice.id, present=False, retention=RetentionPolicy(), ran=0)
        assert (held.message_id, held.waiting) == (own, 0)

    async def test_upstream_cannot_take_the_name_of_an_own_message(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        await add(store, alice, b"a\r\n", f"{OWN_UID_PREFIX}1")
        (shown,) = await store.messages(alice.id)
        assert not is_own_uid(shown.uid)
        assert (await store.known(alice.id))[0].upstream_uid == f"{OWN_UID_PREFIX}1"

    async def test_a_copy_leaves_once_its_device_has_it_or_is_gone(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        retention = RetentionPolicy()
        desktop = await store.add_device(alice.id, "desktop", since=None, at=NOW)
        message = await add(store, alice, b"a\r\n", "one")
        for device in (laptop, desktop):
            await store.add_copy(alice.id, message, device.id, at=NOW)

        async def waiting() -> list[int]:
            held = await store.holdings(alice.id, present=False, retention=retention, ran=0)
            return [holding.waiting for holding in held]

        assert await waiting() == [1, 1]
        copy = next(shown for shown in await store.records(alice.id) if shown.only_device)
        assert copy.only_device == laptop.id
        await commit(store, laptop, {copy.id})
        assert await waiting() == [0, 1]
        await store.remove_device(desktop.id)
        assert await waiting() == [0, 0]

    async def test_what_was_purged_cannot_be_shown_again(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        message = await add(store, alice, b"a\r\n", "one")
        await store.purge(alice.id, [message], at=NOW)
        with pytest.raises(NotFound):
            await store.add_copy(alice.id, message, laptop.id, at=NOW)

    async def test_a_sound_store_names_its_blobs_and_no_damage(
        self, store: Store, alice: Account
    ) -> None:
        bob = await store.ensure_account("bob", declared=True, at=NOW)
        for account in (alice, bob):
            await add(store, account, b"a\r\n")
        (digest,) = await store.blobs()
        assert await store.account_names_with(digest) == ["alice", "bob"]
        assert await store.damage() == []
