"""SASL mechanisms beside an oracle written from the RFCs, which shares no code with them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from proxy.wire import mechanisms
from proxy.wire import pop3_events as pop3
from proxy.wire.sasl import SaslError
from proxy.wire.scram import ScramKeys, ScramServer
from tests.fuzz.checks import expect
from tests.fuzz.ledger import check_name, check_password
from tests.fuzz.plan import stretched
from tests.fuzz.pop3_run import END_POINT, ITERATIONS, KEYS, PASSWORDS, SALT, server_nonce

SEPARATOR = b"\xff\n"
"""Between the responses of an input: 0xFF is in no UTF-8."""

HEADERS = (
    *("n,,", "y,,", "n,a="),
    *("p=tls-server-end-point,,", "p=tls-unique,,", "p=tls-server-end-point,a="),
)
"""One that ends in "a=" goes on with the user name."""
_SALTED = [hashlib.pbkdf2_hmac("sha256", word, SALT, ITERATIONS) for word in PASSWORDS]
CLIENT_KEYS = [hmac.digest(salted, b"Client Key", "sha256") for salted in _SALTED]

_FINAL = re.compile(
    r"(c=([A-Za-z0-9+/=]*),r=([!-+\--~]*)(?:,[bdfghjkloqtuwxyzA-Z]=[^,\0]+)*)"
    r",p=([A-Za-z0-9+/]{43}=)"
)
"""RFC 5802 §7, client-final-message; letters with a meaning of their own are no extensions."""

_SASLNAME = r"(?:[^=,\0]|=2C|=3D)+"
_FIRST = re.compile(
    rf"(?:[ny]|p=[A-Za-z0-9.-]+),(?:a={_SASLNAME})?,n={_SASLNAME},r=[!-+\--~]+"
    r"(?:,[bdfghjkloqtuwxyzA-Z]=[^,\0]+)*"
)
"""RFC 5802 §7, client-first-message."""

_EXTENSIONS = re.compile(r"[xyzA-Z]=[^,]+(?:,[xyzA-Z]=[^,]+)*")


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a SCRAM exchange was about so far."""

    first: str
    challenge: str
    plus: bool

    def proved_by(self, final: bytes, candidates: Sequence[ScramKeys]) -> int | None:
        """Which candidate's password this message proves, after RFC 5802 §3."""
        try:
            found = _FINAL.fullmatch(final.decode())
        except UnicodeDecodeError:
            return None
        if found is None or found[2] != self._binding() or found[3] != self._nonce():
            return None
        proof = base64.b64decode(found[4])
        signed = ",".join([self._bare(), self.challenge, found[1]]).encode()
        for index, keys in enumerate(candidates):
            signature = hmac.digest(keys.stored_key, signed, "sha256")
            client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
            if hashlib.sha256(client_key).digest() == keys.stored_key:
                return index
        return None

    def server_final(self, final: bytes, keys: ScramKeys) -> bytes:
        without_proof = final.rpartition(b",")[0].decode()
        signed = ",".join([self._bare(), self.challenge, without_proof]).encode()
        return b"v=" + base64.b64encode(hmac.digest(keys.server_key, signed, "sha256"))

    def client_final(self, client_key: bytes, extension: str = "") -> bytes:
        """What a client says that knows the password of this key."""
        without_proof = f"c={self._binding()},r={self._nonce()}{extension}"
        signed = ",".join([self._bare(), self.challenge, without_proof]).encode()
        stored_key = hashlib.sha256(client_key).digest()
        signature = hmac.digest(stored_key, signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()

    def _bare(self) -> str:
        return self.first.split(",", 2)[2]

    def _binding(self) -> str:
        header = ",".join(self.first.split(",", 2)[:2]) + ","
        data = header.encode() + (END_POINT if self.plus else b"")
        return base64.b64encode(data).decode()

    def _nonce(self) -> str:
        return self.challenge.split(",")[0][2:]


# --- one response after the other ---------------------------------------------------------------


def play_mechanism(data: bytes, make: Callable[[int], mechanisms.Mechanism]) -> None:
    """The first octet says which and how; the others are responses.

    Raises:
        SaslError: malformed.
    """
    flags, octets = data[0], stretched(data[1:])
    mechanism = make(flags)
    responses: list[bytes | None] = list(octets.split(SEPARATOR))
    if flags & 8:
        responses.insert(0, None)
    scram: Exchange | None = None
    before = b""
    for response in responses:
        step = mechanism.step(response)
        message = response or b""
        match step:
            case mechanisms.Challenge(challenge) if scram is not None:
                _check_proof(scram, message, challenge)
            case mechanisms.Challenge(challenge):
                expect(challenge in (b"", b"Username:", b"Password:"), "another challenge")
            case pop3.ScramStart():
                expect(scram is None, "a second exchange within one")
                scram = _challenge(mechanism, step, message)
            case pop3.PasswordLogin():
                _check_password_login(mechanism, step, before, message)
                return
            case pop3.CertificateLogin(username):
                expect(username == message.decode().strip(), "another name than was sent")
                check_name(username or "x")
                return
            case pop3.ScramLogin(candidate):
                _check_scram_login(scram, candidate, message)
                return
        before = message


def make_mechanism(flags: int) -> mechanisms.Mechanism:
    match flags & 3:
        case 0:
            return mechanisms.Plain()
        case 1:
            return mechanisms.Login()
        case 2:
            return mechanisms.External()
    end_point = END_POINT if flags & 16 else None
    return mechanisms.Scram(plus=bool(flags & 4), end_point=end_point)


def _challenge(mechanism: mechanisms.Mechanism, start: pop3.ScramStart, message: bytes) -> Exchange:
    check_name(start.username)
    text = message.decode()
    expect(_FIRST.fullmatch(text) is not None, "a first message against the grammar was taken")
    assert isinstance(mechanism, mechanisms.Scram)
    challenge = mechanism.challenge(server_nonce(1), SALT, ITERATIONS, KEYS)
    return Exchange(text, challenge.data.decode(), plus=text.startswith("p="))


def _check_proof(scram: Exchange, final: bytes, answer: bytes) -> None:
    """The mechanism goes on after the final message, so the proof must be good."""
    found = scram.proved_by(final, KEYS)
    expect(found is not None, "a proof of nothing was believed")
    expect(answer == scram.server_final(final, KEYS[found or 0]), "another proof of ours")


def _check_password_login(
    mechanism: mechanisms.Mechanism, login: pop3.PasswordLogin, before: bytes, message: bytes
) -> None:
    check_name(login.username)
    check_password(login.password)
    if isinstance(mechanism, mechanisms.Plain):
        acting, before, password = message.split(b"\0")
        expect(not acting or _name(acting) == login.username, "acting for somebody else")
    else:
        password = message
    as_sent = (_name(before), password) == (login.username, login.password)
    expect(as_sent, "another name or password than was sent")


def _name(sent: bytes) -> str:
    return sent.decode().strip()


def _check_scram_login(scram: Exchange | None, candidate: int | None, message: bytes) -> None:
    expect(scram is not None, "a SCRAM login without an exchange")
    assert scram is not None
    if candidate is None:
        expect(scram.proved_by(message, KEYS) is None, "a good proof was not believed")
    else:
        expect(not message, "something behind our proof was taken")


# --- a client that knows the password -----------------------------------------------------------

Server = Callable[[bool, bool, bytes | None], ScramServer]


def make_server(plus: bool, announced: bool, end_point: bytes | None) -> ScramServer:
    return ScramServer(plus=plus, plus_announced=announced, end_point=end_point)


def play_client(data: bytes, make: Server) -> None:
    """The octets choose header, name, extensions and one edit of the final message.

    Raises:
        SaslError: malformed.
    """
    choices, where, octet, announced = data[:4].ljust(4, b"\0")
    text = data[4:].decode("utf-8", "ignore")
    name, _, extension = text.partition("\n")
    plus, end_point = bool(choices & 8), END_POINT if choices & 16 else None
    first = _client_first(HEADERS[(choices & 7) % len(HEADERS)], name, extension)
    server = make(plus, announced % 2 == 1, end_point)
    deceived = first.startswith("y") and announced % 2 == 1 and end_point is not None
    try:
        username = server.first(first.encode()).username
    except SaslError:
        good = not deceived and _must_be_taken(first, name, extension, plus, end_point)
        expect(not good, "a good client refused")
        raise
    expect(not deceived, "somebody in between has hidden SCRAM-SHA-256-PLUS")
    expect(username == name.strip(), "another user's name")
    check_name(username)
    challenge = server.challenge(nonce=server_nonce(1), salt=SALT, iterations=ITERATIONS)
    exchange = Exchange(first, challenge.decode(), plus)
    knows = choices >> 5 & 1
    final = exchange.client_final(CLIENT_KEYS[knows], f",{extension}" if extension else "")
    if choices & 64:
        where %= len(final)
        final = final[:where] + bytes([octet]) + final[where + 1 :]
    _judge(exchange, final, server, KEYS[choices >> 7 :])


def _client_first(header: str, name: str, extension: str) -> str:
    saslname = name.replace("=", "=3D").replace(",", "=2C")
    if header.endswith("a="):
        header += saslname + ","
    return f"{header}n={saslname},r=clientnonce" + (f",{extension}" if extension else "")


def _must_be_taken(
    first: str, name: str, extension: str, plus: bool, end_point: bytes | None
) -> bool:
    prepared = name.strip()
    binds = first.startswith("p=tls-server-end-point,")
    return (
        len(first.encode()) <= 8192
        and "\0" not in first
        and prepared.isprintable()
        # Around it there may be blanks and tabs, and no line ends.
        and not re.search(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]", name)
        and prepared != ""
        and (extension == "" or _EXTENSIONS.fullmatch(extension) is not None)
        and (binds and end_point is not None if plus else first[:2] in ("n,", "y,"))
    )


def _judge(
    exchange: Exchange, final: bytes, server: ScramServer, candidates: Sequence[ScramKeys]
) -> None:
    expected = exchange.proved_by(final, candidates)
    try:
        found, answer = server.final(final, candidates)
    except SaslError:
        expect(expected is None, "a good final message refused")
        raise
    expect(found == expected, "another candidate than the one proved")
    if found is None:
        expect(answer == b"e=invalid-proof", "another error")
    else:
        expect(answer == exchange.server_final(final, candidates[found]), "another proof of ours")
