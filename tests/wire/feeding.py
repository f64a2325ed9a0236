"""Ways to feed the same octets: whole, octet by octet, cut at random."""

from __future__ import annotations

import random
from collections.abc import Iterator


def cut(data: bytes, rng: random.Random) -> list[bytes]:
    """`data` in pieces of random length."""
    pieces = []
    position = 0
    while position < len(data):
        length = rng.randint(1, 1 + rng.choice([1, 3, 10, 100]))
        pieces.append(data[position : position + length])
        position += length
    return pieces


def every_way(data: bytes, seed: int = 1) -> Iterator[list[bytes]]:
    """The feedings every parser must take alike."""
    yield [data]
    yield [data[i : i + 1] for i in range(len(data))]
    rng = random.Random(seed)
    for _ in range(5):
        yield cut(data, rng)
