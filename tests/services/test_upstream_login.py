"""Which way of logging in upstream is taken, and what a refusal of each leads to."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.domain.errors import UpstreamBusy, UpstreamRefusedLogin, UpstreamUnusable
from proxy.domain.model import Credentials
from proxy.domain.policy import AuthMethod, PlaintextLogin, UpstreamServer
from proxy.services.upstream_dial import open_session
from proxy.services.upstream_memory import UpstreamMemory
from tests.rude_upstream import RudeUpstream
from tests.services.house import QuickPasswords, SetClock, world_of

WORLD = world_of(Path("/nowhere"), SetClock(), QuickPasswords())
TOKEN = Credentials("alice", b"a token", is_token=True)


@pytest.fixture
async def rude() -> AsyncIterator[RudeUpstream]:
    async with RudeUpstream().listening() as upstream:
        yield upstream


def offering(rude: RudeUpstream, *mechanisms: str, user: bool = True) -> None:
    rude.capabilities = ["SASL " + " ".join(mechanisms), *(["USER"] if user else [])]


async def log_in(
    rude: RudeUpstream,
    *,
    auth: AuthMethod = "auto",
    plaintext_login: PlaintextLogin = "loopback",
    credentials: Credentials | None = None,
    memory: UpstreamMemory | None = None,
) -> None:
    server = UpstreamServer(
        "127.0.0.1", rude.port, "none", auth=auth, plaintext_login=plaintext_login
    )
    given = credentials or Credentials("alice", b"secret")
    session = await open_session(WORLD, server, given, memory)
    await session.quit()


def ways(rude: RudeUpstream) -> list[str]:
    """AUTH, USER and APOP in the order they came."""
    return [c.split()[0] for c in rude.commands if c.split()[0] in ("AUTH", "USER", "APOP")]


async def test_a_mechanism_that_is_announced_and_not_known_is_passed_over(
    rude: RudeUpstream,
) -> None:
    offering(rude, "SCRAM-SHA-256", "CRAM-MD5", "PLAIN")
    rude.refusals["AUTH SCRAM-SHA-256"] = b"-ERR unknown mechanism\r\n"
    rude.refusals["AUTH CRAM-MD5"] = b"-ERR unknown mechanism\r\n"
    await log_in(rude)
    assert ways(rude) == ["AUTH", "AUTH", "AUTH"]


async def test_a_password_that_upstream_keeps_as_another_hash_is_sent_as_it_is_and_so_from_then_on(
    rude: RudeUpstream,
) -> None:
    offering(rude, "CRAM-MD5", "PLAIN")
    rude.cram_md5_works = False
    memory = UpstreamMemory()
    await log_in(rude, memory=memory)
    assert ways(rude) == ["AUTH", "AUTH"]
    rude.commands.clear()
    await log_in(rude, memory=memory)
    assert ways(rude) == ["AUTH"]


async def test_a_wrong_password_is_tried_by_two_ways_at_most(rude: RudeUpstream) -> None:
    offering(rude, "CRAM-MD5", "PLAIN", "LOGIN")
    with pytest.raises(UpstreamRefusedLogin):
        await log_in(rude, credentials=Credentials("alice", b"wrong"))
    assert ways(rude) == ["AUTH", "AUTH"]


async def test_a_way_that_has_worked_is_not_doubted(rude: RudeUpstream) -> None:
    offering(rude, "CRAM-MD5", "PLAIN")
    memory = UpstreamMemory()
    await log_in(rude, memory=memory)
    rude.commands.clear()
    with pytest.raises(UpstreamRefusedLogin):
        await log_in(rude, credentials=Credentials("alice", b"wrong"), memory=memory)
    assert ways(rude) == ["AUTH"]


@pytest.mark.parametrize("auth", ["auto", "user", "plain", "login", "xoauth2"])
async def test_no_password_goes_in_clear_where_that_is_not_allowed(
    rude: RudeUpstream, auth: AuthMethod
) -> None:
    offering(rude, "PLAIN", "LOGIN", "XOAUTH2")
    with pytest.raises(UpstreamUnusable, match="clear text"):
        await log_in(rude, auth=auth, plaintext_login="never")
    assert ways(rude) == []


async def test_a_challenge_is_answered_where_no_password_may_go_in_clear(
    rude: RudeUpstream,
) -> None:
    offering(rude, "CRAM-MD5", "PLAIN")
    await log_in(rude, plaintext_login="never")
    assert ways(rude) == ["AUTH"]


async def test_apop_is_for_those_who_ask_for_it(rude: RudeUpstream) -> None:
    rude.greeting = b"+OK ready <123.456@example.org>\r\n"
    rude.capabilities = None
    await log_in(rude)
    assert ways(rude) == ["USER"]
    rude.commands.clear()
    await log_in(rude, auth="apop")
    assert ways(rude) == ["APOP"]


@pytest.mark.parametrize("greeting", [b"+OK ready\r\n", b"+OK <12\x0134@example.org>\r\n"])
async def test_apop_with_a_timestamp_that_may_be_an_attackers_is_refused(
    rude: RudeUpstream, greeting: bytes
) -> None:
    rude.greeting = greeting
    with pytest.raises(UpstreamUnusable, match="timestamp"):
        await log_in(rude, auth="apop")
    assert ways(rude) == []


@pytest.mark.parametrize(
    ("offered", "taken"),
    [
        (("PLAIN", "XOAUTH2", "OAUTHBEARER"), "OAUTHBEARER"),
        (("XOAUTH2",), "XOAUTH2"),
        (("PLAIN",), "XOAUTH2"),
    ],
)
async def test_a_token_is_never_sent_as_a_password(
    rude: RudeUpstream, offered: tuple[str, ...], taken: str
) -> None:
    offering(rude, *offered)
    with pytest.raises((UpstreamRefusedLogin, UpstreamUnusable)):
        await log_in(rude, credentials=TOKEN)
    assert rude.mechanisms[0] == taken
    assert "USER alice" not in rude.commands


@pytest.mark.parametrize(
    "told",
    [
        b"no such password: secret",
        b"bad: " + base64.b64encode(b"secret"),
        b"bad: " + base64.b64encode(b"\0alice\0secret"),
    ],
)
async def test_what_upstream_repeats_of_the_password_is_left_out(
    rude: RudeUpstream, told: bytes
) -> None:
    rude.refusals["PASS"] = b"-ERR " + told + b"\r\n"
    with pytest.raises(UpstreamRefusedLogin) as refused:
        await log_in(rude, auth="user")
    assert "***" in str(refused.value)
    assert told.split()[-1].decode() not in str(refused.value)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("[LOGIN-DELAY] minimum time between mail checks violation", None),
        ("Exceeded the login limit for a 15 minute period. Reduce the frequency of requests", 900),
        ("Login frequency limited, please try again later", None),
        ("You may only check mail once every 10 minutes", 600),
        ("minimum interval between logins is 30 seconds", 30),
        ("logging in too often, wait for 1 hour", 3600),
    ],
)
async def test_a_login_that_comes_too_soon_says_how_long_to_wait(
    rude: RudeUpstream, said: str, seconds: float | None
) -> None:
    rude.refusals["PASS"] = f"-ERR {said}\r\n".encode()
    with pytest.raises(UpstreamBusy) as busy:
        await log_in(rude, auth="user")
    assert busy.value.too_often
    assert busy.value.retry_after == seconds


@pytest.mark.parametrize(
    "said", ["mailbox is locked", "[IN-USE] busy", "too many connections", "[SYS/TEMP] later"]
)
async def test_other_reasons_to_try_later_teach_no_interval(rude: RudeUpstream, said: str) -> None:
    rude.refusals["PASS"] = f"-ERR {said}\r\n".encode()
    with pytest.raises(UpstreamBusy) as busy:
        await log_in(rude, auth="user")
    assert not busy.value.too_often


async def test_an_exchange_without_end_is_broken_off(rude: RudeUpstream) -> None:
    offering(rude, "XOAUTH2")
    rude.endless_challenges = True
    with pytest.raises(Exception, match="without end"):
        await log_in(rude, credentials=TOKEN)
