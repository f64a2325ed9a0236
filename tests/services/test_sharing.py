"""A device that two mail programs use: when it is told, when not, and until when."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.domain.facts import DeviceUsed, SessionEnded, TroubleBegan, TroubleOver
from proxy.domain.policy import DAY, MINUTE
from proxy.domain.sharing import CALM, RETURNS
from proxy.services import sharing
from proxy.services.sharing import Sharing
from tests.services.house import START, declared, house, policy_for
from tests.services.test_troubles import Desk

HOME, OFFICE = "198.51.100.7", "203.0.113.9"


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    policy = policy_for(1)
    async with house(tmp_path, policy, declared(policy)) as home:
        made = Desk(home, tmp_path)
        await made.account()
        yield made


async def used(desk: Desk, peer: str = HOME, device: str = "laptop", *, named: bool = True) -> None:
    """A login, as the faces make it."""
    account = await desk.account()
    known = await desk.store.device(account.id, device) or await desk.device(device)
    await desk.store.note_seen(known.id, at=desk.home.clock.time)
    desk.troubles.observe(DeviceUsed(peer, "alice", device, named))
    await desk.troubles.round()


def ended(peer: str, seconds: float, how: str = "quit", device: str = "laptop") -> SessionEnded:
    return SessionEnded(peer, "alice", device, "", how, 0, 0, 0, 0, seconds)  # type: ignore[arg-type]


async def to_and_fro(desk: Desk, device: str = "laptop") -> None:
    for poll in range(2 + RETURNS):
        await used(desk, (HOME, OFFICE)[poll % 2], device)
        desk.home.clock.time += 10 * MINUTE


def open_troubles(desk: Desk) -> list[TroubleBegan]:
    return desk.home.facts.of(TroubleBegan)


async def test_two_places_that_take_turns_are_told_once_with_the_cure(desk: Desk) -> None:
    await to_and_fro(desk)
    await to_and_fro(desk)
    (mail,) = await desk.notices()
    assert mail["Subject"] == "Two mail programs seem to share the device laptop of alice"
    assert mail["X-POP3-Sync-Proxy-Trouble"] == "shared_device"
    words = mail.get_content()
    assert "    alice+laptop\r\n" in words
    assert "    pop3-sync-proxy device rename alice laptop desktop\r\n" in words
    assert open_troubles(desk) == [TroubleBegan("alice", "shared_device", True)]
    (told,) = (await desk.home.core.admin.status())["troubles"]
    assert (told["account"], told["kind"]) == ("alice", "shared_device")
    assert told["subject"] == mail["Subject"]


async def test_two_sessions_at_once_from_two_places_are_told(desk: Desk) -> None:
    await used(desk, HOME)
    desk.home.clock.time += 5
    await used(desk, OFFICE)
    assert open_troubles(desk) == []
    desk.home.clock.time += 5
    desk.troubles.observe(ended(HOME, 10.5))
    await desk.troubles.round()
    assert open_troubles(desk) == [TroubleBegan("alice", "shared_device", True)]


@pytest.mark.parametrize("how", ["timeout", "eof", "error", "slow_reader"])
async def test_a_session_that_a_laptop_has_left_behind_says_nothing(desk: Desk, how: str) -> None:
    await used(desk, HOME)
    desk.home.clock.time += 5
    await used(desk, OFFICE)
    desk.home.clock.time += 600
    desk.troubles.observe(ended(HOME, 605, how))
    await desk.troubles.round()
    assert open_troubles(desk) == []


async def test_a_program_without_a_name_beside_named_ones_is_told(desk: Desk) -> None:
    await used(desk, device="default", named=False)
    assert open_troubles(desk) == []
    await used(desk, device="laptop")
    await desk.troubles.round()
    (mail,) = await desk.notices()
    assert "the device default of alice" in mail["Subject"]
    assert "    pop3-sync-proxy device rename alice default laptop\r\n" in mail.get_content()


async def test_one_program_without_a_name_is_as_before(desk: Desk) -> None:
    for _ in range(20):
        await used(desk, device="default", named=False)
        desk.home.clock.time += 10 * MINUTE
    # Made by the operator, and not in use yet.
    await desk.device("phone")
    await used(desk, device="default", named=False)
    assert open_troubles(desk) == []


async def test_who_says_that_it_is_the_default_device_has_named_it(desk: Desk) -> None:
    await used(desk, device="laptop")
    await used(desk, device="default", named=True)
    assert open_troubles(desk) == []


async def test_it_is_over_once_the_device_is_renamed(desk: Desk) -> None:
    await used(desk, device="laptop")
    await used(desk, device="default", named=False)
    assert len(await desk.notices()) == 1
    await desk.home.core.admin.device_rename("alice", "default", "desktop")
    await desk.troubles.round()
    assert await desk.notices() == []
    assert len(desk.home.facts.of(TroubleOver)) == 1


async def test_it_is_over_after_a_week_without_a_sign_and_told_again_with_one(desk: Desk) -> None:
    await to_and_fro(desk)
    await desk.succeeds()
    await desk.later(CALM - DAY)
    await desk.succeeds()
    assert len(await desk.notices()) == 1
    await desk.later(2 * DAY)
    assert await desk.notices() == []
    await desk.succeeds()
    await to_and_fro(desk)
    assert len(await desk.notices()) == 1


async def test_a_restart_neither_tells_it_twice_nor_forgets_it(desk: Desk) -> None:
    await to_and_fro(desk)
    desk.troubles = desk.fresh()
    await desk.later(DAY)
    await to_and_fro(desk)
    assert len(open_troubles(desk)) == 1
    assert len(await desk.notices()) == 1
    assert desk.home.facts.of(TroubleOver) == []


async def test_another_device_is_told_of_apart(desk: Desk) -> None:
    await to_and_fro(desk)
    await to_and_fro(desk, "phone")
    assert [mail["Subject"].split()[-3] for mail in await desk.notices()] == ["laptop", "phone"]


async def test_only_so_many_devices_are_remembered(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "REMEMBERED", 5)
    seen = Sharing(desk.store, desk.home.clock)
    for number in range(50):
        seen.observe(DeviceUsed(HOME, f"user{number}", "default", named=False))
    assert sorted(seen.suspects()) == [f"user{number}" for number in range(45, 50)]


async def test_a_login_tells_from_where_and_whether_the_device_was_named(tmp_path: Path) -> None:
    policy = policy_for(1)
    async with house(tmp_path, policy, declared(policy)) as home:
        (await home.login("alice", peer=HOME)).close()
        (await home.login("alice+default", peer=OFFICE)).close()
        assert home.facts.of(DeviceUsed) == [
            DeviceUsed(HOME, "alice", "default", named=False),
            DeviceUsed(OFFICE, "alice", "default", named=True),
        ]
        assert home.clock.time == START
