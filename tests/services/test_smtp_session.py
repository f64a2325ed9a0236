"""Sessions that mail is handed in at, over real sockets: logins, TLS, limits, smuggling."""

from __future__ import annotations

import asyncio
import base64
import ssl
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from proxy.domain.facts import LoginRefused, SessionStarted, SmtpSessionEnded
from proxy.domain.policy import LimitsPolicy, Octets, Seconds, SessionPolicy
from tests.certificates import Certificates, make_certificates
from tests.services.house import NO_DELAY
from tests.smtp_house import MAIL, plain, smtp_house
from tests.wire.scram_client import ScramClient

LOGIN = plain()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def trust(certificates: Certificates) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificates.ca_file)


def encoded(text: str) -> bytes:
    return base64.b64encode(text.encode())


# --- logins ---------------------------------------------------------------------------------------


async def test_what_is_offered_is_what_can_be_had(tmp_path: Path) -> None:
    async with smtp_house(tmp_path) as house, house.talk() as talk:
        assert (await talk.hello()).split("\n") == [
            "250-pop3-sync-proxy",
            "250-PIPELINING",
            "250-SIZE 52428800",
            "250-8BITMIME",
            "250-ENHANCEDSTATUSCODES",
            "250-SMTPUTF8",
            "250-DSN",
            "250 AUTH PLAIN LOGIN SCRAM-SHA-256",
        ]


@pytest.mark.parametrize(
    "lines",
    [
        [plain()],
        [b"auth plain", encoded("\0alice+laptop\0secret")],
        [b"AUTH LOGIN", encoded("alice+laptop"), encoded("secret")],
        [b"AUTH LOGIN " + encoded("alice+laptop"), encoded("secret")],
    ],
)
async def test_there_are_several_ways_to_log_in(tmp_path: Path, lines: list[bytes]) -> None:
    async with smtp_house(tmp_path) as house, house.talk() as talk:
        await talk.hello()
        answers = [await talk.say(line) for line in lines]
        assert [answer[:4] for answer in answers] == ["334 "] * (len(lines) - 1) + ["235 "]
        assert (await talk.send()).startswith("250 ")


async def test_a_password_need_not_be_sent(tmp_path: Path) -> None:
    async with smtp_house(tmp_path) as house, house.talk() as talk:
        await talk.hello()
        client = ScramClient("alice+laptop", b"secret")
        challenge = await talk.say(b"AUTH SCRAM-SHA-256 " + base64.b64encode(client.first()))
        final = client.final(base64.b64decode(challenge.removeprefix("334 ")))
        verifier = await talk.say(base64.b64encode(final))
        assert client.trusts(base64.b64decode(verifier.removeprefix("334 ")))
        assert (await talk.say(b"")).startswith("235 ")
        assert (await talk.send()).startswith("250 ")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([plain("alice", "wrong")], "535 5.7.8 "),
        ([plain("nobody", "secret")], "535 5.7.8 "),
        ([b"AUTH PLAIN !"], "501 5.5.2 "),
        ([b"AUTH PLAIN " + encoded("alice")], "501 5.5.2 "),
        ([b"AUTH PLAIN " + encoded("bob\0alice\0secret")], "501 5.5.2 "),
        ([b"AUTH PLAIN", b"*"], "501 5.7.0 "),
        ([b"AUTH CRAM-MD5"], "504 5.5.4 "),
        ([b"AUTH EXTERNAL ="], "504 5.5.4 "),
        ([b"AUTH"], "501 5.5.4 "),
    ],
)
async def test_a_login_that_is_none_lets_nobody_send(
    tmp_path: Path, lines: list[bytes], expected: str
) -> None:
    async with smtp_house(tmp_path) as house, house.talk() as talk:
        await talk.hello()
        for line in lines:
            answer = await talk.say(line)
        assert answer.startswith(expected)
        assert (await talk.say(b"MAIL FROM:<alice@example.org>")).startswith("530 5.7.0 ")


