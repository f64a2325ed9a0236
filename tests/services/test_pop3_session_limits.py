"""What a stranger may take up, over real sockets: every limit has its reply and its ending."""

from __future__ import annotations

import asyncio
import base64
from ipaddress import ip_network

import pytest

from proxy.domain.policy import LimitsPolicy, Octets, Seconds, SessionPolicy
from proxy.services import pop3_session
from tests.services.test_pop3_session import BIG, TIMEOUT, Client, Drop, Zeros, connected

SCRAM = [b"AUTH SCRAM-SHA-256 " + base64.b64encode(b"n,,n=alice,r=abcdefghijklmnopqrstuvwx")]


async def ending(client: Client) -> str:
    return (await client.facts.ended()).ended


async def test_a_client_that_does_not_log_in_is_told_and_dropped() -> None:
    limits = LimitsPolicy(login_timeout=Seconds(0.2))
    async with connected(Drop([]), limits=limits) as client:
        assert (await client.rest()).endswith(b"-ERR [SYS/TEMP] no login for too long\r\n")
        assert await ending(client) == "login_timeout"


async def test_after_the_login_the_autologout_counts_alone() -> None:
    limits = LimitsPolicy(login_timeout=Seconds(0.1))
    policy = SessionPolicy(autologout=Seconds(0.5))
    async with connected(Drop([b"one\r\n"]), policy, limits) as client:
        await client.log_in()
        await client.rest()
        ended = await client.facts.ended()
        assert ended.ended == "timeout"
        assert ended.seconds > 0.9 * 0.5


@pytest.mark.parametrize("command", [b"RETR 1", b"TOP 1 0"])
async def test_a_device_that_overlooks_that_a_message_is_lost_does_not_wait_for_its_end(
    monkeypatch: pytest.MonkeyPatch, command: bytes
) -> None:
    monkeypatch.setattr(pop3_session, "AFTER_A_LOSS", 0.05)
    async with connected(Drop([b"damaged", b"two\r\n"])) as client:
        await client.log_in()
        assert (await client.ask(command)).startswith(b"-ERR [SYS/TEMP]")
        assert await client.rest() == b""
        assert await ending(client) == "timeout"


async def test_one_that_goes_on_has_all_the_time_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pop3_session, "AFTER_A_LOSS", 0.05)
    async with connected(
        Drop([b"damaged", b"two\r\n"]), SessionPolicy(autologout=Seconds(0.5))
    ) as client:
        await client.log_in()
        await client.say(b"RETR 1\r\nRETR 2")
        assert (await client.line()).startswith(b"-ERR")
        assert await client.rest() == b"+OK 5 octets\r\ntwo\r\n.\r\n"
        assert (await client.facts.ended()).seconds > 0.9 * 0.5


async def test_who_sends_much_before_a_login_is_told_and_dropped() -> None:
    limits = LimitsPolicy(login_octets=Octets(1000))
    async with connected(Drop([]), limits=limits) as client:
        await client.say(b"x" * 2000)
        assert b"-ERR [SYS/TEMP] too much was sent before a login" in await client.rest()
        assert await ending(client) == "login_octets"


async def test_after_the_login_as_much_may_be_sent_as_one_likes() -> None:
    limits = LimitsPolicy(login_octets=Octets(100))
    async with connected(Drop([]), limits=limits) as client:
        await client.log_in()
        for _ in range(50):
            assert (await client.ask(b"NOOP")) == b"+OK\r\n"


async def test_bad_commands_are_counted() -> None:
    async with connected(Drop([]), limits=LimitsPolicy(max_bad_commands=3)) as client:
        await client.line()
        for _ in range(3):
            assert (await client.ask(b"XYZZY")).startswith(b"-ERR")
        assert await client.rest() == b"-ERR too many bad commands, goodbye\r\n"
        assert await ending(client) == "bad_commands"


