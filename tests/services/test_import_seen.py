"""What a device had before it came to the proxy, against upstreams of every kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from proxy.domain.errors import BadRequest, NotFound
from proxy.domain.policy import DevicePolicy, RetentionPolicy
from tests.quirky.play import Play, play
from tests.quirky.quirks import Quirks
from tests.services.house import declared, house, policy_for

SHAPES = ["plain", "unstamped", "one Message-ID", "large", "plain"]


async def import_seen(played: Play, uids: Sequence[str], device: str = "moved") -> dict[str, Any]:
    row: dict[str, Any] = await played.home.core.admin.call(
        "device import-seen", {"account": "alice", "device": device, "uids": list(uids)}
    )
    return row


def uids(played: Play) -> list[str]:
    return [mail.uid for mail in played.mailbox.mails]


async def got(played: Play, device: str = "moved") -> list[int]:
    """Serial numbers of all mails that the device has fetched, after a poll."""
    await played.poll(device)
    return sorted(played.device(device).names().elements())


async def test_mail_that_waits_is_hidden_when_it_comes_and_later_mail_is_not(
    tmp_path: Path,
) -> None:
    async with play(tmp_path) as played:
        played.mailbox.deliver(*SHAPES)
        row = await import_seen(played, uids(played)[:3])
        assert (row["known"], row["waiting"], row["new_device"]) == (0, 3, True)
        played.mailbox.deliver("plain")
        assert await got(played) == [4, 5, 6]
        assert await got(played, "other") == [1, 2, 3, 4, 5, 6]


async def test_a_session_keeps_its_view_and_the_next_one_sees_what_is_left(tmp_path: Path) -> None:
    async with play(tmp_path) as played:
        played.mailbox.deliver(*SHAPES)
        open_one = await played.home.login("alice+moved")
        row = await import_seen(played, uids(played)[:3])
        assert (row["known"], row["waiting"], row["new_device"]) == (3, 0, False)
        assert open_one.view.count == 5
        await open_one.commit()
        open_one.close()
        assert await got(played) == [4, 5]


@pytest.mark.parametrize("view", ["all", "undelivered"])
async def test_importing_twice_is_importing_once(tmp_path: Path, view: str) -> None:
    async with play(tmp_path, devices=DevicePolicy(view=view)) as played:  # type: ignore[arg-type]
        played.mailbox.deliver(*SHAPES)
        await import_seen(played, uids(played)[:3])
        await played.look("other")
        first = await import_seen(played, uids(played)[:3])
        again = await import_seen(played, uids(played)[:3])
        assert first == again
        assert (again["known"], again["waiting"]) == (3, 0)
        assert await got(played) == [4, 5]


@pytest.mark.parametrize("after_retr", ["hides", "deletes"])
async def test_an_upstream_that_shows_its_mail_in_portions(tmp_path: Path, after_retr: str) -> None:
    """Most of what was imported is not listed for a while, and counts all the same."""
    async with play(tmp_path, Quirks(shows=2, after_retr=after_retr)) as played:
        mails = played.mailbox.deliver(*["plain"] * 7)
        await import_seen(played, [mail.uid for mail in mails])
        for _ in range(6):
            played.later(7200)
            await played.poll("moved", "other")
        played.mailbox.deliver("plain")
        assert await got(played) == [8]
        assert await got(played, "other") == [1, 2, 3, 4, 5, 6, 7, 8]


async def test_a_uidl_that_upstream_gives_to_other_mail_hides_none_of_it(tmp_path: Path) -> None:
    async with play(tmp_path) as played:
        played.mailbox.deliver("plain")
        await import_seen(played, ["long-gone", *uids(played)])
        played.later(60)
        assert await got(played) == []
        played.later(60)
        # No stamp of a server says that it is older.
        (mail,) = played.mailbox.deliver("unstamped")
        mail.uid = "long-gone"
        assert await got(played) == [2]


async def test_a_uidl_used_again_marks_neither_mail(tmp_path: Path) -> None:
    async with play(tmp_path) as played:
        first, second = played.mailbox.deliver("plain", "plain")
        await played.look("other")
        played.later(7200)
        played.mailbox.drop(first)
        await played.look("other")
        (third,) = played.mailbox.deliver("plain")
        third.uid = first.uid
        played.later(7200)
        await played.look("other")
        row = await import_seen(played, [first.uid, second.uid])
        assert (row["known"], row["waiting"], row["ambiguous"]) == (1, 0, 1)
        assert await got(played) == [1, 3]


async def test_of_mails_with_one_uidl_only_the_first_is_what_the_device_had(tmp_path: Path) -> None:
    async with play(tmp_path, Quirks(uids="two alike")) as played:
        played.mailbox.deliver(*["plain"] * 3)
        row = await import_seen(played, ["pair1"])
        assert row["waiting"] == 1
        assert await got(played) == [1, 3]


async def test_known_mail_that_got_another_uidl_is_recognised(tmp_path: Path) -> None:
    """The program has seen the new UIDLs, the proxy not yet."""
    async with play(tmp_path) as played:
        played.mailbox.deliver(*SHAPES)
        await played.look("other")
        played.mailbox.change_uids()
        row = await import_seen(played, uids(played))
        assert row["waiting"] == len(SHAPES)
        played.later(7200)
        assert await got(played) == []
        assert played.fetched_again() == {}


async def test_the_uidls_of_before_a_change_count_as_well(tmp_path: Path) -> None:
    async with play(tmp_path) as played:
        played.mailbox.deliver(*SHAPES)
        old = uids(played)
        await played.look("other")
        played.mailbox.change_uids()
        played.later(7200)
        await played.look("other")
        row = await import_seen(played, old)
        assert (row["known"], row["waiting"]) == (len(SHAPES), 0)
        assert await got(played) == []


async def test_imported_mail_counts_as_delivered(tmp_path: Path) -> None:
    async with play(tmp_path, retention=RetentionPolicy(upstream="delivered")) as played:
        played.mailbox.deliver(*SHAPES)
        played.mailbox.on_expunge = lambda mail: None
        await import_seen(played, uids(played)[:3])
        for _ in range(3):
            await played.look("moved")
            played.later(7200)
        assert [mail.serial for mail in played.mailbox.mails] == [4, 5]


async def test_a_reset_forgets_what_was_imported(tmp_path: Path) -> None:
    async with play(tmp_path) as played:
        played.mailbox.deliver(*SHAPES)
        await import_seen(played, uids(played)[:3])
        arguments = {"account": "alice", "device": "moved"}
        await played.home.core.admin.call("device reset", arguments)
        assert await got(played) == [1, 2, 3, 4, 5]


async def test_what_waits_survives_a_restart(tmp_path: Path) -> None:
    async with play(tmp_path) as played:
        played.mailbox.deliver(*SHAPES)
        await import_seen(played, uids(played)[:3])
        await played.restart()
        assert await got(played) == [4, 5]


async def test_an_upstream_without_uidls_is_told_of(tmp_path: Path) -> None:
    async with play(tmp_path, Quirks(uidl="no")) as played:
        played.mailbox.deliver(*SHAPES)
        await played.look("other")
        with pytest.raises(BadRequest, match="gives no UIDLs"):
            await import_seen(played, ["a"])
        assert [row["device"] for row in await device_list(played)] == ["other"]


async def device_list(played: Play) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = await played.home.core.admin.call(
        "device list", {"account": "alice"}
    )
    return rows


async def test_no_backlog_policy_hides_what_a_moved_device_still_lacks(tmp_path: Path) -> None:
    policy = DevicePolicy(enrol="closed", backlog="none")
    async with play(tmp_path, devices=policy) as played:
        played.mailbox.deliver(*SHAPES)
        await import_seen(played, uids(played)[:3])
        assert await got(played) == [4, 5]


@pytest.mark.parametrize("bad", [[], [""], ["a b"], ["a\n"], [7], ["x" * 513], ["é"]])
async def test_what_is_no_uidl_changes_nothing(tmp_path: Path, bad: list[Any]) -> None:
    async with play(tmp_path) as played:
        await played.look("other")
        with pytest.raises(BadRequest):
            await import_seen(played, ["good", *bad] if bad else [])
        with pytest.raises(BadRequest, match="device name"):
            await import_seen(played, ["good"], "two words")
        assert [row["device"] for row in await device_list(played)] == ["other"]


async def test_a_pass_through_account_may_be_new(tmp_path: Path) -> None:
    arguments = {"account": "bob", "device": "pc", "uids": ["a"]}
    async with house(tmp_path / "open", policy_for(1)) as home:
        row = await home.core.admin.call("device import-seen", arguments)
        assert (row["account"], row["waiting"]) == ("bob", 1)
    async with house(
        tmp_path / "closed", policy_for(1), declared(policy_for(1)), pass_through=False
    ) as home:
        with pytest.raises(NotFound):
            await home.core.admin.call("device import-seen", arguments)


async def test_mail_that_is_away_for_a_while_counts_when_it_comes(tmp_path: Path) -> None:
    """Also when most of the mailbox is back before it."""
    async with play(tmp_path) as played:
        played.mailbox.deliver(*["plain"] * 6)
        await played.poll("other")
        played.later(7200)
        await played.poll("other")
        played.mailbox.set_aside()
        played.mailbox.deliver("unstamped")
        await import_seen(played, uids(played))
        played.mailbox.set_aside()
        for most in (0, 5, None):
            played.mailbox.bring_back(most, new_uids=False)
            played.later(3600)
            await played.look("other")
        assert await got(played, "other") == [1, 2, 3, 4, 5, 6, 7]
        assert await got(played) == [1, 2, 3, 4, 5, 6]
