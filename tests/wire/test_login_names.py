"""A login name is the same whatever way it comes: by each command, mechanism and protocol."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.line_server import LineServer
from proxy.wire.pop3_events import CertificateLogin, PasswordLogin, ScramStart
from proxy.wire.pop3_server import Offer, Pop3Server
from proxy.wire.smtp_events import Hello
from proxy.wire.smtp_server import SmtpOffer, SmtpServer

Make = Callable[[], LineServer[Any]]

PASSWORD = b"right"

BLANKS = " \t\u00a0\u3000"


def pop3() -> Pop3Server:
    machine = Pop3Server(Offer(stls=False, plaintext_login=True, implementation="proxy/1"))
    machine.tls_started(certificate=True)
    return machine


def smtp() -> SmtpServer:
    machine = SmtpServer(SmtpOffer(starttls=False, plaintext_login=True, max_message_size=1000))
    machine.tls_started(certificate=True)
    machine.receive(b"EHLO there\r\n")
    assert isinstance(machine.next_event(), Hello)
    machine.hello()
    return machine


def ways(name: bytes) -> Iterator[tuple[Make, list[bytes]]]:
    """What a client sends, line by line."""
    encoded = base64.b64encode
    plain = encoded(b"\0" + name + b"\0" + PASSWORD)
    acting = encoded(name + b"\0" + name + b"\0" + PASSWORD)
    saslname = name.replace(b"=", b"=3D").replace(b",", b"=2C")
    scram = encoded(b"n,,n=" + saslname + b",r=rOprNGfwEbeRWgbNEkqO")
    yield pop3, [b"USER " + name, b"PASS " + PASSWORD]
    both: tuple[Make, ...] = (pop3, smtp)
    for machine in both:
        yield machine, [b"AUTH PLAIN " + plain]
        yield machine, [b"AUTH PLAIN", plain]
        yield machine, [b"AUTH PLAIN", acting]
        yield machine, [b"AUTH LOGIN", encoded(name), encoded(PASSWORD)]
        yield machine, [b"AUTH LOGIN " + encoded(name), encoded(PASSWORD)]
        yield machine, [b"AUTH SCRAM-SHA-256 " + scram]
        yield machine, [b"AUTH SCRAM-SHA-256", scram]
        yield machine, [b"AUTH EXTERNAL " + encoded(name)]


def names_read(name: str) -> set[str]:
    found = set()
    for make, lines in ways(name.encode()):
        machine = make()
        machine.data_to_send()
        machine.receive(b"".join(line + b"\r\n" for line in lines))
        event = machine.next_event()
        assert isinstance(event, PasswordLogin | ScramStart | CertificateLogin), lines
        found.add(event.username)
    return found


@given(
    st.text(st.sampled_from(BLANKS), max_size=3),
    st.text(
        st.characters(categories=["L", "M", "N", "P", "S"], exclude_characters="\u0340\u0341"),
        min_size=1,
        max_size=30,
    ),
    st.text(st.sampled_from(BLANKS), max_size=3),
)
def test_all_ways_read_the_same_name_without_its_outer_blanks(
    before: str, name: str, after: str
) -> None:
    assert names_read(before + name + after) == {name}


@pytest.mark.parametrize("name", ["alice+my laptop", "Bu\u0308ro", "\uff21lice", "a,=2C"])
def test_nothing_else_of_it_is_changed(name: str) -> None:
    assert names_read(name) == {name}


@pytest.mark.parametrize("make", [pop3, smtp])
@pytest.mark.parametrize("lines", [[b"AUTH PLAIN AGFsaWNlAA=="], [b"AUTH LOGIN YWxpY2U=", b""]])
def test_an_empty_password_is_no_login(make: Make, lines: list[bytes]) -> None:
    machine = make()
    machine.receive(b"".join(line + b"\r\n" for line in lines))
    assert machine.next_event() is None
    assert b"the password is empty" in machine.data_to_send()


def test_nor_is_it_behind_pass() -> None:
    machine = pop3()
    machine.receive(b"USER alice\r\nPASS \r\nPASS\r\n")
    assert machine.next_event() is None
    assert machine.data_to_send().count(b"-ERR the password is empty") == 1
