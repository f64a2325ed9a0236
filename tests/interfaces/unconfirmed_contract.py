"""What every store must do with messages that were sent whole in sessions without QUIT.

Subclass it together with `StoreContract` and `MergeContract`, which have the fixtures.
"""

from __future__ import annotations

from proxy.domain.model import Account, Device
from proxy.interfaces.store import Store
from tests.interfaces.merge_contract import sees
from tests.interfaces.store_contract import NOW, add, commit


class UnconfirmedContract:
    async def test_what_was_sent_whole_is_unconfirmed_until_something_is_committed_of_it(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        one, two = [await add(store, alice, octets, octets.decode()) for octets in (b"1", b"2")]
        assert not await store.unconfirmed(laptop.id)
        before = store.device_version(laptop.id)
        await store.note_cut_off(laptop.id, sent={one, two}, broken=())
        assert store.device_version(laptop.id) > before
        assert await store.unconfirmed(laptop.id) == {one, two}
        assert await store.deliveries(one) == []
        await commit(store, laptop, {one})
        assert await store.unconfirmed(laptop.id) == {two}
        await commit(store, laptop, deleted={two})
        assert not await store.unconfirmed(laptop.id)

    async def test_what_is_asked_for_again_and_breaks_off_was_not_had(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        message = await add(store, alice, b"a\r\n")
        await store.note_cut_off(laptop.id, sent=(), broken={message})
        await store.note_cut_off(laptop.id, sent={message}, broken=())
        await store.note_cut_off(laptop.id, sent=(), broken={message})
        assert not await store.unconfirmed(laptop.id)

    async def test_neither_what_was_had_before_nor_what_is_gone_is_unconfirmed(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        bob = await store.ensure_account("bob", declared=True, at=NOW)
        others = await add(store, bob, b"b\r\n")
        had = await add(store, alice, b"a\r\n")
        await commit(store, laptop, {had})
        await store.note_cut_off(laptop.id, sent={had, others, 4711}, broken=())
        assert not await store.unconfirmed(laptop.id)
        await store.remove_device(laptop.id)
        await store.note_cut_off(laptop.id, sent={had}, broken=())

    async def test_a_device_that_is_reset_or_removed_has_nothing_unconfirmed(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        phone = await store.add_device(alice.id, "phone", since=None, at=NOW)
        message = await add(store, alice, b"a\r\n")
        for device in (laptop, phone):
            await store.note_cut_off(device.id, sent={message}, broken=())
        await store.reset_device(laptop.id)
        assert not await store.unconfirmed(laptop.id)
        assert await store.unconfirmed(phone.id) == {message}
        await store.remove_device(phone.id)
        assert not await store.unconfirmed(phone.id)

    async def test_a_merge_carries_what_is_unconfirmed(
        self, store: Store, bob: Account, robert: Account
    ) -> None:
        laptop = await store.add_device(bob.id, "laptop", since=None, at=NOW)
        phone = await store.add_device(bob.id, "phone", since=None, at=NOW)
        theirs = await store.add_device(robert.id, "phone", since=None, at=NOW)
        both = [await add(store, account, b"1\r\n", "both") for account in (bob, robert)]
        bobs = await add(store, bob, b"2\r\n", "mine")
        for device in (laptop, phone):
            await store.note_cut_off(device.id, sent={both[0], bobs}, broken=())
        await store.merge_accounts(bob.id, robert.id, at=NOW)
        for device in (laptop, theirs):
            assert await store.unconfirmed(device.id) == {both[1], bobs}

    async def test_a_device_keeps_the_name_of_what_it_may_have(
        self, store: Store, bob: Account, robert: Account
    ) -> None:
        """One of the same name in the other account must not make it fetch the mail again."""
        ours = await store.add_device(bob.id, "laptop", since=None, at=NOW)
        theirs = await store.add_device(robert.id, "laptop", since=None, at=NOW)
        known = await add(store, bob, b"bob's\r\n", "1")
        await add(store, robert, b"robert's\r\n", "1")
        await store.note_cut_off(ours.id, sent={known}, broken=())
        await store.merge_accounts(bob.id, robert.id, at=NOW)
        assert (await sees(store, theirs))["1"] == known
