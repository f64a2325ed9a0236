"""A client that hands in mail, and whose right ends, or whose day is over."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from proxy.domain.facts import SmtpSessionEnded, Unexpected
from proxy.domain.policy import LimitsPolicy, Seconds
from proxy.services import rights
from tests.services.house import NO_DELAY
from tests.smtp_house import MAIL, SmtpHouse, Talk, plain, smtp_house
from tests.smtp_server import SILENCE

LOGIN = plain()
FROM = b"MAIL FROM:<alice@example.org>"
WORD = "421 4.7.0 what you logged in with is no longer valid"


async def remove(house: SmtpHouse) -> None:
    await house.house.core.admin.device_remove("alice", "laptop")


async def begin(talk: Talk) -> None:
    """Up to the content, with a part of it."""
    assert (await talk.say(FROM)).startswith("250 ")
    assert (await talk.say(b"RCPT TO:<bob@example.org>")).startswith("250 ")
    assert (await talk.say(b"DATA")).startswith("354 ")
    talk.writer.write(MAIL)


async def gone(house: SmtpHouse) -> SmtpSessionEnded:
    ended = await house.facts.first(SmtpSessionEnded)
    assert isinstance(ended, SmtpSessionEnded)
    assert house.facts.of(Unexpected) == []
    return ended


async def test_an_idle_session_is_told_why_it_ends(tmp_path: Path) -> None:
    async with smtp_house(tmp_path) as house, house.talk(LOGIN) as talk:
        await remove(house)
        assert (await talk.answer(), await talk.answer()) == (WORD, "")
        assert (await gone(house)).ended == "revoked"


async def test_the_session_of_another_device_goes_on(tmp_path: Path) -> None:
    async with smtp_house(tmp_path) as house, house.talk(plain("alice+phone")) as talk:
        await remove(house)
        assert (await talk.send()).startswith("250 ")


async def test_a_reset_is_told_as_one(tmp_path: Path) -> None:
    async with smtp_house(tmp_path) as house, house.talk(LOGIN) as talk:
        await house.house.core.admin.device_reset("alice", "laptop")
        assert (await talk.answer()).startswith("421 4.7.0 the account or the device has been")


async def test_a_mail_whose_content_is_not_whole_is_never_sent(tmp_path: Path) -> None:
    async with smtp_house(tmp_path) as house, house.talk(LOGIN) as talk:
        await begin(talk)
        await remove(house)
        talk.writer.write(b".\r\n")
        assert await talk.answer() == WORD
        await gone(house)
        await house.all_gone()
        assert house.upstream.mails == []


async def test_a_command_that_waits_for_upstream_holds_nothing_up(tmp_path: Path) -> None:
    told = {"MAIL": SILENCE}
    async with smtp_house(tmp_path, answers=told) as house, house.talk(LOGIN) as talk:
        talk.writer.write(FROM + b"\r\n")
        async with asyncio.timeout(20):
            while FROM.decode() not in house.upstream.commands:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0)
        await remove(house)
        assert await talk.answer() == WORD
        assert (await gone(house)).ended == "revoked"


async def test_a_mail_that_is_whole_is_brought_to_its_end_and_then_the_session_ends(
    tmp_path: Path,
) -> None:
    hold = asyncio.Event()
    async with smtp_house(tmp_path, hold=hold) as house, house.talk(LOGIN) as talk:
        await begin(talk)
        talk.writer.write(b".\r\n")
        await house.upstream.ended.wait()
        await remove(house)
        hold.set()
        assert (await talk.answer()).startswith("250 ")
        assert await talk.answer() == WORD
        ended = await gone(house)
        assert (ended.ended, ended.accepted, len(house.upstream.mails)) == ("revoked", 1, 1)
        assert len(await house.copies("phone")) == 1


async def test_a_device_removed_just_before_its_mail_is_noted_harms_nothing(
    tmp_path: Path,
) -> None:
    async with smtp_house(tmp_path) as house, house.talk(LOGIN) as talk:
        account = await house.house.store.account("alice")
        assert account is not None
        device = await house.house.store.device(account.id, "laptop")
        assert device is not None
        # Past the commands, as if it happened between two of the session's steps.
        await house.house.store.remove_device(device.id)
        assert (await talk.send()).startswith("250 ")
        assert len(await house.copies("phone")) == 1
        assert house.facts.of(Unexpected) == []


@pytest.mark.parametrize("in_content", [False, True])
async def test_no_session_lasts_for_ever(tmp_path: Path, in_content: bool) -> None:
    """A mail whose content goes on and on is aborted, and never sent."""
    limits = LimitsPolicy(login_delay=Seconds(0), max_session=Seconds(0.4))
    async with smtp_house(tmp_path, limits=limits) as house, house.talk(LOGIN) as talk:
        if in_content:
            await begin(talk)
        assert (await talk.answer()).startswith("421 4.7.0 the session has lasted for too long")
        assert (await gone(house)).ended == "max_session"
        await house.all_gone()
        assert house.upstream.mails == []


async def test_an_account_with_a_mail_on_its_way_is_removed_after_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rights, "PATIENCE", 0.1)
    hold = asyncio.Event()
    async with (
        smtp_house(tmp_path, limits=NO_DELAY, pass_through=True, hold=hold) as house,
        house.talk() as talk,
    ):
        made = await house.house.core.admin.device_add("alice", "tablet")
        await talk.hello(plain("alice", made["app_password"]))
        idle = house.house.core.submissions
        assert (await talk.say(FROM)).startswith("5")
        assert idle.last["alice"].outcome == "refused"
        row = await house.house.core.admin.account_remove("alice")
        assert row["erased"]
        assert await talk.answer() == WORD
        assert "alice" not in idle.last
    async with smtp_house(tmp_path / "other", hold=hold) as house, house.talk(LOGIN) as talk:
        await begin(talk)
        talk.writer.write(b".\r\n")
        await house.upstream.ended.wait()
        house.house.core.take_over(house.house.directory.copy())
        async with house.house.core.rights.barred(lambda right: right.account == "alice") as over:
            assert not over
        hold.set()
        assert (await talk.answer()).startswith("250 ")
        assert await talk.answer() == WORD
        await gone(house)
        async with house.house.core.rights.barred(lambda right: right.account == "alice") as over:
            assert over
