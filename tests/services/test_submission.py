"""What becomes of a mail that is handed in: upstream's answer, and the copies."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from proxy.domain.errors import StoreUnavailable
from proxy.domain.facts import SentCopyMissing, SmtpSessionEnded, SubmissionEnded
from proxy.domain.policy import Octets, SubmissionLimits
from tests.smtp_house import MAIL, plain, smtp_house
from tests.smtp_server import CUT

LOGIN = plain()


async def test_a_mail_goes_upstream_as_it_is_and_the_other_devices_get_a_copy(
    tmp_path: Path,
) -> None:
    async with smtp_house(tmp_path) as house, house.talk(LOGIN) as talk:
        assert await talk.send() == "250 2.0.0 taken as 4711"
        assert house.upstream.mails == [MAIL + b".\r\n"]
        mark = b"X-POP3-Sync-Proxy: sent\r\nX-POP3-Sync-Proxy-Device: laptop\r\n"
        assert await house.copies("phone") == [mark + MAIL]
        assert await house.copies("laptop") == []
        (ended,) = house.facts.of(SubmissionEnded)
        assert (ended.outcome, ended.recipients, ended.octets) == ("accepted", 1, len(MAIL))


@pytest.mark.parametrize(
    ("which", "laptop", "phone"), [("others", 0, 1), ("all", 1, 1), ("off", 0, 0)]
)
async def test_the_configuration_says_who_gets_copies(
    tmp_path: Path, which: str, laptop: int, phone: int
) -> None:
    async with (
        smtp_house(tmp_path, smtp={"sent_copies": which}) as house,
        house.talk(LOGIN) as talk,
    ):
        assert (await talk.send()).startswith("250 ")
        assert len(await house.copies("laptop")) == laptop
        assert len(await house.copies("phone")) == phone


async def test_a_device_that_nobody_named_is_not_made_by_sending(tmp_path: Path) -> None:
    async with smtp_house(tmp_path) as house, house.talk(plain("alice")) as talk:
        assert (await talk.send()).startswith("250 ")
        assert len(await house.copies("laptop")) == len(await house.copies("phone")) == 1
        account = await house.house.store.account("alice")
        assert account
        assert {d.name for d in await house.house.store.devices(account.id)} == {"laptop", "phone"}


async def test_a_device_that_is_named_is_made_and_gets_no_copy_of_its_own(tmp_path: Path) -> None:
    async with smtp_house(tmp_path) as house, house.talk(plain("alice+tablet")) as talk:
        assert (await talk.send()).startswith("250 ")
        assert await house.copies("tablet") == []


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({".": "554 5.7.1 spam"}, "554 5.7.1 spam"),
        ({".": "452 4.2.2 full"}, "452 4.2.2 full"),
        ({".": "554 spam"}, "554 5.0.0 spam"),
        ({".": "554-5.7.1 no\r\n554 5.7.1 never"}, "554-5.7.1 no\n554 5.7.1 never"),
        ({"DATA": "451 4.3.0 later"}, "451 4.3.0 later"),
        ({"DATA": "250 what"}, "451 4.5.0"),
        ({".": "354 what"}, "451 4.5.0"),
        ({".": CUT}, "451 4.4.2 the connection to the SMTP server was lost before it answered"),
        ({"DATA": CUT}, "451 4.4.1"),
        ({"content": CUT}, "451 4.4"),
    ],
)
async def test_what_is_not_accepted_has_upstream_s_answer_and_no_copy(
    tmp_path: Path, told: dict[str, str], expected: str
) -> None:
    async with smtp_house(tmp_path, answers=told) as house, house.talk(LOGIN) as talk:
        assert (await talk.send(MAIL * 2000)).startswith(expected)
        assert await house.copies("phone") == []
        (ended,) = house.facts.of(SubmissionEnded)
        assert ended.outcome == ("refused" if expected[0] == "5" else "failed")
        # The session goes on: another mail may be taken.
        house.upstream.answers = {}
        assert (await talk.send()).startswith("250 ")


async def test_each_recipient_has_upstream_s_answer(tmp_path: Path) -> None:
    told = {"RCPT TO:<no@": "550 5.1.1 nobody here", "RCPT TO:<later@": "450 4.2.0 busy"}
    async with smtp_house(tmp_path, answers=told) as house, house.talk(LOGIN) as talk:
        assert await talk.say(b"MAIL FROM:<alice@example.org>") == "250 2.1.0 fine"
        assert await talk.say(b"RCPT TO:<no@example.org>") == "550 5.1.1 nobody here"
        assert await talk.say(b"RCPT TO:<later@example.org>") == "450 4.2.0 busy"
        assert (await talk.say(b"DATA")).startswith("554 5.5.1 ")
        assert await talk.say(b"RCPT TO:<bob@example.org>") == "250 2.1.0 fine"
        assert (await talk.say(b"DATA")).startswith("354 ")
        assert (await talk.say(MAIL + b".")).startswith("250 ")
        assert house.facts.of(SubmissionEnded)[0].recipients == 1


async def test_a_mail_refused_at_its_sender_can_be_followed_by_another(tmp_path: Path) -> None:
    told = {"MAIL FROM:<eve@": "553 5.7.1 not yours"}
    async with smtp_house(tmp_path, answers=told) as house, house.talk(LOGIN) as talk:
        assert await talk.say(b"MAIL FROM:<eve@example.org>") == "553 5.7.1 not yours"
        (ended,) = house.facts.of(SubmissionEnded)
        assert (ended.outcome, ended.recipients, ended.octets) == ("refused", 0, 0)
        assert (await talk.say(b"RCPT TO:<bob@example.org>")).startswith("503 5.5.1 ")
        assert (await talk.send()).startswith("250 ")
        assert house.upstream.sessions == 1


async def test_an_upstream_that_says_421_ends_the_client_s_session(tmp_path: Path) -> None:
    told = {"RCPT": "421 4.3.2 going down"}
    async with smtp_house(tmp_path, answers=told) as house, house.talk(LOGIN) as talk:
        await talk.say(b"MAIL FROM:<alice@example.org>")
        assert await talk.say(b"RCPT TO:<bob@example.org>") == "421 4.3.2 going down"
        assert await talk.answer() == ""


async def test_one_upstream_session_takes_many_mails_of_many_clients(tmp_path: Path) -> None:
    async with smtp_house(tmp_path) as house:
        for _ in range(2):
            async with house.talk(LOGIN) as talk:
                assert (await talk.send()).startswith("250 ")
                assert (await talk.send()).startswith("250 ")
                assert (await talk.say(b"QUIT")).startswith("221 ")
                assert await talk.answer() == ""
                await house.all_gone()
        assert house.upstream.sessions == 1
        assert len(house.upstream.mails) == 4


async def test_a_kept_session_that_has_broken_is_replaced(tmp_path: Path) -> None:
    async with smtp_house(tmp_path) as house, house.talk(LOGIN) as talk:
        assert (await talk.send()).startswith("250 ")
        for answer in (CUT, "421 4.4.2 idle"):
            house.upstream.once["MAIL"] = answer
            assert (await talk.send()).startswith("250 ")
        assert house.upstream.sessions == 3


async def test_a_session_that_breaks_before_the_content_is_made_anew(tmp_path: Path) -> None:
    async with smtp_house(tmp_path) as house, house.talk(LOGIN) as talk:
        house.upstream.once["DATA"] = CUT
        assert (await talk.send(MAIL, b"bob@example.org", b"carol@example.org")).startswith("250 ")
        assert house.upstream.sessions == 2
        assert len(house.upstream.mails) == 1
        assert house.upstream.commands[-4:-1] == [
            "MAIL FROM:<alice@example.org>",
            "RCPT TO:<bob@example.org>",
            "RCPT TO:<carol@example.org>",
        ]


async def test_what_upstream_cannot_be_asked_is_to_be_tried_again(tmp_path: Path) -> None:
    async with smtp_house(tmp_path, answers={"": CUT}) as house, house.talk(LOGIN) as talk:
        assert (await talk.say(b"MAIL FROM:<a@example.org>")).startswith("451 4.4.1 ")
        house.upstream.answers = {"": "554 5.3.2 not for you"}
        assert (await talk.say(b"MAIL FROM:<a@example.org>")).startswith("554 5.3.5 ")
        house.upstream.answers = {"": "421 4.3.2 not now"}
        assert (await talk.say(b"MAIL FROM:<a@example.org>")).startswith("451 4.7.0 ")
        outcomes = [ended.outcome for ended in house.facts.of(SubmissionEnded)]
        assert outcomes == ["failed", "refused", "failed"]


async def test_a_refused_upstream_login_is_told_without_the_password_and_not_repeated(
    tmp_path: Path,
) -> None:
    echo = "535 5.7.8 no such " + base64.b64encode(b"\0alice\0secret").decode() + " secret"
    async with smtp_house(tmp_path, answers={"AUTH": echo}) as house, house.talk(LOGIN) as talk:
        answer = await talk.say(b"MAIL FROM:<alice@example.org>")
        assert answer.startswith("554 5.7.8 ")
        assert "*** ***" in answer
        for _ in range(3):
            assert (await talk.say(b"MAIL FROM:<alice@example.org>")).startswith("554 5.7.8 ")
        assert house.upstream.sessions == 1


async def test_no_password_goes_in_clear_over_a_network(tmp_path: Path) -> None:
    smtp = {"plaintext_login": "never"}
    offers = ("AUTH PLAIN LOGIN",)
    async with (
        smtp_house(tmp_path, smtp=smtp, offers=offers) as house,
        house.talk(LOGIN) as talk,
    ):
        answer = await talk.say(b"MAIL FROM:<alice@example.org>")
        assert answer.startswith("554 5.3.5 ")
        assert "clear text" in answer
        assert not any(command.startswith("AUTH") for command in house.upstream.commands)


async def test_a_server_that_knows_us_otherwise_needs_no_login(tmp_path: Path) -> None:
    async with (
        smtp_house(tmp_path, smtp={"auth": "none"}, offers=("SIZE",)) as house,
        house.talk(LOGIN) as talk,
    ):
        assert (await talk.send()).startswith("250 ")


async def test_only_the_mailbox_s_own_password_sends_from_an_account_that_is_not_declared(
    tmp_path: Path,
) -> None:
    async with smtp_house(tmp_path, pass_through=True) as house:
        account = await house.house.store.account("alice")
        assert account
        verifier = await house.house.passwords.hash(b"secret")
        await house.house.store.set_verifier(account.id, verifier)
        made = await house.house.core.admin.call(
            "device add", {"account": "alice", "device": "tablet"}
        )
        async with house.talk(plain("alice+tablet", made["app_password"])) as talk:
            answer = await talk.say(b"MAIL FROM:<alice@example.org>")
            assert answer.startswith("554 5.7.8 ")
            assert "password of the mailbox itself" in answer
        async with house.talk(LOGIN) as talk:
            assert (await talk.send()).startswith("250 ")


async def test_without_an_smtp_server_there_is_no_sending(tmp_path: Path) -> None:
    async with smtp_house(tmp_path, smtp={"host": ""}) as house, house.talk(LOGIN) as talk:
        assert (await talk.say(b"MAIL FROM:<a@example.org>")).startswith("554 5.3.5 ")


# --- what only some upstreams offer -------------------------------------------------------------


async def test_what_upstream_offers_is_passed_on(tmp_path: Path) -> None:
    async with smtp_house(tmp_path) as house, house.talk(LOGIN) as talk:
        mail = b"MAIL FROM:<alice@example.org> SIZE=100 body=8bitmime SMTPUTF8 RET=HDRS ENVID=a+3Db"
        assert (await talk.say(mail + b" AUTH=<>")).startswith("250 ")
        rcpt = "RCPT TO:<bücher@example.org> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;b"
        assert (await talk.say(rcpt.encode())).startswith("250 ")
        assert house.upstream.commands[-2:] == [
            "MAIL FROM:<alice@example.org> SIZE=100 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=a+3Db",
            rcpt,
        ]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (b"MAIL FROM:<a@example.org> SIZE=100 BODY=8BITMIME", "250 "),
        (b"MAIL FROM:<a@example.org> RET=FULL", "555 5.5.4 "),
        (b"MAIL FROM:<a@example.org> SMTPUTF8", "553 5.6.7 "),
        (b"MAIL FROM:<a@example.org> HOLDFOR=100", "555 5.5.4 "),
        (b"MAIL FROM:<a@example.org> SIZE=many", "501 5.5.4 "),
        (b"MAIL FROM:<a@example.org> SIZE=999999999999", "552 5.3.4 "),
        (b"MAIL FROM:<a@example.org> BODY=BINARYMIME", "501 5.5.4 "),
        ("MAIL FROM:<ä@example.org>".encode(), "553 5.6.7 "),
        (b"MAIL FROM:a@example.org", "501 5.1.7 "),
        (b"MAIL FROM:<a@example.org>RCPT", "501 5.1.7 "),
        (b"MAIL FROM:<a@exa mple.org>", "501 5.1.7 "),
        (b"MAIL FROM:<\xff@example.org>", "501 5.1.7 "),
        (b"MAIL FROM:<>", "250 "),
    ],
)
async def test_what_upstream_lacks_is_refused_clearly(
    tmp_path: Path, command: bytes, expected: str
) -> None:
    async with (
        smtp_house(tmp_path, offers=("AUTH PLAIN",)) as house,
        house.talk(LOGIN) as talk,
    ):
        assert (await talk.say(command)).startswith(expected)
        if expected == "250 ":
            assert house.upstream.commands[-1] == command.split(b" SIZE")[0].decode()


async def test_8_bit_mail_is_refused_where_upstream_cannot_take_it(tmp_path: Path) -> None:
    async with (
        smtp_house(tmp_path, offers=("AUTH PLAIN",)) as house,
        house.talk(LOGIN) as talk,
    ):
        assert (await talk.send("Subject: ä\r\n\r\n".encode())).startswith("554 5.6.3 ")
        assert (await talk.send()).startswith("250 ")
        assert house.upstream.mails == [MAIL + b".\r\n"]


# --- sizes and numbers ---------------------------------------------------------------------------


async def test_a_mail_that_is_too_large_never_goes_upstream(tmp_path: Path) -> None:
    limits = SubmissionLimits(max_message_size=Octets(1000))
    async with smtp_house(tmp_path, submission=limits) as house, house.talk(LOGIN) as talk:
        assert (await talk.send(MAIL + b"x" * 1000 + b"\r\n")).startswith("552 5.3.4 ")
        assert house.upstream.mails == []
        assert (await talk.send()).startswith("250 ")


async def test_there_is_a_limit_to_recipients(tmp_path: Path) -> None:
    limits = SubmissionLimits(max_recipients=2)
    async with smtp_house(tmp_path, submission=limits) as house, house.talk(LOGIN) as talk:
        await talk.say(b"MAIL FROM:<alice@example.org>")
        answers = [await talk.say(b"RCPT TO:<bob@example.org>") for _ in range(3)]
        assert [answer[:3] for answer in answers] == ["250", "250", "452"]


async def test_a_large_mail_passes_whole(tmp_path: Path) -> None:
    mail = MAIL + b"".join(b".%d " % n + b"x" * 70 + b"\r\n" for n in range(40_000))
    stuffed = mail.replace(b"\r\n.", b"\r\n..")
    async with smtp_house(tmp_path) as house, house.talk(LOGIN) as talk:
        assert (await talk.send(stuffed)).startswith("250 ")
        assert house.upstream.mails == [stuffed + b".\r\n"]
        (copy,) = await house.copies("phone")
        assert copy.endswith(mail)


# --- copies --------------------------------------------------------------------------------------


async def test_a_copy_that_cannot_be_stored_is_no_reason_to_send_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with smtp_house(tmp_path) as house, house.talk(LOGIN) as talk:

        async def full(*_: Any, **__: Any) -> int:
            raise StoreUnavailable("disk full")

        monkeypatch.setattr(house.house.store, "add_own", full)
        assert (await talk.send()).startswith("250 ")
        (missing,) = house.facts.of(SentCopyMissing)
        assert "disk full" in missing.reason


async def test_what_a_crash_has_left_is_told_of_though_the_store_cannot_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with smtp_house(tmp_path) as house:
        store, submissions = house.house.store, house.house.core.submissions
        account = await store.account("alice")
        assert account is not None
        await store.note_sending(account.id, None, "<left@example.org>", at=0.0)

        async def full(_: int) -> None:
            raise StoreUnavailable("disk full")

        with monkeypatch.context() as patch:
            patch.setattr(store, "forget_sending", full)
            await submissions.tell_unfinished()
        for _ in range(2):
            await submissions.tell_unfinished()
        told = [missing.message_id for missing in house.facts.of(SentCopyMissing)]
        assert told == ["<left@example.org>"] * 2


async def test_a_client_that_leaves_while_upstream_decides_has_its_copy_all_the_same(
    tmp_path: Path,
) -> None:
    hold = asyncio.Event()
    async with smtp_house(tmp_path, hold=hold) as house:
        async with house.talk(LOGIN) as talk:
            await talk.say(b"MAIL FROM:<alice@example.org>")
            await talk.say(b"RCPT TO:<bob@example.org>")
            await talk.say(b"DATA")
            talk.writer.write(MAIL + b".\r\n")
            await house.upstream.ended.wait()
        hold.set()
        await house.facts.first(SmtpSessionEnded)
        assert len(await house.copies("phone")) == 1
        assert [type(fact) for fact in house.facts.seen[-2:]] == [SubmissionEnded, SmtpSessionEnded]


async def test_half_a_mail_is_no_mail(tmp_path: Path) -> None:
    async with smtp_house(tmp_path) as house:
        async with house.talk(LOGIN) as talk:
            await talk.say(b"MAIL FROM:<alice@example.org>")
            await talk.say(b"RCPT TO:<bob@example.org>")
            await talk.say(b"DATA")
            talk.writer.write(MAIL)
        await house.facts.first(SmtpSessionEnded)
        assert house.upstream.mails == []
        assert house.facts.of(SubmissionEnded) == []


async def test_two_equal_mails_at_once_are_two(tmp_path: Path) -> None:
    async with (
        smtp_house(tmp_path) as house,
        house.talk(LOGIN) as first,
        house.talk(LOGIN) as second,
    ):
        answers = await asyncio.gather(first.send(), second.send())
        assert [answer[:3] for answer in answers] == ["250", "250"]
        assert house.upstream.mails == [MAIL + b".\r\n"] * 2
        assert len(await house.copies("phone")) == 2
