"""Metrics and health over real HTTP on loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import aiohttp
import pytest

from proxy.web import http
from proxy.web.http import HttpServer, start_http

HOSTS = ["proxy.example.com", "proxy"]


async def always() -> bool:
    return True


async def never() -> bool:
    return False


@asynccontextmanager
async def serving(*, ready: bool = True) -> AsyncIterator[HttpServer]:
    answer = always if ready else never
    server = await start_http("127.0.0.1:0", lambda: b"metric 1\n", answer, lambda: HOSTS)
    try:
        yield server
    finally:
        await server.close()


async def get(server: HttpServer, path: str, host: str = "127.0.0.1") -> tuple[int, str, str]:
    """Status, content type and body."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{server.addresses[0]}{path}", headers={"Host": host}) as response,
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
            await start_http(server.addresses[0], bytes, always, list)


async def test_a_closed_server_takes_no_requests() -> None:
    async with serving() as server:
        pass
    with pytest.raises(aiohttp.ClientConnectorError):
        await get(server, "/healthz")


OURS = [
    "127.0.0.1",
    "127.0.0.1:9110",
    "192.0.2.7:80",
    "[::1]:9110",
    "[fe80::1%25eth0]",
    "localhost:9110",
    "LocalHost.",
    socket.gethostname(),
    f"{socket.gethostname().partition('.')[0]}.local:9110",
    "proxy.example.com",
    "PROXY.example.com.:9110",
    "proxy:9110",
]

NOT_OURS = [
    "attacker.example",
    "attacker.example:9110",
    "127.0.0.1.attacker.example",
    "localhost.attacker.example",
    "xproxy.example.com",
    "[attacker.example]",
    "[::1].attacker.example.[",
    "example.com",
    "",
]


@pytest.mark.parametrize("host", OURS)
async def test_requests_for_addresses_and_our_names_are_answered(host: str) -> None:
    async with serving() as server:
        assert (await get(server, "/metrics", host))[0] == 200


@pytest.mark.parametrize("host", NOT_OURS)
@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/"])
async def test_a_web_page_s_own_name_for_us_shows_it_nothing(host: str, path: str) -> None:
    async with serving() as server:
        status, _, body = await get(server, path, host)
    assert status == 421
    assert "http.hosts" in body
    assert "metric" not in body


async def test_a_request_without_a_host_is_no_browser_s() -> None:
    async with serving() as server, connected(server) as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.0 200 ")


async def test_a_second_host_hides_no_first_one() -> None:
    async with serving() as server, connected(server) as (reader, writer):
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: attacker.example\r\n\r\n")
        assert b"metric" not in await reader.readuntil(b"\r\n\r\n")


async def test_nothing_can_be_posted() -> None:
    async with (
        serving() as server,
        aiohttp.ClientSession() as session,
        session.post(f"http://{server.addresses[0]}/metrics", data=b"x") as response,
    ):
        assert response.status == 405


@asynccontextmanager
async def connected(
    server: HttpServer,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, _, port = server.addresses[0].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(20):
            yield reader, writer
    finally:
        writer.transport.abort()


async def ended(reader: asyncio.StreamReader) -> None:
    """Wait until the server has hung up, whatever it has sent before."""
    try:
        while await reader.read(1024):
            pass
    except ConnectionError:
        pass


@pytest.mark.parametrize(
    "begun", [b"", b"GET /metr", b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "]
)
async def test_a_request_that_does_not_come_is_not_waited_for(
    begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "PATIENCE", 0.2)
    async with serving() as server, connected(server) as (reader, writer):
        writer.write(begun)
        await ended(reader)


async def test_octets_that_trickle_in_win_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "PATIENCE", 0.2)
    async with serving() as server, connected(server) as (reader, writer):
        hung_up = asyncio.create_task(ended(reader))
        writer.write(b"GET /metrics HTTP/1.1\r\n")
        while not hung_up.done():
            writer.write(b"X-Slow: a\r\n")
            await asyncio.wait([hung_up], timeout=0.02)


async def test_a_connection_is_kept_for_the_next_request_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http, "PATIENCE", 0.5)
    async with serving() as server, connected(server) as (reader, writer):
        for _ in range(2):
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert (await reader.readuntil(b"ok\n")).startswith(b"HTTP/1.1 200 ")
        await ended(reader)


async def test_half_requests_take_no_more_than_their_places(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http, "MAX_CONNECTIONS", 5)
    async with serving() as server, AsyncExitStack() as stack:
        opened = []
        for _ in range(12):
            reader, writer = await stack.enter_async_context(connected(server))
            writer.write(b"GET /metr")
            opened.append(reader)
        for reader in opened[:7]:
            await ended(reader)
        # Whoever comes last is answered, and the youngest of the others are still there.
        assert (await get(server, "/healthz"))[0] == 200
        assert not any(reader.at_eof() for reader in opened[8:])


async def test_a_reader_that_takes_nothing_makes_room_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_CONNECTIONS", 2)
    page = b"metric 1\n" * 2_000_000
    server = await start_http("127.0.0.1:0", lambda: page, always, list)
    try:
        async with AsyncExitStack() as stack:
            reader, writer = await stack.enter_async_context(connected(server))
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            for _ in range(2):
                await stack.enter_async_context(connected(server))
            taken = 0
            with suppress(ConnectionError):
                while part := await reader.read(1024 * 1024):
                    taken += len(part)
            assert taken < len(page)
    finally:
        await server.close()
