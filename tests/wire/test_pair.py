"""Client machine and server machine joined in memory: each checks the other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.wire import pop3_events as pop3
from proxy.wire.dots import DotEncoder
from proxy.wire.pop3_client import BodyEnd, Event, Expect, Part, Pop3Client
from proxy.wire.pop3_server import Offer, Pop3Server

mails = st.lists(
    st.lists(st.sampled_from([b"", b".", b"..", b"text", b".x", b"+OK", b"-ERR"])).map(
        lambda lines: b"".join(line + b"\r\n" for line in lines)
    ),
    max_size=5,
)


class Pair:
    """A session with everything sent ahead."""

    def __init__(self, mails: list[bytes]) -> None:
        self._mails = mails
        self._client = Pop3Client()
        self._server = Pop3Server(Offer(stls=False, plaintext_login=True, implementation="x"))
        self._server.greet("hello")

    def run(self, commands: list[tuple[bytes, Expect]]) -> list[Event]:
        wire = b"".join(self._client.send(line, expect) for line, expect in commands)
        self._server.receive(wire)
        while (event := self._server.next_event()) is not None:
            self._answer(event)
        return self._client.receive(self._server.data_to_send())

    def _answer(self, event: pop3.Event) -> None:
        match event:
            case pop3.PasswordLogin():
                self._server.logged_in("welcome")
            case pop3.Retr(number=number) if number <= len(self._mails):
                self._server.body_start("octets")
                self._server.body_part(DotEncoder().feed(self._mails[number - 1]))
                self._server.body_end()
            case pop3.Quit():
                self._server.ok("bye")
            case _:
                self._server.err("no such message")


@given(mails)
def test_every_mail_crosses_unchanged(mails: list[bytes]) -> None:
    retrievals = [(b"RETR %d" % n, Expect.BODY) for n in range(1, len(mails) + 2)]
    events = Pair(mails).run(
        [(b"USER a", Expect.LINE), (b"PASS b", Expect.LINE), *retrievals, (b"QUIT", Expect.LINE)]
    )
    received: list[bytes] = []
    body = b""
    for event in events:
        if isinstance(event, Part):
            body += event.data
        elif isinstance(event, BodyEnd):
            received.append(body)
            body = b""
    assert received == mails
