"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, server side (RFC 5802, RFC 7677).

The channel binding is tls-server-end-point (RFC 5929 §4), the only one that outlives a change of
TLS version.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import stringprep
from collections.abc import Sequence
from dataclasses import dataclass, field
from unicodedata import ucd_3_2_0 as unicode_3_2

from proxy.wire import sasl
from proxy.wire.errors import LocalProtocolError
from proxy.wire.sasl import SaslError

HASH = "sha256"
HASH_OCTETS = 32

CHANNEL_BINDING = "tls-server-end-point"

NONCE_LEAST = 8
"""Characters of a client's nonce. RFC 5802 names no least; clients in use send 20 and more."""
NONCE_LIMIT = 512
"""Characters of a client's nonce."""
MESSAGE_LIMIT = 8192
"""Octets of a client's message."""

# RFC 5802 §7. That a message is UTF-8 without NUL has been seen to before these are asked.
_NONCE = re.compile(r"[!-+\--~]+")
_SASLNAME = re.compile(r"(?:[^=,]|=2C|=3D)+")
_SASLNAME_LIMIT = 1024
"""Characters."""
_EXTENSION = re.compile(r"[A-Za-z]=[^,]+")
_DEFINED = "aceimnprsv"
"""Attributes with a meaning, and so with a place, of their own (§5.1)."""


@dataclass(frozen=True, slots=True)
class ScramKeys:
    """What the server knows instead of the password; its repr tells nothing."""

    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ClientFirst:
    """What the first message asks for."""

    username: str


