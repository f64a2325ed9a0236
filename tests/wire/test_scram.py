"""SCRAM-SHA-256, server side, against the RFCs' own words and a client made from them."""

from __future__ import annotations

import base64
import hashlib
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.errors import LocalProtocolError
from proxy.wire.sasl import SaslError
from proxy.wire.scram import (
    MESSAGE_LIMIT,
    NONCE_LEAST,
    NONCE_LIMIT,
    ClientFirst,
    ScramKeys,
    ScramServer,
    scram_keys,
)
from tests.needs import need
from tests.wire.scram_client import CLIENT_NONCE, ScramClient

SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
SERVER_NONCE = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
NONCE = CLIENT_NONCE + SERVER_NONCE
END_POINT = hashlib.sha256(b"a certificate").digest()
PLUS_HEADER = "p=tls-server-end-point,,"

# RFC 7677 §3.
FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
CHALLENGE = (
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
)
WITHOUT_PROOF = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
PROOF = b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="

PENCIL = scram_keys(b"pencil", SALT, 4096)


def server(
    *, plus: bool = False, plus_announced: bool = False, end_point: bytes | None = None
) -> ScramServer:
    return ScramServer(plus=plus, plus_announced=plus_announced, end_point=end_point)


def challenged(first: bytes = FIRST, machine: ScramServer | None = None) -> ScramServer:
    machine = machine or server()
    machine.first(first)
    machine.challenge(nonce=SERVER_NONCE, salt=SALT, iterations=4096)
    return machine


def talk(
    client: ScramClient, machine: ScramServer, *candidates: ScramKeys
) -> tuple[int | None, bytes]:
    machine.first(client.first())
    challenge = machine.challenge(nonce=SERVER_NONCE, salt=SALT, iterations=16)
    return machine.final(client.final(challenge), candidates)


# --- what goes well -----------------------------------------------------------------------------


def test_the_example_of_rfc_7677_comes_out_to_the_octet() -> None:
    machine = server()
    assert machine.first(FIRST) == ClientFirst("user")
    assert machine.challenge(nonce=SERVER_NONCE, salt=SALT, iterations=4096) == CHALLENGE
    assert machine.final(WITHOUT_PROOF + PROOF, [PENCIL]) == (0, SERVER_FINAL)


def test_of_many_candidates_the_one_whose_password_it_is_is_named() -> None:
    passwords = [b"laptop", b"phone", b"tablet", b"desk"]
    keys = [scram_keys(password, SALT, 16) for password in passwords]
    for index, password in enumerate(passwords):
        client = ScramClient("user", password)
        found, answer = talk(client, server(), *keys)
        assert found == index
        assert client.trusts(answer)


def test_of_two_candidates_with_one_password_the_first_is_named() -> None:
    keys = scram_keys(b"twice", SALT, 16)
    assert talk(ScramClient("user", b"twice"), server(), PENCIL, keys, keys)[0] == 1


@pytest.mark.parametrize(
    "keys", [(), (PENCIL,), (PENCIL, ScramKeys(b"", b"")), (ScramKeys(bytes(32), bytes(32)),)]
)
def test_a_proof_of_no_candidate_is_refused(keys: tuple[ScramKeys, ...]) -> None:
    assert talk(ScramClient("user", b"wrong"), server(), *keys) == (None, b"e=invalid-proof")


def test_the_channel_binding_is_taken_with_plus() -> None:
    client = ScramClient("user", b"x", header=PLUS_HEADER, data=END_POINT)
    machine = server(plus=True, plus_announced=True, end_point=END_POINT)
    found, answer = talk(client, machine, scram_keys(b"x", SALT, 16))
    assert found == 0
    assert client.trusts(answer)


