"""The SMTP server in trouble: the client is told the truth, and copies are of sent mail alone."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.rig import Rig
from tests.e2e.sending import copy_of
from tests.e2e.smtp_tap import When
from tests.e2e.submission_stage import NO_COPIES, ObedientStage, obedient_stage
from tests.e2e.submitter import MAIL, Submitter, mail

pytestmark = pytest.mark.e2e

LOST = "451 4.4.1 the SMTP server does not answer, try again later"
UNSURE = "451 4.4.2 the connection to the SMTP server was lost before it answered: it may have"


@pytest.fixture
def stage(rig: Rig) -> Iterator[ObedientStage]:
    with obedient_stage(rig) as made:
        yield made


def sends_again(stage: ObedientStage, client: Submitter) -> None:
    """All is well, in the same session of the client."""
    again = mail("again")
    assert client.send(again).startswith("250 ")
    assert stage.upstream.mails[-1] == again + b".\r\n"
    assert stage.copies()["phone"][-1] == copy_of(again)


EARLY = [
    ("connect", "asked"),
    ("greeting", "answered"),
    ("greeting", "half"),
    ("greeting", "passed"),
    ("EHLO", "asked"),
    ("EHLO", "half"),
    ("AUTH", "asked"),
    ("AUTH", "half"),
    ("MAIL", "asked"),
    ("MAIL", "half"),
    ("RCPT", "asked"),
    ("RCPT", "half"),
    ("DATA", "asked"),
    ("DATA", "half"),
    ("DATA", "passed"),
    ("content", "asked"),
    ("dot", "asked"),
]
"""Where what is cut off is certainly not taken."""


@pytest.mark.parametrize(("point", "when"), EARLY)
def test_a_cut_before_the_end_of_the_content_is_a_mail_that_was_not_sent(
    stage: ObedientStage, point: str, when: When
) -> None:
    trouble = stage.tap.make_trouble(point, when, always=True)
    with stage.laptop() as client:
        answer = client.send(mail("cut", octets=100_000))
        assert answer[:4] == "451 "
        trouble.wait()
        assert stage.upstream.mails == []
        assert stage.copies() == NO_COPIES
        stage.tap.no_more_trouble()
        client.say(b"RSET")
        sends_again(stage, client)
    assert len(stage.upstream.mails) == 1


@pytest.mark.parametrize(("point", "when"), [("dot", "answered"), ("dot", "half")])
def test_a_cut_after_the_end_of_the_content_is_a_mail_that_nobody_knows_of(
    stage: ObedientStage, point: str, when: When
) -> None:
    stage.tap.make_trouble(point, when)
    with stage.laptop() as client:
        assert client.send().startswith(UNSURE)
        assert stage.upstream.mails == [MAIL + b".\r\n"]
        assert stage.copies() == NO_COPIES
        sends_again(stage, client)


def test_a_cut_after_the_answer_harms_nobody(stage: ObedientStage) -> None:
    stage.tap.make_trouble("dot", "passed")
    with stage.laptop() as client:
        assert client.send() == "250 2.0.0 taken as 4711"
        assert stage.copies() == {"laptop": [], "phone": [copy_of(MAIL)]}
        sends_again(stage, client)


@pytest.mark.parametrize("point", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("when", ["asked", "answered", "half", "passed"])
def test_a_session_that_breaks_once_before_the_content_is_made_anew(
    stage: ObedientStage, point: str, when: When
) -> None:
    """But for the first command of all, behind which there may be trouble with the server."""
    with stage.laptop() as client:
        assert client.send(mail("first")).startswith("250 ")
        stage.tap.make_trouble(point, when)
        answer = client.send()
        if (point, when) == ("DATA", "passed"):
            assert answer[:4] == "451 "
            assert len(stage.upstream.mails) == 1
            return
        assert answer == "250 2.0.0 taken as 4711"
        assert stage.upstream.mails[1:] == [MAIL + b".\r\n"]
        assert stage.copies()["phone"] == [copy_of(mail("first")), copy_of(MAIL)]


@pytest.mark.parametrize(
    ("point", "when"),
    [
        ("connect", "asked"),
        ("AUTH", "answered"),
        ("MAIL", "asked"),
        ("RCPT", "answered"),
        ("DATA", "asked"),
        ("content", "asked"),
        ("dot", "answered"),
    ],
)
def test_a_client_that_hangs_up_while_upstream_stalls_has_sent_what_came_whole(
    stage: ObedientStage, point: str, when: When
) -> None:
    trouble = stage.tap.make_trouble(point, when, "stall")
    whole = point in ("content", "dot")
    with stage.laptop() as client:
        lines = [b"MAIL FROM:<alice@example.org>", b"RCPT TO:<bob@example.org>", b"DATA"]
        lines += [MAIL + b"."] if whole else []
        client.write(b"".join(line + b"\r\n" for line in lines))
        trouble.wait()
        client.hang_up()
    stage.tap.go_on()
    stage.logged("smtp_session_ended")
    assert stage.upstream.mails == [MAIL + b".\r\n"] * whole
    assert stage.copies()["phone"] == [copy_of(MAIL)] * whole


@pytest.mark.parametrize("octets", [0, 20, 1_000_000])
def test_a_client_that_hangs_up_within_the_content_has_sent_nothing(
    stage: ObedientStage, octets: int
) -> None:
    with stage.laptop() as client:
        client.begin()
        assert client.say(b"DATA").startswith("354 ")
        client.write(mail("half", octets=octets)[:-2] if octets else b"")
        client.hang_up()
    stage.logged("smtp_session_ended")
    assert stage.upstream.mails == []
    assert stage.copies() == NO_COPIES
    assert not list((stage.proxy.folder / "data" / "blobs" / "tmp").glob("[0-9]*"))


def test_a_client_that_leaves_right_after_the_dot_has_sent_its_mail(stage: ObedientStage) -> None:
    large = mail("large", octets=1_000_000)
    with stage.laptop() as client:
        client.begin()
        assert client.say(b"DATA").startswith("354 ")
        client.write(large + b".\r\n")
        client.socket.close()
    stage.logged("smtp_session_ended")
    assert stage.upstream.mails == [large + b".\r\n"]
    assert stage.copies()["phone"] == [copy_of(large)]


@contextmanager
def stopping_within_a_mail(stage: ObedientStage) -> Iterator[Submitter]:
    """Upstream stalls over a client's whole mail when the proxy is told to stop."""
    trouble = stage.tap.make_trouble("dot", "answered", "stall")
    with stage.laptop() as client, stage.laptop() as idle:
        client.begin()
        client.say(b"DATA")
        client.write(MAIL + b".\r\n")
        trouble.wait()
        stage.proxy.send(signal.SIGTERM)
        assert idle.answer().startswith("421 4.3.2 ")
        yield client


