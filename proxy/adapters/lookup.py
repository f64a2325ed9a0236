"""DNS by dnspython, the web by aiohttp; see `interfaces.lookup.Lookup`."""

from __future__ import annotations

import ssl

import aiohttp
import dns.asyncresolver
import dns.exception
import dns.rdatatype
from dns.rdtypes.ANY.MX import MX
from dns.rdtypes.IN.SRV import SRV

from proxy.interfaces.lookup import Srv

TIMEOUT = 5.0
"""Seconds for one question."""
DOCUMENT_LIMIT = 256 * 1024
REDIRECTS = 3


class NetLookup:
    def __init__(
        self,
        resolver: dns.asyncresolver.Resolver | None = None,
        context: ssl.SSLContext | None = None,
        connector: aiohttp.BaseConnector | None = None,
    ) -> None:
        """None: the system's resolver, trust roots and connections."""
        self._resolver = resolver
        self._context = context or ssl.create_default_context()
        self._connector = connector

    async def srv(self, name: str) -> list[Srv]:
        records = [r for r in await self._ask(name, dns.rdatatype.SRV) if isinstance(r, SRV)]
        # RFC 2782: the lowest priority first; the highest weight is the likeliest.
        records.sort(key=lambda record: (record.priority, -record.weight))
        return [Srv(str(record.target).rstrip(".").lower(), record.port) for record in records]

    async def mx(self, domain: str) -> list[str]:
        records = [r for r in await self._ask(domain, dns.rdatatype.MX) if isinstance(r, MX)]
        records.sort(key=lambda record: record.preference)
        return [str(record.exchange).rstrip(".").lower() for record in records]

    async def _ask(self, name: str, kind: dns.rdatatype.RdataType) -> list[object]:
        try:
            resolver = self._resolver or dns.asyncresolver.Resolver()
            answer = await resolver.resolve(name, kind, lifetime=TIMEOUT)
        except (dns.exception.DNSException, OSError, ValueError):
            return []
        return list(answer)

    async def fetch(self, url: str) -> bytes | None:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        try:
            async with (
                aiohttp.ClientSession(
                    timeout=timeout, connector=self._connector, connector_owner=False
                )
                if self._connector
                else aiohttp.ClientSession(timeout=timeout) as http,
                http.get(url, ssl=self._context, max_redirects=REDIRECTS) as response,
            ):
                if response.status != 200 or response.url.scheme != "https":
                    return None
                body = await response.content.read(DOCUMENT_LIMIT)
                return body if response.content.at_eof() else None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return None
