"""Wrong clocks: nothing is deleted, let go of or hidden by one, and nothing stops for one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from proxy.domain.errors import BadRequest, StoreUnavailable
from proxy.domain.facts import TroubleBegan, TroubleOver
from proxy.domain.policy import (
    DAY,
    HOUR,
    MINUTE,
    AccountPolicy,
    AlertsPolicy,
    DevicePolicy,
    RetentionPolicy,
    Seconds,
)
from proxy.domain.survey import Space
from proxy.domain.timekeeping import EARLIEST
from proxy.services.troubles import Troubles
from tests.rude_upstream import RudeUpstream, mail
from tests.services.house import START, House, SetClock, declared, house, policy_for, world_of

YEAR = 365 * DAY


@pytest.fixture
async def rude() -> AsyncIterator[RudeUpstream]:
    mails = [(f"u{n}", mail(str(n))) for n in range(20)]
    async with RudeUpstream(mails).listening() as upstream:
        yield upstream


def keeping(upstream: str, **others: Any) -> dict[str, Any]:
    return {"retention": RetentionPolicy(upstream=upstream, **others)}  # type: ignore[arg-type]


Opened = AbstractAsyncContextManager[House]


class Stage:
    """One data directory, and the lives of the proxy on it."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.clock = SetClock()

    def life(self, **sections: Any) -> Opened:
        policy: AccountPolicy = policy_for(self.port, **sections)
        return house(self.folder, policy, declared(policy), clock=self.clock)


@pytest.fixture
def stage(tmp_path: Path, rude: RudeUpstream) -> Stage:
    return Stage(tmp_path, rude.port)


async def clean(home: House) -> int:
    account = await home.store.account("alice")
    assert account is not None
    purged = await home.core.janitor.clean(account)
    assert purged is not None
    return purged.messages


# --- nothing that cannot be undone ---------------------------------------------------------------


@pytest.mark.parametrize("wrong_by", [YEAR, 31 * DAY, 10 * YEAR])
async def test_age_deletes_nothing_while_the_clock_is_ahead(
    stage: Stage, rude: RudeUpstream, wrong_by: float
) -> None:
    async with stage.life(**keeping("age")) as home:
        await home.uids("alice+late")
        home.clock.wrong_by = wrong_by
        await home.uids("alice+a")
        home.clock.wrong_by = 0.0
        await home.uids("alice+a")
        assert rude.deleted == []
        assert len(await home.read("alice+late")) == 20


async def test_age_counts_from_when_mail_came_whatever_the_clock_said_then(
    stage: Stage, rude: RudeUpstream
) -> None:
    stage.clock.wrong_by = -40 * DAY
    async with stage.life(**keeping("age")) as home:
        await home.uids()
        home.clock.wrong_by = 0.0
        await home.core.timekeeper.trust()
        await home.uids()
        assert rude.deleted == []
        home.clock.time += 30 * DAY - 1
        await home.uids()
        assert rude.deleted == []
        home.clock.time += 2
        await home.uids()
        assert len(rude.deleted) == 20


async def test_a_start_with_a_wrong_clock_lets_go_of_nothing(
    stage: Stage, rude: RudeUpstream
) -> None:
    sections = keeping("age", upstream_age=Seconds(0))
    async with stage.life(**sections) as home:
        await home.uids("alice+late")
        await home.read("alice+a")
        assert len(rude.deleted) == 20
    stage.clock.wrong_by = YEAR
    async with stage.life(**sections) as home:
        assert await clean(home) == 0
    stage.clock.wrong_by = 0.0
    async with stage.life(**sections) as home:
        assert len(await home.read("alice+late")) == 20


async def test_delivered_takes_no_device_for_silent_by_a_wrong_clock(
    stage: Stage, rude: RudeUpstream
) -> None:
    async with stage.life(**keeping("delivered")) as home:
        await home.uids("alice+here")
        for home.clock.wrong_by in (YEAR, YEAR + 35 * DAY):
            await home.read("alice+a")
            await home.uids("alice+a")
            assert await clean(home) == 0
        assert rude.deleted == []
        assert len(await home.read("alice+here")) == 20


