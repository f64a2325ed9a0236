"""When a login at an SMTP server counts: the secret was told, and the exchange was over."""

from __future__ import annotations

import asyncio
import base64
from collections import deque
from collections.abc import Iterable, Mapping

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.domain.errors import ProxyError, UpstreamUnreachable, UpstreamUnusable
from proxy.domain.model import Credentials
from proxy.domain.policy import SmtpServer
from proxy.interfaces.submission import Answer
from proxy.services.smtp_login import log_in

ALICE = Credentials("alice", b"secret")
LONG = Credentials("alice", b"secret" * 100)
"""Too long to go with the command, so that the server is to ask for it."""
CHALLENGE = base64.b64encode(b"<42@example.org>").decode()


class Scripted:
    """`interfaces.submission.UpstreamSmtp` as far as a login goes; it checks nothing."""

    encrypted = True
    peer = "192.0.2.1"

    def __init__(self, answers: Iterable[Answer]) -> None:
        self.offers: Mapping[str, str] = {}
        self.said: list[bytes] = []
        self._answers = deque(answers)

    async def command(self, line: bytes) -> Answer:
        self.said.append(line)
        if not self._answers:
            raise UpstreamUnreachable("it has hung up")
        return self._answers.popleft()

    async def write(self, data: bytes) -> Answer | None:
        raise NotImplementedError

    async def end(self) -> Answer:
        raise NotImplementedError

    async def quit(self) -> None:
        raise NotImplementedError

    def abort(self) -> None:
        raise NotImplementedError


def attempt(way: str, credentials: Credentials, *answers: Answer) -> tuple[Scripted, bool]:
    """What was said, and whether that counts as a login."""
    upstream = Scripted(answers)
    server = SmtpServer("mail.example.org", auth=way)  # type: ignore[arg-type]
    try:
        asyncio.run(log_in(upstream, server, credentials, "n" * 20))
    except ProxyError:
        return upstream, False
    return upstream, True


def encoded(octets: bytes) -> bytes:
    return base64.b64encode(octets)


def is_told(way: str, credentials: Credentials, last: bytes) -> bool:
    """Whether this is the line that ends an exchange."""
    if last == b"AUTH " + way.upper().encode():
        return False
    password = credentials.password
    match way:
        case "plain":
            return last.endswith(encoded(b"\0alice\0" + password))
        case "login":
            return last == encoded(password)
        case "cram-md5":
            return base64.b64decode(last).startswith(b"alice ")
        case "xoauth2":
            return last.endswith(encoded(b"user=alice\1auth=Bearer %b\1\1" % password))
        case "oauthbearer":
            return b"auth=Bearer " + password in base64.b64decode(last.split(b" ")[-1])
        case "external":
            return last.endswith(encoded(b"alice"))
    return False


WAYS = ("plain", "login", "cram-md5", "scram-sha-256", "xoauth2", "oauthbearer", "external")
ANSWERS = (
    Answer(235, "in"),
    Answer(250, "fine"),
    Answer(334, ""),
    Answer(334, CHALLENGE),
    Answer(220, "ready"),
    Answer(503, "you are in already"),
    Answer(535, "no"),
    Answer(454, "later"),
    Answer(200, "what?"),
)


@settings(max_examples=1000, deadline=None)
@given(
    way=st.sampled_from(WAYS),
    credentials=st.sampled_from([ALICE, LONG]),
    answers=st.lists(st.sampled_from(ANSWERS), max_size=5),
)
@example(way="plain", credentials=LONG, answers=[Answer(235, "in")])
@example(way="plain", credentials=LONG, answers=[Answer(334, ""), Answer(250, "fine")])
@example(way="oauthbearer", credentials=LONG, answers=[Answer(334, "")] * 2 + [Answer(235, "in")])
def test_a_login_counts_when_the_exchange_was_whole_and_never_else(
    way: str, credentials: Credentials, answers: list[Answer]
) -> None:
    upstream, accepted = attempt(way, credentials, *answers)
    answered = answers[: len(upstream.said)]
    whole = (
        len(answered) == len(upstream.said)
        and answered[-1].code in (235, 250)
        and is_told(way, credentials, upstream.said[-1])
    )
    assert accepted == whole


@pytest.mark.parametrize("code", [235, 250])
def test_a_password_that_was_never_asked_for_was_not_accepted(code: int) -> None:
    server = SmtpServer("mail.example.org", auth="plain")
    with pytest.raises(UpstreamUnreachable, match="before the exchange was over"):
        asyncio.run(log_in(Scripted([Answer(code, "in")]), server, LONG, "n" * 20))


def test_that_one_is_in_already_is_no_verdict_on_the_password() -> None:
    server = SmtpServer("mail.example.org", auth="plain")
    with pytest.raises(UpstreamUnusable):
        asyncio.run(log_in(Scripted([Answer(503, "you are in")]), server, ALICE, "n" * 20))
