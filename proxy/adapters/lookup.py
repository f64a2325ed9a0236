"""DNS by dnspython, the web by aiohttp; see `interfaces.lookup.Lookup`."""

from __future__ import annotations

import asyncio
import ssl
from urllib.parse import urljoin

import aiohttp
import dns.asyncresolver
import dns.exception
import dns.rdatatype
from dns.rdtypes.ANY.MX import MX
from dns.rdtypes.IN.SRV import SRV

from proxy.interfaces.lookup import Srv

TIMEOUT = 5.0
"""Seconds for one question, redirections included."""
DOCUMENT_LIMIT = 256 * 1024
REDIRECTS = 3
_MOVED = (301, 302, 303, 307, 308)


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
        try:
            # What comes compressed is no document here: a few octets can stand for very many.
            async with (
                asyncio.timeout(TIMEOUT),
                aiohttp.ClientSession(
                    connector=self._connector,
                    connector_owner=self._connector is None,
                    headers={"Accept-Encoding": "identity"},
                    auto_decompress=False,
                ) as http,
            ):
                return await self._follow(http, url)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return None

    async def _follow(self, http: aiohttp.ClientSession, url: str) -> bytes | None:
        for _ in range(REDIRECTS + 1):
            # Not left to aiohttp: whoever listens on a step without TLS could send us anywhere.
            if not url.startswith("https://"):
                return None
            async with http.get(url, ssl=self._context, allow_redirects=False) as response:
                if response.status == 200:
                    return await _document(response.content)
                if response.status not in _MOVED:
                    return None
                url = urljoin(url, response.headers.get("Location", ""))
        return None


async def _document(content: aiohttp.StreamReader) -> bytes | None:
    """All of it, which may come in pieces; None when it is too long."""
    document = bytearray()
    while piece := await content.read(DOCUMENT_LIMIT + 1 - len(document)):
        document += piece
    return bytes(document) if len(document) <= DOCUMENT_LIMIT else None
