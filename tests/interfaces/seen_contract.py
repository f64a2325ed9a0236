"""What every store must do with UIDLs of mail that devices had before they came to the proxy.

Subclass it together with `StoreContract`, which has the fixtures.
"""

from __future__ import annotations

import pytest

from proxy.domain.model import Account, Delivery, Device, Imported, Sighting
from proxy.interfaces.store import Store
from tests.interfaces.store_contract import NOW, add, fetched


class SeenContract:
    async def test_imported_uidls_mark_messages_now_or_when_they_come(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        other = await store.add_device(alice.id, "desktop", since=None, at=NOW)
        here = await add(store, alice, b"a\r\n", "here")
        before = store.device_version(laptop.id)
        for _ in range(2):
            imported = await store.import_seen(
                laptop.id, ["here", "later", "later"], slashes_lost=False, at=NOW + 7
            )
            assert imported == Imported(known=1, waiting=1, ambiguous=0)
        assert store.device_version(laptop.id) > before
        assert await store.hidden(laptop.id, "all") == {here}
        assert await store.deliveries(here) == [Delivery("laptop", NOW + 7, NOW + 7)]
        account = store.version(alice.id)
        later = await add(store, alice, b"b\r\n", "later")
        assert store.version(alice.id) > account
        assert await store.hidden(laptop.id, "all") == {here, later}
        assert await store.hidden(other.id, "undelivered") == frozenset()
        again = await store.import_seen(laptop.id, ["later"], slashes_lost=False, at=NOW + 9)
        assert again == Imported(known=1, waiting=0, ambiguous=0)
        assert await store.deliveries(later) == [Delivery("laptop", NOW, NOW)]

    async def test_messages_of_other_accounts_are_not_marked(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        bob = await store.ensure_account("bob", declared=True, at=NOW)
        phone = await store.add_device(bob.id, "phone", since=None, at=NOW)
        await add(store, bob, b"a\r\n", "uid")
        imported = await store.import_seen(laptop.id, ["uid"], slashes_lost=False, at=NOW)
        assert imported == Imported(known=0, waiting=1, ambiguous=0)
        await add(store, bob, b"b\r\n", "uid")
        assert await store.hidden(phone.id, "undelivered") == frozenset()
        message = await add(store, alice, b"c\r\n", "uid")
        assert await store.hidden(laptop.id, "all") == {message}

    async def test_a_uidl_of_several_messages_marks_none(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        first = await add(store, alice, b"a\r\n")
        await store.note_listing(alice.id, gone=[first], seen=[], at=NOW)
        await store.purge(alice.id, [first], at=NOW)
        await add(store, alice, b"b\r\n")
        imported = await store.import_seen(laptop.id, ["uid"], slashes_lost=False, at=NOW)
        assert imported == Imported(known=0, waiting=0, ambiguous=1)
        assert await store.hidden(laptop.id, "all") == frozenset()

    async def test_one_message_takes_a_waiting_uidl(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        await store.import_seen(laptop.id, ["uid"], slashes_lost=False, at=NOW)
        both = [await fetched(store, b"a\r\n"), await fetched(store, b"b\r\n")]
        await store.add_messages(alice.id, both, at=NOW)
        (first, _) = await store.messages(alice.id)
        assert await store.hidden(laptop.id, "all") == {first.id}

    async def test_a_waiting_uidl_may_be_the_new_name_of_a_known_message(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        message = await add(store, alice, b"a\r\n", "old")
        await store.import_seen(laptop.id, ["new"], slashes_lost=False, at=NOW)
        seen = [Sighting(message, "new", 3)]
        await store.note_listing(alice.id, gone=[], seen=seen, at=NOW)
        assert await store.hidden(laptop.id, "all") == {message}

    @pytest.mark.parametrize("lost", [True, False])
    async def test_a_hyphen_stands_for_a_slash_where_slashes_were_lost(
        self, store: Store, alice: Account, laptop: Device, lost: bool
    ) -> None:
        here = await add(store, alice, b"a\r\n", "a/1")
        imported = await store.import_seen(laptop.id, ["a-1", "b-1"], slashes_lost=lost, at=NOW)
        assert imported == Imported(known=lost, waiting=2 - lost, ambiguous=0)
        await store.note_unlisted(alice.id, ["b/1"], before=1.0)
        later = await add(store, alice, b"b\r\n", "b/1")
        assert await store.hidden(laptop.id, "all") == ({here, later} if lost else set())

    async def test_an_unlisted_uidl_counts_for_messages_that_had_arrived_alone(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        uids = ["before", "after", "listed", "imported again"]
        await store.import_seen(laptop.id, uids, slashes_lost=False, at=NOW)
        await store.note_unlisted(alice.id, [], before=-1.0)
        await store.note_unlisted(alice.id, ["listed"], before=1.0)
        await store.import_seen(laptop.id, ["imported again"], slashes_lost=False, at=NOW)
        come = [
            await fetched(store, b"a\r\n", "before", received_at=NOW),
            await fetched(store, b"b\r\n", "after", received_at=NOW + 2),
            await fetched(store, b"c\r\n", "listed", received_at=NOW + 2),
            await fetched(store, b"d\r\n", "imported again", received_at=NOW + 2),
        ]
        await store.add_messages(alice.id, come, at=NOW + 2)
        shown = {message.id: message.uid for message in await store.messages(alice.id)}
        hidden = await store.hidden(laptop.id, "all")
        assert {shown[id_] for id_ in hidden} == {"before", "listed", shown[max(shown)]}

    async def test_what_waits_is_forgotten_with_its_device_and_by_a_reset(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        gone = await store.add_device(alice.id, "gone", since=None, at=NOW)
        for device in (laptop, gone):
            await store.import_seen(device.id, ["uid"], slashes_lost=False, at=NOW)
        await store.reset_device(laptop.id)
        await store.remove_device(gone.id)
        # The device is gone, and its UIDLs are nobody's.
        await store.import_seen(gone.id, ["uid"], slashes_lost=False, at=NOW)
        message = await add(store, alice, b"a\r\n")
        assert await store.hidden(laptop.id, "all") == frozenset()
        assert await store.deliveries(message) == []
