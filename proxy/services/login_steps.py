"""What the steps of a login add up to, whatever protocol they come by."""

from __future__ import annotations

from typing import Any

from proxy.interfaces.world import DeviceTls
from proxy.services.face import (
    CertificateProof,
    Door,
    PasswordProof,
    Proof,
    ScramChallenge,
    ScramProof,
)
from proxy.wire.line_server import LineServer
from proxy.wire.pop3_events import CertificateLogin, LoginEvent, PasswordLogin, ScramLogin


class LoginSteps:
    """Of one session."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._challenge: ScramChallenge | None = None

    async def challenge(self, username: str, peer: str, machine: LineServer[Any]) -> None:
        """Raises:
        ProxyError: see `Door.scram`; the machine is still owed an answer.
        """
        self._challenge = challenge = await self._door.scram(username, peer)
        machine.scram_challenge(
            challenge.nonce, challenge.salt, challenge.iterations, challenge.candidates
        )

    def proof(self, event: LoginEvent, tls: DeviceTls | None) -> Proof:
        match event:
            case PasswordLogin(username, password):
                return PasswordProof(username, password)
            case CertificateLogin(username):
                assert tls is not None  # noqa: S101 - the machine has been told of it
                assert tls.client_fingerprint is not None  # noqa: S101 - likewise
                return CertificateProof(username, tls.client_fingerprint)
            case ScramLogin(candidate):
                assert self._challenge is not None  # noqa: S101 - the exchange began with it
                return ScramProof(self._challenge, candidate)
