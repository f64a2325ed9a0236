"""One upstream session against a server that can be told to misbehave, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.domain.errors import (
    ProxyError,
    UpstreamBusy,
    UpstreamRefusedLogin,
    UpstreamUnreachable,
    UpstreamUnusable,
)
from proxy.domain.model import Credentials
from proxy.domain.plan import Entry
from proxy.domain.policy import UpstreamServer
from proxy.services.upstream import Began, Ended, Refused, UpstreamSession
from proxy.services.upstream_dial import open_session
from proxy.wire.pop3_client import Part
from tests.rude_upstream import RudeUpstream, mail
from tests.services.house import QuickPasswords, SetClock, world_of

WORLD = world_of(Path("/nowhere"), SetClock(), QuickPasswords())


@pytest.fixture
async def rude() -> AsyncIterator[RudeUpstream]:
    mails = [(f"uid{n}", mail(f"{n}")) for n in range(1, 4)]
    async with RudeUpstream(mails).listening() as upstream:
        yield upstream


async def session_with(
    upstream: RudeUpstream, password: bytes = b"secret", auth: str = "auto"
) -> UpstreamSession:
    server = UpstreamServer("127.0.0.1", upstream.port, "none", auth=auth)  # type: ignore[arg-type]
    return await open_session(WORLD, server, Credentials("alice", password))


async def listed(session: UpstreamSession) -> list[Entry]:
    assert session.mailbox is not None
    return (await session.listing(session.mailbox.count)).entries


async def collect(session: UpstreamSession, entries: list[Entry]) -> dict[int, bytes | None]:
    """Number → octets, None for what upstream refused."""
    got: dict[int, bytes | None] = {}
    octets = b""
    async for transfer in session.retrieve(entries):
        if isinstance(transfer, Began):
            octets = b""
        elif isinstance(transfer, Part):
            octets += transfer.data
        elif isinstance(transfer, Ended):
            got[transfer.entry.number] = octets
        elif isinstance(transfer, Refused):
            got[transfer.entry.number] = None
    return got


async def test_a_session_lists_fetches_and_deletes(rude: RudeUpstream) -> None:
    session = await session_with(rude)
    seen = session.mailbox
    assert seen is not None
    assert (seen.count, seen.octets) == (3, sum(len(octets) for _, octets in rude.mails))
    listing = await listed(session)
    assert [(e.number, e.octets, e.uid) for e in listing] == [
        (n, len(octets), uid) for n, (uid, octets) in enumerate(rude.mails, 1)
    ]
    expected = {n: octets for n, (_, octets) in enumerate(rude.mails, 1)}
    assert await collect(session, listing) == expected
    assert await session.delete([2]) == [2]
    assert await session.quit()
    assert rude.deleted == ["uid2"]


async def test_auto_takes_auth_plain_where_it_is_offered(rude: RudeUpstream) -> None:
    await session_with(rude)
    assert "AUTH" in rude.commands
    assert "PASS" not in rude.commands


async def test_auto_takes_user_and_pass_elsewhere(rude: RudeUpstream) -> None:
    rude.capabilities = None
    session = await session_with(rude)
    assert "PASS" in rude.commands
    assert session.capabilities == {}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"-ERR wrong password\r\n", UpstreamRefusedLogin),
        (b"-ERR [AUTH] no\r\n", UpstreamRefusedLogin),
        (b"-ERR [IN-USE] locked\r\n", UpstreamBusy),
        (b"-ERR [LOGIN-DELAY] wait\r\n", UpstreamBusy),
        (b"-ERR [SYS/TEMP] later\r\n", UpstreamBusy),
        (b"-ERR [SYS/PERM] account disabled\r\n", UpstreamUnusable),
        (b"-ERR maildrop is locked by another session\r\n", UpstreamBusy),
        (b"what?\r\n", UpstreamUnreachable),
    ],
)
async def test_what_a_refused_login_means(
    rude: RudeUpstream, answer: bytes, error: type[ProxyError]
) -> None:
    """RFC 2449 §8.1, RFC 3206 §4."""
    rude.refusals["PASS"] = answer
    with pytest.raises(error):
        await session_with(rude, auth="user")


@pytest.mark.parametrize(
    ("greeting", "error"),
    [
        (b"-ERR not now\r\n", UpstreamBusy),
        (b"-ERR [SYS/PERM] go away\r\n", UpstreamUnusable),
        (b"220 smtp.example.com ESMTP\r\n", UpstreamUnreachable),
        (b"x" * 100_000 + b"\r\n", UpstreamUnreachable),
    ],
)
async def test_what_an_odd_greeting_means(
    rude: RudeUpstream, greeting: bytes, error: type[ProxyError]
) -> None:
    rude.greeting = greeting
    with pytest.raises(error):
        await session_with(rude)


@pytest.mark.parametrize("password", [b"a\r\nDELE 1", b"a\0b", b"a\nb"])
async def test_a_password_that_pop3_cannot_carry_is_refused_here(
    rude: RudeUpstream, password: bytes
) -> None:
    with pytest.raises(UpstreamRefusedLogin):
        await session_with(rude, password, auth="user")
    assert "USER alice" not in rude.commands


async def test_nobody_listening_is_unreachable() -> None:
    async with RudeUpstream().listening() as upstream:
        pass
    with pytest.raises(UpstreamUnreachable):
        await session_with(upstream)


async def test_without_uidl_the_listing_has_no_ids(rude: RudeUpstream) -> None:
    rude.has_uidl = False
    session = await session_with(rude)
    assert [entry.uid for entry in await listed(session)] == ["", "", ""]
    assert await session.uid_of(1) is None


@pytest.mark.parametrize("answer", [b"+OK\r\nnonsense\r\n.\r\n", b"-ERR no\r\n"])
async def test_a_listing_that_makes_no_sense_ends_the_session(
    rude: RudeUpstream, answer: bytes
) -> None:
    rude.refusals["LIST"] = answer
    session = await session_with(rude)
    with pytest.raises(UpstreamUnreachable):
        await listed(session)


async def test_a_refused_message_does_not_stop_the_others(rude: RudeUpstream) -> None:
    rude.refusals["RETR 2"] = b"-ERR [SYS/TEMP] cannot read it\r\n"
    session = await session_with(rude)
    got = await collect(session, await listed(session))
    assert got == {1: rude.mails[0][1], 2: None, 3: rude.mails[2][1]}


async def test_a_cut_in_the_middle_is_told_after_what_came_whole(rude: RudeUpstream) -> None:
    rude.hang_up_on = {"RETR 3"}
    session = await session_with(rude)
    transfers = session.retrieve(await listed(session))
    ended = 0
    while ended < 2:
        ended += isinstance(await anext(transfers), Ended)
    with pytest.raises(UpstreamUnreachable):
        await anext(transfers)


async def test_headers_come_by_top(rude: RudeUpstream) -> None:
    session = await session_with(rude)
    entries = await listed(session)
    headers = {e.number: header async for e, header in session.headers(entries)}
    assert headers[1] == b"Message-ID: <1@example.org>\r\nSubject: 1\r\n\r\n"
    rude.has_top = False
    assert [header async for _, header in session.headers(entries)] == [None] * 3


async def test_without_pipelining_nothing_is_sent_ahead() -> None:
    """With it, the requests for a whole window go out at once."""
    mails = [(f"uid{n}", mail(f"{n}")) for n in range(20)]
    async with RudeUpstream(mails).listening() as rude:
        for capabilities, ahead in (([], 1), (["PIPELINING"], 20)):
            rude.capabilities = capabilities
            rude.commands.clear()
            session = await session_with(rude)
            transfers = session.retrieve(await listed(session))
            await anext(transfers)
            await _settle(rude, ahead)
            assert rude.retrieved() == ahead
            await transfers.aclose()
            session.abort()


async def _settle(rude: RudeUpstream, expected: int) -> None:
    """Let the server read what has been sent, and then some."""
    for _ in range(200):
        await asyncio.sleep(0)
        if rude.retrieved() > expected:
            return
