"""What the SMTP server says, from plain refusals to lies, and what the client hears of it."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

import pytest

from tests.e2e.rig import Rig
from tests.e2e.sending import copy_of
from tests.e2e.submission_stage import NO_COPIES, SECRET, ObedientStage, obedient_stage
from tests.e2e.submitter import MAIL, mail

pytestmark = pytest.mark.e2e

UNSURE = "it may have taken the mail"

REPLY = re.compile(r"(?:\d{3}-[245]\.\d+\.\d+ .*\n)*\d{3} [245]\.\d+\.\d+ .*")


@pytest.fixture
def stage(rig: Rig) -> Iterator[ObedientStage]:
    with obedient_stage(rig) as made:
        yield made


def decent(answer: str) -> bool:
    """Whether it is one reply by the book, without anything that is not text."""
    codes = {line[:3] for line in answer.split("\n")}
    return (
        REPLY.fullmatch(answer) is not None
        and len(codes) == 1
        and not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", answer)
        and all(len(line.encode("utf-8", "replace")) <= 510 for line in answer.split("\n"))
    )


POINTS = {"MAIL": "MAIL", "RCPT": "RCPT", "DATA": "DATA", "dot": "."}

REFUSALS = [
    "450 4.2.1 come back later",
    "550 5.7.1 not from you, (really) <not>: 100%",
    "554-5.7.1 first\n554-5.7.1 and\n554 5.7.1 last",
    "451 4.7.1 gräylisted",
]


@pytest.mark.parametrize("point", POINTS)
def test_a_refusal_is_passed_on_word_for_word(stage: ObedientStage, point: str) -> None:
    with stage.laptop() as client:
        for refusal in REFUSALS:
            stage.upstream.answers[POINTS[point]] = refusal.replace("\n", "\r\n")
            assert client.send() == refusal
            client.say(b"RSET")
        assert stage.upstream.mails == []
        assert stage.copies() == NO_COPIES
        stage.upstream.answers.clear()
        assert client.send().startswith("250 ")
    assert stage.tap.connections == 1


@pytest.mark.parametrize("point", [*POINTS, "", "EHLO", "AUTH"])
def test_a_server_that_shuts_down_is_busy_and_the_mail_not_sent(
    stage: ObedientStage, point: str
) -> None:
    stage.upstream.answers[POINTS.get(point, point)] = "421 4.3.2 going down"
    with stage.laptop() as client:
        answer = client.send()
        if point in POINTS:
            assert answer == "421 4.3.2 going down"
            assert client.answer() == ""
        else:
            assert answer.startswith("451 4.7.0 ")
    assert stage.upstream.mails == []
    assert stage.copies() == NO_COPIES
    stage.upstream.answers.clear()
    with stage.laptop() as client:
        assert client.send().startswith("250 ")


SECRETS = [SECRET.encode(), base64.b64encode(SECRET.encode())]

GARBAGE = [
    b"\r\n",
    b"hello\r\n",
    b"25\r\n",
    b"000 zero\r\n",
    b"-25 minus\r\n",
    b"999 beyond\r\n",
    b"150 preliminary\r\n",
    b"354 go on\r\n",
    b"\0\0\0\0\r\n",
    b"\xff\xfe\xfd\r\n",
    b"250-never ending\r\nhello\r\n",
    b"250" * 20_000,
    b"250-more\r\n" * 10_000,
    SECRETS[0] + b"\r\n",
    b"what is " + SECRETS[1] + b"?\r\n",
]


@pytest.mark.parametrize("point", ["greeting", "EHLO", "AUTH", *POINTS])
def test_an_answer_that_makes_no_sense_is_no_promise(stage: ObedientStage, point: str) -> None:
    for garbage in GARBAGE:
        if point == "DATA" and garbage.startswith(b"354"):
            continue
        stage.tap.make_trouble(point, "answered", garbage, always=True)
        # Another one would be tried in the place of a session that was used before.
        stage.tap.drop()
        with stage.laptop() as client:
            answer = client.send()
            assert decent(answer), garbage
            assert answer[:4] == "451 ", garbage
            assert (UNSURE in answer) == (point == "dot"), garbage
            assert_no_secret(answer)
            stage.tap.no_more_trouble()
            client.say(b"RSET")
            assert client.send(mail("after")).startswith("250 "), garbage
    assert set(stage.copies()["phone"]) == {copy_of(mail("after"))}
    assert_no_secret(stage.proxy.log())
    assert "Traceback" not in stage.proxy.log()


def assert_no_secret(text: str) -> None:
    assert not [secret for secret in SECRETS if secret.decode() in text]


TRICKS = [
    b"550 5.7.1 a\r250 ok\r\n",
    b"550-5.7.1 a\r\n550 5.7.1 b\r\r\n",
    b"550 5.7.1 \x1b[2J\x07bell\0\r\n",
    b"550 5.7.1 \xff\xfe\xed\xa0\x80\r\n",
    b"550 5.7.1 \xc2\x85\xc2\x9b\xe2\x80\xa8250 ok\r\n",
    b"550 5.7.1 event=forged account=eve\tx\r\n",
    b"550 5.7.1 " + b"long " * 1000 + b"\r\n",
    b"550-5.7.1 many\r\n" * 500 + b"550 5.7.1 lines\r\n",
    b"550 5.7.1 " + b" ".join(SECRETS) + b"\r\n",
    b"550\r\n",
    b"550-5.7.1 no\n550 5.7.1 bare line feeds\n",
]


@pytest.mark.parametrize("point", ["MAIL", "RCPT", "dot"])
def test_a_refusal_with_tricks_in_it_is_a_decent_refusal(stage: ObedientStage, point: str) -> None:
    for trick in TRICKS:
        stage.tap.make_trouble(point, "answered", trick)
        with stage.laptop() as client:
            answer = client.send()
            assert decent(answer), trick
            assert answer.startswith("550"), trick
            assert_no_secret(answer)
            assert client.say(b"NOOP") == "250 2.0.0 nothing done"
        if point != "dot":
            continue
        stage.proxy.cli_json("status")
        status = stage.proxy.cli("status")
        assert status.returncode == 0, status.stderr
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", status.stdout), trick
    assert stage.copies() == NO_COPIES
    stage.logged("smtp_session_ended", len(TRICKS))
    assert_no_secret(stage.proxy.log())
    for line in stage.proxy.log().splitlines():
        assert line.startswith("timestamp="), line


@pytest.mark.parametrize(
    ("point", "answer"),
    [
        ("MAIL", b"250 2.1.0 fine\r\n250 2.1.5 injected\r\n"),
        ("RCPT", b"250 2.1.5 fine\r\n354 injected\r\n250 2.0.0 injected\r\n"),
        ("DATA", b"354 go on\r\n250 2.0.0 injected\r\n"),
        ("DATA", b"354 go on\r\n250"),
        ("EHLO", b"250 AUTH PLAIN\r\n235 2.7.0 injected\r\n"),
        ("AUTH", b"235 2.7.0 in\r\n250 2.1.0 injected\r\n"),
    ],
)
def test_answers_that_nobody_has_asked_for_are_not_those_to_later_commands(
    stage: ObedientStage, point: str, answer: bytes
) -> None:
    """The server refuses the recipient, or the mail; what stands behind an earlier answer does not
    make that a promise."""
    stage.upstream.answers["RCPT TO:<nobody@"] = "550 5.1.1 nobody here"
    stage.upstream.answers["."] = "554 5.7.1 spam"
    stage.tap.make_trouble(point, "answered", answer)
    with stage.laptop() as client:
        said = client.say(b"MAIL FROM:<alice@example.org>")
        if said.startswith("250 "):
            client.say(b"RCPT TO:<bob@example.org>")
            assert not client.say(b"RCPT TO:<nobody@example.org>").startswith("250 ")
            if client.say(b"DATA").startswith("354 "):
                assert client.say(MAIL + b".")[:1] in ("4", "5")
    assert stage.upstream.mails == []
    assert stage.copies() == NO_COPIES


LARGE = mail("large", octets=20_000_000)
"""So large that it is not on its way before an early answer is there."""


@pytest.mark.parametrize("then", ["listens", "ends", "cuts"])
@pytest.mark.parametrize(
    ("early", "heard"),
    [
        (b"552 5.3.4 too large\r\n", "552 5.3.4 too large"),
        (b"421 4.3.2 going down\r\n", "421 4.3.2 going down"),
        (b"250 2.0.0 taken\r\n", "451 4.5.0 "),
        (b"hello\r\n", "451 4.4.1 "),
    ],
)
def test_an_answer_before_the_whole_content_is_a_refusal_or_nothing(
    stage: ObedientStage, early: bytes, heard: str, then: str
) -> None:
    stage.tap.make_trouble("content", "asked", early)
    if then != "listens":
        stage.tap.make_trouble("content", "passed", "end" if then == "ends" else "cut")
    with stage.laptop() as client:
        answer = client.send(LARGE)
        # What a connection brought before it was reset may be lost.
        assert answer.startswith(heard) or (then == "cuts" and answer.startswith("451 4.4.1 "))
    assert stage.copies() == NO_COPIES
    assert len(stage.tap.contents[0]) < len(LARGE)
    with stage.laptop() as client:
        assert client.send().startswith("250 ")
    assert stage.copies()["phone"] == [copy_of(MAIL)]
