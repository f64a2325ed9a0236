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
from proxy.services.upstream_login import Attempts, AuthIsBroken
from proxy.services.upstream_memory import ServerMemory, UpstreamMemory

LOGIN_TIME = 300.0
"""Seconds from the connection to the login, however busily upstream talks."""


async def open_session(
    world: World,
    server: UpstreamServer,
    credentials: Credentials,
    memory: UpstreamMemory | None = None,
    *,
    listing: bool = False,
) -> UpstreamSession:
    """Connect and log in; `memory` is what earlier sessions have learnt, and learns on.

    The session has proved that it is logged in. With `listing`, its `listing` is to be called
    before anything else is asked.

    Raises:
        UpstreamUnreachable, UpstreamBusy, UpstreamRefusedLogin, UpstreamUnusable.
    """
    memory = memory or UpstreamMemory()
    try:
        async with asyncio.timeout(LOGIN_TIME):
            try:
                return await _log_in(world, server, credentials, memory, auth=True, listing=listing)
            except AuthIsBroken as broken:
                unsuited = broken.way
            session = await _log_in(world, server, credentials, memory, auth=False, listing=listing)
            memory.login.unsuited.add(unsuited)
            return session
    except TimeoutError:
        raise UpstreamSilent(f"no login within {LOGIN_TIME:.0f} seconds") from None


async def _log_in(
    world: World,
    server: UpstreamServer,
    credentials: Credentials,
    memory: UpstreamMemory,
    *,
    auth: bool,
    listing: bool,
) -> UpstreamSession:
    session = await connect(world, server, memory.server)
    try:
        nonce = new_nonce(world.entropy)
        attempts = Attempts(
            session, server, credentials, memory.login, nonce, auth=auth, listing=listing
        )
        memory.shown = True
        await attempts.make()
    except BaseException:
        session.abort()
        raise
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