@pytest.mark.parametrize("ways", [[b"USER a\r\nPASS no"], [b"AUTH PLAIN AGEAbm8="], SCRAM])
async def test_three_refused_logins_end_the_session(ways: list[bytes]) -> None:
    """Whatever is sent ahead behind them is not looked at, be it the right password."""
    async with connected(Drop([])) as client:
        await client.line()
        await client.say(*ways * 3, b"USER a", b"PASS right", b"STAT", b"QUIT")
        answer = await client.rest()
        assert answer.count(b"-ERR [AUTH]") == 3
        assert answer.endswith(b"-ERR [AUTH] login refused: check user name and password\r\n")
        assert await ending(client) == "refused_logins"


async def test_a_login_that_follows_two_refused_ones_is_taken() -> None:
    async with connected(Drop([])) as client:
        await client.line()
        await client.say(*[b"USER a", b"PASS no"] * 2, b"USER a", b"PASS right", b"QUIT")
        assert (await client.rest()).endswith(b"+OK 0 messages (0 octets)\r\n+OK bye\r\n")
        assert await ending(client) == "quit"


@pytest.mark.parametrize("logged_in", [False, True])
@pytest.mark.parametrize("path", [b"/", b"/" + b"a" * 5000])
async def test_what_a_browser_was_made_to_post_is_not_carried_out(
    path: bytes, *, logged_in: bool
) -> None:
    drop = Drop([b"one\r\n"])
    async with connected(drop) as client:
        await (client.log_in() if logged_in else client.line())
        body = b"USER alice\r\nPASS right\r\nDELE 1\r\nQUIT\r\n"
        await client.say(b"POST %s HTTP/1.1" % path, b"Host: 127.0.0.1:1110", b"", body)
        answer = await client.rest()
        assert answer.endswith(b"-ERR this is POP3 and not HTTP, goodbye\r\n")
        assert b"+OK" not in answer
        assert await ending(client) == "http"
    assert drop.committed == []


async def test_a_million_bad_commands_are_not_read() -> None:
    async with connected(Drop([])) as client:
        client.writer.write(b"XYZZY\r\n" * 1_000_000)
        try:
            answer = await client.rest()
        except ConnectionError:
            answer = b""
        assert answer.count(b"-ERR") <= LimitsPolicy().max_bad_commands + 1
        assert await ending(client) in ("bad_commands", "login_octets")


async def test_a_line_longer_than_allowed_is_refused_and_the_next_one_is_read() -> None:
    limits = LimitsPolicy(max_line=Octets(300))
    async with connected(Drop([]), limits=limits) as client:
        await client.line()
        await client.say(b"USER " + b"x" * 300, b"USER alice")
        assert (await client.line()) == b"-ERR line too long\r\n"
        assert (await client.line()).startswith(b"+OK")


async def test_a_device_that_takes_nothing_of_what_it_asked_for_is_dropped() -> None:
    policy = SessionPolicy(autologout=Seconds(0.3))
    async with connected(Drop([b"big"], big=Zeros(BIG)), policy) as client:
        await client.log_in()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.say(b"RETR 1")
        assert await ending(client) == "slow_reader"


async def test_connections_beyond_the_limit_of_one_address_are_told_and_closed() -> None:
    limits = LimitsPolicy(max_connections_per_address=2)
    async with connected(Drop([]), limits=limits) as client:
        host, port = client.writer.get_extra_info("peername")[:2]
        others = [await asyncio.open_connection(host, port) for _ in range(2)]
        greetings = [await reader.readline() for reader, _ in others]
        assert greetings[0].startswith(b"+OK")
        assert greetings[1].startswith(b"-ERR [SYS/TEMP] too many connections from your address")
        assert await others[1][0].read() == b""
        for _, writer in others:
            writer.close()


