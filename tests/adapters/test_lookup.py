"""Fetching from a real web server: a document whole, over verified TLS all the way, or none."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from proxy.adapters import lookup
from proxy.adapters.lookup import DOCUMENT_LIMIT, REDIRECTS, NetLookup
from tests.certificates import Certificates, make_certificates
from tests.services.test_discovery import Everywhere

Page = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@asynccontextmanager
async def serving(page: Page, certificates: Certificates | None) -> AsyncIterator[int]:
    """A web server whose every page is this one; with TLS if there are certificates."""
    context = None
    if certificates is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.certificate, certificates.private_key)
    app = web.Application()
    app.router.add_get("/{path:.*}", page)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def fetching(certificates: Certificates, page: Page) -> AsyncIterator[NetLookup]:
    """Whatever host it is asked for, this page answers; its certificate is for localhost."""
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(serving(page, certificates))
        connector = aiohttp.TCPConnector(resolver=Everywhere(port))
        stack.push_async_callback(connector.close)
        trust = ssl.create_default_context(cafile=str(certificates.ca_file))
        yield NetLookup(context=trust, connector=connector)


async def in_pieces(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(20):
        await response.write(b"x" * 1000)
    return response


async def test_a_document_that_comes_in_pieces_is_fetched_whole(
    certificates: Certificates,
) -> None:
    async with fetching(certificates, in_pieces) as net:
        assert await net.fetch("https://localhost/file.xml") == b"x" * 20_000


@pytest.mark.parametrize("more", [0, 1])
async def test_a_document_may_be_as_long_as_the_limit_and_no_longer(
    certificates: Certificates, more: int
) -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(body=bytes(DOCUMENT_LIMIT + more))

    async with fetching(certificates, page) as net:
        document = await net.fetch("https://localhost/")
    assert document == (None if more else bytes(DOCUMENT_LIMIT))


async def test_a_compressed_document_is_not_blown_up(certificates: Certificates) -> None:
    async def page(_: web.Request) -> web.Response:
        response = web.Response(body=bytes(DOCUMENT_LIMIT * 10))
        response.enable_compression(web.ContentCoding.gzip)
        return response

    async with fetching(certificates, page) as net:
        document = await net.fetch("https://localhost/")
    assert document is not None
    assert len(document) < DOCUMENT_LIMIT


@pytest.mark.parametrize("steps", [0, 1, REDIRECTS, REDIRECTS + 1])
async def test_some_redirections_are_followed(certificates: Certificates, steps: int) -> None:
    async def page(request: web.Request) -> web.Response:
        step = int(request.path.strip("/"))
        if step < steps:
            raise web.HTTPFound(f"/{step + 1}")
        return web.Response(body=b"here")

    async with fetching(certificates, page) as net:
        document = await net.fetch("https://localhost/0")
    assert document == (b"here" if steps <= REDIRECTS else None)


async def test_no_step_of_a_redirection_is_without_tls(certificates: Certificates) -> None:
    asked = []

    async def in_clear(request: web.Request) -> web.Response:
        asked.append(request.path)
        raise web.HTTPFound(f"https://localhost:{secure}/end")

    async def page(request: web.Request) -> web.Response:
        if request.path == "/end":
            return web.Response(body=b"forged")
        raise web.HTTPFound(f"http://localhost:{clear}/step")

    trust = ssl.create_default_context(cafile=str(certificates.ca_file))
    async with serving(in_clear, None) as clear, serving(page, certificates) as secure:
        assert await NetLookup(context=trust).fetch(f"https://localhost:{secure}/begin") is None
    assert asked == []


@pytest.mark.parametrize("url", ["http://localhost/", "file:///etc/passwd", "", "https://"])
async def test_nothing_but_https_is_asked(certificates: Certificates, url: str) -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(body=b"here")

    async with fetching(certificates, page) as net:
        assert await net.fetch(url) is None


async def test_a_certificate_for_another_name_is_not_believed(certificates: Certificates) -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(body=b"here")

    async with fetching(certificates, page) as net:
        assert await net.fetch("https://localhost/") == b"here"
        assert await net.fetch("https://autoconfig.example.com/") is None


@pytest.mark.parametrize("status", [204, 301, 404, 500])
async def test_an_answer_without_a_document_is_none(
    certificates: Certificates, status: int
) -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(status=status)

    async with fetching(certificates, page) as net:
        assert await net.fetch("https://localhost/") is None


async def test_a_slow_server_is_not_waited_for(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = asyncio.Event()

    async def page(_: web.Request) -> web.Response:
        await over.wait()
        return web.Response(body=b"here")

    monkeypatch.setattr(lookup, "TIMEOUT", 0.2)
    async with fetching(certificates, page) as net:
        assert await net.fetch("https://localhost/") is None
        over.set()


async def test_a_closed_port_is_no_document() -> None:
    assert await NetLookup().fetch("https://127.0.0.1:1/") is None
