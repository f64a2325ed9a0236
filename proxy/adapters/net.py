"""The network: asyncio's sockets and TLS behind `interfaces.world.Network`."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

from proxy.adapters.certificate import client_context
from proxy.domain.errors import UpstreamUnreachable, UpstreamUnusable
from proxy.interfaces.world import UpstreamTls

P = TypeVar("P", bound=asyncio.Protocol)

CONNECT_TIMEOUT = 30.0
"""Seconds for a connection and its TLS handshake."""
BACKLOG = 1024
"""Connections that may wait to be accepted: a whole office starting up at nine."""


class SocketListener:
    """A listening socket; see `interfaces.world.Listener`."""

    def __init__(self, server: asyncio.Server) -> None:
        self._server = server
        host, port = server.sockets[0].getsockname()[:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def close(self) -> None:
        self._server.close()


class SocketNetwork:
    def __init__(self, device_tls: ssl.SSLContext | None) -> None:
        """`device_tls` is how we show ourselves to devices; None means no TLS on their side."""
        self._device_tls = device_tls

    @property
    def offers_tls(self) -> bool:
        return self._device_tls is not None

    def replace_certificate(self, device_tls: ssl.SSLContext | None) -> None:
        """For connections from now on."""
        self._device_tls = device_tls

    async def connect(
        self, host: str, port: int, factory: Callable[[], P], tls: UpstreamTls | None
    ) -> tuple[asyncio.Transport, P]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                return await loop.create_connection(
                    factory,
                    host,
                    port,
                    ssl=_context(tls) if tls else None,
                    server_hostname=tls.server_name if tls else None,
                )
        except (OSError, UnicodeError, TimeoutError) as error:
            raise _unreachable(f"{host}:{port}", error) from None

    async def start_upstream_tls(
        self, transport: asyncio.Transport, protocol: asyncio.Protocol, tls: UpstreamTls
    ) -> asyncio.Transport:
        loop = asyncio.get_running_loop()
        try:
            upgraded = await loop.start_tls(
                transport,
                protocol,
                _context(tls),
                server_hostname=tls.server_name,
                ssl_handshake_timeout=CONNECT_TIMEOUT,
            )
        except OSError as error:
            raise _unreachable(tls.server_name, error) from None
        return _open(upgraded)

    async def listen(
        self, address: str, factory: Callable[[], asyncio.Protocol], *, tls: bool
    ) -> SocketListener:
        host, _, port = address.rpartition(":")
        server = await asyncio.get_running_loop().create_server(
            factory,
            host.strip("[]") or None,
            int(port),
            ssl=self._device_tls if tls else None,
            backlog=BACKLOG,
        )
        return SocketListener(server)

    async def start_device_tls(
        self, transport: asyncio.Transport, protocol: asyncio.Protocol
    ) -> asyncio.Transport:
        if self._device_tls is None:
            raise OSError("there is no certificate")
        upgraded = await asyncio.get_running_loop().start_tls(
            transport,
            protocol,
            self._device_tls,
            server_side=True,
            ssl_handshake_timeout=CONNECT_TIMEOUT,
        )
        return _open(upgraded)


@lru_cache(maxsize=16)
def _cached_context(ca_file: str, changed_at: int) -> ssl.SSLContext:
    """Reading the system's roots takes some 20 ms, too long for every connection."""
    return client_context(ca_file)


def _open(transport: asyncio.Transport | None) -> asyncio.Transport:
    # The peer may hang up while the handshake is finishing; asyncio then returns None.
    if transport is None:
        raise ConnectionResetError("the connection was closed during the TLS handshake")
    return transport


def _context(tls: UpstreamTls) -> ssl.SSLContext:
    try:
        changed_at = os.stat(tls.ca_file).st_mtime_ns if tls.ca_file else 0
        return _cached_context(tls.ca_file, changed_at)
    except (OSError, ssl.SSLError) as error:
        raise UpstreamUnusable(f"ca_file {tls.ca_file}: {error}") from None


def _unreachable(where: str, error: Exception) -> UpstreamUnreachable:
    if isinstance(error, ssl.SSLCertVerificationError):
        return UpstreamUnreachable(
            f"{where}: the certificate does not verify: {error.verify_message}"
        )
    if isinstance(error, socket.gaierror):
        return UpstreamUnreachable(f"{where}: no such host")
    if isinstance(error, TimeoutError):
        return UpstreamUnreachable(f"{where}: no connection within {CONNECT_TIMEOUT:.0f} seconds")
    return UpstreamUnreachable(f"{where}: {getattr(error, 'strerror', None) or error}")
