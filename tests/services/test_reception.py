"""One mail in is one mail out: any octets, in any pieces, from the client's wire to upstream's."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.adapters import blobs
from proxy.adapters.blobs import Blobs, InlineRunner
from proxy.domain.policy import Octets, StorePolicy, SubmissionLimits
from proxy.services.reception import HEADER_LIMIT, Received
from proxy.services.room import STEP, Room
from proxy.services.smtp_answers import HARMFUL, HEADER_TOO_LARGE
from proxy.wire import smtp_events as smtp
from proxy.wire.sent_copy import MARK, copy_header
from proxy.wire.smtp_server import SmtpOffer, SmtpServer

END = b"\r\n.\r\n"
LIMITS = SubmissionLimits(max_message_size=Octets(10**6))

HARMLESS = [
    b".",
    b"..",
    b"\r\n",
    b"\n",
    b"\r\n.",
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    END,
    b"a",
    b"\xff",
]
HEADERS = [
    b"Subject: x\r\n",
    b"Bcc: b@example.org\r\n",
    b"bcc:\n x\n",
    b" : ",
    b"MAIL FROM:<e@x>\n",
]
HARMFUL_ONES = [b"\r", b"\0", b"\r.\r", b"\r\n.\r", b"\n.\r", b"\r.\r\n", b"\r\n\0.\r\n"]


def of(fragments: list[bytes]) -> st.SearchStrategy[bytes]:
    return st.lists(st.sampled_from(fragments), max_size=30).map(b"".join)


contents = st.one_of(
    of([*HARMLESS, *HEADERS]), of([*HARMLESS, *HEADERS, *HARMFUL_ONES]), st.binary(max_size=200)
)
cuts = st.lists(st.integers(1, 40), min_size=1, max_size=20)


@pytest.fixture(scope="module", autouse=True)
def spooled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Blobs]:
    """Files for all but the smallest mails, and parts of a few octets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blobs, "IN_MEMORY", 50)
        made = Blobs(tmp_path_factory.mktemp("data") / "blobs", InlineRunner())
        made.prepare()
        yield made


def pieces(data: bytes, lengths: list[int]) -> Iterator[bytes]:
    """As long as the lengths say, over and over."""
    at = turn = 0
    while at < len(data):
        length = lengths[turn % len(lengths)]
        yield data[at : at + length]
        at, turn = at + length, turn + 1


def ready_for_content() -> SmtpServer:
    machine = SmtpServer(SmtpOffer(starttls=False, plaintext_login=True, max_message_size=10**6))
    login = base64.b64encode(b"\0alice\0secret")
    machine.receive(b"EHLO client\r\nAUTH PLAIN " + login + b"\r\nDATA\r\n")
    machine.next_event()
    machine.hello()
    machine.next_event()
    machine.welcome("2.7.0 in")
    assert isinstance(machine.next_event(), smtp.Data)
    machine.start_content()
    machine.data_to_send()
    return machine


async def taken(machine: SmtpServer, received: Received, wire: Iterable[bytes]) -> bytes:
    """What the session does with these octets; returns what it gives upstream."""
    upstream = b""
    ended = False
    for piece in wire:
        machine.receive(piece)
        while (event := None if ended else machine.next_event()) is not None:
            assert isinstance(event, smtp.Content)
            upstream += await received.feed(event.data, last=event.last)
            ended = event.last
            if ended:
                machine.reply(250, "2.0.0 taken")
            else:
                machine.take_more()
    assert ended
    return upstream


async def fed(received: Received, mail: Iterable[bytes]) -> bytes:
    """Without the machine, which holds back what may be the beginning of the end."""
    upstream = [await received.feed(piece, last=False) for piece in mail]
    return b"".join([*upstream, await received.feed(b"", last=True)])


def copy(header: bytes) -> bytes:
    return copy_header(header, device="laptop", recipients=("b@example.org",), keep_bcc=True)


def unstuffed(wire: bytes) -> bytes:
    """RFC 5321 §4.5.2, line by line."""
    return b"\r\n".join(line.removeprefix(b".") for line in wire.split(b"\r\n"))


@settings(max_examples=400, deadline=None)
@given(contents, cuts)
def test_what_goes_upstream_has_one_end_and_is_the_client_s_mail(
    spooled: Blobs, content: bytes, lengths: list[int]
) -> None:
    before, _, rest = (b"\r\n" + content + END).partition(END)
    mail = unstuffed(before[2:] + b"\r\n" if before else b"")

    async def hand_on() -> None:
        machine = ready_for_content()
        async with receiving(spooled) as received:
            upstream = await taken(machine, received, pieces(content + END, lengths))
            # What comes behind the end is for the next command, to the octet.
            assert machine.waiting_octets == len(rest)
            await check(spooled, received, upstream, mail)
        async with receiving(spooled) as received:
            upstream = await fed(received, pieces(mail, lengths))
            await check(spooled, received, upstream, mail)

    asyncio.run(hand_on())


@asynccontextmanager
async def receiving(spooled: Blobs) -> AsyncIterator[Received]:
    claim = Room(lambda: None, StorePolicy()).claim(STEP)
    assert claim
    received = Received(spooled.writer(), LIMITS, copy, claim, seven_bit=False)
    try:
        yield received
    finally:
        await received.close()
    assert not list(spooled.temporary.iterdir())


async def check(spooled: Blobs, received: Received, upstream: bytes, mail: bytes) -> None:
    plain = mail.replace(b"\r\n", b"\n")
    expected = plain.replace(b"\n", b"\r\n")
    if b"\r" in plain or b"\0" in plain:
        assert received.problem is HARMFUL
        # Its beginning may have gone, and nothing can be taken for the end.
        check_wire(upstream)
        return
    assert received.problem is None
    assert received.octets == len(expected)
    check_wire(upstream)
    assert unstuffed(upstream) == expected
    blob = await received.copy()
    await spooled.make_durable([blob])
    kept = spooled.open(blob.digest, blob.octets)
    try:
        check_copy(kept.read(10**6), expected)
    finally:
        kept.close()


def check_wire(upstream: bytes) -> None:
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)|\0", upstream)
    assert END not in b"\r\n" + upstream


def check_copy(kept: bytes, expected: bytes) -> None:
    """The mail from its first empty line on, and every line of its header."""
    assert kept.startswith(MARK)
    header, _, body = (b"\r\n" + expected).partition(b"\r\n\r\n")
    assert kept.endswith(body)
    assert all(line in kept for line in header.split(b"\r\n"))


@pytest.mark.parametrize("body", [b"\r\nbody\r\n", b""], ids=["a body", "no body"])
@pytest.mark.parametrize("length", [100, 65536, 10**7])
@pytest.mark.parametrize("beyond", [0, 1])
async def test_a_header_is_taken_up_to_its_limit(
    spooled: Blobs, beyond: int, length: int, body: bytes
) -> None:
    header = b"To: " + b"x" * (HEADER_LIMIT - 6 + beyond) + b"\r\n"
    async with receiving(spooled) as received:
        upstream = await fed(received, pieces(header + body, [length]))
        assert received.problem is (HEADER_TOO_LARGE if beyond else None)
        if not beyond:
            assert upstream == header + body
            assert received.octets == len(header + body)
    assert HEADER_TOO_LARGE.code == 552
