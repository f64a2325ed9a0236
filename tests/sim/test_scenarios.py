"""Fetch once, deliver to three, under cuts, stalls, full disks and crashes: the promises hold.

One seed is one story. `SIM_SEED=17 pytest tests/sim/test_scenarios.py` plays it again.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from proxy.domain.directory import DeclaredAccount, Directory
from proxy.domain.doubt import BELIEVED_AFTER
from proxy.domain.facts import Fact, SyncFailed, SyncFinished, Unexpected
from proxy.domain.model import Credentials
from proxy.domain.policy import (
    DAY,
    AccountPolicy,
    LimitsPolicy,
    RetentionPolicy,
    Seconds,
    SessionPolicy,
    SyncPolicy,
    UpstreamServer,
)
from proxy.services.core import Core
from tests.sim.disk import SimDisk
from tests.sim.faults import FaultProfile
from tests.sim.peers import (
    ACCOUNT,
    PASSWORD,
    PORT,
    ModelDevice,
    PromiseBroken,
    WatchedMailbox,
    WatchedServer,
    World,
    make_mail,
)
from tests.sim.process import CrashedError
from tests.sim.world import EPOCH, Host, SimWorld, seeds, simulate

STORMY = FaultProfile(
    refuse_probability=0.05,
    stall_probability=0.005,
    reset_probability=0.02,
    black_hole_probability=0.002,
)
STORM = 1800.0
"""Seconds of faults."""
ROUNDS = 20
"""Polls of each device in good weather, within which everything must have arrived."""


class Witness:
    """Takes every fact; an exception nobody planned for ends the story."""

    def __init__(self) -> None:
        self.synced = self.failed = 0

    def observe(self, fact: Fact) -> None:
        if isinstance(fact, Unexpected):
            raise PromiseBroken(f"unexpected in {fact.where}") from fact.error
        self.synced += isinstance(fact, SyncFinished)
        self.failed += isinstance(fact, SyncFailed)


class Story:
    """One seed's cast."""

    def __init__(self, sim: SimWorld, folder: Path, *, clock_jumps: bool = False) -> None:
        self.sim = sim
        self.clock_jumps = clock_jumps
        self.core: Core | None = None
        """Of the proxy's last life."""
        self.luck = sim.random("story")
        self.disk = SimDisk(folder, sim.random("disk"))
        self.world = World()
        self.witness = Witness()
        self.crashes = 0
        self.mailbox = WatchedMailbox(self.world)
        retention = RetentionPolicy(upstream=self.luck.choice(["keep", "delivered"]))
        sync = SyncPolicy(interval=Seconds(120), max_age=Seconds(5), login_wait=Seconds(10))
        self.policy = AccountPolicy(
            UpstreamServer("upstream", PORT, "none", plaintext_login="always"),
            sync,
            retention=retention,
        )

    async def upstream(self) -> None:
        network = self.sim.host("upstream").network
        server = WatchedServer(self.mailbox, network, self.world, self.disk)
        await network.listen(f"0.0.0.0:{PORT}", server.session)

    async def proxy(self, host: Host) -> None:
        """One life of the proxy."""
        store = await self.disk.open(host.process)
        declared = DeclaredAccount(ACCOUNT, Credentials(ACCOUNT, PASSWORD), self.policy)
        directory = Directory([declared], self.policy, pass_through=False)
        policy = SessionPolicy(plaintext_login="always")
        self.core = core = Core(host.world, store, self.witness, directory, policy, LimitsPolicy())
        await core.timekeeper.start()
        host.spawn(core.timekeeper.work())
        account = await store.ensure_account(ACCOUNT, declared=True, at=host.clock.now())
        for device in self.world.devices:
            if await store.device(account.id, device.name) is None:
                now = host.clock.now()
                await store.add_device(account.id, device.name, since=None, at=now)
        core.syncs.follow_directory()
        await host.network.listen(f"0.0.0.0:{PORT}", lambda: core.session(tls=False))
        await core.janitor.work()

    async def keep_running(self, host: Host) -> None:
        """The proxy's supervisor: started again whenever it died, of a crash or a full disk."""
        while True:
            try:
                await host.run(self.proxy(host))
            except CrashedError:
                pass
            except Exception as error:
                if isinstance(error, PromiseBroken):
                    raise
                host.crash()
            await asyncio.sleep(self.luck.uniform(0.1, 5.0))

    async def poll_for_ever(self, device: ModelDevice) -> None:
        while True:
            await device.poll()
            await asyncio.sleep(self.luck.expovariate(1 / 40))

    async def weather(self, host: Host) -> None:
        """Crashes of the proxy, at any moment."""
        while True:
            await asyncio.sleep(self.luck.expovariate(1 / 200))
            host.crash()
            self.crashes += 1

    async def clock(self, host: Host) -> None:
        """Somebody sets the proxy's clock, and sets it right now and then."""
        while self.clock_jumps:
            await asyncio.sleep(self.luck.expovariate(1 / 300))
            host.clock.skew = self.luck.choice([0.0, 60.0, 40 * DAY, -40 * DAY, 3650 * DAY, -EPOCH])

    async def arrivals(self) -> None:
        while True:
            for _ in range(self.luck.choice([1, 1, 2, 12])):
                self.mailbox.deliver(make_mail(len(self.world.mails), self.luck))
            await asyncio.sleep(self.luck.expovariate(1 / 60))

    async def storm(self) -> None:
        proxy = self.sim.host("proxy")
        self.disk.fault_probability = self.luck.choice([0.0, 0.0, 0.02])
        async with asyncio.timeout(STORM):
            async with asyncio.TaskGroup() as group:
                for device in self.world.devices:
                    group.create_task(self.poll_for_ever(device))
                group.create_task(self.arrivals())
                group.create_task(self.weather(proxy))
                group.create_task(self.clock(proxy))

    async def calm(self) -> None:
        """No faults any more: everybody must get everything, soon."""
        self.disk.fault_probability = 0.0
        self.sim.fabric.quiet()
        # Longer than the longest back-off, so that old failures hold nothing up.
        await asyncio.sleep(2 * 3600)
        if self.clock_jumps:
            self.sim.host("proxy").clock.skew = 0.0
            assert self.core is not None
            await self.core.timekeeper.trust()
        for device in self.world.devices:
            for _ in range(ROUNDS):
                await device.poll(whole=True)
                if device.has.keys() >= self.world.mails.keys():
                    break
                await asyncio.sleep(60)
            if lacking := self.world.mails.keys() - device.has.keys() - device.deleted:
                raise PromiseBroken(f"2: {device.name} never got {sorted(lacking)}")

    async def play(self) -> None:
        for name in ("desktop", "laptop", "office"):
            host = self.sim.host(name)
            self.world.devices.append(ModelDevice(host, self.world, self.sim.random(name)))
        await self.upstream()
        supervisor = asyncio.create_task(self.keep_running(self.sim.host("proxy")))
        with contextlib.suppress(TimeoutError):
            await self.storm()
        await self.calm()
        if self.policy.retention.upstream == "delivered":
            await self._check_emptied()
        supervisor.cancel()
        if self.world.broken:
            raise PromiseBroken("; ".join(self.world.broken))

    async def _check_emptied(self) -> None:
        """What everybody has confirmed is cleared upstream within a few syncs, or else once what
        left by a QUIT without an answer is believed to have left."""
        for pause in (*[130.0] * ROUNDS, BELIEVED_AFTER, 130.0, 130.0, 130.0):
            due = set(self.mailbox.mails)
            for device in self.world.devices:
                due &= device.confirmed | device.deleted
            if not due:
                return
            for device in self.world.devices:
                await device.poll(whole=True)
            await asyncio.sleep(pause)
        raise PromiseBroken(f"{sorted(due)} were never deleted upstream")


