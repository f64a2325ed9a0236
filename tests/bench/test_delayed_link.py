"""The slow line delays everything, and nothing because of anything else."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.bench.delayed_link import DelayedLink, Way
from tests.sim.world import SimWorld, simulate

DELAY = 0.025


async def _send_much_at_once(sim: SimWorld) -> tuple[list[float], list[tuple[int, float]]]:
    """When each of a hundred chunks set out, and which came when."""
    loop = asyncio.get_running_loop()
    arrived: list[tuple[int, float]] = []
    way = Way(DELAY, lambda data: arrived.append((int(data), loop.time())))
    sent = []
    for number in range(100):
        sent.append(loop.time())
        way.put(b"%d" % number)
        await asyncio.sleep(0.001)
    await asyncio.sleep(1)
    return sent, arrived


def test_everything_that_is_under_way_is_delayed_alike_and_stays_in_order() -> None:
    sent, arrived = simulate(1, _send_much_at_once).result
    assert [number for number, _ in arrived] == list(range(100))
    assert [at for _, at in arrived] == pytest.approx([at + DELAY for at in sent], abs=1e-6)


@pytest.fixture
def small_server() -> Iterator[int]:
    """The port of a server for one connection: it greets, answers every line, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(30)

        def serve() -> None:
            connection, _ = listening.accept()
            with connection, connection.makefile("rwb", buffering=0) as file:
                file.write(b"+OK ready\r\n")
                while (line := file.readline()) not in (b"", b"QUIT\r\n"):
                    file.write(b"+OK " + line)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(timeout=30)


def test_a_connection_and_each_answer_take_their_round_trips(small_server: int) -> None:
    with DelayedLink("127.0.0.1", small_server, delay=DELAY) as link:
        began = time.monotonic()
        with (
            socket.create_connection((link.host, link.port), timeout=30) as device,
            device.makefile("rwb", buffering=0) as file,
        ):
            assert file.readline() == b"+OK ready\r\n"
            greeted = time.monotonic()
            # The handshake's, and that on which the greeting comes.
            assert greeted - began >= 4 * DELAY
            file.write(b"NOOP\r\n")
            assert file.readline() == b"+OK NOOP\r\n"
            assert time.monotonic() - greeted >= 2 * DELAY
            file.write(b"QUIT\r\n")
            assert file.read() == b""
        heard = link.next()
    assert [batch.commands for batch in heard.batches] == [["NOOP"], ["QUIT"]]
    assert heard.batches[0].at >= 4 * DELAY
    assert 8 * DELAY <= heard.seconds <= time.monotonic() - began
