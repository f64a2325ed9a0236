"""What comes in as a mail, and its end: smuggling, hanging up, the proxy stopping."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from proxy.domain.facts import SmtpSessionEnded, SubmissionEnded
from proxy.domain.policy import Seconds, SessionPolicy
from tests.smtp_house import MAIL, PATIENCE, Talk, plain, smtp_house

LOGIN = plain()

SMUGGLED = (
    b"MAIL FROM:<eve@example.org>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\nSubject: smuggled\r\n"
)

NEUTRAL = [b"\n.\n", b"\n.\r\n", b"\r\n.\n"]
REFUSED = [
    b"\r.\r",
    b"\r.\r\n",
    b"\r.\n",
    b"\n.\r",
    b"\r\n.\r",
    b"\r\r\n.\r\r\n",
    b"\r\n.\r\r\n",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\0\n.\r\0\n",
]


@pytest.mark.parametrize("end", [*NEUTRAL, *REFUSED], ids=repr)
async def test_only_crlf_dot_crlf_ends_a_mail(tmp_path: Path, end: bytes) -> None:
    """One mail in is one mail out or none, whatever stands in it, and nothing in what goes out
    can be taken for its end by a server that is less strict."""
    async with smtp_house(tmp_path) as house, house.talk(LOGIN) as talk:
        content = MAIL + b"line" + end + SMUGGLED
        answer = await talk.send(content)
        assert answer.startswith("250 " if end in NEUTRAL else "554 5.6.0 ")
        assert (await talk.say(b"NOOP")).startswith("250 2.0.0 ")
        assert len(house.upstream.mails) == (end in NEUTRAL)
        assert len(house.facts.of(SubmissionEnded)) == 1
        for mail in house.upstream.mails:
            lines = mail.split(b"\r\n")
            assert not any(b"\r" in line or b"\n" in line for line in lines)
            assert [n for n, line in enumerate(lines) if line == b"."] == [len(lines) - 2]
        assert [c for c in house.upstream.commands if c.startswith("MAIL")] == [
            "MAIL FROM:<alice@example.org>"
        ]


@pytest.mark.parametrize("end", [*NEUTRAL, *REFUSED], ids=repr)
async def test_it_does_not_matter_how_the_octets_come(tmp_path: Path, end: bytes) -> None:
    async with smtp_house(tmp_path) as house, house.talk(LOGIN) as talk:
        await talk.say(b"MAIL FROM:<alice@example.org>")
        await talk.say(b"RCPT TO:<bob@example.org>")
        await talk.say(b"DATA")
        for octet in b"S: s\r\n\r\nline" + end + b"more\r\n.\r\n":
            talk.writer.write(bytes([octet]))
            await talk.writer.drain()
            await asyncio.sleep(0)
        assert (await talk.answer()).startswith("250 " if end in NEUTRAL else "554 5.6.0 ")
        assert len(house.upstream.mails) == (end in NEUTRAL)


async def test_a_mail_on_its_way_is_brought_to_its_end_when_the_proxy_stops(
    tmp_path: Path,
) -> None:
    hold = asyncio.Event()
    async with (
        smtp_house(tmp_path, hold=hold) as house,
        house.talk(LOGIN) as idle,
        house.talk(LOGIN) as talk,
    ):
        sending = asyncio.create_task(talk.send())
        await house.upstream.ended.wait()
        for face in house.house.core.smtp_sessions:
            face.drain()
        assert (await idle.answer()).startswith("421 4.3.2 ")
        hold.set()
        assert (await sending).startswith("250 ")
        assert (await talk.answer()).startswith("421 4.3.2 ")
        assert await talk.answer() == ""


async def test_a_client_that_reads_nothing_is_dropped(tmp_path: Path) -> None:
    session = SessionPolicy(autologout=Seconds(1))
    async with smtp_house(tmp_path, session=session) as house, house.talk(LOGIN) as talk:
        talk.writer.transport.pause_reading()  # type: ignore[attr-defined]
        talk.writer.write(b"VRFY x\r\n" * 200_000)
        ended = await house.facts.first(SmtpSessionEnded)
        assert ended.ended == "slow_reader"


async def begun(talk: Talk, *parts: bytes) -> None:
    """A mail up to somewhere in its content."""
    for line in (b"MAIL FROM:<alice@example.org>", b"RCPT TO:<bob@example.org>", b"DATA"):
        assert (await talk.say(line))[0] in "23"
    for part in parts:
        talk.writer.write(part)
    await talk.writer.drain()


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


async def test_who_hangs_up_within_a_mail_leaves_nothing_behind(tmp_path: Path) -> None:
    async with smtp_house(tmp_path) as house:
        before = files(tmp_path)
        async with house.talk(LOGIN) as talk:
            await begun(talk, b"Subject: large\r\n\r\n", (b"x" * 76 + b"\r\n") * 50_000)
            async with asyncio.timeout(PATIENCE):
                while files(tmp_path) == before:  # noqa: ASYNC110 - nothing tells
                    await asyncio.sleep(0.01)
        ended = await house.facts.first(SmtpSessionEnded)
        assert (ended.ended, ended.accepted) == ("eof", 0)
        assert files(tmp_path) == before
        assert house.upstream.mails == []


async def test_a_mail_that_is_being_taken_when_the_proxy_stops_is_taken(tmp_path: Path) -> None:
    async with smtp_house(tmp_path) as house, house.talk(LOGIN) as talk:
        await begun(talk, MAIL)
        for one in house.house.core.smtp_sessions:
            one.drain()
        assert (await talk.say(b".")).startswith("250 ")
        assert (await talk.answer()).startswith("421 4.3.2 ")
        assert house.upstream.mails == [MAIL + b".\r\n"]