async def test_time_in_which_the_proxy_was_off_is_nobodys_silence(
    stage: Stage, rude: RudeUpstream
) -> None:
    async with stage.life(**keeping("delivered")) as home:
        await home.uids("alice+here")
        await home.read("alice+a")
    stage.clock.time += 200 * DAY
    async with stage.life(**keeping("delivered")) as home:
        await home.core.timekeeper.trust()
        await home.uids("alice+a")
        assert rude.deleted == []
        home.clock.time += 91 * DAY
        await home.uids("alice+a")
        assert len(rude.deleted) == 20


async def test_a_device_seen_while_the_clock_was_ahead_does_not_hold_mail_back_for_that(
    stage: Stage, rude: RudeUpstream
) -> None:
    async with stage.life(**keeping("delivered")) as home:
        home.clock.wrong_by = 10 * YEAR
        await home.uids("alice+gone")
        home.clock.wrong_by = 0.0
        home.clock.time += 2 * DAY
        await home.read("alice+a")
        home.clock.time += 89 * DAY
        await home.uids("alice+a")
        assert len(rude.deleted) == 20


async def test_a_device_that_comes_while_the_clock_is_behind_is_not_silent(
    stage: Stage, rude: RudeUpstream
) -> None:
    async with stage.life(**keeping("delivered")) as home:
        await home.uids("alice+here")
        home.clock.wrong_by = -YEAR
        home.clock.time += 89 * DAY
        await home.uids("alice+here")
        home.clock.time += 89 * DAY
        await home.read("alice+a")
        await home.uids("alice+a")
        assert rude.deleted == []


async def test_nothing_is_deleted_or_let_go_of_while_the_clock_is_in_doubt(
    stage: Stage, rude: RudeUpstream
) -> None:
    async with stage.life(**keeping("age", upstream_age=Seconds(0))) as home:
        await home.uids()
        home.clock.time += HOUR
        home.clock.wrong_by = 2 * HOUR
        await home.uids()
        assert rude.deleted == []
        home.clock.time += DAY - HOUR
        await home.uids()
        assert rude.deleted == [], "it was not steady for a day"
        home.clock.time += HOUR + 1
        await home.uids()
        assert len(rude.deleted) == 20


async def test_local_keep_waits_for_a_clock_that_is_believed(
    stage: Stage, rude: RudeUpstream
) -> None:
    async with stage.life(**keeping("keep", local_keep=Seconds(0))) as home:
        await home.read()
        rude.mails.clear()
        await home.uids()
        await home.uids()
        home.clock.wrong_by = YEAR
        assert await clean(home) == 0
        await home.core.timekeeper.trust()
        assert await clean(home) == 20


async def test_what_a_person_deleted_for_all_does_not_wait(
    stage: Stage, rude: RudeUpstream
) -> None:
    async with stage.life(**keeping("keep", on_delete="everywhere")) as home:
        await home.read(delete=True)
        home.clock.wrong_by = YEAR
        await home.uids()
        assert len(rude.deleted) == 20


# --- a doubt survives, ends, and is told ----------------------------------------------------------


async def test_a_doubt_survives_a_restart_and_ends_by_a_persons_word(stage: Stage) -> None:
    async with stage.life() as home:
        await home.core.timekeeper.keep()
        home.clock.wrong_by = YEAR
        assert home.core.timekeeper.in_doubt
        await home.core.timekeeper.keep()
    async with stage.life() as home:
        assert home.core.timekeeper.in_doubt
        told = await home.core.admin.call("clock ok", {})
        assert told == {"now": START + YEAR}
        assert home.store.timekeeping.doubt == ""
    async with stage.life() as home:
        assert not home.core.timekeeper.in_doubt


async def test_nobody_can_say_that_it_is_1970(stage: Stage) -> None:
    stage.clock.wrong_by = -START
    async with stage.life() as home:
        with pytest.raises(BadRequest, match="set it first"):
            await home.core.admin.call("clock ok", {})


