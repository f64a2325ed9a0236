"""The end of a browser's way through OAuth 2.0: a page on this machine that takes the answer.

RFC 8252 §7.3: the loopback address, any free port.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

PAGE = """<!doctype html><meta charset="utf-8"><title>pop3-sync-proxy</title>
<p>pop3-sync-proxy has its answer. You may close this window and go back to the terminal.</p>
"""


class Redirect:
    """Made by `waiting_for_redirect`."""

    def __init__(self, url: str, answer: asyncio.Future[str]) -> None:
        self.url = url
        """What to give as the redirect URI."""
        self._answer = answer

    async def answer(self) -> str:
        """The address that the browser was sent to, once it was."""
        return await self._answer


@asynccontextmanager
async def waiting_for_redirect(port: int) -> AsyncIterator[Redirect]:
    """Listen on 127.0.0.1 (port 0: any free one).

    Raises:
        OSError: the port is taken.
    """
    answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def take(request: web.Request) -> web.Response:
        if not {"code", "error"} & request.query.keys():
            return web.Response(status=404)
        if not answer.done():
            answer.set_result(str(request.url))
        return web.Response(text=PAGE, content_type="text/html")

    app = web.Application()
    app.router.add_get("/", take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        bound = runner.addresses[0][1]
        # Not 127.0.0.1, which Microsoft takes by way of the manifest alone, nor with a path.
        yield Redirect(f"http://localhost:{bound}", answer)
    finally:
        await runner.cleanup()