async def test_a_wrong_password_is_a_fact_and_an_answer_that_is_late(tmp_path: Path) -> None:
    limits = LimitsPolicy(login_delay=Seconds(0.2))
    async with smtp_house(tmp_path, limits=limits) as house, house.talk() as talk:
        await talk.hello()
        began = asyncio.get_running_loop().time()
        assert (await talk.say(plain("alice", "wrong"))).startswith("535 ")
        assert asyncio.get_running_loop().time() - began > 0.19
        assert [fact.account for fact in house.facts.of(LoginRefused)] == ["alice"]


@pytest.mark.parametrize(
    "line",
    [
        b"MAIL FROM:<eve@example.com>",
        b"RCPT TO:<bob@example.org>",
        b"DATA",
    ],
)
async def test_nobody_relays_without_a_login(tmp_path: Path, line: bytes) -> None:
    async with smtp_house(tmp_path) as house, house.talk() as talk:
        await talk.hello()
        assert (await talk.say(line)).startswith("530 5.7.0 ")
        assert house.upstream.sessions == 0


async def test_a_login_that_failed_leaves_the_rest_of_a_pipeline_outside(tmp_path: Path) -> None:
    async with smtp_house(tmp_path) as house, house.talk() as talk:
        await talk.hello()
        talk.writer.write(
            plain("alice", "wrong")
            + b"\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nQUIT\r\n"
        )
        assert [(await talk.answer())[:3] for _ in range(5)] == ["535", "530", "530", "530", "221"]
        assert house.upstream.sessions == 0


async def test_commands_and_content_may_be_pipelined(tmp_path: Path) -> None:
    async with smtp_house(tmp_path) as house, house.talk(LOGIN) as talk:
        one = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n" + MAIL + b".\r\n"
        talk.writer.write(one + one + b"QUIT\r\n")
        answers = [(await talk.answer())[:3] for _ in range(9)]
        assert answers == ["250", "250", "354", "250"] * 2 + ["221"]
        assert house.upstream.mails == [MAIL + b".\r\n"] * 2


# --- TLS ------------------------------------------------------------------------------------------


async def test_starttls_forgets_what_was_before(
    tmp_path: Path, certificates: Certificates, trust: ssl.SSLContext
) -> None:
    session = SessionPolicy(plaintext_login="never")
    async with (
        smtp_house(tmp_path, certificates=certificates, session=session) as house,
        house.talk() as talk,
    ):
        offers = await talk.hello()
        assert "STARTTLS" in offers
        assert "AUTH" not in offers
        assert (await talk.say(LOGIN)).startswith("538 5.7.11 ")
        await talk.start_tls(trust)
        assert (await talk.say(LOGIN)).startswith("503 5.5.1 ")
        offers = await talk.say(b"EHLO client")
        assert "STARTTLS" not in offers
        assert "AUTH PLAIN LOGIN" in offers
        assert (await talk.say(LOGIN)).startswith("235 ")
        assert (await talk.send(MAIL * 5000)).startswith("250 ")
        assert (await talk.say(b"QUIT")).startswith("221 ")
        ended = await house.facts.first(SmtpSessionEnded)
        assert (ended.tls, ended.ended, ended.accepted) == ("TLSv1.3", "quit", 1)


async def test_tls_may_come_first(
    tmp_path: Path, certificates: Certificates, trust: ssl.SSLContext
) -> None:
    async with (
        smtp_house(tmp_path, certificates=certificates) as house,
        house.talk(LOGIN, tls=trust) as talk,
    ):
        assert (await talk.send(MAIL * 5000)).startswith("250 ")
        assert (await talk.say(b"STARTTLS")).startswith("503 5.5.1 ")


async def test_without_a_certificate_there_is_no_starttls(tmp_path: Path) -> None:
    async with smtp_house(tmp_path) as house, house.talk() as talk:
        await talk.hello()
        assert (await talk.say(b"STARTTLS")).startswith("502 5.5.1 ")


