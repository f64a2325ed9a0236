"""A mailbox of 100,000 messages: what syncing and polling it costs in time and memory.

The upstream is the demo's mailbox server in this process; the proxy is `serve` in its own, and its
memory is the resident set the kernel tells.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from proxy.app import upstream_network
from proxy.demo.upstream import Mailbox, MailboxServer
from tests.bench.device import BenchDevice

MESSAGES = int(os.environ.get("BENCH_MESSAGES", "100000"))
POLLS = 200

_CONFIG = """\
data_dir = "data"
[pop3]
listen = ["127.0.0.1:0"]
[http]
listen = ""
[log]
level = "warning"
[sync]
interval = "1d"
max_age = "1d"
[[account]]
name = "big"
password = "secret"
upstream = {{ host = "127.0.0.1", port = {port}, tls = "none" }}
"""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A `serve` of its own."""

    pid: int
    address: str
    config: Path

    def megabytes(self) -> float:
        """Resident memory."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    async def sync(self) -> float:
        """Seconds that one sync took, by its own account."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "proxy", "account", "sync", "big", "--json"),
            *("--config", str(self.config)),
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
        seconds: float = json.loads(output)["seconds"]
        return seconds


@asynccontextmanager
async def serving(mailbox: Mailbox) -> AsyncIterator[Proxy]:
    network = upstream_network()
    upstream = await network.listen("127.0.0.1:0", MailboxServer(mailbox, network).session)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        config = Path(folder) / "proxy.toml"
        config.write_text(_CONFIG.format(port=upstream.addresses[0].rpartition(":")[2]))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "proxy", "serve", "--config", str(config)),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        ready = (await process.stdout.readline()).decode().split()
        try:
            yield Proxy(process.pid, ready[1].removeprefix("pop3="), config)
        finally:
            process.terminate()
            await process.wait()
            await upstream.close()


def mail(number: int) -> bytes:
    return (
        f"Received: from a by b; Mon, 02 Nov 2026 08:00:00 +0000\r\n"
        f"Message-ID: <{number}@example.org>\r\nFrom: a@example.org\r\nSubject: {number}\r\n\r\n"
        + "A line of quite ordinary text.\r\n"
        * 15
    ).encode()


async def timed(work: Awaitable[object]) -> float:
    started = time.perf_counter()
    await work
    return time.perf_counter() - started


def tell(what: str, value: str) -> None:
    print(f"  {what:<58}{value:>14}", flush=True)


async def measure() -> None:
    mailbox = Mailbox("big", b"secret")
    for number in range(MESSAGES):
        mailbox.deliver(mail(number))
    async with serving(mailbox) as proxy:
        tell("messages", f"{MESSAGES}")
        tell("proxy's memory at start", f"{proxy.megabytes():.0f} MB")
        # The background sync has begun with the start; this one joins it.
        tell("first sync: everything fetched and stored", f"{await proxy.sync():.1f} s")
        tell("proxy's memory after it", f"{proxy.megabytes():.0f} MB")
        tell("sync with nothing new", f"{await proxy.sync() * 1000:.1f} ms")
        mailbox.deliver(mail(MESSAGES))
        tell("sync with one new message (full listing)", f"{await proxy.sync() * 1000:.0f} ms")
        await _measure_devices(proxy)


async def _measure_devices(proxy: Proxy) -> None:
    for name in ("desktop", "laptop"):
        for turn in ("first", "second"):
            started = time.perf_counter()
            device = await BenchDevice.log_in(proxy.address, f"big+{name}", "secret")
            tell(f"{name}: {turn} login", f"{(time.perf_counter() - started) * 1000:.1f} ms")
            tell(f"{name}: LIST", f"{await timed(device.lines('LIST')) * 1000:.1f} ms")
            tell(f"{name}: UIDL", f"{await timed(device.lines('UIDL')) * 1000:.1f} ms")
            await device.quit()
    tell("proxy's memory with both views", f"{proxy.megabytes():.0f} MB")
    polls = [await timed(_poll(proxy.address)) for _ in range(POLLS)]
    tell("poll with nothing new (login, STAT, QUIT), median", _milliseconds(polls))
    polls = [await timed(_poll(proxy.address, listing=True)) for _ in range(20)]
    tell("poll with nothing new and a UIDL listing, median", _milliseconds(polls))


def _milliseconds(times: list[float]) -> str:
    return f"{statistics.median(times) * 1000:.2f} ms"


async def _poll(address: str, *, listing: bool = False) -> None:
    device = await BenchDevice.log_in(address, "big+laptop", "secret")
    await device.ask("STAT")
    if listing:
        await device.lines("UIDL")
    await device.quit()
