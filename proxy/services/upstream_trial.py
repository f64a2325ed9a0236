"""Trying an upstream out, as `check` and `init` do: once, without a store."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.domain.errors import ProxyError
from proxy.domain.model import Credentials
from proxy.domain.policy import SmtpServer, UpstreamServer
from proxy.interfaces.submission import SmtpDialer
from proxy.interfaces.world import World
from proxy.services.credentials import new_nonce
from proxy.services.smtp_login import log_in
from proxy.services.upstream_dial import connect, open_session


@dataclass(slots=True)
class Trial:
    offers: str = ""
    """Capabilities, if one got so far."""
    messages: int = 0
    octets: int | None = 0
    error: ProxyError | None = None
    """Why it did not work."""


async def try_upstream(
    world: World, server: UpstreamServer, credentials: Credentials | None
) -> Trial:
    """Log in; without credentials, go as far as one gets without a password."""
    trial = Trial()
    try:
        if credentials is None:
            session = await connect(world, server)
            trial.offers = " ".join(session.capabilities)
        else:
            session = await open_session(world, server, credentials)
            trial.offers = " ".join(session.capabilities)
            if session.mailbox is not None:
                trial.messages, trial.octets = session.mailbox.count, session.mailbox.octets
        await session.quit()
    except ProxyError as error:
        trial.error = error
    return trial


async def try_smtp(
    world: World, dialer: SmtpDialer, server: SmtpServer, credentials: Credentials | None
) -> Trial:
    """The same for the SMTP server. It is given no mail."""
    trial = Trial()
    try:
        session = await dialer.open(server)
        trial.offers = " ".join(session.offers)
        try:
            if credentials is not None:
                await log_in(session, server, credentials, new_nonce(world.entropy))
        finally:
            await session.quit()
    except ProxyError as error:
        trial.error = error
    return trial
