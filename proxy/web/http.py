"""Metrics and health over HTTP, for Prometheus and for whatever keeps the process running.

No login is asked for, and nothing here changes anything.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

SHUTDOWN_TIMEOUT = 1.0
"""Seconds that requests under way get when the server closes."""


class HttpServer:
    """A listening HTTP server; made by `start_http`."""

    def __init__(self, runner: web.AppRunner) -> None:
        self._runner = runner
        host, port = runner.addresses[0][:2]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.addresses: tuple[str, ...] = (address,)
        """"host:port" as bound, the real port included."""

    async def close(self) -> None:
        await self._runner.cleanup()


async def start_http(
    address: str, registry_render: Callable[[], bytes], ready: Callable[[], Awaitable[bool]]
) -> HttpServer:
    """Serve /metrics, /healthz and /readyz on "host:port" (port 0: any free one).

    Raises:
        OSError: the address cannot be bound.
    """
    runner = web.AppRunner(
        _application(registry_render, ready), access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT
    )
    await runner.setup()
    host, _, port = address.rpartition(":")
    try:
        await web.TCPSite(runner, host.strip("[]"), int(port)).start()
    except OSError:
        await runner.cleanup()
        raise
    return HttpServer(runner)


def _application(
    registry_render: Callable[[], bytes], ready: Callable[[], Awaitable[bool]]
) -> web.Application:
    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=registry_render(), headers={"Content-Type": METRICS_TYPE})

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        if await ready():
            return web.Response(text="ready\n")
        return web.Response(text="not ready\n", status=503)

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    return app
