"""The simulated network when nothing goes wrong, and when ends behave badly on purpose."""

from __future__ import annotations

import asyncio

import pytest

from proxy.domain.errors import UpstreamUnreachable
from proxy.interfaces.world import Network, UpstreamTls
from tests.sim.errors import UnhandledError
from tests.sim.faults import FaultProfile
from tests.sim.recorder import Recorder, Service
from tests.sim.transport import SimTransport
from tests.sim.world import SimWorld, seeds, simulate

TLS = UpstreamTls("server", "")


async def _pair(
    sim: SimWorld, *, keep_open: bool = False, client: Recorder | None = None
) -> tuple[Recorder, Recorder]:
    """A plain connection from "client" to "server", both ends' protocols."""
    service = Service(keep_open=keep_open)
    network: Network = sim.host("server", offers_tls=True).network
    listener = await network.listen("0.0.0.0:0", service)
    port = int(listener.addresses[0].rpartition(":")[2])
    near = client or Recorder(keep_open=keep_open)
    await sim.host("client").network.connect("server", port, lambda: near, None)
    return near, await service.first()


@pytest.mark.parametrize("seed", seeds(50))
def test_everything_arrives_in_order_both_ways(seed: int) -> None:
    async def main(sim: SimWorld) -> tuple[bytes, bytes, bytes, bytes]:
        near, far = await _pair(sim)
        luck = sim.random("writes")
        sent: dict[Recorder, bytearray] = {near: bytearray(), far: bytearray()}

        async def talk(end: Recorder) -> None:
            for _ in range(20):
                data = luck.randbytes(luck.choice((1, 100, 5_000, 30_000)))
                await end.writable.wait()
                end.transport.write(data)
                sent[end] += data
                if luck.random() < 0.5:
                    await asyncio.sleep(luck.uniform(0, 0.1))

        async with asyncio.TaskGroup() as group:
            group.create_task(talk(near))
            group.create_task(talk(far))
        await far.until(len(sent[near]))
        far.transport.write(b"bye")
        far.transport.close()
        await near.lost.wait()
        await far.lost.wait()
        assert near.error is far.error is None
        assert sim.fabric.open_connections("server") == 0
        return (
            bytes(sent[far] + b"bye"),
            bytes(near.received),
            bytes(sent[near]),
            bytes(far.received),
        )

    run = simulate(seed, main)
    to_near, got_near, to_far, got_far = run.result
    assert got_near == to_near
    assert got_far == to_far
    assert simulate(seed, main).trace_hash == run.trace_hash


def test_octets_come_cut_and_merged_in_many_ways() -> None:
    async def main(sim: SimWorld) -> list[int]:
        pieces: list[int] = []

        class Counter(Recorder):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                pieces.append(len(data))

        near, far = await _pair(sim, client=Counter())
        for _ in range(5):
            far.transport.write(b"x" * 40)
        await near.until(200)
        return pieces

    ways = {tuple(simulate(seed, main).result) for seed in range(50)}
    assert len(ways) > 30
    assert {1, 40, 80} < {piece for way in ways for piece in way}


@pytest.mark.parametrize("seed", seeds(30))
def test_a_writer_waits_for_a_slow_reader_and_memory_is_bounded(seed: int) -> None:
    async def main(sim: SimWorld) -> tuple[int, list[str]]:
        near, far = await _pair(sim)
        near.transport.pause_reading()
        most = written = 0
        while written < 400_000:
            if not far.writable.is_set():
                near.transport.resume_reading()
                await asyncio.sleep(0.01)
                near.transport.pause_reading()
                continue
            far.transport.write(b"y" * 10_000)
            written += 10_000
            most = max(most, far.transport.get_write_buffer_size())
        near.transport.resume_reading()
        assert await near.until(written) == b"y" * written
        await far.writable.wait()
        return most, far.events

    most, events = simulate(seed, main).result
    assert most <= 64 * 1024 + 10_000
    assert events.count("pause") == events.count("resume") > 3


def test_a_high_water_mark_of_nothing_tells_when_all_is_on_its_way() -> None:
    async def main(sim: SimWorld) -> None:
        near, far = await _pair(sim)
        near.transport.pause_reading()
        far.transport.write(b"z" * 40_000)
        far.transport.set_write_buffer_limits(high=0)
        assert far.events[-1] == "pause"
        near.transport.resume_reading()
        await far.writable.wait()
        assert far.transport.get_write_buffer_size() == 0

    for seed in seeds(20):
        simulate(seed, main)