@pytest.mark.parametrize(
    ("flag", "announced", "end_point"),
    [("n", True, END_POINT), ("y", False, END_POINT), ("y", True, None), ("y", False, None)],
)
def test_a_client_may_do_without_channel_binding_where_it_saw_none(
    flag: str, announced: bool, end_point: bytes | None
) -> None:
    machine = server(plus_announced=announced, end_point=end_point)
    client = ScramClient("user", b"x", header=f"{flag},,")
    assert talk(client, machine, scram_keys(b"x", SALT, 16))[0] == 0


def test_the_user_may_name_itself_as_the_one_to_act_for() -> None:
    client = ScramClient("a=b,c", b"x", header="n,a=a=3Db=2Cc,")
    assert talk(client, server(), scram_keys(b"x", SALT, 16))[0] == 0


def test_extensions_nobody_knows_are_ignored() -> None:
    client = ScramClient("user", b"x", more=",x=1,Y==,z=ä b")
    found, answer = talk(client, server(), scram_keys(b"x", SALT, 16))
    assert found == 0
    assert client.trusts(answer)


def first_naming(saslname: str) -> bytes:
    return f"n,,n={saslname},r={CLIENT_NONCE}".encode()


@pytest.mark.parametrize(
    ("saslname", "name"),
    [
        ("=2C", ","),
        ("=3D", "="),
        ("=3D2C", "=2C"),
        ("=3D3D=2C=2C", "=3D,,"),
        ("alice@example.com+laptop", "alice@example.com+laptop"),
        ("two words", "two words"),
        ("J\u00fcrgen", "Jürgen"),
        ("Ju\u0308rgen", "Ju\u0308rgen"),
        ("\u2168", "\u2168"),
        ("\u00a0two words ", "two words"),
    ],
)
def test_names_are_decoded_and_come_as_they_were_sent(saslname: str, name: str) -> None:
    assert server().first(first_naming(saslname)).username == name


names = st.text(alphabet=st.sampled_from("ab=,2CD3ü 日"), min_size=1, max_size=12).map(
    lambda name: f"u{name}r"
)


# No UTF-8, so nothing is prepared.
@given(names, st.binary(max_size=20).map(lambda password: password + b"\xff"))
def test_whoever_knows_the_password_is_let_in_and_nobody_else(name: str, password: bytes) -> None:
    client = ScramClient(name, password)
    machine = server()
    assert machine.first(client.first()).username == name
    challenge = machine.challenge(nonce=SERVER_NONCE, salt=SALT, iterations=4)
    keys = [scram_keys(other, SALT, 4) for other in (password + b"x", password)]
    found, answer = machine.final(client.final(challenge), keys)
    assert found == 1
    assert client.trusts(answer)
    assert talk(client, server(), keys[0])[0] is None


@given(names, st.text(alphabet=st.characters(max_codepoint=126, min_codepoint=32), max_size=20))
def test_passwords_of_ascii_are_taken_as_they_are(name: str, password: str) -> None:
    client = ScramClient(name, password.encode())
    assert talk(client, server(), scram_keys(password.encode(), SALT, 16))[0] == 0


@pytest.mark.parametrize(
    ("password", "prepared"),
    [
        # RFC 4013 §3.
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b\u1680c\u200bd", "a b c d"),
        ("a\ufe0f\u0301", "\u00e1"),
        ("\U0001f511", "\U0001f511"),
    ],
)
def test_a_password_is_prepared_as_clients_prepare_it(password: str, prepared: str) -> None:
    keys = scram_keys(password.encode(), SALT, 16)
    client = ScramClient("user", prepared.encode())
    assert talk(client, server(), keys)[0] == 0


