"""The network: asyncio's sockets and TLS behind `interfaces.world.Network`."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
from collections.abc import Callable
from typing import TypeVar, cast

from proxy.adapters.certificate import DeviceContext, end_point, upstream_context
from proxy.adapters.client_hello import await_client_hello
from proxy.adapters.host_names import HostNames
from proxy.adapters.listeners import SocketListener, open_listener
from proxy.domain.errors import UpstreamUnreachable, UpstreamUnusable
from proxy.interfaces.link import told_as_reset
from proxy.interfaces.world import DeviceProtocol, DeviceTls, UpstreamTls

P = TypeVar("P", bound=asyncio.Protocol)

CONNECT_TIMEOUT = 30.0
"""Seconds for a connection and its TLS handshake."""


class SocketNetwork:
    def __init__(self, device_tls: DeviceContext | None) -> None:
        """`device_tls` is how we show ourselves to devices; None means no TLS on their side."""
        self._device_tls = device_tls
        self._names = HostNames()

    @property
    def offers_tls(self) -> bool:
        return self._device_tls is not None

    def replace_certificate(self, device_tls: DeviceContext | None) -> None:
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
            with told_as_reset(transport):
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

    def channel_binding(self, transport: asyncio.Transport) -> tuple[str, bytes] | None:
        tls = transport.get_extra_info("ssl_object")
        # RFC 5802 §6.1 makes tls-unique the default; TLS 1.3 has none. The binding that RFC 9266
        # has for it, tls-exporter, is one that Python's ssl cannot tell.
        if tls.version() != "TLSv1.3" and (unique := tls.get_channel_binding("tls-unique")):
            return "tls-unique", unique
        shown = tls.getpeercert(binary_form=True)
        return ("tls-server-end-point", end_point(shown)) if shown else None

    async def listen(self, address: str, factory: Callable[[], asyncio.Protocol]) -> SocketListener:
        return await open_listener(address, factory)

    async def start_device_tls(
        self,
        transport: asyncio.Transport,
        protocol: asyncio.Protocol,
        received: bytes,
        speaks: DeviceProtocol,
    ) -> DeviceTls:
        if self._device_tls is None:
            raise OSError("there is no certificate")
        with told_as_reset(transport):
            return await self._shake_hands(self._device_tls, transport, protocol, received, speaks)

    async def _shake_hands(
        self,
        ours: DeviceContext,
        transport: asyncio.Transport,
        protocol: asyncio.Protocol,
        received: bytes,
        speaks: DeviceProtocol,
    ) -> DeviceTls:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            hello = await await_client_hello(transport, protocol, received, speaks)
        handshake = asyncio.ensure_future(
            asyncio.get_running_loop().start_tls(
                transport,
                protocol,
                ours.ssl[speaks],
                server_side=True,
                ssl_handshake_timeout=CONNECT_TIMEOUT,
            )
        )
        try:
            await _hand_over(transport, protocol, hello)
            upgraded = _open(await handshake)
        finally:
            handshake.cancel()
        tls = upgraded.get_extra_info("ssl_object")
        shown = tls.getpeercert(binary_form=True)
        return DeviceTls(
            transport=upgraded,
            version=tls.version(),
            end_point=ours.end_point,
            client_fingerprint=hashlib.sha256(shown).digest() if shown else None,
        )

    async def host_name(self, address: str) -> str | None:
        return await self._names.of(address)


async def _hand_over(
    transport: asyncio.Transport, protocol: asyncio.Protocol, received: bytes
) -> None:
    """Give octets that came before the upgrade to the protocol of the TLS layer."""
    # The first turn sets that protocol, the second one gives it its connection.
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    if transport.get_protocol() is protocol:
        raise ConnectionResetError("the connection was closed before the TLS handshake")
    layer = cast("asyncio.BufferedProtocol", transport.get_protocol())
    while received:
        buffer = memoryview(layer.get_buffer(len(received)))
        length = min(len(buffer), len(received))
        buffer[:length] = received[:length]
        layer.buffer_updated(length)
        received = received[length:]


def _open(transport: asyncio.Transport | None) -> asyncio.Transport:
    # When the connection ends before the handshake does, asyncio may return None, and uvloop a
    # transport that has never spoken TLS.
    tls = transport.get_extra_info("ssl_object") if transport else None
    if transport is None or tls is None or tls.version() is None:
        raise ConnectionResetError("the connection was closed during the TLS handshake")
    return transport


def _context(tls: UpstreamTls) -> ssl.SSLContext:
    try:
        return upstream_context(tls.ca_file)
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
