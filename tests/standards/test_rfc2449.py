"""RFC 2449, POP3 extensions, and RFC 3206, response codes."""

from __future__ import annotations

import pytest

from proxy.domain.errors import (
    BadLogin,
    ProxyError,
    StoreUnavailable,
    TooManyFailures,
    TooManyRefusals,
    UpstreamUnreachable,
    UpstreamUnusable,
)
from proxy.services.replies import reply_to
from proxy.wire.pop3 import Expire
from tests.services.test_pop3_session import Drop, OneDoor, connected


async def both(drop: Drop | None = None) -> tuple[list[bytes], list[bytes]]:
    """Capabilities before and after the login."""
    async with connected(drop or Drop([])) as client:
        await client.line()
        before = await client.lines(b"CAPA")
        await client.say(b"USER alice", b"PASS right")
        await client.line()
        await client.line()
        return before, await client.lines(b"CAPA")


async def test_a_command_may_have_255_octets() -> None:
    """RFC 2449 §4."""
    async with connected(Drop([])) as client:
        await client.line()
        command = b"USER " + b"x" * (255 - len(b"USER \r\n"))
        assert (await client.ask(command)).startswith(b"+OK")


async def test_capa_is_answered_in_both_states_and_takes_no_argument() -> None:
    """RFC 2449 §5."""
    before, after = await both()
    assert before
    assert after
    async with connected(Drop([])) as client:
        await client.line()
        assert (await client.ask(b"CAPA x")).startswith(b"-ERR")


@pytest.mark.parametrize("name", [b"TOP", b"UIDL", b"RESP-CODES", b"PIPELINING"])
async def test_what_holds_throughout_is_announced_in_both_states(name: bytes) -> None:
    """RFC 2449 §6.1, §6.4, §6.6, §6.8."""
    before, after = await both()
    assert name in before
    assert name in after


async def test_user_and_sasl_are_announced_before_the_login_alone() -> None:
    """RFC 2449 §6.2, §6.3."""
    before, after = await both()
    assert b"USER" in before
    assert b"SASL PLAIN LOGIN" in before
    assert not [line for line in after if line.startswith((b"USER", b"SASL"))]


async def test_there_is_no_login_delay_to_announce() -> None:
    """RFC 2449 §6.5: devices may log in as often as they like."""
    for lines in await both():
        assert not [line for line in lines if line.startswith(b"LOGIN-DELAY")]


async def test_commands_sent_ahead_are_answered_in_order() -> None:
    """RFC 2449 §6.6."""
    async with connected(Drop([b"one\r\n"])) as client:
        await client.log_in()
        await client.say(b"STAT", b"LIST 1", b"UIDL 1", b"DELE 1", b"STAT", b"QUIT")
        first = [(await client.line()) for _ in range(5)]
        assert first[:3] == [b"+OK 1 5\r\n", b"+OK 1 5\r\n", b"+OK 1 uid1\r\n"]
        assert first[4] == b"+OK 0 0\r\n"


async def test_expire_says_how_long_messages_stay_and_more_exactly_after_the_login() -> None:
    """RFC 2449 §6.7."""
    door = OneDoor(Drop([], expire=Expire(30)), expire=Expire(None, may_differ=True))
    async with connected(door.drop, door=door) as client:
        await client.line()
        assert b"EXPIRE NEVER USER" in await client.lines(b"CAPA")
        await client.say(b"USER alice", b"PASS right")
        await client.line()
        await client.line()
        assert b"EXPIRE 30" in await client.lines(b"CAPA")


async def test_the_version_is_told_after_the_login_alone() -> None:
    """RFC 2449 §6.9."""
    before, after = await both()
    assert b"IMPLEMENTATION test" in before
    assert b"IMPLEMENTATION test/1" in after


CODES: list[tuple[ProxyError, str]] = [
    (BadLogin(), "AUTH"),
    (StoreUnavailable(), "SYS/TEMP"),
    (UpstreamUnreachable(), "SYS/TEMP"),
    (TooManyFailures(5.0), "SYS/TEMP"),
    (TooManyRefusals(900.0), "SYS/TEMP"),
    (UpstreamUnusable(), "SYS/PERM"),
]


@pytest.mark.parametrize(("error", "code"), CODES)
def test_a_fault_is_told_by_its_response_code(error: ProxyError, code: str) -> None:
    """RFC 3206 §4, §5: what may pass, what a person must mend, and what the credentials cause."""
    assert reply_to(error)[1] == code


@pytest.mark.parametrize(("error", "code"), CODES)
def test_what_passes_by_itself_asks_to_wait_and_nothing_else_does(
    error: ProxyError, code: str
) -> None:
    """RFC 3206 §4: fetchmail looks for the word, and stops polling without it."""
    assert ("wait" in reply_to(error)[0]) is (code == "SYS/TEMP")


async def test_a_response_code_stands_in_brackets_behind_err() -> None:
    """RFC 2449 §8."""
    async with connected(Drop([])) as client:
        await client.line()
        await client.ask(b"USER alice")
        assert (await client.ask(b"PASS wrong")).startswith(b"-ERR [AUTH] ")


async def test_auth_resp_code_is_announced() -> None:
    """RFC 3206 §6."""
    before, _ = await both()
    assert b"AUTH-RESP-CODE" in before
