"""What any store knows of time: stamps of running time, and stamps that a wrong clock has made."""

from __future__ import annotations

import pytest

from proxy.domain.model import Account, Device
from proxy.domain.policy import DAY, RetentionPolicy
from proxy.domain.timekeeping import Reading, Timekeeping
from proxy.interfaces.store import Store
from tests.interfaces.running import run_for
from tests.interfaces.store_contract import NOW, add, commit, fetched

YEAR = 365 * DAY


class TimeContract:
    async def test_the_store_of_a_stopped_proxy_counts_no_time(self, store: Store) -> None:
        assert store.ran == 0.0
        await store.keep_time(Timekeeping())
        assert store.ran == 0.0

    async def test_what_happens_to_a_message_is_stamped_with_running_time(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        run_for(store, 10)
        message = await add(store, alice, b"a\r\n")
        run_for(store, 10)
        await commit(store, laptop, {message}, at=NOW + YEAR)
        run_for(store, 10)
        await store.note_expunged([message], at=NOW - YEAR)
        (held,) = await store.holdings(
            alice.id, present=False, retention=RetentionPolicy(), ran=store.ran
        )
        assert (held.fetched_ran, held.last_delivery_ran, held.left_ran) == (10, 20, 30)

    async def test_a_delivery_counts_from_the_last_thing_done(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        message = await add(store, alice, b"a\r\n")
        for deleted in (set[int](), {message}, {message}):
            run_for(store, 10)
            await commit(store, laptop, {message}, deleted)
        (held,) = await store.holdings(alice.id, present=True, retention=RetentionPolicy(), ran=0)
        assert held.last_delivery_ran == 20, "the third time changed nothing"

    async def test_a_message_that_comes_back_has_not_left(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        message = await add(store, alice, b"a\r\n")
        for at in (5, 10):
            run_for(store, at)
            await store.note_listing(alice.id, gone=[message], seen=[], at=NOW)
            repair = await fetched(store, b"a\r\n", repairs=message)
            await store.add_messages(alice.id, [repair], at=NOW)
        run_for(store, 10)
        await store.note_listing(alice.id, gone=[message], seen=[], at=NOW)
        (held,) = await store.holdings(alice.id, present=False, retention=RetentionPolicy(), ran=0)
        assert held.left_ran == store.ran

    async def test_a_device_is_silent_from_its_last_login_on(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        await add(store, alice, b"a\r\n")
        run_for(store, 100 * DAY)

        async def waiting() -> int:
            retention = RetentionPolicy()
            (held,) = await store.holdings(
                alice.id, present=True, retention=retention, ran=store.ran
            )
            return held.waiting

        assert await waiting() == 0
        await store.add_device(alice.id, "new", since=None, at=NOW - YEAR)
        assert await waiting() == 1
        await store.note_seen(laptop.id, at=NOW - YEAR)
        assert await waiting() == 2

    @pytest.mark.parametrize("wrong_by", [YEAR, -YEAR])
    async def test_no_clock_hides_what_comes_after_a_device_was_made(
        self, store: Store, alice: Account, laptop: Device, wrong_by: float
    ) -> None:
        before = await add(store, alice, b"a\r\n", "before")
        made = NOW + wrong_by
        late = await store.add_device(alice.id, "late", since=made, at=made)
        after = await add(store, alice, b"b\r\n", "after")
        assert after not in await store.hidden(late.id, "all")
        assert (before in await store.hidden(late.id, "all")) is (wrong_by > 0)
        assert await store.waiting(late.id) == 1 + (wrong_by < 0)

    async def test_mail_that_is_older_than_a_device_by_its_own_word_is_backlog(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        late = await store.add_device(alice.id, "late", since=NOW, at=NOW)
        dated = [
            await fetched(store, b"a\r\n", "old", received_at=NOW - 1, dated=True),
            await fetched(store, b"b\r\n", "new", received_at=NOW + 1, dated=True),
        ]
        await store.add_messages(alice.id, dated, at=NOW + 2)
        shown = {message.id: message.uid for message in await store.messages(alice.id)}
        assert [shown[one] for one in await store.hidden(late.id, "all")] == ["old"]
        assert {one.uid: one.dated for one in await store.records(alice.id)} == {
            "old": True,
            "new": True,
        }

    async def test_what_is_known_of_the_clock_is_kept(self, store: Store) -> None:
        kept = Timekeeping(Reading(NOW, 7.0), Reading(NOW - 9, 5.0), "jumped", 6.0, 5.5)
        await store.keep_time(kept)
        assert store.timekeeping == kept
        await store.keep_time(Timekeeping())
        assert store.timekeeping == Timekeeping()

    async def test_stamps_of_a_wrong_spell_are_computed_anew(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        run_for(store, 100)
        right = await add(store, alice, b"a\r\n", "right")
        await commit(store, laptop, {right}, at=NOW)
        run_for(store, 100)
        wrong = NOW - YEAR
        one = await fetched(store, b"b\r\n", "wrong", received_at=wrong)
        two = await fetched(store, b"c\r\n", "dated", received_at=wrong - DAY, dated=True)
        await store.add_messages(alice.id, [one, two], at=wrong)
        late = await store.add_device(alice.id, "late", since=wrong - DAY, at=wrong)
        await store.note_seen(laptop.id, at=wrong)
        await commit(store, laptop, {right}, {right}, at=wrong)
        run_for(store, 50)
        version = store.version(alice.id)
        await store.correct_stamps(wrong_since=150, right=Reading(NOW + 150, 250))
        records = {one.uid: one for one in await store.records(alice.id)}
        assert (records["right"].received_at, records["right"].fetched_at) == (NOW, NOW)
        assert records["wrong"].received_at == records["wrong"].fetched_at == NOW + 100
        assert records["dated"].received_at == wrong - DAY
        (delivery,) = await store.deliveries(right)
        assert (delivery.retrieved_at, delivery.deleted_at) == (NOW, NOW + 100)
        found = {device.name: device for device in await store.devices(alice.id)}
        assert found["laptop"].seen_at == NOW + 100
        assert found["late"].created_at == NOW + 100
        assert found["late"].since == NOW + 100 - DAY
        assert found["late"].seen_ran == late.seen_ran
        assert store.version(alice.id) != version

    async def test_stamps_in_the_future_are_computed_anew_whenever_they_were_made(
        self, store: Store, alice: Account, laptop: Device
    ) -> None:
        run_for(store, 100)
        ahead = NOW + YEAR
        message = await add(store, alice, b"a\r\n")
        await commit(store, laptop, {message}, at=ahead)
        await store.note_sync(alice.id, at=ahead)
        await store.add_trouble(None, "clock_jump", subject="", body="", at=ahead)
        run_for(store, 50)
        await store.correct_stamps(wrong_since=None, right=Reading(NOW + 40, 140))
        (delivery,) = await store.deliveries(message)
        assert delivery.retrieved_at == NOW
        found = await store.account("alice")
        assert found is not None
        assert (found.created_at, found.synced_at) == (NOW, NOW + 50)
        assert [trouble.since for trouble in await store.troubles()] == [NOW + 50]
