"""Faults of the simulated network: each can be provoked, drawn, replayed, and switched off."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from proxy.domain.errors import UpstreamUnreachable
from tests.sim.faults import FaultProfile
from tests.sim.recorder import Recorder, Service
from tests.sim.world import SimWorld, seeds, simulate


async def _pair(sim: SimWorld) -> tuple[Recorder, Recorder]:
    service = Service()
    await sim.host("server").network.listen("0.0.0.0:110", service, tls=False)
    return await _client(sim), await service.first()


async def _client(sim: SimWorld) -> Recorder:
    client = Recorder()
    await sim.host("client").network.connect("server", 110, lambda: client, None)
    return client


def test_refused_and_unknown_hosts_are_unreachable() -> None:
    async def main(sim: SimWorld) -> None:
        sim.host("server")
        with pytest.raises(UpstreamUnreachable, match="refused"):
            await _client(sim)
        with pytest.raises(UpstreamUnreachable, match="no such host"):
            await sim.host("client").network.connect("nowhere", 110, Recorder, None)
        await _pair(sim)
        sim.fabric.faults("server", FaultProfile(refuse_probability=1))
        with pytest.raises(UpstreamUnreachable, match="refused"):
            await _client(sim)
        sim.fabric.faults("server", FaultProfile(unknown_probability=1))
        with pytest.raises(UpstreamUnreachable, match="no such host"):
            await _client(sim)
        sim.fabric.faults("server", None)
        await _client(sim)

    simulate(0, main)


@pytest.mark.parametrize("seed", seeds(50))
def test_a_crash_silences_the_host_and_resets_its_peers(seed: int) -> None:
    async def main(sim: SimWorld) -> None:
        did: list[str] = []
        service = Service()

        async def serve() -> None:
            await sim.host("server").network.listen("0.0.0.0:110", service, tls=False)
            try:
                while True:
                    await asyncio.sleep(0.01)
                    for protocol in service.accepted:
                        if "made" in protocol.events:
                            protocol.transport.write(b"tick" * 5000)
                    did.append("tick")
            finally:
                did.append("finally")

        sim.host("server").spawn(serve())
        await asyncio.sleep(1)
        client = await _client(sim)
        server = await service.first()
        await client.until(1)
        client.transport.write(b"hello")
        await asyncio.sleep(sim.random("when").uniform(0, 0.2))
        events, ticks, received = list(server.events), len(did), bytes(server.received)
        sim.host("server").crash()
        await client.lost.wait()
        assert isinstance(client.error, ConnectionResetError)
        assert (b"tick" * 10**6).startswith(client.received)
        with pytest.raises(UpstreamUnreachable, match="refused"):
            await _client(sim)
        await asyncio.sleep(100)
        assert (server.events, len(did), bytes(server.received)) == (events, ticks, received)
        assert sim.fabric.open_connections("server") == 0
        assert sim.fabric.open_connections("client") == 0
        await _pair(sim)

    assert simulate(seed, main) == simulate(seed, main)


@pytest.mark.parametrize("seed", seeds(20))
def test_a_client_that_crashes_is_a_reset_to_the_server(seed: int) -> None:
    async def main(sim: SimWorld) -> None:
        service = Service(greeting=b"x" * 50_000)
        await sim.host("server").network.listen("0.0.0.0:110", service, tls=False)
        client = Recorder()
        laptop = sim.host("laptop")
        laptop.spawn(laptop.network.connect("server", 110, lambda: client, None))
        await asyncio.sleep(sim.random("when").uniform(0, 0.3))
        laptop.crash()
        await asyncio.sleep(10)
        assert "lost" not in client.events
        for protocol in service.accepted:
            assert protocol.events[-1] == "lost"
        assert sim.fabric.open_connections("server") == 0

    simulate(seed, main)


def test_a_reset_comes_at_any_octet() -> None:
    async def main(sim: SimWorld) -> int:
        near, far = await _pair(sim)
        sim.fabric.faults("server", FaultProfile(reset_probability=0.2, cut_probability=0))
        for number in range(50):
            far.transport.write(bytes([number]) * 100)
            await asyncio.sleep(0.1)
        await near.lost.wait()
        await far.lost.wait()
        assert isinstance(near.error, ConnectionResetError)
        assert isinstance(far.error, ConnectionResetError)
        assert b"".join(bytes([n]) * 100 for n in range(50)).startswith(near.received)
        return len(near.received)

    lengths = {simulate(seed, main).result for seed in range(50)}
    assert len(lengths) > 20
    assert any(length % 100 for length in lengths)


def test_a_commanded_reset_strikes_both_ends() -> None:
    async def main(sim: SimWorld) -> None:
        near, far = await _pair(sim)
        sim.fabric.reset("client")
        await near.lost.wait()
        await far.lost.wait()

    simulate(0, main)


def test_a_black_hole_swallows_and_never_tells() -> None:
    async def main(sim: SimWorld) -> None:
        near, far = await _pair(sim)
        sim.fabric.black_hole("server")
        far.transport.write(b"x" * 200_000)
        assert not far.writable.is_set()
        near.transport.close()
        await asyncio.sleep(86_400)
        assert near.events == ["made", "lost"]
        assert far.events == ["made", "pause"]
        assert not near.received
        began = sim.loop.time()
        with pytest.raises(UpstreamUnreachable, match="within 30 seconds"):
            await _client(sim)
        assert sim.loop.time() - began >= 30
        sim.fabric.restore("server")
        await _client(sim)
        assert far.events == ["made", "pause"], "what has gone dark stays dark"
        far.transport.abort()
        await far.lost.wait()

    simulate(0, main)


def test_a_connection_may_go_dark_by_chance() -> None:
    async def main(sim: SimWorld) -> bool:
        near, far = await _pair(sim)
        sim.fabric.default = FaultProfile(black_hole_probability=0.1)
        far.transport.write(b"x" * 1000)
        await asyncio.sleep(3600)
        return len(near.received) < 1000

    assert {simulate(seed, main).result for seed in range(30)} == {True, False}


def test_a_stall_passes() -> None:
    async def main(sim: SimWorld) -> None:
        near, far = await _pair(sim)
        began = sim.loop.time()
        sim.fabric.stall("server", 600)
        far.transport.write(b"late")
        assert await near.until(4) == b"late"
        assert 600 <= sim.loop.time() - began < 601
        sim.fabric.default = FaultProfile(stall_probability=1, stall=(50, 60))
        far.transport.write(b"r")
        assert await near.until(5) == b"later"
        assert 650 <= sim.loop.time() - began < 662

    simulate(0, main)


def test_a_slow_line_takes_its_time() -> None:
    async def main(sim: SimWorld) -> float:
        near, far = await _pair(sim)
        began = sim.loop.time()
        far.transport.write(b"x" * 50_000)
        await near.until(50_000)
        return sim.loop.time() - began

    assert 9 < simulate(0, main, profile=FaultProfile(rate=5000)).result < 12
    assert simulate(0, main).result < 5


def test_a_connection_follows_its_client_then_its_server_then_the_rest() -> None:
    async def main(sim: SimWorld) -> None:
        slow, slower = FaultProfile(latency=(5, 5)), FaultProfile(latency=(9, 9))
        near, far = await _pair(sim)
        lengths = []
        for host, profile in (("server", slow), ("client", slower), ("client", None)):
            sim.fabric.faults(host, profile)
            began = sim.loop.time()
            far.transport.write(b"x")
            await near.until(len(near.received) + 1)
            lengths.append(sim.loop.time() - began)
        assert lengths == [5, 9, 5]

    simulate(0, main)


@pytest.mark.parametrize("seed", seeds(30))
def test_after_quiet_everything_works_again(seed: int) -> None:
    wild = FaultProfile(
        stall_probability=0.05,
        reset_probability=0.1,
        black_hole_probability=0.05,
        refuse_probability=0.3,
        unknown_probability=0.1,
    )

    async def main(sim: SimWorld) -> int:
        await sim.host("server").network.listen("0.0.0.0:110", Service(greeting=b"hi"), tls=False)
        sim.fabric.faults("client", replace(wild, rate=1000))
        sim.fabric.black_hole("server")
        failed = 0

        async def once() -> None:
            async with asyncio.timeout(120):
                client = await _client(sim)
                assert await client.until(2) == b"hi"
                client.transport.close()

        for number in range(30):
            if number == 2:
                sim.fabric.restore("server")
            try:
                await once()
            except (UpstreamUnreachable, TimeoutError, AssertionError):
                failed += 1
        sim.fabric.quiet()
        for _ in range(30):
            await once()
        return failed

    run = simulate(seed, main, profile=wild)
    assert run.result > 2
    assert simulate(seed, main, profile=wild) == run
