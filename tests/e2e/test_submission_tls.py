"""TLS between the proxy and the SMTP server that is promised, refused, forged or injected into."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.proxy import Table
from tests.e2e.rig import Rig
from tests.e2e.sending import copy_of
from tests.e2e.smtp_tap import SmtpTap, When
from tests.e2e.submission_stage import NO_COPIES, Stage
from tests.e2e.submitter import MAIL
from tests.smtp_sink import PASSWORD, USER, Sink, sink

pytestmark = pytest.mark.e2e


@contextmanager
def tls_stage(rig: Rig, server: Sink, **smtp: object) -> Iterator[Stage]:
    table: Table = {
        "tls": "starttls",
        "username": USER,
        "ca_file": str(rig.certificates.ca_file),
        **smtp,
    }
    with SmtpTap("127.0.0.1", server.port) as tap:
        yield Stage(rig, tap, PASSWORD, smtp=table)


@pytest.fixture
def server(rig: Rig) -> Iterator[Sink]:
    with sink(rig.certificates, "starttls") as made:
        yield made


@pytest.fixture
def stage(rig: Rig, server: Sink) -> Iterator[Stage]:
    with tls_stage(rig, server) as made:
        yield made


def sends(stage: Stage) -> str:
    with stage.laptop() as client:
        return client.send()


def test_a_mail_goes_through_starttls(stage: Stage, server: Sink) -> None:
    """The tap, and whoever else is on the way, sees nothing beyond it."""
    assert sends(stage) == "250 2.0.0 taken"
    assert stage.tap.commands == ["EHLO [127.0.0.1]", "STARTTLS"]
    assert [envelope.content for envelope in server.envelopes] == [MAIL]
    assert stage.copies() == {"laptop": [], "phone": [copy_of(MAIL)]}


STRIPPED = b"250-test\r\n250-8BITMIME\r\n250 AUTH PLAIN LOGIN\r\n"


@pytest.mark.parametrize(
    ("point", "when", "answer", "heard"),
    [
        ("EHLO", "answered", STRIPPED, "554 5.3.5 "),
        ("STARTTLS", "asked", b"454 4.7.0 not now\r\n", "451 4.7.0 "),
        ("STARTTLS", "asked", b"502 5.5.1 what\r\n", "554 5.3.5 "),
        ("STARTTLS", "asked", b"250 2.0.0 no need\r\n", "451 4.4.1 "),
        ("STARTTLS", "asked", b"220 2.0.0 go\r\n", "451 4.4.1 "),
        ("STARTTLS", "asked", b"220 2.0.0 go\r\n250-x\r\n250 AUTH PLAIN\r\n", "451 4.4.1 "),
    ],
    ids=["stripped", "later", "never", "no need", "in clear", "in clear, injected"],
)
def test_no_login_and_no_mail_goes_where_starttls_is_not(
    stage: Stage, server: Sink, point: str, when: When, answer: bytes, heard: str
) -> None:
    stage.tap.make_trouble(point, when, answer, always=True)
    assert sends(stage).startswith(heard)
    assert {command.split()[0] for command in stage.tap.commands} <= {"EHLO", "STARTTLS"}
    assert server.envelopes == []
    assert stage.copies() == NO_COPIES


@pytest.mark.parametrize(
    ("point", "when"),
    [
        ("EHLO", "passed"),
        ("STARTTLS", "asked"),
        ("STARTTLS", "half"),
        ("STARTTLS", "passed"),
    ],
)
def test_a_cut_at_starttls_is_a_mail_that_was_not_sent(
    stage: Stage, server: Sink, point: str, when: When
) -> None:
    stage.tap.make_trouble(point, when)
    assert sends(stage).startswith("451 4.4.1 ")
    assert server.envelopes == []
    assert stage.copies() == NO_COPIES
    assert sends(stage).startswith("250 ")


INJECTED = b"220 2.0.0 go\r\n250-x\r\n250 AUTH PLAIN LOGIN\r\n235 in\r\n250 fine\r\n354 go on\r\n"


@pytest.mark.parametrize("refused", [False, True])
def test_answers_injected_in_clear_behind_starttls_are_answers_to_nothing(
    stage: Stage, server: Sink, *, refused: bool
) -> None:
    server.refusal = "554 5.7.1 spam" if refused else ""
    stage.tap.make_trouble("STARTTLS", "answered", INJECTED)
    answer = sends(stage)
    assert answer == ("554 5.7.1 spam" if refused else "250 2.0.0 taken")
    assert len(server.envelopes) == (not refused)
    assert len(stage.copies()["phone"]) == (not refused)


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_a_server_whose_certificate_does_not_verify_learns_nothing(rig: Rig, tls: str) -> None:
    with sink(rig.certificates, "implicit" if tls == "implicit" else "starttls") as server:
        where = {"port": server.port} if tls == "implicit" else {}
        with tls_stage(rig, server, tls=tls, ca_file="", **where) as stage:
            answer = sends(stage)
            assert answer.startswith("451 4.4.1 ")
            assert "the certificate does not verify" in answer
            assert server.envelopes == []
            assert stage.copies() == NO_COPIES