def test_a_half_closed_connection_still_carries_the_other_way() -> None:
    async def main(sim: SimWorld) -> None:
        near, far = await _pair(sim, keep_open=True)
        near.transport.write(b"question")
        near.transport.write_eof()
        with pytest.raises(RuntimeError):
            near.transport.write(b"more")
        await far.until_event("eof")
        assert bytes(far.received) == b"question"
        assert far.events == ["made", "eof"]
        far.transport.write(b"answer")
        far.transport.close()
        await near.until_event("eof")
        assert bytes(near.received) == b"answer"
        near.transport.close()
        await near.lost.wait()
        await far.lost.wait()
        assert near.error is far.error is None

    for seed in seeds(30):
        simulate(seed, main)


def test_an_end_that_does_not_keep_a_half_close_open_closes() -> None:
    async def main(sim: SimWorld) -> None:
        near, far = await _pair(sim)
        near.transport.write_eof()
        await far.lost.wait()
        await near.lost.wait()
        assert far.events == near.events == ["made", "eof", "lost"]

    for seed in seeds(10):
        simulate(seed, main)


def test_an_abort_is_a_reset_to_the_peer() -> None:
    async def main(sim: SimWorld) -> None:
        near, far = await _pair(sim)
        near.transport.write(b"a" * 100_000)
        near.transport.abort()
        assert near.events.count("lost") == 0, "told in a turn of its own"
        await near.lost.wait()
        await far.lost.wait()
        assert near.error is None
        assert isinstance(far.error, ConnectionResetError)
        assert "eof" not in far.events
        near.transport.write(b"ignored")
        near.transport.close()

    for seed in seeds(10):
        simulate(seed, main)


def test_octets_sent_to_a_closed_end_come_back_as_a_reset() -> None:
    async def main(sim: SimWorld) -> None:
        near, far = await _pair(sim, keep_open=True)
        near.transport.close()
        await far.until_event("eof")
        far.transport.write(b"too late")
        await far.lost.wait()
        assert isinstance(far.error, ConnectionResetError)

    for seed in seeds(10):
        simulate(seed, main)


def test_a_reset_is_not_noticed_by_an_end_that_does_not_read() -> None:
    async def main(sim: SimWorld) -> None:
        near, far = await _pair(sim)
        far.transport.pause_reading()
        near.transport.abort()
        await asyncio.sleep(3600)
        assert "lost" not in far.events
        far.transport.write(b"x")
        await far.lost.wait()

    simulate(0, main)


def test_peers_have_addresses_and_neighbours_are_loopback() -> None:
    async def main(sim: SimWorld) -> None:
        near, far = await _pair(sim)
        ip, port = far.transport.get_extra_info("peername")
        assert (ip, port) == near.transport.get_extra_info("sockname")
        assert ip.startswith("10.0.0.")
        server = sim.host("server").network
        service = Service()
        await server.listen("127.0.0.1:110", service)
        await server.connect("localhost", 110, Recorder, None)
        assert (await service.first()).transport.get_extra_info("peername")[0] == "127.0.0.1"

    simulate(0, main)


def test_a_port_is_bound_once_and_free_after_closing() -> None:
    async def main(sim: SimWorld) -> None:
        network = sim.host("server").network
        listener = await network.listen("0.0.0.0:110", Service())
        assert listener.addresses[0] == "0.0.0.0:110"
        with pytest.raises(OSError, match="in use"):
            await network.listen("127.0.0.1:110", Service())
        await listener.close()
        with pytest.raises(UpstreamUnreachable, match="refused"):
            await network.connect("server", 110, Recorder, None)
        await network.listen("0.0.0.0:110", Service())

    simulate(0, main)


def test_an_exception_in_a_protocol_ends_the_run() -> None:
    class Broken(Recorder):
        def data_received(self, data: bytes) -> None:
            raise ValueError

    async def main(sim: SimWorld) -> None:
        _, far = await _pair(sim, client=Broken())
        far.transport.write(b"x")
        await asyncio.sleep(1)

    with pytest.raises(UnhandledError):
        simulate(0, main)


def test_a_cancelled_connect_leaves_nothing_behind() -> None:
    async def main(sim: SimWorld) -> None:
        service = Service()
        await sim.host("server", offers_tls=True).network.listen("x:1", service, tls=True)
        for _ in range(20):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(sim.random("cut").uniform(0, 0.5)):
                    await sim.host("client").network.connect("server", 1, Recorder, TLS)
        await asyncio.sleep(60)
        assert sim.fabric.open_connections("server") == 0
        assert sim.fabric.open_connections("client") == 0

    slow = FaultProfile(latency=(0.2, 0.5))
    for seed in seeds(20):
        simulate(seed, main, profile=slow)


def test_transports_are_asyncio_transports() -> None:
    async def main(sim: SimWorld) -> None:
        near, _ = await _pair(sim)
        assert isinstance(near.transport, SimTransport)
        assert near.transport.get_protocol() is near
        assert near.transport.is_reading()
        near.transport.pause_reading()
        assert not near.transport.is_reading()
        assert near.transport.can_write_eof()
        assert near.transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)

    simulate(0, main)