def test_a_stop_waits_for_the_mail_that_is_handed_on(stage: ObedientStage) -> None:
    with stopping_within_a_mail(stage) as client:
        assert stage.proxy.running
        stage.tap.go_on()
        assert client.answer() == "250 2.0.0 taken as 4711"
        assert client.answer().startswith("421 4.3.2 ")
        assert client.answer() == ""
    stage.proxy.restart()
    assert stage.copies() == {"laptop": [], "phone": [copy_of(MAIL)]}


def test_a_second_stop_waits_for_no_mail_and_promises_nothing(stage: ObedientStage) -> None:
    with stopping_within_a_mail(stage) as client:
        stage.proxy.stop()
        answer = client.answer()
        assert not answer or answer.startswith(UNSURE)
    stage.tap.drop()
    stage.proxy.start()
    assert stage.copies() == NO_COPIES


def test_upstream_is_gone_and_comes_back(stage: ObedientStage) -> None:
    with stage.laptop() as client:
        stage.tap.refuse()
        assert client.send().startswith(LOST)
        stage.tap.accept()
        sends_again(stage, client)


def test_a_mail_that_the_disk_cannot_hold_is_not_sent(stage: ObedientStage) -> None:
    with stage.laptop() as client:
        stage.proxy.limit_files(150_000)
        assert client.send(mail("large", octets=1_000_000)).startswith("452 4.3.1 ")
        assert stage.upstream.mails == []
        stage.proxy.limit_files()
        assert stage.copies() == NO_COPIES
        sends_again(stage, client)


def test_a_copy_that_the_disk_cannot_hold_is_missed_aloud(stage: ObedientStage) -> None:
    """The mail was held in memory alone, and is sent."""
    large = mail("large", octets=200_000)
    with stage.laptop() as client:
        # Once it is on its way: what cannot even be noted is not sent.
        stage.tap.make_trouble("dot", "answered", lambda: stage.proxy.limit_files(150_000))
        assert client.send(large) == "250 2.0.0 taken as 4711"
        stage.proxy.limit_files()
        assert stage.upstream.mails == [large + b".\r\n"]
        stage.logged("sent_copy_missing")
        assert stage.copies() == NO_COPIES
        sends_again(stage, client)
    assert stage.proxy.cli("verify").returncode == 0