def run_story(seed: int, folder: Path, *, clock_jumps: bool = False) -> tuple[Story, str]:
    stories: list[Story] = []

    async def main(sim: SimWorld) -> None:
        stories.append(Story(sim, folder, clock_jumps=clock_jumps))
        await stories[0].play()

    run = simulate(seed, main, profile=STORMY)
    return stories[0], run.trace_hash


@pytest.mark.parametrize("seed", seeds(150))
def test_three_devices_get_every_message_once_whatever_happens(seed: int, tmp_path: Path) -> None:
    story, _ = run_story(seed, tmp_path)
    # A story in which nothing happened proves nothing.
    assert story.witness.synced > 5
    assert len(story.world.mails) > 10
    assert all(device.polls > 3 for device in story.world.devices)


@pytest.mark.parametrize("seed", seeds(20))
def test_a_clock_that_is_set_to_anything_changes_nothing_of_that(seed: int, tmp_path: Path) -> None:
    story, _ = run_story(2000 + seed, tmp_path, clock_jumps=True)
    assert story.witness.synced > 5
    assert all(device.polls > 3 for device in story.world.devices)


def test_the_same_seed_tells_the_same_story(tmp_path: Path) -> None:
    hashes = [run_story(3, tmp_path / str(n))[1] for n in range(2)]
    assert hashes[0] == hashes[1]


def test_the_stories_are_eventful(tmp_path: Path) -> None:
    """Faults reach the proxy in enough of them."""
    told = [run_story(seed, tmp_path / str(seed))[0] for seed in range(1000, 1005)]
    assert sum(story.crashes for story in told) >= 5
    assert sum(story.witness.failed for story in told) >= 5
