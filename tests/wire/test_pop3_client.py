"""The client machine."""

from __future__ import annotations

import pytest

from proxy.wire.errors import RemoteProtocolError
from proxy.wire.pop3 import REPLY_LINE_LIMIT, Reply
from proxy.wire.pop3_client import BodyEnd, Event, Expect, Part, Pop3Client
from tests.wire.feeding import every_way


def greeted() -> Pop3Client:
    machine = Pop3Client()
    assert machine.receive(b"+OK ready\r\n") == [Reply(ok=True, text="ready")]
    return machine


def merged(events: list[Event]) -> list[Event]:
    """Neighbouring parts as one, since how they are cut depends on the feeding."""
    result: list[Event] = []
    for event in events:
        if isinstance(event, Part) and result and isinstance(result[-1], Part):
            result[-1] = Part(result[-1].data + event.data)
        else:
            result.append(event)
    return result


def test_pipelined_answers_are_matched_in_order_at_any_split() -> None:
    wire = (
        b"+OK 2 100\r\n"
        b"+OK 50 octets\r\nSubject: x\r\n\r\n..dots\r\n.\r\n"
        b"-ERR [SYS/TEMP] not now\r\n"
        b"+OK\r\n.\r\n"
        b"+OK bye\r\n"
    )
    expected = [
        Reply(ok=True, text="2 100"),
        Reply(ok=True, text="50 octets"),
        Part(b"Subject: x\r\n\r\n.dots\r\n"),
        BodyEnd(),
        Reply(ok=False, text="[SYS/TEMP] not now", code="SYS/TEMP"),
        Reply(ok=True, text=""),
        BodyEnd(),
        Reply(ok=True, text="bye"),
    ]
    for pieces in every_way(wire):
        machine = greeted()
        assert machine.send(b"STAT") == b"STAT\r\n"
        for number in (1, 2, 3):
            machine.send(b"RETR %d" % number, Expect.BODY)
        machine.send(b"QUIT")
        events = [event for piece in pieces for event in machine.receive(piece)]
        assert merged(events) == expected


def test_an_answer_nobody_asked_for_is_the_peers_fault() -> None:
    machine = greeted()
    assert machine.receive(b"+OK surprise\r\n") == []
    assert machine.broken is not None


@pytest.mark.parametrize("line", [b"HTTP/1.1 200 OK\r\n", b"\r\n", b"+\xff\r\n", b"x" * 10 + b"\n"])
def test_a_line_that_is_no_status_line_is_the_peers_fault(line: bytes) -> None:
    machine = greeted()
    machine.send(b"NOOP")
    assert machine.receive(line) == []
    assert machine.broken is not None


def test_events_in_front_of_a_breach_are_given_out_and_nothing_behind_it() -> None:
    machine = greeted()
    machine.send(b"NOOP")
    machine.send(b"NOOP")
    assert machine.receive(b"+OK\r\nrubbish\r\n+OK\r\n") == [Reply(ok=True, text="")]
    assert machine.broken is not None
    assert machine.receive(b"+OK\r\n") == []


def test_a_status_line_without_end_is_the_peers_fault_and_takes_no_memory() -> None:
    machine = greeted()
    machine.send(b"NOOP")
    machine.receive(b"+OK " + b"x" * REPLY_LINE_LIMIT)
    machine.receive(b"x" * REPLY_LINE_LIMIT + b"\r\n")
    assert machine.broken is not None


def test_bare_line_feeds_inside_a_mail_become_crlf_and_do_not_end_it() -> None:
    machine = greeted()
    machine.send(b"RETR 1", Expect.BODY)
    events = merged(machine.receive(b"+OK\r\na\n.\nb\r\n.\r\n"))
    assert events[1:] == [Part(b"a\r\n.\r\nb\r\n"), BodyEnd()]


def test_a_server_that_greets_with_a_bare_line_feed_ends_every_line_so() -> None:
    wire = b"+OK ready\n+OK\na\n..b\n.\n+OK bye\n"
    for pieces in every_way(wire):
        machine = Pop3Client()
        events: list[Event] = []
        sent = False
        for piece in pieces:
            if not sent:
                # Registered before the answers are parsed, as a pipelining client would.
                machine.send(b"RETR 1", Expect.BODY)
                machine.send(b"QUIT")
                sent = True
            events += machine.receive(piece)
        assert merged(events) == [
            Reply(ok=True, text="ready"),
            Reply(ok=True, text=""),
            Part(b"a\r\n.b\r\n"),
            BodyEnd(),
            Reply(ok=True, text="bye"),
        ]


def test_octets_behind_the_answer_to_stls_are_an_attack() -> None:
    machine = greeted()
    machine.send(b"STLS")
    assert len(machine.receive(b"+OK begin TLS\r\n+OK injected\r\n")) == 1
    with pytest.raises(RemoteProtocolError):
        machine.tls_started()
    machine = greeted()
    machine.send(b"STLS")
    machine.receive(b"+OK begin TLS\r\n+O")
    with pytest.raises(RemoteProtocolError):
        machine.tls_started()


@pytest.mark.parametrize("line", [b"USER a\r\nDELE 1", b"PASS a\nb", b"USER a\0"])
def test_a_command_cannot_smuggle_another(line: bytes) -> None:
    with pytest.raises(ValueError, match="cannot hold"):
        greeted().send(line)


def test_a_sasl_challenge_is_a_reply_of_its_own_kind() -> None:
    machine = greeted()
    machine.send(b"AUTH PLAIN", Expect.STEP)
    assert machine.receive(b"+ \r\n") == [Reply(ok=True, text="", challenge=True)]
    assert greeted_with(b"AUTH PLAIN").receive(b"+\r\n") == [
        Reply(ok=True, text="", challenge=True)
    ]


def greeted_with(command: bytes) -> Pop3Client:
    machine = greeted()
    machine.send(command, Expect.STEP)
    return machine


@pytest.mark.parametrize("command", [b"USER a", b"PASS b", b"STAT", b"QUIT"])
def test_a_challenge_answers_nothing_else(command: bytes) -> None:
    machine = greeted()
    machine.send(command)
    assert machine.receive(b"+ \r\n") == []
    assert machine.broken is not None
