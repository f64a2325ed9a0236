"""SMTP smuggling: whatever stands in a mail, it is one mail upstream, or none."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.rig import Rig
from tests.e2e.sending import copy_of
from tests.e2e.submission_stage import ObedientStage, obedient_stage
from tests.e2e.submitter import MAIL, Submitter, mail

pytestmark = pytest.mark.e2e

Write = Callable[[Submitter, bytes], None]

SMUGGLED = (
    b"MAIL FROM:<eve@example.org>\r\nRCPT TO:<victim@example.org>\r\nDATA\r\n"
    b"Subject: smuggled\r\n\r\nSent by nobody\r\n"
)

NEUTRAL = [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\n\n.\n\n", b"\n..\n", b"\r\n..\r\n", b"\n.\n.\n"]
"""Line ends that are made what they were meant as, with the dot that they hold made harmless."""

REFUSED = [
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\r",
    b"\n.\r",
    b"\r.\n",
    b"\r\r\n.\r\r\n",
    b"\r\n.\r\r\n",
    b"\r\r.\r\r",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\n\0.\0\r\n",
    b"\r\0\n.\r\0\n",
    b"\r\n.\r\0\n",
    b"\0\n.\n",
    b"\n\0.\n",
]


@pytest.fixture
def stage(rig: Rig) -> Iterator[ObedientStage]:
    with obedient_stage(rig) as made:
        yield made


def all_at_once(client: Submitter, octets: bytes) -> None:
    client.write(octets)


def octet_by_octet(client: Submitter, octets: bytes) -> None:
    """A packet for each, as far as the network lets us."""
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for octet in octets:
        client.write(bytes([octet]))


def is_whole(wire: bytes) -> bool:
    """Whether this has an end, even to a server for which CR, LF or NUL alone, or any of them
    together, ends a line.

    Raises:
        AssertionError: it has one that is not its own.
    """
    assert re.search(rb"(?<!\r)\n|\r(?!\n)|\0", wire) is None
    lines = re.split(rb"[\r\n\0]+", wire)
    whole = wire.endswith(b"\r\n.\r\n")
    assert [number for number, line in enumerate(lines) if line == b"."] == [len(lines) - 2] * whole
    return whole


@pytest.mark.parametrize("write", [all_at_once, octet_by_octet])
def test_a_mail_with_an_end_within_is_one_mail_or_none(stage: ObedientStage, write: Write) -> None:
    sent: list[bytes] = []
    with stage.laptop() as client:
        for end in [*NEUTRAL, *REFUSED]:
            content = mail(end.hex()) + b"line" + end + SMUGGLED
            client.begin()
            assert client.say(b"DATA").startswith("354 ")
            write(client, content + b".\r\n")
            answer = client.answer()
            if end in NEUTRAL:
                assert answer == "250 2.0.0 taken as 4711", end
                plain = content.replace(b"\r\n.", b"\r\n").replace(b"\r\n", b"\n")
                sent.append(plain.replace(b"\n", b"\r\n"))
            else:
                assert answer.startswith("554 5.6.0 "), end
            # The next answer is to the next command: nothing of the mail was taken for one.
            assert client.say(b"NOOP") == "250 2.0.0 nothing done", end
            assert len(stage.upstream.mails) == len(sent), end
    # Of those that were refused, there may be a beginning.
    wires = [bytes(wire) for wire in stage.tap.contents]
    assert [wire for wire in wires if is_whole(wire)] == stage.upstream.mails
    assert [wire.replace(b"\r\n.", b"\r\n") for wire in stage.upstream.mails] == [
        content + b"\r\n" for content in sent
    ]
    assert stage.copies()["phone"] == [copy_of(content) for content in sent]
    assert not any("eve" in command or "victim" in command for command in stage.tap.commands)
    assert not any("eve" in command or "victim" in command for command in stage.upstream.commands)


@pytest.mark.parametrize("cut", range(1, 6))
def test_the_real_end_may_come_in_two_packets(stage: ObedientStage, cut: int) -> None:
    end = b"\r\n.\r\nNOOP\r\n"
    with stage.laptop() as client:
        client.begin()
        assert client.say(b"DATA").startswith("354 ")
        client.write(MAIL[:-2] + end[:cut])
        # Until the proxy has taken the first part, which nothing else tells.
        with stage.laptop() as other:
            assert other.say(b"NOOP").startswith("250 ")
        client.write(end[cut:])
        assert client.answer() == "250 2.0.0 taken as 4711"
        assert client.answer() == "250 2.0.0 nothing done"
    assert stage.upstream.mails == [MAIL + b".\r\n"]


def test_mails_that_are_pipelined_whole_are_as_many(stage: ObedientStage) -> None:
    """Content behind DATA in the same packet is content, and commands behind it are commands."""
    one = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"
    first, second = mail("first"), mail("second")
    with stage.laptop() as client:
        client.write(one + first + b".\r\n" + one + second + b".\r\nQUIT\r\n")
        answers = [client.answer()[:3] for _ in range(9)]
        assert answers == ["250", "250", "354", "250"] * 2 + ["221"]
    assert stage.upstream.mails == [first + b".\r\n", second + b".\r\n"]


def test_a_pipelined_mail_whose_recipient_is_refused_is_no_mail(stage: ObedientStage) -> None:
    stage.upstream.answers["RCPT"] = "550 5.1.1 nobody here"
    one = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"
    with stage.laptop() as client:
        client.write(one + MAIL + b".\r\nQUIT\r\n")
        answers = []
        while answer := client.answer():
            answers.append(answer[:3])
        assert answers[:3] == ["250", "550", "554"]
        assert set(answers[3:-1]) == {"500"}
        assert answers[-1] == "221"
    assert "DATA" not in stage.tap.commands
    assert stage.upstream.mails == []


@pytest.mark.parametrize("command", [b"BDAT 20 LAST", b"BDAT 0 LAST", b"BURL imap://x LAST"])
def test_there_is_no_other_way_to_bring_content(stage: ObedientStage, command: bytes) -> None:
    with stage.laptop() as client:
        assert "CHUNKING" not in client.say(b"EHLO client")
        client.begin()
        assert client.say(command).startswith("500 5.5.2 ")
    assert stage.upstream.mails == []
    assert not any(each.startswith("B") for each in stage.tap.commands)
