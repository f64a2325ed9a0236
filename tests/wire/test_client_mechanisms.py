"""Logging in upstream: the examples of the RFCs, and our own server at the other end."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.client_mechanisms import (
    CramMd5,
    Login,
    OAuthBearer,
    Plain,
    XOAuth2,
    apop_digest,
    apop_timestamp,
)
from proxy.wire.errors import RemoteProtocolError
from proxy.wire.scram import ScramServer, scram_keys
from proxy.wire.scram_client import ITERATIONS_LEAST, ITERATIONS_LIMIT, Binding, Hash, ScramClient


def test_plain_is_one_message() -> None:
    """RFC 4616 §4."""
    assert Plain(b"tim", b"tanstaaftanstaaf").first == b"\0tim\0tanstaaftanstaaf"


def test_login_answers_name_and_password_whatever_the_questions_are() -> None:
    login = Login(b"tim", b"secret")
    assert [login.respond(b"User Name\0"), login.respond(b"?")] == [b"tim", b"secret"]
    login.check_success()


def test_the_example_of_rfc_2195() -> None:
    mechanism = CramMd5(b"tim", b"tanstaaftanstaaf")
    response = mechanism.respond(b"<1896.697170952@postoffice.reston.mci.net>")
    assert response == b"tim b913a602c7eda7a495b4e6e7334d3890"


def test_the_example_of_rfc_1939_for_apop() -> None:
    timestamp = apop_timestamp("POP3 server ready <1896.697170952@dbc.mtview.ca.us>")
    assert timestamp == "<1896.697170952@dbc.mtview.ca.us>"
    assert apop_digest(timestamp, b"tanstaaf") == "c4c9334bac560ecc979e58001b3e22fb"


@pytest.mark.parametrize(
    "greeting",
    [
        "ready",
        "ready <1896.697170952>",
        "ready <@>",
        "ready <a@b\x01c>",
        "ready <a@\ufffd>",
        "ready <a b@c>",
        "ready <a@b@" + "c" * 300 + ">",
    ],
)
def test_a_timestamp_that_an_attacker_may_have_made_is_none(greeting: str) -> None:
    assert apop_timestamp(greeting) is None


def test_the_example_of_google_for_xoauth2() -> None:
    mechanism = XOAuth2(b"someuser@example.com", b"ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg")
    assert base64.b64encode(mechanism.first or b"") == (
        b"dXNlcj1zb21ldXNlckBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB5YTI5LnZGOWRmdDRxbVRjMk52YjNSbGNrQmhk"
        b"SFJoZG1semRHRXVZMjl0Q2cBAQ=="
    )
    assert mechanism.respond(b'{"status":"401"}') == b""


def test_the_example_of_rfc_7628() -> None:
    mechanism = OAuthBearer(
        b"user@example.com", b"vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==", host="h.net", port=143
    )
    assert mechanism.first == (
        b"n,a=user@example.com,\1host=h.net\1port=143\1"
        b"auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\1\1"
    )
    assert mechanism.respond(b'{"status":"invalid_token"}') == b"\1"


def test_names_are_escaped_in_oauthbearer() -> None:
    first = OAuthBearer(b"a,b=c", b"t", host="h", port=1).first
    assert first is not None
    assert first.startswith(b"n,a=a=2Cb=3Dc,")


def test_the_example_of_rfc_5802() -> None:
    client = ScramClient("sha1", "user", b"pencil", nonce="fyko+d2lbbFgONRv9qkxdawL", binding=None)
    assert client.first == b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL"
    final = client.respond(
        b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096"
    )
    assert final == (
        b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="
    )
    assert client.respond(b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=") == b""
    client.check_success()


def test_the_example_of_rfc_7677() -> None:
    client = ScramClient("sha256", "user", b"pencil", nonce="rOprNGfwEbeRWgbNEkqO", binding=None)
    final = client.respond(
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    )
    assert final.endswith(b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    client.respond(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    client.check_success()


names = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1).filter(
    lambda name: name.isprintable() and name.isascii()
)


@given(name=names, password=st.text(st.characters(codec="ascii", exclude_characters="\r\n\0")))
def test_our_server_and_our_client_believe_each_other(name: str, password: str) -> None:
    end_point = Binding("tls-server-end-point", b"\x01" * 32)
    for binding in (None, end_point):
        server = ScramServer(
            plus=binding is not None, plus_announced=False, end_point=end_point.data
        )
        client = ScramClient("sha256", name, password.encode(), nonce="n" * 20, binding=binding)
        assert server.first(client.first or b"").username == name
        final = client.respond(server.challenge(nonce="m" * 20, salt=b"salt", iterations=4096))
        found, proof = server.final(final, [scram_keys(password.encode(), b"salt", 4096)])
        assert found == 0
        client.respond(proof)
        client.check_success()


@pytest.mark.parametrize("hash", ["sha1", "sha256"])
def test_a_server_that_does_not_know_the_password_is_not_believed(hash: Hash) -> None:
    client = ScramClient(hash, "user", b"pencil", nonce="abc", binding=None)
    client.respond(b"r=abcdef,s=QSXCR+Q6sek8bf92,i=4096")
    with pytest.raises(RemoteProtocolError, match="impostor"):
        client.respond(b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=")
    with pytest.raises(RemoteProtocolError, match="did not prove"):
        client.check_success()


def test_a_server_that_skips_its_proof_is_not_believed() -> None:
    client = ScramClient("sha1", "user", b"pencil", nonce="abc", binding=None)
    client.respond(b"r=abcdef,s=QSXCR+Q6sek8bf92,i=4096")
    with pytest.raises(RemoteProtocolError, match="did not prove"):
        client.check_success()


@pytest.mark.parametrize(
    "challenge",
    [
        b"",
        b"\xff",
        b"r=abc,s=QSXCR+Q6sek8bf92,i=4096",
        b"r=xyzdef,s=QSXCR+Q6sek8bf92,i=4096",
        b"r=abcdef,s=,i=4096",
        b"r=abcdef,s=Q,i=4096",
        b"r=abcdef,s=QSXCR+Q6sek8bf92,i=%d" % (ITERATIONS_LEAST - 1),
        b"r=abcdef,s=QSXCR+Q6sek8bf92,i=%d" % (ITERATIONS_LIMIT + 1),
        b"r=abcdef,s=QSXCR+Q6sek8bf92,i=-1",
        b"m=x,r=abcdef,s=QSXCR+Q6sek8bf92,i=4096",
        b"e=other-error",
    ],
)
def test_a_challenge_that_makes_no_sense_or_asks_too_little_is_refused(challenge: bytes) -> None:
    client = ScramClient("sha1", "user", b"pencil", nonce="abc", binding=None)
    with pytest.raises(RemoteProtocolError):
        client.respond(challenge)


@pytest.mark.parametrize("challenge", [b"", b"again"])
def test_no_mechanism_goes_on_for_ever(challenge: bytes) -> None:
    login, cram = Login(b"a", b"b"), CramMd5(b"a", b"b")
    for mechanism, steps in ((login, 2), (cram, 1), (Plain(b"a", b"b"), 0)):
        for _ in range(steps):
            mechanism.respond(b"x")
        with pytest.raises(RemoteProtocolError):
            mechanism.respond(challenge)


def test_an_upstream_that_does_not_ask_for_the_password_is_not_believed() -> None:
    for mechanism in (Login(b"a", b"b"), CramMd5(b"a", b"b")):
        with pytest.raises(RemoteProtocolError):
            mechanism.check_success()