def test_no_key_is_shown() -> None:
    assert repr(PENCIL) == "ScramKeys()"


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"n",
        b"n,",
        b"n,,",
        b"n,n=user,r=rOprNGfwEbeRWgbNEkqO",
        b"N,,n=user,r=rOprNGfwEbeRWgbNEkqO",
        b",,n=user,r=rOprNGfwEbeRWgbNEkqO",
        b"x=1,,n=user,r=rOprNGfwEbeRWgbNEkqO",
        # Who.
        b"n,,n=,r=rOprNGfwEbeRWgbNEkqO",
        b"n,,r=rOprNGfwEbeRWgbNEkqO",
        b"n,,n=" + b"x" * 1025 + b",r=rOprNGfwEbeRWgbNEkqO",
        b"n,,n=a=b,r=rOprNGfwEbeRWgbNEkqO",
        b"n,,n=a=2c,r=rOprNGfwEbeRWgbNEkqO",
        b"n,,n=a=,r=rOprNGfwEbeRWgbNEkqO",
        b"n,,n=\xff,r=rOprNGfwEbeRWgbNEkqO",
        b"n,,n=a\0b,r=rOprNGfwEbeRWgbNEkqO",
        b"n,,n=a\rb,r=rOprNGfwEbeRWgbNEkqO",
        b"n,,n=a\xe2\x80\x8db,r=rOprNGfwEbeRWgbNEkqO",
        # For whom.
        b"n,a=other,n=user,r=rOprNGfwEbeRWgbNEkqO",
        b"n,a=,n=user,r=rOprNGfwEbeRWgbNEkqO",
        b"n,user,n=user,r=rOprNGfwEbeRWgbNEkqO",
        b"n,a=us=er,n=user,r=rOprNGfwEbeRWgbNEkqO",
        # The nonce.
        b"n,,n=user",
        b"n,,n=user,r=",
        b"n,,n=user,r=" + b"x" * (NONCE_LEAST - 1),
        b"n,,n=user,r=" + b"x" * (NONCE_LIMIT + 1),
        b"n,,n=user,r=with a space in it",
        b"n,,n=user,r=with-a-\xc3\xbc-in-it",
        b"n,,n=user,r=with-a-\x7f-in-it",
        b"n,,n=user,r=with-a-line-end\n",
        # Order.
        b"n,,r=rOprNGfwEbeRWgbNEkqO,n=user",
        b"n,,x=1,n=user,r=rOprNGfwEbeRWgbNEkqO",
        b"n,,n=user,x=1,r=rOprNGfwEbeRWgbNEkqO",
        b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO,n=root",
        b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO,a=root",
        # Extensions.
        b"n,,m=x,n=user,r=rOprNGfwEbeRWgbNEkqO",
        b"n,,m=,n=user,r=rOprNGfwEbeRWgbNEkqO",
        b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO,m=x",
        b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO,",
        b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO,x",
        b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO,x=",
        b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO,1=x",
        b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO,xy=z",
        b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO,x=\xff",
        b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO,x=".ljust(MESSAGE_LIMIT + 1, b"x"),
    ],
)
def test_a_malformed_first_message_is_refused(message: bytes) -> None:
    with pytest.raises(SaslError):
        server().first(message)


def test_a_mandatory_extension_is_refused_by_name() -> None:
    """RFC 5802 §5.1, m."""
    with pytest.raises(SaslError, match="mandatory"):
        server().first(b"n,,m=x,n=user,r=rOprNGfwEbeRWgbNEkqO")


@pytest.mark.parametrize("length", [NONCE_LEAST, NONCE_LIMIT])
def test_nonces_up_to_the_bounds_are_taken(length: int) -> None:
    assert server().first(b"n,,n=user,r=" + b"~" * length) == ClientFirst("user")


