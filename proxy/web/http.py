"""Metrics and health over HTTP, for Prometheus and for whatever keeps the process running.

No login is asked for, and nothing here changes anything. So that a web page cannot read it through
the browser of somebody who may, by a name of its own that it lets lead here (DNS rebinding), only
names that are ours are answered.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress

from aiohttp import web

from proxy.interfaces.link import DEAD

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

SHUTDOWN_TIMEOUT = 1.0
"""Seconds that requests under way get when the server closes."""

MAX_CONNECTIONS = 64
"""At once: each is a file, and mail devices need files too. One more, and the oldest makes room."""

PATIENCE = 10.0
"""Seconds from the connection to the end of a request's header, and to the next request. Prometheus
gives up after as long."""

LINGERING = 1.0
"""Seconds in which what follows a request's header is still read."""

_HOST = re.compile(r"(?:\[([^\]%]+)(?:%[^\]]*)?\]|([^:\[\]]+))(?::\d*)?", re.ASCII)

MISDIRECTED = (
    "pop3-sync-proxy answers requests for IP addresses and for its own names. To have it answer "
    "for this one, add it to http.hosts in its configuration.\n"
)


class HttpServer:
    """A listening HTTP server; made by `start_http`."""

    def __init__(self, runner: web.ServerRunner) -> None:
        self._runner = runner
        host, port = runner.addresses[0][:2]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.addresses: tuple[str, ...] = (address,)
        """"host:port" as bound, the real port included."""

    async def close(self) -> None:
        await self._runner.cleanup()


async def start_http(
    address: str,
    registry_render: Callable[[], bytes],
    ready: Callable[[], Awaitable[bool]],
    hosts: Callable[[], Collection[str]],
) -> HttpServer:
    """Serve /metrics, /healthz and /readyz on "host:port" (port 0: any free one).

    `hosts`: names that requests may ask for, beside addresses and the machine's own.

    Raises:
        OSError: the address cannot be bound.
    """
    answer = _Answers(registry_render, ready, hosts)
    server = _Server(answer, access_log=None, keepalive_timeout=PATIENCE, lingering_time=LINGERING)
    runner = web.ServerRunner(server, shutdown_timeout=SHUTDOWN_TIMEOUT)
    await runner.setup()
    host, _, port = address.rpartition(":")
    try:
        await web.TCPSite(runner, host.strip("[]"), int(port), backlog=MAX_CONNECTIONS).start()
    except OSError:
        await runner.cleanup()
        raise
    return HttpServer(runner)


class _Server(web.Server):
    """Holds no more than `MAX_CONNECTIONS`."""

    def __init__(self, *arguments: object, **settings: object) -> None:
        super().__init__(*arguments, **settings)  # type: ignore[arg-type]
        self._open: dict[web.RequestHandler, asyncio.Transport] = {}
        """The oldest first."""

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._open[handler] = transport
        if len(self._open) > MAX_CONNECTIONS:
            # What it has still to be sent may never be taken.
            with suppress(*DEAD):
                self._open.pop(next(iter(self._open))).abort()

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        self._open.pop(handler, None)
        super().connection_lost(handler, exc)


class _Answers:
    def __init__(
        self,
        registry_render: Callable[[], bytes],
        ready: Callable[[], Awaitable[bool]],
        hosts: Callable[[], Collection[str]],
    ) -> None:
        self._render = registry_render
        self._ready = ready
        self._hosts = hosts

    async def __call__(self, request: web.BaseRequest) -> web.Response:
        named = request.headers.getall("Host", [])
        if not all(_is_ours(one, self._hosts()) for one in named):
            return web.Response(text=MISDIRECTED, status=421)
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, headers={"Allow": "GET, HEAD"})
        match request.path:
            case "/metrics":
                return web.Response(body=self._render(), headers={"Content-Type": METRICS_TYPE})
            case "/healthz":
                return web.Response(text="ok\n")
            case "/readyz" if await self._ready():
                return web.Response(text="ready\n")
            case "/readyz":
                return web.Response(text="not ready\n", status=503)
        return web.Response(text="there is nothing here\n", status=404)


def _is_ours(named: str, hosts: Collection[str]) -> bool:
    """Whether a web page cannot have made up this Host (RFC 9110 §7.2): it can say no address but
    that which it comes from itself."""
    found = _HOST.fullmatch(named)
    if found is None:
        return False
    host = found[1] or found[2]
    try:
        ipaddress.ip_address(host)
    except ValueError:
        machine = socket.gethostname()
        ours = ("localhost", machine, f"{machine.partition('.')[0]}.local", *hosts)
        return _plain(host) in map(_plain, ours)
    return True


def _plain(name: str) -> str:
    return name.lower().removesuffix(".")
