"""A SCRAM-SHA-256 client written from the RFC, sharing no code with the server."""

from __future__ import annotations

import base64
import hashlib
import hmac

CLIENT_NONCE = "rOprNGfwEbeRWgbNEkqO"


class ScramClient:
    """RFC 5802 §3 and §5, from the other side."""

    def __init__(
        self, name: str, password: bytes, *, header: str = "n,,", data: bytes = b"", more: str = ""
    ) -> None:
        saslname = name.replace("=", "=3D").replace(",", "=2C")
        self._bare = f"n={saslname},r={CLIENT_NONCE}{more}"
        self._password = password
        self._header = header
        self._binding = base64.b64encode(header.encode() + data).decode()
        self._more = more
        self._expected = b""

    def first(self) -> bytes:
        return (self._header + self._bare).encode()

    def final(self, challenge: bytes) -> bytes:
        nonce, salt, iterations = (part[2:] for part in challenge.decode().split(","))
        salted = hashlib.pbkdf2_hmac(
            "sha256", self._password, base64.b64decode(salt), int(iterations)
        )
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        without_proof = f"c={self._binding},r={nonce}{self._more}"
        signed = b",".join([self._bare.encode(), challenge, without_proof.encode()])
        signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        server_key = hmac.digest(salted, b"Server Key", "sha256")
        verifier = hmac.digest(server_key, signed, "sha256")
        self._expected = b"v=" + base64.b64encode(verifier)
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()

    def trusts(self, server_final: bytes) -> bool:
        return server_final == self._expected
