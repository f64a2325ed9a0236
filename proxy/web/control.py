"""The operator's door to a running proxy: HTTP over a Unix socket in the data directory.

Who may open the socket may do everything; it is the owner's alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from proxy.domain import errors
from proxy.domain.errors import ProxyError, Temporary
from proxy.services.admin import Admin
from proxy.services.admin_names import Report

SOCKET_PATH_LIMIT = 100
"""Octets; the kernel's limit is 104 to 108."""

BODY_LIMIT = 80 * 1024 * 1024
"""Octets of a command: room for all UIDLs of the largest file that `device import-seen` reads."""


def socket_path(data_dir: Path) -> Path:
    """Where the socket of this data directory is."""
    path = data_dir.resolve() / "control.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_LIMIT:
        return path
    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"pop3-sync-proxy-{name}.sock"


class ControlServer:
    def __init__(self, runner: web.AppRunner, path: Path) -> None:
        self._runner = runner
        self._path = path

    async def close(self) -> None:
        await self._runner.cleanup()
        self._path.unlink(missing_ok=True)


async def start_control(data_dir: Path, admin: Admin) -> ControlServer:
    """Take commands. The caller holds the data directory's lock, so an old socket is stale."""

    async def call(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        answer = web.StreamResponse()
        await answer.prepare(request)

        async def say(**line: Any) -> None:
            await answer.write(json.dumps(line).encode() + b"\n")

        async def report(done: int, total: int) -> None:
            await say(progress=[done, total])

        try:
            say_result = {"result": await admin.call(body["command"], body["arguments"], report)}
        except ProxyError as error:
            say_result = {"error": type(error).__name__, "text": str(error)}
        await say(**say_result)
        return answer

    app = web.Application(client_max_size=BODY_LIMIT)
    app.router.add_post("/call", call)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    path = socket_path(data_dir)
    path.unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        await web.UnixSite(runner, str(path)).start()
    finally:
        os.umask(before)
    return ControlServer(runner, path)


async def call_running(
    data_dir: Path, command: str, arguments: dict[str, Any], report: Report
) -> Any:
    """Run a command in the proxy that runs on this data directory.

    Raises:
        ConnectionError: none runs.
        ProxyError: what the command raised there.
    """
    path = socket_path(data_dir)
    try:
        if path.stat().st_uid not in _trusted(data_dir):
            raise ConnectionError(f"{path} belongs to somebody else")
    except FileNotFoundError:
        raise ConnectionError("no proxy runs here") from None
    connector = aiohttp.UnixConnector(str(path))
    # A sync may take as long as it takes.
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
        request = {"command": command, "arguments": arguments}
        try:
            async with http.post("http://proxy/call", json=request) as response:
                return await _result(response, report)
        except aiohttp.ClientConnectionError as error:
            raise ConnectionError(str(error)) from None


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
                    raise getattr(errors, answer["error"], ProxyError)(answer["text"])
                else:
                    return answer["result"]
    raise Temporary("the proxy ended while it was at it; see its log")


def _trusted(data_dir: Path) -> tuple[int, ...]:
    """Whose socket is believed. Who owns the data may answer for it: root asks a proxy that runs
    as its own user."""
    return os.getuid(), 0, data_dir.stat().st_uid
