"""RFC 5034, the AUTH command, with RFC 4616 (PLAIN) and RFC 4422 appendix A (EXTERNAL)."""

from __future__ import annotations

import base64

import pytest

from proxy.wire import pop3_events as pop3
from proxy.wire.pop3 import SASL_LINE_LIMIT
from proxy.wire.pop3_server import Pop3Server
from proxy.wire.scram import scram_keys
from tests.services.test_pop3_session import Drop, connected
from tests.wire.scram_client import ScramClient
from tests.wire.test_pop3_server import capabilities, logged_in, say, server

PLAIN = base64.b64encode(b"\0alice\0right")


def login_of(machine: Pop3Server, line: bytes) -> pop3.Event | None:
    machine.receive(line + b"\r\n")
    return machine.next_event()


def over_tls(*, certificate: bool = False) -> Pop3Server:
    machine = server()
    machine.receive(b"STLS\r\n")
    machine.next_event()
    machine.start_tls()
    machine.tls_started(certificate=certificate, end_point=b"end point")
    machine.data_to_send()
    return machine


async def test_an_initial_response_logs_in_at_once() -> None:
    """RFC 5034 §4."""
    async with connected(Drop([])) as client:
        await client.line()
        assert (await client.ask(b"AUTH PLAIN " + PLAIN)).startswith(b"+OK")
        assert (await client.ask(b"STAT")).startswith(b"+OK")


async def test_without_one_the_server_asks_with_an_empty_challenge() -> None:
    """RFC 5034 §4."""
    async with connected(Drop([])) as client:
        await client.line()
        assert await client.ask(b"AUTH PLAIN") == b"+ \r\n"
        assert (await client.ask(PLAIN)).startswith(b"+OK")


def test_an_equals_sign_is_an_initial_response_of_no_octets() -> None:
    """RFC 5034 §4."""
    machine = over_tls(certificate=True)
    assert login_of(machine, b"AUTH EXTERNAL =") == pop3.CertificateLogin("")


def test_an_asterisk_cancels() -> None:
    """RFC 5034 §4."""
    machine = server()
    assert say(machine, b"AUTH LOGIN").startswith(b"+ ")
    assert say(machine, b"*").startswith(b"-ERR")
    assert say(machine, b"USER alice").startswith(b"+OK")


@pytest.mark.parametrize("response", [b"no base64!", b"YQ", b"=", b"Y Q=="])
def test_what_is_not_base64_ends_the_exchange(response: bytes) -> None:
    """RFC 5034 §4."""
    machine = server()
    say(machine, b"AUTH PLAIN")
    assert say(machine, response).startswith(b"-ERR")
    assert say(machine, b"USER alice").startswith(b"+OK")


def test_an_unknown_mechanism_is_refused() -> None:
    """RFC 5034 §4."""
    assert say(server(), b"AUTH KERBEROS_V4").startswith(b"-ERR")


def test_auth_is_for_the_authorization_state_alone() -> None:
    """RFC 5034 §4."""
    assert say(logged_in(), b"AUTH PLAIN " + PLAIN).startswith(b"-ERR")


def test_a_response_longer_than_the_limit_is_refused() -> None:
    """RFC 5034 §4, with the length of RFC 4954 §4."""
    machine = server()
    say(machine, b"AUTH PLAIN")
    assert say(machine, b"A" * (SASL_LINE_LIMIT + 1)).startswith(b"-ERR")
    long_name = base64.b64encode(b"\0" + b"x" * 5000 + b"\0right")
    say(machine, b"AUTH PLAIN")
    assert login_of(machine, long_name) == pop3.PasswordLogin("x" * 5000, b"right")


@pytest.mark.parametrize("command", [b"AUTH", b"AUTH "])
def test_auth_alone_lists_the_mechanisms(command: bytes) -> None:
    """RFC 5034 §6: mutt and Outlook ask so, the latter with a blank behind it."""
    assert say(server(), command) == b"+OK mechanisms follow\r\nPLAIN\r\nLOGIN\r\n.\r\n"


@pytest.mark.parametrize("authzid", [b"", b"alice"])
def test_plain_takes_the_same_authorization_identity_or_none(authzid: bytes) -> None:
    """RFC 4616 §2."""
    response = base64.b64encode(authzid + b"\0alice\0right")
    assert login_of(server(), b"AUTH PLAIN " + response) == pop3.PasswordLogin("alice", b"right")


@pytest.mark.parametrize(
    "message", [b"bob\0alice\0right", b"alice\0right", b"\0alice\0a\0b", b"\0\0right", b"\0\xff\0x"]
)
def test_plain_refuses_other_identities_and_what_is_malformed(message: bytes) -> None:
    """RFC 4616 §2."""
    assert say(server(), b"AUTH PLAIN " + base64.b64encode(message)).startswith(b"-ERR")


def test_external_is_offered_to_who_has_shown_a_certificate_alone() -> None:
    """RFC 4422 appendix A."""
    assert "SASL PLAIN LOGIN EXTERNAL" in capabilities(over_tls(certificate=True))
    assert "SASL PLAIN LOGIN" in capabilities(over_tls())
    assert say(over_tls(), b"AUTH EXTERNAL =").startswith(b"-ERR")
    named = b"AUTH EXTERNAL " + base64.b64encode(b"alice")
    assert login_of(over_tls(certificate=True), named) == pop3.CertificateLogin("alice")


@pytest.mark.parametrize("plus", [False, True])
def test_scram_proves_both_sides_to_each_other(plus: bool) -> None:
    """RFC 5802 §5, RFC 7677, RFC 5929 §4."""
    machine = over_tls()
    header, data = ("p=tls-server-end-point,,", b"end point") if plus else ("n,,", b"")
    client = ScramClient("alice", b"pencil", header=header, data=data)
    name = b"SCRAM-SHA-256-PLUS" if plus else b"SCRAM-SHA-256"
    started = login_of(machine, b"AUTH " + name + b" " + base64.b64encode(client.first()))
    assert started == pop3.ScramStart("alice")
    keys = [scram_keys(password, b"salt", 4096) for password in (b"other", b"pencil")]
    machine.scram_challenge("nonce", b"salt", 4096, keys)
    challenge = base64.b64decode(machine.data_to_send()[2:])
    proof = base64.b64encode(client.final(challenge))
    answer = say(machine, proof)
    assert client.trusts(base64.b64decode(answer[2:]))
    assert login_of(machine, b"") == pop3.ScramLogin(1)


def test_a_scram_proof_of_no_known_key_logs_nobody_in() -> None:
    """RFC 5802 §5."""
    machine = over_tls()
    client = ScramClient("alice", b"wrong")
    login_of(machine, b"AUTH SCRAM-SHA-256 " + base64.b64encode(client.first()))
    machine.scram_challenge("nonce", b"salt", 4096, [scram_keys(b"pencil", b"salt", 4096)])
    challenge = base64.b64decode(machine.data_to_send()[2:])
    assert login_of(machine, base64.b64encode(client.final(challenge))) == pop3.ScramLogin(None)