async def test_a_doubt_is_told_once_and_is_over_when_the_clock_is_believed(stage: Stage) -> None:
    async with stage.life() as home:
        troubles = Troubles(
            home.store,
            world_of(stage.folder, home.clock, home.passwords),
            home.facts,
            home.directory,
            AlertsPolicy(),
            lambda: Space(50 * 1024**3, 100 * 1024**3),
            lambda: None,
        )
        await troubles.round()
        home.clock.wrong_by = YEAR
        assert home.core.timekeeper.in_doubt
        await home.core.timekeeper.keep()
        for _ in range(2):
            await troubles.round()
        assert home.facts.of(TroubleBegan) == [TroubleBegan("", "clock_jump", False)]
        (row,) = (await home.core.admin.call("status", {}))["troubles"]
        assert (row["account"], row["kind"]) == ("", "clock_jump")
        home.clock.time += DAY + 1
        await home.core.timekeeper.keep()
        await troubles.round()
        assert [fact.trouble for fact in home.facts.of(TroubleOver)] == ["clock_jump"]


async def test_a_doubt_that_cannot_be_written_down_holds_all_the_same(stage: Stage) -> None:
    async with stage.life() as home:
        called = []
        home.core.timekeeper.changed = lambda: called.append(home.store.timekeeping.doubt)
        home.clock.wrong_by = YEAR
        await home.core.timekeeper.keep()
        await home.core.timekeeper.keep()
        assert called == ["jumped"]


async def test_stamps_of_a_spell_are_put_right_when_the_clock_comes_back(stage: Stage) -> None:
    stage.clock.wrong_by = -6 * YEAR
    async with stage.life() as home:
        home.clock.time += MINUTE
        await home.read()
        home.clock.time += HOUR
        home.clock.wrong_by = 0.0
        await home.core.timekeeper.keep()
        account = await home.store.account("alice")
        assert account is not None
        stamps = {record.fetched_at for record in await home.store.records(account.id)}
        assert stamps == {START + MINUTE}
        (device,) = await home.store.devices(account.id)
        assert device.seen_at == START + MINUTE


@pytest.mark.parametrize("settled", [False, True])
async def test_a_crash_loses_no_correction_of_stamps(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, settled: bool
) -> None:
    async def crash(**_: object) -> None:
        raise StoreUnavailable("the power is gone")

    async with stage.life() as home:
        await home.core.timekeeper.keep()
        home.clock.wrong_by = 6 * YEAR if settled else -6 * YEAR
        home.clock.time += MINUTE
        await home.core.timekeeper.keep()
        await home.read()
        home.clock.wrong_by = DAY if settled else 0.0
        home.clock.time += MINUTE
        if settled:
            await home.core.timekeeper.keep()
            home.clock.time += DAY + 1
        monkeypatch.setattr(home.store, "correct_stamps", crash)
        with pytest.raises(StoreUnavailable):
            await home.core.timekeeper.keep()
    async with stage.life() as home:
        home.clock.time += DAY + 1 if settled else 0
        await home.core.timekeeper.keep()
        account = await home.store.account("alice")
        assert account is not None
        now = home.clock.now()
        for record in await home.store.records(account.id):
            assert START <= record.fetched_at <= now


# --- devices --------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong_by", [YEAR, -YEAR, -START])
@pytest.mark.parametrize("backlog", ["none", "30d"])
async def test_a_device_made_by_a_wrong_clock_sees_what_comes_from_then_on(
    stage: Stage, rude: RudeUpstream, wrong_by: float, backlog: str
) -> None:
    async with stage.life(devices=DevicePolicy(backlog=backlog)) as home:
        await home.uids("alice+first")
        home.clock.time += HOUR
        home.clock.wrong_by = wrong_by
        old = await home.uids("alice+late")
        rude.mails.append(("new", mail("new")))
        assert "new" in await home.uids("alice+late")
        home.clock.wrong_by = 0.0
        rude.mails.append(("newer", mail("newer")))
        assert [uid for uid in await home.uids("alice+late") if uid not in old] == ["new", "newer"]
        if backlog == "none":
            assert old == []


