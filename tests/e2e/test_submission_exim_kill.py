"""SIGKILL around the moment at which the SMTP server takes a mail."""

from __future__ import annotations

import random
import re
import smtplib
import threading
import time

import pytest

from tests.e2e.sending import Sending, copy_of
from tests.e2e.smtp_tap import SmtpTap, When
from tests.e2e.waiting import eventually

pytestmark = pytest.mark.e2e

TURNS = 30
POINTS: tuple[tuple[str, When], ...] = (
    ("DATA", "asked"),
    ("content", "asked"),
    ("dot", "asked"),
    ("dot", "answered"),
    ("dot", "passed"),
)
LATEST = 0.02
"""Seconds behind the point."""


def mail(turn: int) -> bytes:
    header = f"To: bob@example.org\r\nMessage-ID: <turn{turn}@example.org>\r\nSubject: {turn}\r\n"
    return header.encode() + b"\r\nText\r\n"


def arrived(sending: Sending) -> set[bytes]:
    return {each.mail for each in sending.exim.arrived()}


def missing(sending: Sending) -> list[str]:
    """Message-IDs of which the log says that the copy is missing."""
    log = sending.proxy.log_file.read_text()
    return re.findall(r'event=sent_copy_missing .*message_id="?<(.*?)>', log)


@pytest.mark.timeout(240)
def test_what_a_client_was_told_is_sent_is_sent_and_a_missing_copy_is_logged(
    tapped: Sending, smtp_tap: SmtpTap
) -> None:
    luck = random.Random(6)
    told: list[int] = []

    killed = threading.Event()

    def kill() -> None:
        time.sleep(luck.uniform(0, LATEST))
        tapped.proxy.kill_now()
        killed.set()

    for turn in range(TURNS):
        smtp_tap.make_trouble(*POINTS[turn % len(POINTS)], kill)
        try:
            with tapped.session() as session:
                session.sendmail("alice@example.org", ["bob@example.org"], mail(turn))
                told.append(turn)
        except (smtplib.SMTPException, OSError):
            pass
        assert killed.wait(30)
        killed.clear()
        tapped.proxy.kill()
        tapped.proxy.start()
    eventually(lambda: {mail(turn) for turn in told} <= arrived(tapped), what="what was sent")
    taken = arrived(tapped)
    assert len(taken) == len(tapped.exim.arrived()), "sent twice"
    copies = tapped.copies("phone")
    assert len(set(copies)) == len(copies)
    assert set(copies) <= {copy_of(each) for each in taken}
    assert tapped.copies("laptop") == []
    without = {turn for turn in range(TURNS) if copy_of(mail(turn)) not in copies}
    logged = missing(tapped)
    assert {f"turn{turn}@example.org" for turn in without if mail(turn) in taken} <= set(logged)
    assert len(set(logged)) == len(logged), "told twice"
    assert {int(re.sub(r"\D", "", each)) for each in logged} <= without
    # It was worth the trouble: some were killed on either side of the line.
    assert told
    assert logged
    assert copies
    assert tapped.proxy.cli("verify").returncode == 0
