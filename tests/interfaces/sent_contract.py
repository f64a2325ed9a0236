"""What every store must do with notes of mails that devices have sent."""

from __future__ import annotations

from dataclasses import replace

from proxy.domain.model import Account, Device, Sending
from proxy.domain.policy import DAY
from proxy.interfaces.store import Store
from tests.interfaces.running import run_for
from tests.interfaces.store_contract import NOW, fetched

NAME = "<one@example.org>"


async def send(store: Store, account: Account, device: Device | None, at: float = NOW) -> int:
    return await store.note_sending(account.id, device.id if device else None, NAME, at=at)


async def copy(store: Store, account: Account, device: Device, sending: int) -> int:
    blob = (await fetched(store, b"copy\r\n")).blob
    return await store.add_own(account.id, blob, but_not_for=device.id, sending=sending, at=NOW)


async def come_back(store: Store, account: Account, name: str = NAME, at: float = NOW) -> int:
    """A message from upstream under this Message-ID; its id."""
    one = await fetched(store, f"returned {name} {at}\r\n".encode(), f"uid{at}", received_at=at)
    await store.add_messages(account.id, [replace(one, sent_as=name)], at=at)
    return (await store.known(account.id))[-1].id


class SentContract:
    async def test_what_became_of_a_mail_is_unknown_until_it_is_settled(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        sent, failed, without = [await send(store, alice, laptop) for _ in range(3)]
        nobodys = await send(store, alice, None)
        assert await store.sendings() == [
            *(Sending(each, "alice", "laptop", NAME) for each in (sent, failed, without)),
            Sending(nobodys, "alice", "", NAME),
        ]
        await copy(store, alice, laptop, sent)
        await store.forget_sending(failed)
        await store.settle_sending(without)
        assert [each.id for each in await store.sendings()] == [nobodys]

    async def test_a_device_that_is_gone_has_sent_it_as_nobody(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        await store.remove_device(laptop.id)
        sent = await send(store, alice, laptop)
        assert await store.sendings() == [Sending(sent, "alice", "", NAME)]

    async def test_a_mail_that_comes_back_is_hidden_from_who_has_it(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        phone = await store.add_device(alice.id, "phone", since=None, at=NOW)
        await copy(store, alice, laptop, await send(store, alice, laptop))
        desk = await store.add_device(alice.id, "desk", since=NOW, at=NOW)
        returned = await come_back(store, alice, at=NOW + 1)
        assert returned in await store.hidden(laptop.id, "all")
        assert returned in await store.hidden(phone.id, "all")
        # It is too new for what was sent before.
        assert returned not in await store.hidden(desk.id, "undelivered")

    async def test_one_that_is_back_before_its_copy_is_stored_waits_for_that(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        phone = await store.add_device(alice.id, "phone", since=None, at=NOW)
        sending = await send(store, alice, laptop)
        returned = await come_back(store, alice)
        assert returned in await store.hidden(laptop.id, "all")
        assert returned not in await store.hidden(phone.id, "all")
        await copy(store, alice, laptop, sending)
        assert returned in await store.hidden(phone.id, "all")

    async def test_without_a_copy_it_is_hidden_from_the_sender_alone(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        phone = await store.add_device(alice.id, "phone", since=None, at=NOW)
        await store.settle_sending(await send(store, alice, laptop))
        returned = await come_back(store, alice)
        assert returned in await store.hidden(laptop.id, "all")
        assert returned not in await store.hidden(phone.id, "all")

    async def test_a_copy_that_was_withdrawn_is_had_by_nobody(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        phone = await store.add_device(alice.id, "phone", since=None, at=NOW)
        made = await copy(store, alice, laptop, await send(store, alice, laptop))
        await store.withdraw(alice.id, [made], at=NOW)
        assert await come_back(store, alice) not in await store.hidden(phone.id, "all")

    async def test_other_mail_is_shown(self, store: Store, alice: Account, laptop: Device) -> None:
        bob = await store.ensure_account("bob", declared=True, at=NOW)
        tablet = await store.add_device(bob.id, "tablet", since=None, at=NOW)
        await store.settle_sending(await send(store, alice, laptop))
        await store.forget_sending(await send(store, bob, tablet))
        for account, device, name, at in (
            (alice, laptop, "<two@example.org>", NOW),
            (alice, laptop, "", NOW + 1),
            (bob, tablet, NAME, NOW),
            (alice, laptop, NAME, NOW + 8 * DAY),
        ):
            run_for(store, max(at - NOW, 1.0))
            returned = await come_back(store, account, name, at)
            assert returned not in await store.hidden(device.id, "all")
