"""Room on the disk: what is promised is there, whoever else asks at the same time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.domain.policy import Octets, StorePolicy
from proxy.domain.survey import Space
from proxy.interfaces.store import IN_MEMORY
from proxy.services.room import LOOK_EVERY, OVERHEAD, Claim, Room
from tests.sim.world import SimWorld, simulate

MIB = 1024**2
SIZE = 10_000 * MIB
RESERVE = 100 * MIB


@dataclass
class Disk:
    free: int = SIZE
    files: int | None = None
    looks: int = 0
    says: bool = True

    def space(self) -> Space | None:
        self.looks += 1
        return Space(self.free, SIZE, self.files) if self.says else None


def played(scene: Callable[[Disk, Room], Awaitable[None]]) -> None:
    """In virtual time."""

    async def main(_: SimWorld) -> None:
        disk = Disk()
        await scene(disk, Room(disk.space, StorePolicy(Octets(RESERVE))))

    simulate(1, main)


def test_a_message_is_begun_only_if_it_fits_above_the_reserve() -> None:
    async def scene(disk: Disk, room: Room) -> None:
        disk.free = RESERVE + 120 * MIB
        assert room.claim(120 * MIB) is None
        assert room.claim(100 * MIB)
        assert room.claim(100 * MIB) is None
        assert room.claim(10 * MIB)

    played(scene)


def test_what_is_on_its_way_counts_once_however_much_of_it_is_written() -> None:
    async def scene(disk: Disk, room: Room) -> None:
        disk.free = RESERVE + 120 * MIB
        large = room.claim(100 * MIB)
        assert large
        for _ in range(100):
            assert large.takes(MIB)
            disk.free -= MIB
            await asyncio.sleep(LOOK_EVERY)
            assert room.claim(20 * MIB) is None
        await asyncio.sleep(LOOK_EVERY)
        assert room.claim(19 * MIB)

    played(scene)


def test_room_that_was_not_used_is_there_again_after_a_moment() -> None:
    async def scene(disk: Disk, room: Room) -> None:
        disk.free = RESERVE + 120 * MIB
        large = room.claim(100 * MIB)
        assert large
        large.end()
        large.end()
        await asyncio.sleep(LOOK_EVERY)
        assert room.claim(100 * MIB)

    played(scene)


def test_a_message_that_is_longer_than_was_said_gets_what_there_is_and_no_more() -> None:
    async def scene(disk: Disk, room: Room) -> None:
        disk.free = RESERVE + 10 * MIB
        claim = room.claim(100)
        assert claim
        came = 0
        while claim.takes(64 * 1024):
            came += 64 * 1024
            disk.free -= 64 * 1024
        assert 8 * MIB < came <= 10 * MIB

    played(scene)


def test_a_disk_that_others_fill_stops_what_is_under_way() -> None:
    async def scene(disk: Disk, room: Room) -> None:
        claim = room.claim(100 * MIB)
        assert claim
        assert claim.takes(MIB)
        disk.free = RESERVE - 1
        await asyncio.sleep(LOOK_EVERY)
        assert not claim.takes(MIB)

    played(scene)


def test_files_run_out_before_octets_do() -> None:
    async def scene(disk: Disk, room: Room) -> None:
        disk.files = 999
        assert room.claim(1) is None
        disk.files = 10**6
        await asyncio.sleep(LOOK_EVERY)
        assert room.claim(1)

    played(scene)


def test_a_file_system_that_says_nothing_limits_nothing() -> None:
    async def scene(disk: Disk, room: Room) -> None:
        disk.says = False
        assert room.claim(10**12)
        assert room.space() is None

    played(scene)


def test_the_file_system_is_not_asked_for_every_part() -> None:
    async def scene(disk: Disk, room: Room) -> None:
        for _ in range(1000):
            claim = room.claim(1000)
            assert claim
            assert claim.takes(1000)
        assert disk.looks <= 1 + 1000 * (1000 + OVERHEAD) // (4 * MIB)

    played(scene)


def test_another_reserve_holds_at_once() -> None:
    async def scene(disk: Disk, room: Room) -> None:
        disk.free = RESERVE
        assert room.claim(1) is None
        room.follow(StorePolicy(Octets(MIB)))
        assert room.claim(MIB)

    played(scene)


@dataclass
class Mail:
    """A message under way, as a writer treats it: memory first, then a file."""

    claim: Claim
    said: int
    size: int
    came: int = 0
    on_disk: int = 0


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 60 * MIB),
    st.lists(
        st.tuples(
            st.integers(0, 20 * MIB),
            st.sampled_from([0.5, 1.0, 1.0, 1.0, 3.0]),
            st.integers(1, 3 * MIB),
            st.floats(0, 0.7),
        ),
        max_size=30,
    ),
    st.randoms(use_true_random=False),
)
def test_the_reserve_stays_whole_whatever_is_under_way_together(
    room_above: int, mails: list[tuple[int, float, int, float]], luck: random.Random
) -> None:
    async def scene(disk: Disk, room: Room) -> None:
        disk.free = RESERVE + room_above
        under_way: list[tuple[Mail, int]] = []
        waiting = list(mails)
        while waiting or under_way:
            if waiting and (not under_way or luck.random() < 0.3):
                said, factor, part, pause = waiting.pop()
                await asyncio.sleep(pause)
                if claim := room.claim(said):
                    under_way.append((Mail(claim, said, int(said * factor)), part))
                continue
            mail, part = one = luck.choice(under_way)
            part = min(part, mail.size - mail.came)
            mail.came += part
            if not mail.claim.takes(part):
                # Broken off: the temporary file goes.
                disk.free += mail.on_disk
                mail.claim.end()
                under_way.remove(one)
                continue
            done = mail.came == mail.size
            held = 0 if done else min(mail.came, IN_MEMORY)
            disk.free -= mail.came - held - mail.on_disk
            mail.on_disk = mail.came - held
            if done:
                mail.claim.end()
                under_way.remove(one)
            assert disk.free >= RESERVE

    played(scene)
