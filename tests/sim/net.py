"""The simulated network: hosts on one fabric, behind `interfaces.world.Network`.

A connection follows the fault profile of the host that opened it if one was set, else that of the
host that accepted it, else the fabric's. So a laptop's bad radio and an upstream's bad line are
told apart while the proxy, which takes part in both, is left without a profile.

Listening addresses are not compared with the way a peer came in: "127.0.0.1:1110" on a host is
reached from every other host under the host's name.
"""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Callable
from contextvars import copy_context
from typing import TypeVar

from proxy.domain.errors import UpstreamUnreachable
from proxy.interfaces.world import DeviceProtocol, DeviceTls, UpstreamTls
from tests.sim.fabric import Service, SimFabric
from tests.sim.faults import chance
from tests.sim.handshake import TIMEOUT
from tests.sim.transport import SimTransport

P = TypeVar("P", bound=asyncio.Protocol)


class SimListener:
    """See `interfaces.world.Listener`."""

    def __init__(self, fabric: SimFabric, service: Service, address: str) -> None:
        self._fabric = fabric
        self._service = service
        self.addresses: tuple[str, ...] = (address,)

    async def close(self) -> None:
        self._fabric.withdraw(self._service)


class SimNetwork:
    """One host's network, until the host crashes; see `interfaces.world.Network`."""

    def __init__(self, fabric: SimFabric, host: str, *, offers_tls: bool = False) -> None:
        fabric.add_host(host)
        self._fabric = fabric
        self._host = host
        self.offers_tls = offers_tls
        self._life = fabric.life_of(host)

    @property
    def _luck(self) -> random.Random:
        return self._fabric.luck

    async def connect(
        self, host: str, port: int, factory: Callable[[], P], tls: UpstreamTls | None
    ) -> tuple[asyncio.Transport, P]:
        where = f"{host}:{port}"
        end = await self._open(host, port, where)
        try:
            if tls is not None:
                await self._verify(end, tls)
            await asyncio.sleep(0)
        except BaseException:
            end.fail_handshake(ConnectionAbortedError("given up"))
            raise
        protocol = factory()
        end.start(protocol)
        return end, protocol

    async def _open(self, host: str, port: int, where: str) -> SimTransport:
        fabric = self._fabric
        target = fabric.resolve(host, asking=self._host)
        rules = fabric.rules(self._host, target or host)
        await asyncio.sleep(self._luck.uniform(*rules.latency))
        if target is None or chance(self._luck, rules.unknown_probability):
            raise UpstreamUnreachable(f"{where}: no such host")
        if not fabric.is_reachable(self._host, target):
            await asyncio.sleep(TIMEOUT)
            raise UpstreamUnreachable(f"{where}: no connection within {TIMEOUT:.0f} seconds")
        service = fabric.service(target, port)
        if service is None or chance(self._luck, rules.refuse_probability) or not self._is_alive():
            await asyncio.sleep(self._luck.uniform(*rules.latency))
            raise UpstreamUnreachable(f"{where}: Connection refused")
        end = fabric.open(self._host, service, copy_context()).ends[0]
        try:
            await asyncio.sleep(self._luck.uniform(*rules.latency))
        except BaseException:
            end.abort()
            raise
        return end

    async def _verify(self, end: SimTransport, tls: UpstreamTls) -> None:
        fabric = self._fabric
        link = fabric.link_of(end)
        try:
            if link is None:
                raise ConnectionResetError("the connection is closed")
            await end.start_tls(server=False)
        except OSError as error:
            raise UpstreamUnreachable(f"{tls.server_name}: {error}") from None
        known = tls.server_name in fabric.certificates[link.hosts[1]]
        if not known or chance(self._luck, link.rules().untrusted_probability):
            end.fail_handshake(ConnectionAbortedError("certificate refused"), told=True)
            raise UpstreamUnreachable(f"{tls.server_name}: the certificate does not verify")

    async def start_upstream_tls(
        self, transport: asyncio.Transport, protocol: asyncio.Protocol, tls: UpstreamTls
    ) -> asyncio.Transport:
        end = _own(transport)
        try:
            await self._verify(end, tls)
        except asyncio.CancelledError:
            end.fail_handshake(ConnectionAbortedError("given up"))
            raise
        end.set_protocol(protocol)
        return end

    async def listen(
        self, address: str, factory: Callable[[], asyncio.Protocol], *, tls: bool = False
    ) -> SimListener:
        """With `tls` the handshake comes before `factory` hears of the connection."""
        await asyncio.sleep(0)
        if not self._is_alive():
            raise OSError(errno.ENETDOWN, "the host has crashed")
        host, _, port = address.rpartition(":")
        service = self._fabric.offer(
            self._host,
            int(port),
            factory,
            copy_context(),
            tls=tls and self.offers_tls,
        )
        return SimListener(self._fabric, service, f"{host}:{service.port}")

    async def start_device_tls(
        self,
        transport: asyncio.Transport,
        protocol: asyncio.Protocol,
        received: bytes,
        speaks: DeviceProtocol,
    ) -> DeviceTls:
        if received:
            raise OSError("what came in clear is no handshake")
        if not self.offers_tls:
            raise OSError("there is no certificate")
        end = _own(transport)
        try:
            await end.start_tls(server=True)
        except asyncio.CancelledError:
            end.fail_handshake(ConnectionAbortedError("given up"))
            raise
        end.set_protocol(protocol)
        return DeviceTls(end, "TLSv1.3", end_point=None, client_fingerprint=None)

    def channel_binding(self, transport: asyncio.Transport) -> tuple[str, bytes] | None:
        return None

    async def host_name(self, address: str) -> str | None:
        return None

    def _is_alive(self) -> bool:
        return self._fabric.life_of(self._host) == self._life


def _own(transport: asyncio.Transport) -> SimTransport:
    assert isinstance(transport, SimTransport)
    return transport
