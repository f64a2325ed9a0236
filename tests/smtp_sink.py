"""An SMTP server that keeps what it is given, with TLS and a login; in a thread of its own."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from proxy.domain.policy import TlsMode
from tests.certificates import Certificates
from tests.e2e.dovecot import free_ports

USER, PASSWORD = "proxy", "s3cret"


@dataclass
class Sink:
    port: int
    envelopes: list[Any] = field(default_factory=list)
    refusal: str = ""
    """What DATA is answered instead of being taken."""

    @property
    def mails(self) -> list[EmailMessage]:
        return [message_from_bytes(each.content, policy=default) for each in self.envelopes]

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        if server.transport.get_extra_info("ssl_object") is None or not session.authenticated:
            return "530 only over TLS, after a login"
        if self.refusal:
            return self.refusal
        self.envelopes.append(envelope)
        return "250 taken"


def _authenticate(
    server: Any, session: Any, envelope: Any, mechanism: str, data: Any
) -> AuthResult:
    good = isinstance(data, LoginPassword) and data == LoginPassword(
        USER.encode(), PASSWORD.encode()
    )
    return AuthResult(success=good, handled=False)


@contextmanager
def sink(certificates: Certificates, tls: TlsMode = "implicit", *, port: int = 0) -> Iterator[Sink]:
    """With STARTTLS it insists on that."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.certificate, certificates.private_key)
    made = Sink(port or free_ports(1)[0])
    controller = Controller(
        made,
        hostname="127.0.0.1",
        port=made.port,
        ssl_context=context if tls == "implicit" else None,
        tls_context=context if tls == "starttls" else None,
        require_starttls=tls == "starttls",
        authenticator=_authenticate,
        auth_require_tls=tls == "starttls",
    )
    controller.start()
    try:
        yield made
    finally:
        controller.stop()