async def test_a_flood_of_connections_keeps_nobody_from_logging_in() -> None:
    """Strangers that only hold connections make room for those who come later."""
    limits = LimitsPolicy(max_connections=20, max_connections_per_address=10_000)
    async with connected(Drop([b"one\r\n"]), limits=limits) as client:
        await client.log_in()
        host, port = client.writer.get_extra_info("peername")[:2]
        flood = []
        for _ in range(100):
            flood.append(await asyncio.open_connection(host, port))
            await flood[-1][0].readline()
        assert len(client.sessions) == 20
        reader, writer = await asyncio.open_connection(host, port)
        await reader.readline()
        writer.write(b"USER a\r\nPASS right\r\nQUIT\r\n")
        async with asyncio.timeout(TIMEOUT):
            assert (await reader.read()).endswith(b"+OK bye\r\n")
        assert await client.ask(b"NOOP") == b"+OK\r\n", "who had logged in was thrown out"
        for _, other in [*flood, (reader, writer)]:
            other.close()


LOOPBACK = (ip_network("127.0.0.0/8"),)


@pytest.mark.parametrize(
    "pieces",
    [
        [b"PROXY TCP4 203.0.113.9 192.0.2.1 1 2\r\n"],
        [b"PROXY TCP4 203.0.113.9 192.0.2.1 1 2\r\nUSER a\r\n"],
        [b"PROXY TCP4 203.0", b".113.9 192.0.2.1 1 2\r", b"\nUSER a\r\n"],
    ],
)
async def test_a_forwarded_session_is_its_sender_s(pieces: list[bytes]) -> None:
    policy = SessionPolicy(plaintext_login="always", proxy_protocol_from=LOOPBACK)
    async with connected(Drop([]), policy) as client:
        for piece in pieces:
            client.writer.write(piece)
            await asyncio.sleep(0)
        await client.say(b"QUIT")
        assert (await client.rest()).startswith(b"+OK pop3-sync-proxy ready\r\n")
        ended = await client.facts.ended()
        assert (ended.peer, ended.ended) == ("203.0.113.9", "quit")


async def test_the_sender_s_address_decides_whether_clear_text_is_allowed() -> None:
    policy = SessionPolicy(plaintext_login="loopback", proxy_protocol_from=LOOPBACK)
    async with connected(Drop([]), policy) as client:
        client.writer.write(b"PROXY TCP4 203.0.113.9 127.0.0.1 1 2\r\n")
        await client.line()
        assert b"clear text" in await client.ask(b"USER alice")


async def test_limits_count_senders_and_not_the_forwarder() -> None:
    policy = SessionPolicy(proxy_protocol_from=LOOPBACK)
    limits = LimitsPolicy(max_connections_per_address=1)
    async with connected(Drop([]), policy, limits) as client:
        host, port = client.writer.get_extra_info("peername")[:2]
        greetings = []
        writers = [client.writer]
        for number in (1, 2, 2):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"PROXY TCP4 203.0.113.%d 192.0.2.1 1 2\r\n" % number)
            greetings.append((await reader.readline())[:4])
            writers.append(writer)
        assert greetings == [b"+OK ", b"+OK ", b"-ERR"]
        for writer in writers:
            writer.close()


@pytest.mark.parametrize("health_check", [b"PROXY UNKNOWN\r\n"])
async def test_a_forwarder_s_own_check_counts_as_the_forwarder_s(health_check: bytes) -> None:
    policy = SessionPolicy(proxy_protocol_from=LOOPBACK)
    async with connected(Drop([]), policy) as client:
        await client.say(health_check + b"QUIT")
        await client.rest()
        assert (await client.facts.ended()).peer == "127.0.0.1"


async def test_what_is_no_header_is_told_and_dropped() -> None:
    policy = SessionPolicy(proxy_protocol_from=LOOPBACK)
    async with connected(Drop([]), policy) as client:
        await client.say(b"USER alice")
        assert (await client.rest()).startswith(b"-ERR [SYS/TEMP] a PROXY protocol header")
        assert await ending(client) == "proxy_header"
