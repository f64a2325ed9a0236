"""Opening an upstream session: connect, greeting, STLS, capabilities, login."""

from __future__ import annotations

import asyncio

from proxy.domain.errors import UpstreamSilent
from proxy.domain.model import Credentials
from proxy.domain.policy import UpstreamServer
from proxy.interfaces.world import UpstreamTls, World
from proxy.services.credentials import new_nonce
from proxy.services.stream import Stream
from proxy.services.upstream import UpstreamSession
from proxy.services.upstream_login import Attempts
from proxy.services.upstream_memory import ServerMemory, UpstreamMemory

LOGIN_TIME = 300.0
"""Seconds from the connection to the login, however busily upstream talks."""


async def open_session(
    world: World,
    server: UpstreamServer,
    credentials: Credentials,
    memory: UpstreamMemory | None = None,
) -> UpstreamSession:
    """Connect and log in; `memory` is what earlier sessions have learnt, and learns on.

    Raises:
        UpstreamUnreachable, UpstreamBusy, UpstreamRefusedLogin, UpstreamUnusable.
    """
    memory = memory or UpstreamMemory()
    try:
        async with asyncio.timeout(LOGIN_TIME):
            session = await connect(world, server, memory.server)
            try:
                nonce = new_nonce(world.entropy)
                memory.shown = True
                await Attempts(session, server, credentials, memory.login, nonce).make()
            except BaseException:
                session.abort()
                raise
    except TimeoutError:
        raise UpstreamSilent(f"no login within {LOGIN_TIME:.0f} seconds") from None
    return session


async def connect(
    world: World, server: UpstreamServer, memory: ServerMemory | None = None
) -> UpstreamSession:
    """Connect up to the point where a login is due: greeting, capabilities, STLS."""
    memory = memory or ServerMemory()
    tls = UpstreamTls(server.host, server.ca_file)
    _, stream = await world.network.connect(
        server.host,
        server.port,
        lambda: Stream(memory.patience),
        tls if server.tls == "implicit" else None,
    )
    session = UpstreamSession(stream, memory)
    try:
        if server.tls == "implicit":
            session.tls_is_on(world)
        await session.greeting()
        if server.tls == "starttls":
            await session.start_tls(world, tls)
        await session.learn_capabilities()
    except BaseException:
        session.abort()
        raise
    return session
