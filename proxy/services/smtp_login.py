"""Logging in at an upstream SMTP server (RFC 4954)."""

from __future__ import annotations

from dataclasses import replace

from proxy.domain.errors import (
    ProxyError,
    UpstreamBusy,
    UpstreamRefusedLogin,
    UpstreamUnreachable,
    UpstreamUnusable,
)
from proxy.domain.model import Credentials
from proxy.domain.policy import SmtpServer
from proxy.interfaces.submission import Answer, UpstreamSmtp
from proxy.services.face import plaintext_allowed
from proxy.services.secrets_said import secrets_of, without
from proxy.services.upstream_login import STEPS, TOKEN, allowed
from proxy.wire import sasl
from proxy.wire.client_mechanisms import ClientMechanism, named
from proxy.wire.errors import RemoteProtocolError

THROUGH_TLS = ("PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5")
"""What every server does right comes first: TLS has shown who it is."""
IN_THE_OPEN = ("SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN", "LOGIN")

ACCEPTED = (235, 250)
"""RFC 4954 §6, and what some say instead. They count once the exchange is over and the secret told;
a 503 for "you are logged in already" says nothing of this password."""

LINE_LIMIT = 512
"""Octets of a command that every server takes, its line end included (RFC 5321 §4.5.3.1.4)."""


def sending_as(server: SmtpServer, credentials: Credentials) -> Credentials:
    """Those of a declared account, under the name that it sends by."""
    return replace(credentials, username=server.username) if server.username else credentials


async def log_in(
    upstream: UpstreamSmtp, server: SmtpServer, credentials: Credentials, nonce: str
) -> None:
    """`nonce` is printable, and never used twice.

    Raises:
        UpstreamRefusedLogin, UpstreamBusy, UpstreamUnusable, UpstreamUnreachable.
    """
    if any(octet in credentials.username.encode() + credentials.password for octet in b"\r\n\0"):
        raise UpstreamRefusedLogin("SMTP cannot carry a password with CR, LF or NUL")
    way = _way(upstream, server, credentials)
    if way is None:
        return
    username, password = credentials.username, credentials.password
    try:
        mechanism = named(way, username, password, host=server.host, port=server.port, nonce=nonce)
        await _exchange(upstream, way, mechanism, credentials)
    except (RemoteProtocolError, sasl.SaslError) as error:
        raise UpstreamUnreachable(f"{way}: {error}") from None


def _way(upstream: UpstreamSmtp, server: SmtpServer, credentials: Credentials) -> str | None:
    """None: no login is needed."""
    if server.auth == "none":
        return None
    offered = upstream.offers.get("AUTH", "").upper().split()
    in_clear = upstream.encrypted or plaintext_allowed(server.plaintext_login, upstream.peer)
    if server.auth != "auto":
        ways = [server.auth.upper()]
    elif server.client_certificate and not offered:
        return None
    elif server.client_certificate and "EXTERNAL" in offered:
        ways = ["EXTERNAL"]
    else:
        known = TOKEN if credentials.is_token else THROUGH_TLS if in_clear else IN_THE_OPEN
        ways = [way for way in known if way in offered]
    if not ways:
        raise UpstreamUnusable("the SMTP server supports none of the ways to log in")
    return allowed(ways, in_clear=in_clear)[0]


async def _exchange(
    upstream: UpstreamSmtp, way: str, mechanism: ClientMechanism, credentials: Credentials
) -> None:
    command, first = b"AUTH " + way.encode(), mechanism.first
    sent = [sasl.encode(first).decode()] if first else []
    whole = command + b" " + (sasl.encode(first) or b"=") if first is not None else command
    if first is not None and len(whole) + 2 <= LINE_LIMIT:
        answer, first = await upstream.command(whole), None
    else:
        answer = await upstream.command(command)
    for _ in range(STEPS):
        if answer.code != 334:
            break
        if first is not None:
            response, first = first, None
        else:
            response = mechanism.respond(sasl.decode(answer.text.strip().encode()))
        sent.append(sasl.encode(response).decode())
        answer = await upstream.command(sasl.encode(response))
    if answer.code in ACCEPTED:
        if first is not None:
            raise RemoteProtocolError(f"{answer.code} before the exchange was over")
        mechanism.check_success()
        return
    raise _refusal(answer, (*secrets_of(credentials), *filter(None, sent)))


def _refusal(answer: Answer, secrets: tuple[str, ...]) -> ProxyError:
    text = f"{answer.code} {without(answer.text, secrets)}"
    if 400 <= answer.code < 500:
        return UpstreamBusy(text)
    if answer.code in (500, 502, 503, 504, 538):
        return UpstreamUnusable(text)
    if 500 <= answer.code < 600:
        return UpstreamRefusedLogin(text)
    return UpstreamUnreachable(f"an answer of the wrong shape: {text}")
