"""Trying an upstream out, as `check` and `init` do: once, without a store."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.domain.errors import ProxyError
from proxy.domain.model import Credentials
from proxy.domain.policy import UpstreamServer
from proxy.interfaces.world import World
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
            found = await session.overview(listing=False)
            trial.offers = " ".join(session.capabilities)
            trial.messages, trial.octets = found.count, found.octets
        await session.quit()
    except ProxyError as error:
        trial.error = error
    return trial