def scram_keys(password: bytes, salt: bytes, iterations: int) -> ScramKeys:
    """The keys of a password (RFC 5802 §3); takes as long as `iterations` makes it."""
    salted = hashlib.pbkdf2_hmac(HASH, prepared_password(password), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", HASH)
    return ScramKeys(
        stored_key=hashlib.sha256(client_key).digest(),
        server_key=hmac.digest(salted, b"Server Key", HASH),
    )


class ScramServer:
    """One exchange: `first`, then the caller looks up keys, `challenge`, `final`.

    After a `SaslError` the exchange is over. So it is after `final`: there is one guess for each
    nonce.
    """

    def __init__(self, *, plus: bool, plus_announced: bool, end_point: bytes | None) -> None:
        """`plus`: the mechanism is SCRAM-SHA-256-PLUS; `plus_announced`: the client was offered it.

        `end_point` is the data of tls-server-end-point of this connection; None: it has no TLS.
        """
        self._plus = plus
        self._plus_announced = plus_announced
        self._end_point = end_point
        self._gs2_header = ""
        self._bare: str | None = None
        self._client_nonce = ""
        self._nonce = ""
        self._challenge: str | None = None

    def first(self, message: bytes) -> ClientFirst:
        """Take the client-first-message.

        Raises:
            SaslError: malformed (RFC 5802 §7), or it asks for what is not given here.
            LocalProtocolError: not now.
        """
        if self._bare is not None:
            raise LocalProtocolError("the first message has been taken")
        parts = _text(message).split(",", 2)
        if len(parts) != 3:
            raise SaslError("not a SCRAM message")
        flag, authzid, bare = parts
        self._check_flag(flag)
        name, nonce, *extensions = _attributes(bare, "nr")
        _check_extensions(extensions)
        username = _name(name)
        _check_authzid(authzid, username)
        if not NONCE_LEAST <= len(nonce) <= NONCE_LIMIT or not _NONCE.fullmatch(nonce):
            raise SaslError("the nonce is too short, too long or not printable")
        self._gs2_header = f"{flag},{authzid},"
        self._bare = bare
        self._client_nonce = nonce
        return ClientFirst(username)

    def challenge(self, *, nonce: str, salt: bytes, iterations: int) -> bytes:
        """The server-first-message. `nonce` is ours: never twice the same, and not to be guessed.

        Raises:
            LocalProtocolError: not now, or not with these values.
        """
        if self._bare is None or self._nonce:
            raise LocalProtocolError("a challenge answers the first message")
        if not _NONCE.fullmatch(nonce) or not salt or iterations < 1:
            raise LocalProtocolError("no nonce, salt or iteration count of SCRAM")
        self._nonce = self._client_nonce + nonce
        self._challenge = f"r={self._nonce},s={sasl.encode(salt).decode()},i={iterations}"
        return self._challenge.encode()

    def final(self, message: bytes, candidates: Sequence[ScramKeys]) -> tuple[int | None, bytes]:
        """Take the client-final-message.

        Returns the index of the candidate whose password the client knows, None if it knows that
        of none, and the server-final-message.

        Raises:
            SaslError: malformed (RFC 5802 §7), or it does not belong to this exchange.
            LocalProtocolError: not now.
        """
        if self._challenge is None:
            raise LocalProtocolError("a final message follows a challenge")
        challenge, self._challenge = self._challenge, None
        without_proof, _, last = _text(message).rpartition(",")
        binding, nonce, *extensions = _attributes(without_proof, "cr")
        _check_extensions(extensions)
        (proof,) = _attributes(last, "p")
        if binding != self._expected_binding():
            raise SaslError("the channel binding is not that of this connection")
        if nonce != self._nonce:
            raise SaslError("the nonce is not that of this exchange")
        signed = f"{self._bare},{challenge},{without_proof}".encode()
        return _answer(signed, _proof(proof), candidates)

    def _check_flag(self, flag: str) -> None:
        """The gs2-cbind-flag (RFC 5802 §6).

        Raises:
            SaslError: it does not fit the mechanism or the connection.
        """
        if self._plus and self._end_point is None:
            raise SaslError("channel binding needs TLS")
        if flag not in ("n", "y") and not flag.startswith("p="):
            raise SaslError("not a SCRAM message")
        if flag.startswith("p=") is not self._plus:
            raise SaslError("channel binding goes with SCRAM-SHA-256-PLUS, and only with it")
        if self._plus and flag != f"p={CHANNEL_BINDING}":
            raise SaslError(f"the channel binding is not {CHANNEL_BINDING}")
        if flag == "y" and self._plus_announced and self._end_point is not None:
            # The client was made to believe that we cannot: somebody sits in between.
            raise SaslError("SCRAM-SHA-256-PLUS was announced")

    def _expected_binding(self) -> str:
        """The value of c=: cbind-input in base64, which has one form for the same octets."""
        data = self._end_point if self._plus else None
        return sasl.encode(self._gs2_header.encode() + (data or b"")).decode()


# --- parts of messages --------------------------------------------------------------------------


def _text(message: bytes) -> str:
    """Raises:
    SaslError: no message is so.
    """
    if len(message) > MESSAGE_LIMIT:
        raise SaslError("the message is too long")
    try:
        text = message.decode("utf-8")
    except UnicodeDecodeError:
        raise SaslError("the message is not UTF-8") from None
    if "\0" in text:
        raise SaslError("the message has a NUL")
    return text


def _attributes(text: str, names: str) -> list[str]:
    """The values of the attributes that must come first, in this order, then all others whole.

    Raises:
        SaslError: others came.
    """
    attributes = text.split(",")
    if attributes[0].startswith("m="):
        raise SaslError("no mandatory extension is supported")
    if len(attributes) < len(names):
        raise SaslError("an attribute is missing")
    for attribute, name in zip(attributes, names, strict=False):
        if not attribute.startswith(f"{name}="):
            raise SaslError(f"{name}= is missing")
    count = len(names)
    return [attribute[2:] for attribute in attributes[:count]] + attributes[count:]


def _check_extensions(attributes: list[str]) -> None:
    """RFC 5802 §7: extensions nobody knows are ignored, m= is not one of those.

    Raises:
        SaslError: malformed, or an attribute in the wrong place.
    """
    for attribute in attributes:
        if not _EXTENSION.fullmatch(attribute) or attribute[0] in _DEFINED:
            raise SaslError("malformed extension, or an attribute in the wrong place")


def _check_authzid(authzid: str, username: str) -> None:
    """Raises:
    SaslError: malformed, or another user's.
    """
    if not authzid:
        return
    (name,) = _attributes(authzid, "a")
    if _name(name) != username:
        raise SaslError("acting for another user is not supported")


def _name(saslname: str) -> str:
    """The user name a saslname stands for, as it was sent.

    RFC 5802 §5.1 would have it prepared by SASLprep. A name means the same by whatever mechanism it
    comes, and the others prepare nothing; how names are compared is decided in one place for all.

    Raises:
        SaslError: malformed.
    """
    if len(saslname) > _SASLNAME_LIMIT or not _SASLNAME.fullmatch(saslname):
        raise SaslError("malformed user name")
    # In this order: "=3D2C" stands for "=2C".
    name = saslname.replace("=2C", ",").replace("=3D", "=")
    return sasl.decode_name(name.encode())


def _proof(text: str) -> bytes:
    """Raises:
    SaslError: it can be no proof.
    """
    proof = sasl.decode(text.encode())
    if len(proof) != HASH_OCTETS:
        raise SaslError("the proof has a wrong length")
    return proof


# --- what is proved -----------------------------------------------------------------------------


def prepared_password(password: bytes) -> bytes:
    """The password as a client puts it in: mapped and normalised by SASLprep (RFC 4013 §2.1, §2.2).

    What SASLprep prohibits is let through, for a client that prepares nothing knows such passwords
    as well, and one that prepares will not come with them. No UTF-8, no preparation.
    """
    try:
        text = password.decode("utf-8")
    except UnicodeDecodeError:
        return password
    # A character that is in both tables becomes a space, as in GNU SASL.
    spaced = (" " if stringprep.in_table_c12(character) else character for character in text)
    visible = "".join(character for character in spaced if not stringprep.in_table_b1(character))
    return unicode_3_2.normalize("NFKC", visible).encode()


def _answer(
    signed: bytes, proof: bytes, candidates: Sequence[ScramKeys]
) -> tuple[int | None, bytes]:
    # All are tried, so that the time tells nothing about which of them it was.
    matches = [_proves(proof, signed, keys.stored_key) for keys in candidates]
    if True not in matches:
        return None, b"e=invalid-proof"
    found = matches.index(True)
    signature = hmac.digest(candidates[found].server_key, signed, HASH)
    return found, b"v=" + sasl.encode(signature)


def _proves(proof: bytes, signed: bytes, stored_key: bytes) -> bool:
    signature = hmac.digest(stored_key, signed, HASH)
    client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
    return hmac.compare_digest(hashlib.sha256(client_key).digest(), stored_key)