@pytest.mark.parametrize("injected", [b"NOOP\r\n", LOGIN + b"\r\nMAIL FROM:<a@example.org>\r\n"])
async def test_what_came_in_clear_behind_starttls_is_never_a_command(
    tmp_path: Path, certificates: Certificates, trust: ssl.SSLContext, injected: bytes
) -> None:
    async with (
        smtp_house(tmp_path, certificates=certificates) as house,
        house.talk() as talk,
    ):
        await talk.hello()
        talk.writer.write(b"STARTTLS\r\n" + injected)
        assert (await talk.answer()).startswith("220 ")
        await talk.writer.start_tls(trust, server_hostname="localhost")
        assert (await talk.say(b"EHLO client")).startswith("250-pop3-sync-proxy\n")
        assert (await talk.say(b"DATA")).startswith("530 ")
        assert house.upstream.sessions == 0


async def test_what_is_no_handshake_ends_the_session(
    tmp_path: Path, certificates: Certificates
) -> None:
    async with smtp_house(tmp_path, certificates=certificates) as house:
        _, writer = await asyncio.open_connection("127.0.0.1", house.tls_port)
        writer.write(b"EHLO client\r\n")
        ended = await house.facts.first(SmtpSessionEnded)
        writer.close()
        assert ended.ended == "tls_error"


# --- limits ---------------------------------------------------------------------------------------


async def test_too_many_bad_commands_end_the_session(tmp_path: Path) -> None:
    limits = replace(NO_DELAY, max_bad_commands=3)
    async with smtp_house(tmp_path, limits=limits) as house, house.talk() as talk:
        await talk.hello()
        for _ in range(2):
            assert (await talk.say(b"WHAT")).startswith("500 5.5.2 ")
        assert (await talk.say(b"HELO")).startswith("501 5.5.4 ")
        assert (await talk.answer()).startswith("421 4.7.0 ")
        assert await talk.answer() == ""
        assert (await house.facts.first(SmtpSessionEnded)).ended == "bad_commands"


async def test_three_refused_logins_end_the_session(tmp_path: Path) -> None:
    async with smtp_house(tmp_path) as house, house.talk() as talk:
        await talk.hello()
        for _ in range(3):
            assert (await talk.say(plain(password="wrong"))).startswith("535 5.7.8 ")
        assert (await talk.answer()).startswith("421 4.7.0 ")
        assert await talk.answer() == ""
        assert (await house.facts.first(SmtpSessionEnded)).ended == "refused_logins"
        # Each costs one line of the log, and the session another.
        assert [type(fact) for fact in house.facts.seen] == [
            SessionStarted,
            *[LoginRefused] * 3,
            SmtpSessionEnded,
        ]


async def test_what_a_browser_was_made_to_post_is_not_carried_out(tmp_path: Path) -> None:
    async with smtp_house(tmp_path) as house, house.talk() as talk:
        await talk.hello()
        body = b"EHLO x\r\n" + plain() + b"\r\nMAIL FROM:<a@example.org>"
        answer = await talk.say(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n" + body)
        assert answer.startswith("554 5.5.2 ")
        assert await talk.answer() == ""
        assert (await house.facts.first(SmtpSessionEnded)).ended == "http"
        assert house.upstream.commands == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"", "500 5.5.2 "),
        (b"\xff", "500 5.5.2 "),
        (b"x" * 2000, "500 5.5.2 "),
        (b"x" * 100_000, "500 5.5.2 "),
        (b"NOOP a\rb", "501 5.5.2 "),
        (b"NOOP a\0b", "501 5.5.2 "),
        (b"HELO", "501 5.5.4 "),
        (b"RSET now", "501 5.5.4 "),
        (b"EXPN all", "500 5.5.2 "),
        (b"VRFY root", "252 2.5.0 "),
        (b"NOOP", "250 2.0.0 "),
    ],
)
async def test_every_answer_has_a_status_code(tmp_path: Path, line: bytes, expected: str) -> None:
    limits = replace(NO_DELAY, login_octets=Octets(10**6))
    async with smtp_house(tmp_path, limits=limits) as house, house.talk() as talk:
        await talk.hello()
        assert (await talk.say(line)).startswith(expected)
        assert (await talk.say(b"NOOP")).startswith("250 ")


