"""The operator's door to a running proxy: HTTP over a Unix socket in the data directory.

Who may open the socket may do everything; it is the owner's alone.
"""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from typing import Any

import aiohttp
from aiohttp import web

from proxy.domain.errors import InternalError, ProxyError, Temporary
from proxy.domain.facts import Unexpected
from proxy.interfaces.observer import Observer
from proxy.services.admin import Admin
from proxy.services.admin_names import Report
from proxy.web import control_errors

BODY_LIMIT = 80 * 1024 * 1024
"""Octets of a command: room for all UIDLs of the largest file that `device import-seen` reads."""

INTERNAL = "the proxy had an internal error; see its log"
ENDED = "the proxy ended while it was at it; see its log"


async def start_control(sock: socket.socket, admin: Admin, observer: Observer) -> web.AppRunner:
    """Take commands on a socket that is bound; what is returned is to be cleaned up."""

    async def call(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        answer = web.StreamResponse()
        await answer.prepare(request)

        async def say(**line: Any) -> None:
            await answer.write(json.dumps(line).encode() + b"\n")

        async def report(done: int, total: int) -> None:
            await say(progress=[done, total])

        try:
            await say(result=await admin.call(body["command"], body["arguments"], report))
        except ProxyError as error:
            await say(**control_errors.written(error))
        except ConnectionError:
            # The operator has gone; the command has gone as far as it got.
            raise
        except Exception as error:
            observer.observe(Unexpected("control", error))
            await say(**control_errors.written(InternalError(INTERNAL)))
        return answer

    app = web.Application(client_max_size=BODY_LIMIT)
    app.router.add_post("/call", call)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.SockSite(runner, sock).start()
    return runner


async def call_running(
    address: str, command: str, arguments: dict[str, Any], report: Report
) -> Any:
    """Run a command in the proxy that listens there.

    Raises:
        ConnectionError: none does.
        ProxyError: what the command raised there.
    """
    connector = aiohttp.UnixConnector(address)
    # A sync may take as long as it takes.
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
        request = {"command": command, "arguments": arguments}
        try:
            async with http.post("http://proxy/call", json=request) as response:
                return await _result(response, report)
        except (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError) as error:
            raise ConnectionError(str(error)) from None
        except aiohttp.ClientConnectionError:
            # It has been asked, and may have done it: nobody else is to do it again.
            raise Temporary(ENDED) from None


async def _result(response: aiohttp.ClientResponse, report: Report) -> Any:
    """Read lines of JSON: how far it is, any number of times, then what came of it."""
    text = b""
    with suppress(aiohttp.ClientPayloadError):
        async for chunk in response.content.iter_any():
            *lines, text = (text + chunk).split(b"\n")
            for answer in map(json.loads, lines):
                if "progress" in answer:
                    await report(*answer["progress"])
                elif "error" in answer:
                    raise control_errors.read(answer)
                else:
                    return answer["result"]
    raise Temporary(ENDED)
