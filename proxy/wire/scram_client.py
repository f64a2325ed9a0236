"""SCRAM, client side: SCRAM-SHA-1 and SCRAM-SHA-256, with channel binding or without (RFC 5802,
RFC 7677). Knows the password, proves that without sending it, and makes the server do the same.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Literal

from proxy.wire import sasl
from proxy.wire.errors import RemoteProtocolError
from proxy.wire.sasl import SaslError
from proxy.wire.scram import prepared_password

Hash = Literal["sha1", "sha256"]

ITERATIONS_LEAST = 4096
"""RFC 7677 §4; fewer would make a recorded exchange cheap to search for the password."""
ITERATIONS_LIMIT = 500_000
"""A third of a second of our time; no mail server asks for so many."""

_CHALLENGE = re.compile(r"r=([!-+\--~]+),s=([A-Za-z0-9+/=]+),i=([1-9][0-9]{0,8})(?:,.*)?")


@dataclass(frozen=True, slots=True)
class Binding:
    """A channel binding: its name, and what both ends of the connection know (RFC 5929)."""

    name: str
    data: bytes


class ScramClient:
    """One exchange; see `client_mechanisms.ClientMechanism`."""

    def __init__(
        self, hash: Hash, username: str, password: bytes, *, nonce: str, binding: Binding | None
    ) -> None:
        """`nonce` is printable ASCII without commas and must never be used twice.

        With a `binding` the mechanism is the one whose name ends in -PLUS.
        """
        self._hash = hash
        self._password = password
        self._nonce = nonce
        name = username.replace("=", "=3D").replace(",", "=2C")
        self._bare = f"n={name},r={nonce}"
        self._header = f"p={binding.name},," if binding else "n,,"
        self._binding_data = binding.data if binding else b""
        self._expected = ""
        self._proved = False
        self.first: bytes | None = (self._header + self._bare).encode()

    def respond(self, challenge: bytes) -> bytes:
        try:
            text = challenge.decode()
        except UnicodeDecodeError:
            raise RemoteProtocolError("a SCRAM message that is not UTF-8") from None
        if self._expected:
            return self._take_proof(text)
        return self._prove(text)

    def check_success(self) -> None:
        if not self._proved:
            raise RemoteProtocolError("upstream did not prove that it knows the password")

    def _prove(self, challenge: str) -> bytes:
        found = _CHALLENGE.fullmatch(challenge)
        if found is None:
            raise RemoteProtocolError("not a SCRAM challenge")
        nonce, salt, iterations = found[1], found[2], int(found[3])
        if not nonce.startswith(self._nonce) or nonce == self._nonce:
            raise RemoteProtocolError("a SCRAM challenge for somebody else")
        if not ITERATIONS_LEAST <= iterations <= ITERATIONS_LIMIT:
            raise RemoteProtocolError(f"a SCRAM challenge with {iterations} iterations")
        try:
            salt_octets = sasl.decode(salt.encode())
        except SaslError as error:
            raise RemoteProtocolError(f"a SCRAM salt that is {error}") from None
        password = prepared_password(self._password)
        salted = hashlib.pbkdf2_hmac(self._hash, password, salt_octets, iterations)
        client_key = hmac.digest(salted, b"Client Key", self._hash)
        stored_key = hashlib.new(self._hash, client_key).digest()
        binding = sasl.encode(self._header.encode() + self._binding_data).decode()
        without_proof = f"c={binding},r={nonce}"
        signed = f"{self._bare},{challenge},{without_proof}".encode()
        signature = hmac.digest(stored_key, signed, self._hash)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        server_key = hmac.digest(salted, b"Server Key", self._hash)
        verifier = hmac.digest(server_key, signed, self._hash)
        self._expected = f"v={sasl.encode(verifier).decode()}"
        return f"{without_proof},p={sasl.encode(proof).decode()}".encode()

    def _take_proof(self, text: str) -> bytes:
        """The server-final-message; an error in it is followed by the -ERR."""
        if text.startswith("e="):
            return b""
        if self._proved or not hmac.compare_digest(
            text.partition(",")[0].encode(), self._expected.encode()
        ):
            raise RemoteProtocolError("upstream does not know the password: it may be an impostor")
        self._proved = True
        return b""
