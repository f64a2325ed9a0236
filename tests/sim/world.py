"""A whole simulated world: `simulate` runs one program on several hosts from one seed."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import random
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from proxy.domain.errors import StoreUnavailable
from proxy.interfaces.world import IssuedCertificate, World
from tests.sim.ending import cancel_leftovers, end
from tests.sim.fabric import SimFabric
from tests.sim.faults import FaultProfile
from tests.sim.loop import MAX_STEPS, START, SimLoop
from tests.sim.net import SimNetwork
from tests.sim.process import Process

T = TypeVar("T")

EPOCH = 1_793_700_000.0
"""Unix time at which every simulation begins."""


class SimClock:
    """See `interfaces.world.Clock`."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self.skew = 0.0
        """Seconds this clock is wrong by. A change is a jump that the loop's time does not make."""

    def now(self) -> float:
        return EPOCH + self._loop.time() - START + self.skew

    def awake(self) -> float:
        return self._loop.time()

    def elapsed(self) -> float:
        return self._loop.time()


class SimEntropy:
    """See `interfaces.world.Entropy`."""

    def __init__(self, luck: random.Random) -> None:
        self._luck = luck

    def token(self, octets: int) -> bytes:
        return self._luck.randbytes(octets)

    def uniform(self, low: float, high: float) -> float:
        return self._luck.uniform(low, high)


class SimPasswords:
    """See `interfaces.world.Passwords`: a plain digest, in no thread, that takes as long as the
    real one on a small machine, since callers must stand being overtaken meanwhile."""

    COST = (0.02, 0.3)
    """Seconds."""

    def __init__(self, luck: random.Random) -> None:
        self._luck = luck

    async def hash(self, password: bytes) -> str:
        await asyncio.sleep(self._luck.uniform(*self.COST))
        return _verifier(self._luck.randbytes(8).hex(), password)

    async def verify(self, verifier: str, password: bytes) -> bool:
        await asyncio.sleep(self._luck.uniform(*self.COST))
        kind, _, rest = verifier.partition("$")
        return kind == "sim" and verifier == _verifier(rest.partition("$")[0], password)


class NoVault:
    """Nothing is kept encrypted in simulations."""

    def seal(self, purpose: str, secret: bytes) -> bytes:
        raise NotImplementedError

    def unseal(self, purpose: str, sealed: bytes) -> bytes:
        raise NotImplementedError


class NoWeb:
    """There are no token servers in simulations."""

    async def post_form(self, url: str, fields: Mapping[str, str]) -> tuple[int, str]:
        raise NotImplementedError


class NoIssuer:
    """See `interfaces.world.Issuer`."""

    def issue(self, login: str) -> IssuedCertificate:
        raise StoreUnavailable("no authority in a simulation")


def _verifier(salt: str, password: bytes) -> str:
    return f"sim${salt}${hashlib.sha256(salt.encode() + password).hexdigest()}"


class Host:
    """One machine running one process of the program; a crash starts it anew, with nothing."""

    def __init__(self, sim: SimWorld, name: str, *, offers_tls: bool) -> None:
        self.name = name
        self.clock = SimClock(sim.loop)
        self._sim = sim
        self._offers_tls = offers_tls
        self._boot()

    def _boot(self) -> None:
        sim, name = self._sim, self.name
        life = sim.fabric.life_of(name)
        self.process = Process(sim.loop, f"{name}/{life}")
        self.network = SimNetwork(sim.fabric, name, offers_tls=self._offers_tls)
        self.world = World(
            self.network,
            self.clock,
            SimEntropy(sim.random(f"entropy/{name}/{life}")),
            SimPasswords(sim.random(f"passwords/{name}/{life}")),
            NoIssuer(),
            NoVault(),
            NoWeb(),
        )

    def spawn(self, work: Coroutine[Any, Any, T], name: str | None = None) -> asyncio.Task[T]:
        """Start a task on this host."""
        return self.process.spawn(work, name)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on this host and wait for it.

        Raises:
            CrashedError: the host crashed before the end.
        """
        return await self.process.run(work)

    def crash(self) -> None:
        """kill -9, then an idle machine: `process`, `network` and `world` are new ones.

        Nothing of the old process runs again. What it had given to `process.at_crash` is called
        first, then its connections are reset.
        """
        self.process.kill()
        self._sim.fabric.crash(self.name)
        self._boot()


class SimWorld:
    def __init__(self, loop: SimLoop, seed: int, profile: FaultProfile | None) -> None:
        self.loop = loop
        self.seed = seed
        self.fabric = SimFabric(loop, seed, profile)
        self.clock = SimClock(loop)
        """The true time."""
        self._hosts: dict[str, Host] = {}

    def random(self, purpose: str) -> random.Random:
        """A generator of its own, so that a draw more for one purpose leaves the others alone."""
        return random.Random(f"{self.seed}/{purpose}")

    def host(self, name: str, *, offers_tls: bool = False) -> Host:
        """The host of this name, made on first use; `offers_tls` counts then only."""
        if name not in self._hosts:
            self._hosts[name] = Host(self, name, offers_tls=offers_tls)
        return self._hosts[name]


@dataclass(frozen=True, slots=True)
class Run(Generic[T]):
    """A finished simulation."""

    result: T
    trace_hash: str
    """Equal for two runs of one seed and one program (and one PYTHONHASHSEED, should the program
    walk over sets of strings)."""
    steps: int
    seconds: float
    """Virtual ones."""


def simulate(
    seed: int,
    main: Callable[[SimWorld], Coroutine[Any, Any, T]],
    *,
    profile: FaultProfile | None = None,
    max_steps: int = MAX_STEPS,
) -> Run[T]:
    """Run `main` in a fresh world; it belongs to no host and survives every crash.

    Tasks left over at its end are cancelled and waited for. Any exception carries the seed and the
    last entries of the trace as a note.

    Raises:
        SimulationError: a deadlock, too many steps, an exception nobody looked at, or a call
            that leads out of the simulation.
    """
    loop = SimLoop(seed, max_steps=max_steps)
    # A collection at a moment of the collector's choosing would run finalizers there.
    collecting = gc.isenabled()
    gc.disable()
    try:
        result = loop.run_until_complete(main(SimWorld(loop, seed, profile)))
        cancel_leftovers(loop)
    except BaseException as error:
        error.add_note(f"seed {seed}; the last entries of the trace:\n{loop.trace.tail()}")
        raise
    finally:
        end(loop)
        if collecting:
            gc.enable()
    return Run(result, loop.trace.digest, loop.steps, loop.time() - START)


def seeds(count: int) -> list[int]:
    """The seeds a test runs; SIM_SEED in the environment replaces them, to replay a failure."""
    if only := os.environ.get("SIM_SEED"):
        return [int(only)]
    return list(range(count))
