"""What every store must do with troubles and the notices about them."""

from __future__ import annotations

from dataclasses import replace

from proxy.domain.model import Account, Blob, Device, is_own_uid
from proxy.interfaces.store import Store
from tests.interfaces.store_contract import NOW, commit

NOTICE = b"Subject: trouble\r\n\r\nBody\r\n"


async def notice(store: Store) -> Blob:
    writer = store.new_blob()
    await writer.write(NOTICE)
    return await writer.finish()


async def begin(store: Store, account: Account | None, *, noticed: bool = True) -> None:
    await store.add_trouble(
        account.id if account else None,
        "too_large",
        subject="s",
        body="b\n",
        marks=["u1", "u2"],
        notice=await notice(store) if noticed else None,
        at=NOW,
    )


class TroubleContract:
    async def test_a_trouble_is_kept_with_its_notice(self, store: Store, alice: Account) -> None:
        await begin(store, alice)
        (trouble,) = await store.troubles()
        (message,) = await store.messages(alice.id)
        assert trouble.message_id == message.id
        assert is_own_uid(message.uid)
        assert (trouble.account_id, trouble.kind, trouble.since) == (alice.id, "too_large", NOW)
        assert (trouble.subject, trouble.body, trouble.marks) == ("s", "b\n", ("u1", "u2"))
        assert (trouble.over_at, trouble.alerted_at, trouble.recovered_at) == (None, None, None)

    async def test_what_cached_views_are_checked_against_changes_with_it(
        self, store: Store, alice: Account
    ) -> None:
        versions = [store.version(alice.id)]
        await begin(store, alice)
        versions.append(store.version(alice.id))
        (trouble,) = await store.troubles()
        await store.end_trouble(trouble, at=NOW)
        versions.append(store.version(alice.id))
        assert versions == sorted(set(versions))

    async def test_the_machine_s_and_silent_ones_have_no_notice(
        self, store: Store, alice: Account
    ) -> None:
        await begin(store, None, noticed=False)
        await begin(store, alice, noticed=False)
        assert [trouble.message_id for trouble in await store.troubles()] == [None, None]
        assert await store.messages(alice.id) == ()

    async def test_its_end_withdraws_its_notice_and_no_other(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        await begin(store, alice)
        await begin(store, alice)
        first, second = await store.troubles()
        await store.end_trouble(first, at=NOW + 5)
        await store.end_trouble(first, at=NOW + 9)
        assert await store.troubles() == [replace(first, over_at=NOW + 5), second]
        assert [message.id for message in await store.messages(alice.id)] == [second.message_id]
        assert await store.waiting(laptop.id) == 1

    async def test_its_end_is_no_matter_to_a_device_that_has_the_notice(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        await begin(store, alice)
        (trouble,) = await store.troubles()
        assert trouble.message_id is not None
        await commit(store, laptop, {trouble.message_id}, {trouble.message_id})
        await store.end_trouble(trouble, at=NOW)
        assert await store.waiting(laptop.id) == 0

    async def test_what_was_alerted_is_remembered_with_its_first_time(
        self, store: Store, alice: Account
    ) -> None:
        await begin(store, alice)
        (trouble,) = await store.troubles()
        await store.note_alerted(began=[trouble.id], over=[], at=NOW + 1)
        await store.note_alerted(began=[trouble.id], over=[trouble.id], at=NOW + 2)
        (noted,) = await store.troubles()
        assert (noted.alerted_at, noted.recovered_at) == (NOW + 1, NOW + 2)

    async def test_marks_can_be_replaced(self, store: Store) -> None:
        await begin(store, None, noticed=False)
        (trouble,) = await store.troubles()
        await store.set_marks(trouble.id, ["1", "2"])
        assert [each.marks for each in await store.troubles()] == [("1", "2")]

    async def test_only_what_was_over_in_time_is_dropped(
        self, store: Store, alice: Account
    ) -> None:
        for _ in range(3):
            await begin(store, alice)
        first, second, third = await store.troubles()
        await store.end_trouble(first, at=NOW)
        await store.end_trouble(second, at=NOW + 10)
        await store.drop_troubles(over_before=NOW + 5)
        assert [trouble.id for trouble in await store.troubles()] == [second.id, third.id]

    async def test_an_account_takes_its_troubles_along(self, store: Store, alice: Account) -> None:
        await begin(store, alice)
        await begin(store, None, noticed=False)
        await store.remove_account(alice.id)
        assert [trouble.account_id for trouble in await store.troubles()] == [None]
