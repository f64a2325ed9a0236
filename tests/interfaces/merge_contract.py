"""What every store must do when two accounts become one; tests/adapters/test_merge.py has the rest.

Subclass `MergeContract` and provide the fixture `store`.
"""

from __future__ import annotations

import pytest

from proxy.domain.doubt import Spell
from proxy.domain.model import Account, Device, Upstream
from proxy.interfaces.store import Store
from tests.interfaces.store_contract import NOW, add, commit


async def sees(store: Store, device: Device) -> dict[str, int]:
    """UIDLs that the device is shown, and the message of each."""
    hidden = await store.hidden(device.id, "all")
    uids = await store.uids_of(device.id)
    return {
        uids.get(message.id, message.uid): message.id
        for message in await store.messages(device.account_id)
        if message.id not in hidden
    }


class MergeContract:
    @pytest.fixture
    async def bob(self, store: Store) -> Account:
        return await store.ensure_account("bob", declared=False, at=NOW)

    @pytest.fixture
    async def robert(self, store: Store) -> Account:
        return await store.ensure_account("robert", declared=False, at=NOW)

    async def device(self, store: Store, account: Account, name: str) -> Device:
        return await store.add_device(account.id, name, since=None, at=NOW)

    async def again(self, store: Store, account: Account, name: str) -> Device:
        device = await store.device(account.id, name)
        assert device is not None
        return device

    async def test_a_mail_of_both_becomes_one_and_keeps_what_the_devices_of_either_did(
        self, store: Store, bob: Account, robert: Account
    ) -> None:
        laptop = await self.device(store, bob, "laptop")
        phone = await self.device(store, robert, "phone")
        for account in (bob, robert):
            for name in ("a", "b"):
                await add(store, account, f"{name}\r\n".encode(), name)
        await commit(store, laptop, deleted={(await sees(store, laptop))["a"]})
        await commit(store, phone, deleted={(await sees(store, phone))["b"]})
        looked = await store.look_at_merge(bob.id, robert.id)
        assert len(await store.accounts()) == 2
        merged = await store.merge_accounts(bob.id, robert.id, at=NOW)
        assert merged == looked
        assert (merged.messages, merged.same, merged.moved) == (2, 2, 0)
        assert len(await store.known(robert.id)) == 2
        assert (await sees(store, await self.again(store, robert, "laptop"))).keys() == {"b"}
        assert (await sees(store, await self.again(store, robert, "phone"))).keys() == {"a"}

    async def test_what_left_at_once_may_come_back_to_the_account_that_stays(
        self, store: Store, bob: Account, robert: Account
    ) -> None:
        """As the account that was synced last knows it."""
        for account in (robert, bob):
            message = await add(store, account, b"a\r\n", "a")
        await store.note_spell(bob.id, Spell(7.0, 3, 5))
        await store.note_listing(bob.id, gone=[message], seen=[], at=NOW, at_once=7.0)
        await store.note_sync(bob.id, at=NOW)
        await store.merge_accounts(bob.id, robert.id, at=NOW)
        (known,) = await store.known(robert.id)
        assert (known.upstream, known.left_at_once) == (Upstream.GONE, 7.0)
        assert await store.spell(bob.id) is None

    async def test_a_device_goes_on_under_the_uidls_it_knows(
        self, store: Store, bob: Account, robert: Account
    ) -> None:
        laptop = await self.device(store, bob, "laptop")
        await self.device(store, robert, "phone")
        for account, names in ((bob, "ab"), (robert, "bc")):
            for name, octets in zip(names, (b"1\r\n", b"2\r\n"), strict=True):
                await add(store, account, octets, name)
        before = await sees(store, laptop)
        await store.merge_accounts(bob.id, robert.id, at=NOW)
        laptop = await self.again(store, robert, "laptop")
        assert before.keys() == (now := await sees(store, laptop)).keys()
        tablet = await self.device(store, robert, "tablet")
        assert set((await sees(store, tablet)).values()) == set(now.values())
        assert (await sees(store, tablet)).keys() == {"b", "c"}
        record = await store.record(robert.id, "a")
        assert record is not None
        assert record.id == now["a"]
        # Nothing that comes later is given a name that some device knows.
        await add(store, robert, b"3\r\n", "a")
        assert len(await sees(store, laptop)) == 3
        assert (await sees(store, laptop))["a"] == now["a"]

    async def test_two_mails_of_one_uidl_stay_two(
        self, store: Store, bob: Account, robert: Account
    ) -> None:
        laptop = await self.device(store, bob, "laptop")
        phone = await self.device(store, robert, "phone")
        ones = await add(store, bob, b"bob's\r\n", "1")
        others = await add(store, robert, b"robert's\r\n", "1")
        await store.merge_accounts(bob.id, robert.id, at=NOW)
        for name, own in (("laptop", ones), ("phone", others)):
            shown = await sees(store, await self.again(store, robert, name))
            assert shown["1"] == own
            assert len(shown) == 2
        assert laptop.id != phone.id

    async def test_a_device_of_both_has_had_what_either_had(
        self, store: Store, bob: Account, robert: Account
    ) -> None:
        devices = [await self.device(store, account, "laptop") for account in (bob, robert)]
        for account in (bob, robert):
            for name in ("a", "b", "c"):
                await add(store, account, f"{name}\r\n".encode(), name)
        for device, name in zip(devices, ("a", "b"), strict=True):
            await commit(store, device, deleted={(await sees(store, device))[name]})
        merged = await store.merge_accounts(bob.id, robert.id, at=NOW)
        assert merged.joined == ("laptop",)
        (laptop,) = await store.devices(robert.id)
        assert (await sees(store, laptop)).keys() == {"c"}

    @pytest.mark.parametrize("how", ["expunged", "deleting"])
    @pytest.mark.parametrize("deletes", ["bob", "robert"])
    @pytest.mark.parametrize("newer", ["bob", "robert"])
    async def test_what_one_has_deleted_upstream_is_not_what_somebody_else_took_from_the_other(
        self, store: Store, bob: Account, robert: Account, how: str, deletes: str, newer: str
    ) -> None:
        own, other = (bob, robert) if deletes == "bob" else (robert, bob)
        ids = {account.id: await add(store, account, b"a\r\n", "a") for account in (bob, robert)}
        await store.note_deleting([ids[own.id]], at=NOW)
        if how == "expunged":
            await store.note_expunged([ids[own.id]], at=NOW)
        await store.note_listing(other.id, gone=[ids[other.id]], seen=[], at=NOW + 1)
        for account in (bob, robert):
            at = NOW + 2 + (account.name == newer)
            await store.note_sync(account.id, at=at, upstream_count=0)
        await store.merge_accounts(bob.id, robert.id, at=NOW + 4)
        (known,) = await store.known(robert.id)
        if known.upstream.value == "present":
            assert known.deleting
            await store.note_listing(robert.id, gone=[known.id], seen=[], at=NOW + 5)
        assert await store.removed_upstream(robert.id) == frozenset()

    async def test_accounts_for_one_mailbox_are_noted_told_apart_and_forgotten(
        self, store: Store, bob: Account, robert: Account
    ) -> None:
        other = await store.ensure_account("bert", declared=False, at=NOW)
        for _ in range(2):
            await store.note_same_mailbox(robert.id, bob.id)
        await store.note_same_mailbox(robert.id, other.id)
        assert await store.same_mailboxes() == [(bob.id, robert.id), (robert.id, other.id)]
        await store.tell_apart(other.id, robert.id)
        await store.note_same_mailbox(robert.id, other.id)
        assert await store.same_mailboxes() == [(bob.id, robert.id)]
        assert await store.may_share_mailbox(bob.id)
        assert not await store.may_share_mailbox(other.id)
        await store.remove_account(bob.id)
        assert not await store.may_share_mailbox(robert.id)

    async def test_who_may_share_a_mailbox_with_one_may_with_what_that_becomes(
        self, store: Store, bob: Account, robert: Account
    ) -> None:
        third, fourth = [
            await store.ensure_account(name, declared=False, at=NOW) for name in ("bert", "bo")
        ]
        await store.note_same_mailbox(bob.id, robert.id)
        await store.note_same_mailbox(bob.id, third.id)
        await store.tell_apart(bob.id, fourth.id)
        await store.merge_accounts(bob.id, robert.id, at=NOW)
        assert await store.same_mailboxes() == [(robert.id, third.id)]
        await store.note_same_mailbox(robert.id, fourth.id)
        assert not await store.may_share_mailbox(fourth.id)

    async def test_the_name_that_went_means_the_account_that_stayed(
        self, store: Store, bob: Account, robert: Account
    ) -> None:
        await store.merge_accounts(bob.id, robert.id, at=NOW)
        for name in ("bob", "BOB", "robert"):
            assert await store.account(name) == await store.ensure_account(
                name, declared=False, at=NOW
            )
        assert [account.name for account in await store.accounts()] == ["robert"]
        await store.remove_account(robert.id)
        assert await store.account("bob") is None

    async def test_mail_that_was_had_before_the_proxy_counts_for_what_the_other_account_has(
        self, store: Store, bob: Account, robert: Account
    ) -> None:
        laptop = await self.device(store, bob, "laptop")
        await store.import_seen(laptop.id, ["u1"], slashes_lost=False, at=NOW)
        await add(store, robert, b"old\r\n", "u1")
        await add(store, robert, b"new\r\n", "u2")
        await store.merge_accounts(bob.id, robert.id, at=NOW)
        laptop = await self.again(store, robert, "laptop")
        assert (await sees(store, laptop)).keys() == {"u2"}
