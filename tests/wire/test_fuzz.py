"""Anything at all comes in: nothing but events or the peer's fault comes out, in bounded memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.wire import pop3_events as pop3
from proxy.wire.pop3 import SASL_LINE_LIMIT
from proxy.wire.pop3_client import Expect, Pop3Client
from proxy.wire.pop3_server import Offer, Pop3Server

words = st.sampled_from(
    b"USER PASS AUTH PLAIN LOGIN CAPA STLS STAT LIST UIDL RETR TOP DELE RSET NOOP QUIT "
    b"1 2 0 -1 99 AGFsaWNlAHg= = * . .. +OK -ERR + \r\n \r\n \r\n \n \r \0 \xff".split(b" ")
) | st.binary(max_size=30)
streams = st.lists(words, max_size=60).map(b" ".join)


@given(st.lists(streams, max_size=6), st.booleans())
def test_the_server_machine_takes_anything(pieces: list[bytes], plaintext: bool) -> None:
    machine = Pop3Server(Offer(stls=True, plaintext_login=plaintext, implementation="x"))
    over = False
    for piece in pieces:
        machine.receive(piece)
        while not over and (event := machine.next_event()) is not None:
            match event:
                case pop3.PasswordLogin():
                    machine.logged_in("hello")
                case pop3.StartTls():
                    machine.start_tls()
                    machine.tls_started()
                case pop3.Quit() | pop3.TooManyErrors() | pop3.HttpBegun():
                    machine.ok("bye")
                    over = True
                case _:
                    machine.err("no")
        assert machine.waiting_octets <= SASL_LINE_LIMIT + len(piece) + (over and 10**6)
    output = machine.data_to_send()
    assert not output or output.endswith(b"\r\n")
    for line in output.split(b"\r\n"):
        assert b"\n" not in line


@given(st.lists(streams, max_size=6), st.lists(st.booleans(), max_size=20))
def test_the_client_machine_takes_anything(pieces: list[bytes], bodies: list[bool]) -> None:
    machine = Pop3Client()
    for body in bodies:
        machine.send(b"X", Expect.BODY if body else Expect.LINE)
    for piece in [b"+OK hi\r\n", *pieces]:
        broken = machine.broken
        events = machine.receive(piece)
        assert broken is None or not events