@pytest.mark.parametrize(
    ("plus", "announced", "end_point", "header"),
    [
        # With channel binding, without PLUS.
        (False, True, END_POINT, PLUS_HEADER),
        (False, False, None, PLUS_HEADER),
        # The other way round.
        (True, True, END_POINT, "n,,"),
        (True, True, END_POINT, "y,,"),
        (True, True, END_POINT, "p,,"),
        (True, True, END_POINT, "p=,,"),
        # Another binding.
        (True, True, END_POINT, "p=tls-unique,,"),
        (True, True, END_POINT, "p=tls-exporter,,"),
        (True, True, END_POINT, "p=TLS-SERVER-END-POINT,,"),
        # No TLS to bind to.
        (True, True, None, PLUS_HEADER),
        (True, True, None, "n,,"),
        # The announcement was kept from the client (RFC 5802 §6).
        (False, True, END_POINT, "y,,"),
    ],
)
def test_a_binding_flag_that_does_not_fit_is_refused(
    plus: bool, announced: bool, end_point: bytes | None, header: str
) -> None:
    machine = server(plus=plus, plus_announced=announced, end_point=end_point)
    with pytest.raises(SaslError):
        machine.first(ScramClient("user", b"x", header=header).first())


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b",",
        WITHOUT_PROOF,
        PROOF[1:],
        # c= is not the header that came first.
        WITHOUT_PROOF.replace(b"biws", b"eSws") + PROOF,
        WITHOUT_PROOF.replace(b"biws", b"biw=") + PROOF,
        WITHOUT_PROOF.replace(b"biws", b"") + PROOF,
        WITHOUT_PROOF.replace(b"biws", b"biwsAA==") + PROOF,
        WITHOUT_PROOF.replace(b"biws", b"!") + PROOF,
        # r= is not the nonce both have made.
        WITHOUT_PROOF[:-1] + PROOF,
        WITHOUT_PROOF + b"x" + PROOF,
        b"c=biws,r=" + CLIENT_NONCE.encode() + PROOF,
        b"c=biws,r=" + PROOF,
        b"c=biws" + PROOF,
        # p= is no proof.
        WITHOUT_PROOF + b",p=",
        WITHOUT_PROOF + b",p=AAAA",
        WITHOUT_PROOF + b",p=" + base64.b64encode(bytes(33)),
        WITHOUT_PROOF + b",p=not base64",
        WITHOUT_PROOF + b",p=\xc3\xbc",
        # Order, extensions.
        WITHOUT_PROOF + PROOF + b",x=1",
        WITHOUT_PROOF + PROOF + PROOF,
        b"r=" + NONCE.encode() + b",c=biws" + PROOF,
        WITHOUT_PROOF + b",m=x" + PROOF,
        b"m=x," + WITHOUT_PROOF + PROOF,
        WITHOUT_PROOF + b",x" + PROOF,
        WITHOUT_PROOF + b",x=\0" + PROOF,
        WITHOUT_PROOF + b",x=".ljust(MESSAGE_LIMIT, b"x") + PROOF,
    ],
)
def test_a_malformed_final_message_is_refused(message: bytes) -> None:
    with pytest.raises(SaslError):
        challenged().final(message, [PENCIL])


@pytest.mark.parametrize("data", [b"", END_POINT[:-1], END_POINT[::-1], END_POINT + b"\0"])
def test_the_binding_of_another_connection_is_refused(data: bytes) -> None:
    client = ScramClient("user", b"x", header=PLUS_HEADER, data=data)
    machine = server(plus=True, plus_announced=True, end_point=END_POINT)
    with pytest.raises(SaslError):
        talk(client, machine, scram_keys(b"x", SALT, 16))


def test_without_plus_no_binding_data_is_taken() -> None:
    client = ScramClient("user", b"x", data=END_POINT)
    with pytest.raises(SaslError):
        talk(client, server(end_point=END_POINT), scram_keys(b"x", SALT, 16))


def test_a_proof_of_another_exchange_is_of_no_use() -> None:
    machine = server()
    machine.first(FIRST)
    machine.challenge(nonce="another", salt=SALT, iterations=4096)
    replayed = WITHOUT_PROOF.replace(SERVER_NONCE.encode(), b"another") + PROOF
    assert machine.final(replayed, [PENCIL])[0] is None


def test_extensions_are_proved_as_well() -> None:
    assert challenged().final(WITHOUT_PROOF + b",x=1" + PROOF, [PENCIL])[0] is None


