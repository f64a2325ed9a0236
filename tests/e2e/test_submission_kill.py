"""SIGKILL around the moment at which the SMTP server takes a mail.

What the client was told is sent has been taken exactly once, and what has a copy has been taken. A
kill may cost the copy of a mail that was taken, or the answer; it never makes a promise untrue.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.e2e.rig import Rig
from tests.e2e.sending import copy_of
from tests.e2e.smtp_tap import When
from tests.e2e.submission_stage import ObedientStage, obedient_stage
from tests.e2e.submitter import mail
from tests.e2e.waiting import eventually

pytestmark = pytest.mark.e2e

MOMENTS: list[tuple[str, When]] = [
    ("DATA", "asked"),
    ("DATA", "answered"),
    ("DATA", "passed"),
    ("content", "asked"),
    ("dot", "asked"),
    ("dot", "answered"),
    ("dot", "half"),
    ("dot", "passed"),
]
"""What the tap tells of; the kill comes at once."""

DELAYS = [0.0, 0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.12, 0.5]
"""Seconds between the answer's passing and a kill: the copy is being stored, or the client told."""

SIZES = [0, 100_000, 600_000]
"""The last is more than is held in memory."""


@pytest.fixture
def stage(rig: Rig) -> Iterator[ObedientStage]:
    with obedient_stage(rig) as made:
        yield made


@dataclass
class Ledger:
    """What became of each mail."""

    sent: list[bytes] = field(default_factory=list)
    promised: list[bytes] = field(default_factory=list)
    """The client was told 250."""
    refused: list[bytes] = field(default_factory=list)
    """The client was told anything else."""

    def hand_in(self, stage: ObedientStage, octets: bytes) -> None:
        self.sent.append(octets)
        with stage.laptop() as client:
            try:
                answer = client.send(octets)
            except OSError:
                answer = ""
        if answer.startswith("250 "):
            self.promised.append(octets)
        elif answer:
            self.refused.append(octets)

    def check(self, stage: ObedientStage) -> None:
        """Raises:
        AssertionError
        """
        taken = Counter(octets.removesuffix(b".\r\n") for octets in stage.upstream.mails)
        copies = stage.copies()
        kept = Counter(copies["phone"])
        assert set(taken) <= set(self.sent)
        assert set(taken.values()) <= {1}
        assert set(self.promised) <= set(taken)
        assert set(kept.values()) <= {1}
        assert set(kept) <= {copy_of(octets) for octets in taken}
        assert copies["laptop"] == []
        assert {copy_of(octets) for octets in self.promised} <= set(kept)


def bring_back(stage: ObedientStage) -> None:
    eventually(lambda: not stage.proxy.running, what="the kill")
    stage.proxy.kill()
    stage.tap.no_more_trouble()
    stage.tap.drop()
    stage.proxy.start()


def is_sound(stage: ObedientStage) -> bool:
    """What it holds is what it says it holds, and no file is left of what was not kept."""
    left = list((stage.proxy.folder / "data" / "blobs" / "tmp").glob("[0-9]*"))
    return not left and stage.proxy.cli("verify").returncode == 0


@pytest.mark.parametrize("octets", SIZES)
def test_a_kill_at_each_step_makes_no_promise_untrue(stage: ObedientStage, octets: int) -> None:
    ledger = Ledger()
    for point, when in MOMENTS:
        stage.tap.make_trouble(point, when, stage.proxy.kill_now)
        ledger.hand_in(stage, mail(f"{point}.{when}", octets=octets))
        bring_back(stage)
        ledger.check(stage)
    assert ledger.refused == []
    # The server had answered at the last three; before that, what was on its way may have arrived.
    taken = [octets.removesuffix(b".\r\n") for octets in stage.upstream.mails]
    assert set(ledger.sent[-3:]) <= set(taken)
    assert not set(ledger.sent[:2]) & set(taken)
    assert is_sound(stage)
    ledger.hand_in(stage, mail("after"))
    assert len(ledger.promised) >= 1
    ledger.check(stage)


def test_a_kill_shortly_after_the_answer_makes_no_promise_untrue(stage: ObedientStage) -> None:
    luck = random.Random(6)
    ledger = Ledger()
    for turn, delay in enumerate(DELAYS * 2):
        octets = luck.choice(SIZES)
        stage.tap.make_trouble("dot", "passed", stage.tap.later(delay, stage.proxy.kill_now))
        ledger.hand_in(stage, mail(f"turn.{turn}", octets=octets))
        bring_back(stage)
        ledger.check(stage)
        # Upstream had answered in every case.
        assert len(stage.upstream.mails) == turn + 1
    # Some kills were too late to cost an answer, and some were not.
    assert 0 < len(ledger.promised) < len(DELAYS) * 2
    assert ledger.refused == []
    assert is_sound(stage)


def test_a_kill_while_another_mail_is_taken_costs_that_one_nothing(stage: ObedientStage) -> None:
    """Two clients: one has had its 250 and stays, the other's mail is under way."""
    first, second = mail("first"), mail("second")
    ledger = Ledger([first, second])
    with stage.laptop() as client:
        assert client.send(first).startswith("250 ")
        ledger.promised.append(first)
        stage.tap.make_trouble("dot", "answered", stage.proxy.kill_now)
        with stage.laptop() as other:
            assert other.send(second) == ""
    bring_back(stage)
    ledger.check(stage)
    assert stage.copies()["phone"] == [copy_of(first)]
    assert is_sound(stage)


@pytest.mark.parametrize("when", ["answered", "half", "passed"])
def test_a_copy_that_a_kill_has_cost_is_missed_aloud_at_the_next_start(
    stage: ObedientStage, when: When
) -> None:
    stage.tap.make_trouble("dot", when, stage.proxy.kill_now)
    Ledger().hand_in(stage, mail("missed"))
    bring_back(stage)
    assert len(stage.upstream.mails) == 1
    missing = stage.copies()["phone"] == []
    assert stage.proxy.log().count("event=sent_copy_missing ") == missing
