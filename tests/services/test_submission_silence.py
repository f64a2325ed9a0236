"""An SMTP server that says nothing: the client is told, and what comes too late is not believed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from proxy.adapters import smtp_upstream
from tests.smtp_house import MAIL, Talk, plain, smtp_house
from tests.smtp_server import SILENCE

LOGIN = plain()
SOON = 0.2
"""Seconds."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONNECT_TIMEOUT", "COMMAND_TIMEOUT", "STALL_TIMEOUT", "END_TIMEOUT"):
        monkeypatch.setattr(smtp_upstream, name, SOON)


async def send(talk: Talk, mail: bytes = MAIL) -> str:
    """The first answer that is none to go on, or the last."""
    for line in (b"MAIL FROM:<alice@example.org>", b"RCPT TO:<bob@example.org>", b"DATA"):
        answer = await talk.say(line)
        if answer[0] not in "23":
            return answer
    return await talk.say(mail + b".")


@pytest.mark.parametrize("point", ["", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "content"])
async def test_silence_before_the_end_of_the_content_is_a_mail_that_was_not_sent(
    tmp_path: Path, point: str
) -> None:
    hold = asyncio.Event()
    async with (
        smtp_house(tmp_path, answers={point: SILENCE}, hold=hold) as house,
        house.talk(LOGIN) as talk,
    ):
        # More than fits into the buffers on the way.
        answer = await send(talk, MAIL * 300_000 if point == "content" else MAIL)
        assert answer.startswith("451 4.4.1 ")
        assert house.upstream.mails == []
        assert await house.copies("phone") == []
        hold.set()
        house.upstream.answers.clear()
        await talk.say(b"RSET")
        assert (await send(talk)).startswith("250 ")


async def test_silence_after_the_content_is_a_mail_that_nobody_knows_of(tmp_path: Path) -> None:
    hold = asyncio.Event()
    async with smtp_house(tmp_path, hold=hold) as house, house.talk(LOGIN) as talk:
        answer = await send(talk)
        assert answer.startswith("451 4.4.2 ")
        assert "it may have taken the mail" in answer
        assert await house.copies("phone") == []
        # What it says now is the answer to nothing.
        hold.set()
        house.upstream.answers["."] = "554 5.7.1 spam"
        assert await send(talk) == "554 5.7.1 spam"
        assert await house.copies("phone") == []
