"""Strangers and clients that mean harm, at the door where mail is handed in."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from email import message_from_bytes
from email.policy import compat32

import pytest

from tests.e2e.rig import Rig
from tests.e2e.submission_stage import ObedientStage, obedient_stage
from tests.e2e.submitter import Submitter, plain

pytestmark = pytest.mark.e2e


@pytest.fixture
def stage(rig: Rig) -> Iterator[ObedientStage]:
    with obedient_stage(rig) as made:
        yield made


# --- relaying -------------------------------------------------------------------------------------

PATHS = [
    b"<victim@elsewhere.example>",
    b"<victim%elsewhere.example@example.org>",
    b'<"victim@elsewhere.example"@example.org>',
    b"<elsewhere.example!victim@example.org>",
    b"<@example.org,@relay.example:victim@elsewhere.example>",
    b"<@example.org:victim@elsewhere.example>",
    b"<victim@elsewhere.example@example.org>",
    b"<victim@[127.0.0.1]>",
    b"<postmaster>",
    b"<>",
]


@pytest.mark.parametrize("said", [b"", b"HELO x\r\n", b"EHLO x\r\n", b"EHLO x\r\nRSET\r\n"])
def test_nobody_relays_without_a_login(stage: ObedientStage, said: bytes) -> None:
    with stage.stranger() as client:
        client.answer()
        for _ in range(said.count(b"\n")):
            line, _, said = said.partition(b"\r\n")
            assert client.say(line).startswith("250")
        for path in PATHS[:6]:
            assert client.say(b"MAIL FROM:" + path)[:4] in ("530 ", "503 ")
            assert client.say(b"RCPT TO:" + path)[:4] in ("530 ", "503 ")
        assert client.say(b"DATA")[:4] in ("530 ", "503 ")
    assert stage.tap.connections == 0


def test_a_strange_recipient_is_for_the_server_to_judge_or_is_none(stage: ObedientStage) -> None:
    """What may be read in two ways does not go on; the rest goes on as it stands."""
    with stage.laptop() as client:
        assert client.say(b"MAIL FROM:<alice@example.org>").startswith("250 ")
        answers = {path: client.say(b"RCPT TO:" + path)[:4] for path in PATHS}
    passed = [path for path, answer in answers.items() if answer == "250 "]
    assert passed == [*PATHS[:4], *PATHS[7:9]]
    assert set(answers.values()) == {"250 ", "501 "}
    seen = [command for command in stage.tap.commands if command.startswith("RCPT")]
    assert seen == [f"RCPT TO:{path.decode()}" for path in passed]


# --- commands -------------------------------------------------------------------------------------

TRICKS = [
    b"MAIL FROM:<a@example.org>\rRCPT TO:<victim@example.org>",
    b"MAIL FROM:<a@example.org\r>",
    b"MAIL FROM:<a@example.org\0>",
    b"MAIL FROM:<a@example.org>\0",
    b"MAIL FROM:<a\t@example.org>",
    b"MAIL FROM:<a@example.org> SIZE=1\rRCPT",
    b"MAIL FROM:<a@example.org> ENVID=a\x0bb RET=FULL",
    b"MAIL FROM:<a@example.org> AUTH=<>\x7f",
    b"MAIL FROM:<a@example.org> BODY=7BIT BODY=8BITMIME",
    b"MAIL FROM:<a@example.org> SIZE=1 =2",
    b"MAIL FROM:<a@example.org>> SIZE=1",
    b"MAIL FROM:<a@example.org> <b@example.org>",
    b'MAIL FROM:<"a\r\n"@example.org>',
    b'MAIL FROM:<"a\\\x01"@example.org>',
    b'MAIL FROM:<"a@example.org>',
    b"MAIL FROM:<a\xff@example.org> SMTPUTF8",
    "MAIL FROM:<a\u2028b@example.org> SMTPUTF8".encode(),
    "MAIL FROM:<a\u0085b@example.org> SMTPUTF8".encode(),
    b"MAIL FROM:<a@example.org>" + b"x" * 900,
    b"MAIL\rFROM:<a@example.org>",
    b"MAIL  FROM:<a@example.org>",
    b"\0MAIL FROM:<a@example.org>",
]


def test_no_command_with_a_trick_in_it_reaches_the_server(stage: ObedientStage) -> None:
    for trick in TRICKS:
        with stage.laptop() as client:
            assert client.say(trick)[:3] in ("500", "501"), trick
    with stage.laptop() as client:
        client.begin()
        for trick in TRICKS:
            turned = trick.replace(b"MAIL", b"RCPT").replace(b"FROM", b"TO")
            assert client.say(turned)[:3] in ("500", "501", "555"), turned
            if b"\r\n" in turned:
                assert client.answer()[:3] == "500"
    verbs = {command.partition(":")[0] for command in stage.tap.commands}
    assert verbs <= {"EHLO [127.0.0.1]", "AUTH", "MAIL FROM", "RCPT TO"}
    assert stage.tap.commands.count("MAIL FROM:<alice@example.org>") == 1
    assert sum(command.startswith("RCPT") for command in stage.tap.commands) == 1


# --- TLS and logins -------------------------------------------------------------------------------

INJECTED = b"EHLO evil\r\n" + b"AUTH PLAIN AGFsaWNlAHg=\r\n" + b"MAIL FROM:<eve@example.org>\r\n"


@pytest.fixture
def strict(rig: Rig) -> Iterator[ObedientStage]:
    """Where no password may come in clear."""
    with obedient_stage(rig, sections={"pop3": {"plaintext_login": "never"}}) as made:
        yield made


def test_what_is_injected_in_clear_behind_starttls_is_never_a_command(
    strict: ObedientStage,
) -> None:
    stolen = plain(strict.login()) + b"\r\n"
    for injected in (INJECTED, b"NOOP\r\n", b"EHLO evil\r\n" + stolen, stolen, b"\r\n"):
        with Submitter(strict.endpoint("starttls")) as client:
            client.hello()
            client.write(b"STARTTLS\r\n" + injected)
            assert client.answer() == "220 2.0.0 ready for TLS"
            client.start_tls()
            assert client.say(b"MAIL FROM:<eve@example.org>").startswith("503 5.5.1 ")
            assert client.say(b"EHLO client").startswith("250-pop3-sync-proxy\n")
            assert client.say(b"MAIL FROM:<eve@example.org>").startswith("530 5.7.0 ")
    assert strict.tap.connections == 0


def test_no_login_is_taken_in_clear_where_that_is_not_allowed(strict: ObedientStage) -> None:
    login = strict.login()
    with Submitter(strict.endpoint("starttls")) as client:
        assert "AUTH" not in client.hello()
        for way in (plain(login), b"AUTH LOGIN", b"AUTH PLAIN", b"AUTH SCRAM-SHA-256"):
            assert client.say(way).startswith("538 5.7.11 ")
        assert client.say(b"MAIL FROM:<alice@example.org>").startswith("530 ")
        assert client.say(b"STARTTLS").startswith("220 ")
        client.start_tls()
        assert "STARTTLS" not in client.say(b"EHLO client")
        assert client.say(plain(login)).startswith("235 ")
        assert client.say(b"STARTTLS").startswith("503 ")
        assert client.say(plain(login)).startswith("503 ")
        assert client.send().startswith("250 ")


@pytest.mark.parametrize(
    "name", ["{}+lap\r\nX-Evil: 1", "{}+laptop\n", "{}\n+laptop", "{}+lap top", "{}+" + "x" * 33]
)
def test_a_device_name_brings_nothing_into_a_header_or_the_log(
    stage: ObedientStage, name: str
) -> None:
    user = name.format(stage.user.name)
    login = base64.b64encode(f"\0{user}\0{stage.user.password}".encode())
    with stage.stranger() as client:
        client.hello()
        assert client.say(b"AUTH PLAIN " + login)[:3] in ("501", "535")
        assert client.say(b"MAIL FROM:<alice@example.org>").startswith("530 ")
    stage.logged("smtp_session_ended")
    for line in stage.proxy.log().splitlines():
        assert line.startswith("timestamp="), line


FIELDS = [
    b"Message-ID: <a\r\n X-Evil: 1@example.org>\r\nSubject: folded\r\n",
    b"X-POP3-Sync-Proxy: sent\r\nX-POP3-Sync-Proxy-Device: phone\r\nSubject: forged\r\n",
    b"Message-ID: <a\nX-Other: 1@example.org>\r\nSubject: bare line feed\r\n",
]
NO_FIELDS = [
    b" X-Evil: 1\r\nSubject: begins with a folded line\r\n",
    b"\tX-Evil: 1\r\n",
    b"no header at all\r\n",
]


@pytest.mark.parametrize("header", [*FIELDS, *NO_FIELDS, b""])
def test_a_mail_s_own_header_forges_nothing_in_that_of_the_copy(
    stage: ObedientStage, header: bytes
) -> None:
    blind = '"a>\\"b, c"@example.org'
    with stage.laptop() as client:
        client.begin("bob@example.org", blind)
        assert client.content(header + b"\r\nText\r\n").startswith("250 ")
    (copy,) = stage.copies()["phone"]
    ours = (
        b"X-POP3-Sync-Proxy: sent\r\nX-POP3-Sync-Proxy-Device: laptop\r\n"
        b"Bcc: <bob@example.org>,\r\n <" + blind.encode() + b">\r\n"
    )
    between = b"\r\n" if header in NO_FIELDS else b""
    assert copy == ours + between + header.replace(b"a\nX", b"a\r\nX") + b"\r\nText\r\n"
    parsed = message_from_bytes(copy, policy=compat32)
    assert (parsed["X-POP3-Sync-Proxy"], parsed["X-POP3-Sync-Proxy-Device"]) == ("sent", "laptop")
    assert parsed["X-Evil"] is None