async def test_a_stranger_may_send_only_so_much(tmp_path: Path) -> None:
    limits = replace(NO_DELAY, login_octets=Octets(1000))
    async with smtp_house(tmp_path, limits=limits) as house, house.talk() as talk:
        await talk.hello()
        talk.writer.write(b"NOOP\r\n" * 500)
        ended = await house.facts.first(SmtpSessionEnded)
        assert ended.ended == "login_octets"


async def test_a_stranger_has_only_so_much_time(tmp_path: Path) -> None:
    limits = replace(NO_DELAY, login_timeout=Seconds(1))
    async with smtp_house(tmp_path, limits=limits) as house, house.talk() as talk:
        await talk.hello()
        assert (await talk.answer()).startswith("421 4.4.2 ")
        assert (await house.facts.first(SmtpSessionEnded)).ended == "login_timeout"


async def test_silence_ends_a_session(tmp_path: Path) -> None:
    session = SessionPolicy(autologout=Seconds(1))
    async with smtp_house(tmp_path, session=session) as house, house.talk(LOGIN) as talk:
        await talk.say(b"MAIL FROM:<alice@example.org>")
        await talk.say(b"RCPT TO:<bob@example.org>")
        await talk.say(b"DATA")
        assert (await talk.answer()).startswith("421 4.4.2 ")
        assert (await house.facts.first(SmtpSessionEnded)).ended == "timeout"


async def test_one_address_has_only_so_many_connections(tmp_path: Path) -> None:
    limits = replace(NO_DELAY, max_connections_per_address=1)
    async with smtp_house(tmp_path, limits=limits) as house, house.talk(LOGIN) as first:
        async with house.talk() as talk:
            assert (await talk.answer()).startswith("421 4.7.0 ")
            assert await talk.answer() == ""
        assert (await first.say(b"NOOP")).startswith("250 ")


async def test_when_all_places_are_taken_the_oldest_stranger_makes_room(tmp_path: Path) -> None:
    limits = replace(NO_DELAY, max_connections=1)
    async with smtp_house(tmp_path, limits=limits) as house, house.talk() as first:
        await first.hello()
        async with house.talk(LOGIN) as second:
            assert (await first.answer()).startswith("421 4.7.0 ")
            assert (await second.say(b"NOOP")).startswith("250 ")
            async with house.talk() as third:
                assert (await third.answer()).startswith("421 4.7.0 ")


# --- forwarders -----------------------------------------------------------------------------------


async def test_a_forwarded_session_is_its_sender_s(tmp_path: Path) -> None:
    session = SessionPolicy(proxy_protocol_from=(ip_network("127.0.0.0/8"),))
    async with smtp_house(tmp_path, session=session) as house, house.talk() as talk:
        talk.writer.write(b"PROXY TCP4 203.0.113.9 192.0.2.1 1 2\r\n")
        # The sender is not at this machine, so that clear text is not for its password.
        assert "AUTH" not in await talk.hello()
        await talk.say(b"QUIT")
        assert (await house.facts.first(SmtpSessionEnded)).peer == "203.0.113.9"


async def test_what_is_no_header_is_told_and_dropped(tmp_path: Path) -> None:
    session = SessionPolicy(proxy_protocol_from=(ip_network("127.0.0.0/8"),))
    async with smtp_house(tmp_path, session=session) as house, house.talk() as talk:
        assert (await talk.say(b"EHLO client")).startswith("421 4.7.0 a PROXY protocol header")
        assert (await house.facts.first(SmtpSessionEnded)).ended == "proxy_header"
