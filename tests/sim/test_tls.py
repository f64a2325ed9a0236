"""Simulated TLS: both ends must start it, and no plain octet gets into it."""

from __future__ import annotations

import asyncio

import pytest

from proxy.domain.errors import UpstreamUnreachable
from proxy.interfaces.world import UpstreamTls
from tests.sim.faults import FaultProfile
from tests.sim.handshake import CLIENT_HELLO, TIMEOUT
from tests.sim.link import Sent
from tests.sim.recorder import Recorder, Service
from tests.sim.world import SimWorld, seeds, simulate

TLS = UpstreamTls("server", "")


async def _listen(sim: SimWorld, service: Service, *, tls: bool) -> None:
    await sim.host("server", offers_tls=True).network.listen("0.0.0.0:995", service, tls=tls)


async def _connect(sim: SimWorld, tls: UpstreamTls | None, client: Recorder) -> Recorder:
    await sim.host("client").network.connect("server", 995, lambda: client, tls)
    return client


@pytest.mark.parametrize("seed", seeds(30))
def test_tls_from_the_first_octet(seed: int) -> None:
    async def main(sim: SimWorld) -> None:
        seen: list[Sent] = []
        sim.fabric.tap = seen.append
        await _listen(sim, Service(greeting=b"+OK\r\n"), tls=True)
        client = await _connect(sim, TLS, Recorder())
        assert client.transport.get_extra_info("tls")
        assert not client.transport.can_write_eof()
        assert await client.until(5) == b"+OK\r\n"
        assert seen
        assert all(sent.tls for sent in seen)

    simulate(seed, main)


@pytest.mark.parametrize("seed", seeds(30))
def test_an_upgrade_marks_what_is_written_after_it(seed: int) -> None:
    async def main(sim: SimWorld) -> dict[bool, bytes]:
        seen = {False: b"", True: b""}

        def tap(sent: Sent) -> None:
            seen[sent.tls] += sent.octets

        sim.fabric.tap = tap
        service = Service()
        await _listen(sim, service, tls=False)
        client = await _connect(sim, None, Recorder())
        server = await service.first()
        client.transport.write(b"STLS\r\n")
        await server.until(6)
        server.transport.pause_reading()
        server.transport.write(b"+OK\r\n")

        async def accept() -> None:
            network = sim.host("server").network
            await network.start_device_tls(server.transport, server, b"", "pop3")

        accepting = asyncio.create_task(accept())
        await client.until(5)
        await sim.host("client").network.start_upstream_tls(client.transport, client, TLS)
        await accepting
        client.transport.write(b"CAPA\r\n")
        assert await server.until(12) == b"STLS\r\nCAPA\r\n"
        return seen

    assert simulate(seed, main).result == {False: b"STLS\r\n+OK\r\n", True: b"CAPA\r\n"}


@pytest.mark.parametrize("seed", seeds(30))
def test_a_command_slipped_in_before_the_handshake_breaks_it(seed: int) -> None:
    async def main(sim: SimWorld) -> None:
        service = Service()
        await _listen(sim, service, tls=False)
        client = await _connect(sim, None, Recorder())
        server = await service.first()
        server.transport.pause_reading()
        client.transport.write(b"DELE 1\r\n")
        client.transport.pause_reading()
        network = sim.host("server").network
        with pytest.raises(OSError, match="wrong version"):
            await network.start_device_tls(server.transport, server, b"", "pop3")
        await asyncio.sleep(10)
        assert not server.received
        assert server.events == ["made", "lost"]
        client.transport.resume_reading()
        await client.lost.wait()
        assert sim.fabric.open_connections("server") == 0

    simulate(seed, main)


