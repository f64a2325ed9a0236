"""Metrics and health over real HTTP on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from proxy.web.http import HttpServer, start_http


async def always() -> bool:
    return True


async def never() -> bool:
    return False


@asynccontextmanager
async def serving(*, ready: bool = True) -> AsyncIterator[HttpServer]:
    server = await start_http("127.0.0.1:0", lambda: b"metric 1\n", always if ready else never)
    try:
        yield server
    finally:
        await server.close()


async def get(server: HttpServer, path: str) -> tuple[int, str, str]:
    """Status, content type and body."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{server.addresses[0]}{path}") as response,
    ):
        return response.status, response.headers["Content-Type"], await response.text()


async def test_metrics_are_what_the_registry_renders() -> None:
    async with serving() as server:
        status, kind, body = await get(server, "/metrics")
    assert (status, body) == (200, "metric 1\n")
    assert kind == "text/plain; version=0.0.4; charset=utf-8"


async def test_a_running_proxy_is_alive_even_if_not_ready() -> None:
    async with serving(ready=False) as server:
        assert (await get(server, "/healthz"))[::2] == (200, "ok\n")


@pytest.mark.parametrize(("ready", "status"), [(True, 200), (False, 503)])
async def test_readiness_is_the_status(ready: bool, status: int) -> None:
    async with serving(ready=ready) as server:
        assert (await get(server, "/readyz"))[0] == status


async def test_other_paths_are_not_there() -> None:
    async with serving() as server:
        assert (await get(server, "/"))[0] == 404


async def test_the_address_names_the_real_port() -> None:
    async with serving() as server:
        host, _, port = server.addresses[0].rpartition(":")
    assert host == "127.0.0.1"
    assert int(port) > 0


async def test_an_address_in_use_is_refused() -> None:
    async with serving() as server:
        with pytest.raises(OSError, match="in use"):
            await start_http(server.addresses[0], bytes, always)


async def test_a_closed_server_takes_no_requests() -> None:
    async with serving() as server:
        pass
    with pytest.raises(aiohttp.ClientConnectorError):
        await get(server, "/healthz")
