"""The operator's door: what is told when a command fails, and when the proxy does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from proxy.adapters.unix_sockets import bind_control, control_address, remove_control
from proxy.domain.errors import BadConfig, InternalError, ProxyError, Temporary, UpstreamBusy
from proxy.domain.facts import Unexpected
from proxy.services.admin import Admin
from proxy.services.admin_names import Report, unheard
from proxy.web.control import call_running, start_control
from tests.services.house import Facts

Work = Callable[[Report], Awaitable[Any]]


class OneCommand:
    def __init__(self, work: Work) -> None:
        self._work = work

    async def call(self, _command: str, _arguments: dict[str, Any], report: Report) -> Any:
        return await self._work(report)


@asynccontextmanager
async def open_door(folder: Path, work: Work) -> AsyncIterator[Facts]:
    facts = Facts()
    runner = await start_control(bind_control(folder), cast(Admin, OneCommand(work)), facts)
    try:
        yield facts
    finally:
        await runner.cleanup()
        remove_control(folder)


async def ask(folder: Path) -> Any:
    with control_address(folder) as address:
        return await call_running(address, "status", {}, unheard)


@pytest.mark.parametrize("length", [0, 90, 200, 900])
async def test_it_is_in_the_data_directory_however_long_its_path_is(
    tmp_path: Path, length: int
) -> None:
    folder = tmp_path
    while len(str(folder)) < length:
        folder = folder / ("x" * min(length, 80))
    folder.mkdir(parents=True, exist_ok=True)

    async def work(_report: Report) -> Any:
        return 7

    async with open_door(folder, work):
        assert [path.name for path in folder.iterdir()] == ["control.sock"]
        assert await ask(folder) == 7
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "error", [BadConfig(["one", "two"]), UpstreamBusy("no", 3.5, too_often=True)]
)
async def test_an_error_comes_as_it_was_raised(tmp_path: Path, error: ProxyError) -> None:
    async def work(_report: Report) -> Any:
        raise error

    async with open_door(tmp_path, work) as facts:
        with pytest.raises(type(error)) as caught:
            await ask(tmp_path)
    assert (str(caught.value), vars(caught.value)) == (str(error), vars(error))
    assert facts.seen == []


@pytest.mark.parametrize("result", [ZeroDivisionError("hush"), object()])
async def test_a_bug_is_told_as_one_and_logged(tmp_path: Path, result: object) -> None:
    async def work(report: Report) -> Any:
        await report(1, 2)
        if isinstance(result, Exception):
            raise result
        return result

    async with open_door(tmp_path, work) as facts:
        with pytest.raises(InternalError, match="internal error; see its log") as caught:
            await ask(tmp_path)
    assert "hush" not in str(caught.value)
    assert [fact.where for fact in facts.of(Unexpected)] == ["control"]


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"])
async def test_a_proxy_that_ends_meanwhile_is_told_as_that(tmp_path: Path, said: bytes) -> None:
    """What it has been asked may be done, so nobody takes it for a stopped one."""

    async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    server = await asyncio.start_unix_server(end, sock=bind_control(tmp_path))
    async with server:
        with pytest.raises(Temporary, match="the proxy ended"):
            await ask(tmp_path)


async def test_a_socket_nobody_listens_on_is_a_stopped_proxy(tmp_path: Path) -> None:
    bind_control(tmp_path).close()
    with pytest.raises(ConnectionError):
        await ask(tmp_path)


async def test_an_operator_who_leaves_is_no_bug(tmp_path: Path) -> None:
    asked, gone, said = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work(report: Report) -> Any:
        asked.set()
        await gone.wait()
        try:
            for number in range(1000):
                await report(number, 1000)
                await asyncio.sleep(0)
        finally:
            said.set()

    async with open_door(tmp_path, work) as facts:
        with control_address(tmp_path) as address:
            reader, writer = await asyncio.open_unix_connection(address)
        body = json.dumps({"command": "x", "arguments": {}}).encode()
        writer.write(b"POST /call HTTP/1.1\r\nHost: proxy\r\nContent-Length: %d\r\n" % len(body))
        writer.write(b"Content-Type: application/json\r\n\r\n" + body)
        await asked.wait()
        writer.close()
        await writer.wait_closed()
        del reader
        gone.set()
        await said.wait()
    assert facts.seen == []