def test_a_tls_client_at_a_plain_port_sends_rubbish_and_fails() -> None:
    async def main(sim: SimWorld) -> None:
        silent, talking = Service(), Service(greeting=b"+OK\r\n")
        await _listen(sim, talking, tls=False)
        await sim.host("server").network.listen("0.0.0.0:110", silent, tls=False)
        with pytest.raises(UpstreamUnreachable, match="wrong version"):
            await _connect(sim, TLS, Recorder())
        began = sim.loop.time()
        with pytest.raises(UpstreamUnreachable, match="timed out"):
            await sim.host("client").network.connect("server", 110, Recorder, TLS)
        assert sim.loop.time() - began >= TIMEOUT
        assert bytes(silent.accepted[0].received) == CLIENT_HELLO
        await asyncio.sleep(10)
        assert sim.fabric.open_connections("server") == 0

    for seed in seeds(20):
        simulate(seed, main)


def test_a_plain_client_at_a_tls_port_is_cut_off() -> None:
    async def main(sim: SimWorld) -> None:
        service = Service(greeting=b"+OK\r\n")
        await _listen(sim, service, tls=True)
        talking = await _connect(sim, None, Recorder())
        talking.transport.write(b"CAPA\r\n")
        await talking.lost.wait()
        waiting = await _connect(sim, None, Recorder())
        await waiting.lost.wait()
        assert not waiting.received
        assert [recorder.events for recorder in service.accepted] == [[], []]

    for seed in seeds(20):
        simulate(seed, main)


def test_a_plain_octet_within_tls_ends_the_connection() -> None:
    async def main(sim: SimWorld) -> None:
        service = Service()
        await _listen(sim, service, tls=True)
        client = await _connect(sim, TLS, Recorder())
        server = await service.first()
        client.transport.tls = False  # type: ignore[attr-defined]  # an attacker on the wire
        client.transport.write(b"DELE 1\r\n")
        await server.lost.wait()
        assert not server.received
        await client.lost.wait()

    for seed in seeds(10):
        simulate(seed, main)


def test_a_certificate_must_name_the_server_and_be_trusted() -> None:
    async def main(sim: SimWorld) -> None:
        await _listen(sim, Service(), tls=True)
        with pytest.raises(UpstreamUnreachable, match="does not verify"):
            await _connect(sim, UpstreamTls("another", ""), Recorder())
        sim.fabric.certificates["server"].add("another")
        await _connect(sim, UpstreamTls("another", ""), Recorder())
        sim.fabric.faults("server", FaultProfile(untrusted_probability=1))
        with pytest.raises(UpstreamUnreachable, match="does not verify"):
            await _connect(sim, TLS, Recorder())

    simulate(0, main)


def test_an_abort_during_the_handshake_fails_it() -> None:
    async def main(sim: SimWorld) -> None:
        service = Service()
        await _listen(sim, service, tls=False)
        await _connect(sim, None, Recorder())
        server = await service.first()
        sim.loop.call_later(1, server.transport.abort)
        with pytest.raises(ConnectionResetError):
            await sim.host("server").network.start_device_tls(server.transport, server, b"", "pop3")

    simulate(0, main)


@pytest.mark.parametrize("way", ["reset", "silence"])
def test_a_handshake_ended_by_a_reset_or_by_silence_is_told_to_its_caller_alone(way: str) -> None:
    async def main(sim: SimWorld) -> None:
        service = Service()
        await _listen(sim, service, tls=False)
        client = await _connect(sim, None, Recorder())
        server = await service.first()
        if way == "reset":
            sim.loop.call_later(1, client.transport.abort)
        with pytest.raises(ConnectionError):
            await sim.host("server").network.start_device_tls(server.transport, server, b"", "pop3")
        await asyncio.sleep(60)
        assert server.events == ["made"]
        assert sim.fabric.open_connections("server") == 0

    simulate(0, main)


def test_without_a_certificate_there_is_no_tls() -> None:
    async def main(sim: SimWorld) -> None:
        bare = sim.host("bare").network
        assert not bare.offers_tls
        service = Service()
        await bare.listen("0.0.0.0:110", service, tls=True)
        client = Recorder()
        await sim.host("client").network.connect("bare", 110, lambda: client, None)
        server = await service.first()
        with pytest.raises(OSError, match="no certificate"):
            await bare.start_device_tls(server.transport, server, b"", "pop3")

    simulate(0, main)