def test_steps_out_of_order_are_our_own_fault() -> None:
    with pytest.raises(LocalProtocolError):
        server().challenge(nonce=SERVER_NONCE, salt=SALT, iterations=4096)
    with pytest.raises(LocalProtocolError):
        server().final(WITHOUT_PROOF + PROOF, [PENCIL])
    machine = challenged()
    with pytest.raises(LocalProtocolError):
        machine.first(FIRST)
    with pytest.raises(LocalProtocolError):
        machine.challenge(nonce=SERVER_NONCE, salt=SALT, iterations=4096)
    assert machine.final(WITHOUT_PROOF + PROOF, [])[0] is None
    with pytest.raises(LocalProtocolError):
        machine.final(WITHOUT_PROOF + PROOF, [PENCIL])


@pytest.mark.parametrize(
    ("nonce", "salt", "iterations"),
    [("", SALT, 4096), ("a,b", SALT, 4096), ("a b", SALT, 4096), ("a", b"", 4096), ("a", SALT, 0)],
)
def test_a_challenge_no_client_could_read_is_our_own_fault(
    nonce: str, salt: bytes, iterations: int
) -> None:
    machine = server()
    machine.first(FIRST)
    with pytest.raises(LocalProtocolError):
        machine.challenge(nonce=nonce, salt=salt, iterations=iterations)


WORDS = (
    b"n|y|p=tls-server-end-point||a=user|n=user|n==2C|n=|r=|r=rOprNGfwEbeRWgbNEkqO|m=x|x=1|c=biws|"
    b"c=|p=|p=AAAA|=|\xff|\0"
)
parts = st.sampled_from([*WORDS.split(b"|"), f"r={NONCE}".encode(), PROOF[1:]])
messages = st.binary(max_size=80) | st.lists(parts, max_size=7).map(b",".join)


@given(messages, st.booleans(), st.booleans(), st.none() | st.binary())
def test_anything_as_the_first_message_is_taken_or_refused(
    message: bytes, plus: bool, announced: bool, end_point: bytes | None
) -> None:
    machine = server(plus=plus, plus_announced=announced, end_point=end_point)
    try:
        username = machine.first(message).username
    except SaslError:
        return
    assert username
    assert username.isprintable()


@given(messages)
def test_anything_as_the_final_message_is_answered_or_refused(message: bytes) -> None:
    machine = challenged()
    try:
        found, answer = machine.final(message, [PENCIL])
    except SaslError:
        return
    assert (found, answer) in [(0, SERVER_FINAL), (None, b"e=invalid-proof")]


# --- another implementation ---------------------------------------------------------------------


@pytest.mark.parametrize(("name", "password"), [("us,=er", "pencil"), ("j\u00fc", "\u2168\u00a0x")])
def test_gsasl_and_the_server_believe_each_other(name: str, password: str) -> None:
    machine = server()
    options = ["-m", "SCRAM-SHA-256", "-a", name, "-p", password, "--no-cb"]
    with subprocess.Popen(
        [need("gsasl"), "--client", "--quiet", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PATH": "/usr/bin:/usr/local/bin", "LC_ALL": "C.UTF-8"},
    ) as gsasl:
        assert gsasl.stdin is not None
        assert gsasl.stdout is not None
        gsasl.stdout.readline()  # the mechanism
        assert machine.first(base64.b64decode(gsasl.stdout.readline())).username == name
        challenge = machine.challenge(nonce=SERVER_NONCE, salt=SALT, iterations=4096)
        gsasl.stdin.write(base64.b64encode(challenge) + b"\n")
        gsasl.stdin.flush()
        keys = scram_keys(password.encode(), SALT, 4096)
        found, answer = machine.final(base64.b64decode(gsasl.stdout.readline()), [PENCIL, keys])
        assert found == (0 if password == "pencil" else 1)
        # Our proof; then nothing, which it asks for once more.
        gsasl.communicate(base64.b64encode(answer) + b"\n\n", timeout=10)
    assert gsasl.returncode == 0