async def test_mail_is_taken_to_have_come_at_the_likeliest_time(
    stage: Stage, rude: RudeUpstream
) -> None:
    async with stage.life() as home:
        await home.uids()
        home.clock.time += HOUR
        for home.clock.wrong_by in (YEAR, -YEAR):
            rude.mails.append((f"{home.clock.wrong_by}", mail(f"{home.clock.wrong_by}")))
            await home.uids()
        account = await home.store.account("alice")
        assert account is not None
        came = [record.received_at for record in await home.store.records(account.id)][-2:]
        assert came == [START + HOUR, START + HOUR]


def dated(uid: str, at: float) -> tuple[str, bytes]:
    return uid, f"Received: from a by b; {formatdate(at)}\r\n".encode() + mail(uid)


async def test_a_device_of_a_store_made_in_1970_sees_what_comes(
    stage: Stage, rude: RudeUpstream
) -> None:
    rude.mails[:] = [dated("old", START - YEAR), dated("late", START - MINUTE)]
    stage.clock.wrong_by = -START
    async with stage.life(devices=DevicePolicy(backlog="none")) as home:
        home.clock.time += MINUTE
        assert await home.uids() == []
        home.clock.wrong_by = 0.0
        rude.mails.append(("new", mail("new")))
        assert await home.uids() == ["new"]
        await home.core.timekeeper.keep()
        assert await home.uids() == ["new"]


async def test_mail_that_was_seen_in_1970_stays_seen_when_the_clock_is_right(
    stage: Stage, rude: RudeUpstream
) -> None:
    rude.mails[:] = [
        dated("old", START - 40 * DAY),
        dated("late", START - DAY),
        ("undated", mail("undated")),
        dated("future", START + YEAR),
    ]
    stage.clock.wrong_by = -START
    async with stage.life(devices=DevicePolicy(backlog="30d")) as home:
        home.clock.time += MINUTE
        await home.uids()
        home.clock.time += MINUTE
        home.clock.wrong_by = 0.0
        await home.core.timekeeper.keep()
        for device in ("alice", "alice+new"):
            assert await home.uids(device) == ["late", "undated", "future"]
        account = await home.store.account("alice")
        assert account is not None
        came = {one.uid: one.received_at for one in await home.store.records(account.id)}
        assert came["late"] == START - DAY
        assert came["future"] <= home.clock.now()


async def test_an_account_is_as_old_as_the_likeliest_time(stage: Stage) -> None:
    async with stage.life() as home:
        await home.core.timekeeper.keep()
        home.clock.wrong_by = -START
        await home.core.admin.call("device add", {"account": "alice", "device": "laptop"})
        account = await home.store.account("alice")
        assert account is not None
        assert account.created_at == START


# --- nothing stops --------------------------------------------------------------------------------


async def test_a_clock_that_jumps_back_stops_nothing(stage: Stage, rude: RudeUpstream) -> None:
    async with stage.life() as home:
        await home.read("alice+a")
        for home.clock.wrong_by in (-YEAR, 0.0, -START, 0.0):
            rude.mails.append((f"at{home.clock.wrong_by}", mail(str(home.clock.wrong_by))))
            assert len(await home.read("alice+a")) == len(rude.mails)
            home.clock.time += 10


async def test_a_message_left_out_is_tried_again_after_a_day_whatever_the_clock_says(
    stage: Stage, rude: RudeUpstream
) -> None:
    rude.refusals["RETR 4"] = b"+OK\r\n.\r\nand then: " + b"garbage " * 30 + b"\r\n.\r\n"
    async with stage.life() as home:
        await home.uids()
        assert "u3" not in await home.uids()
        rude.refusals.clear()
        home.clock.wrong_by = -YEAR
        home.clock.time += DAY + 1
        await home.uids()
        assert "u3" in await home.uids()


def test_the_earliest_time_is_no_later_than_any_test_runs() -> None:
    assert EARLIEST < START
