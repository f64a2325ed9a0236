"""What can happen to octets on their way, as chances that may be changed at any time."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class FaultProfile:
    """Chances are between 0 and 1; times are seconds; pairs are the least and the most."""

    latency: tuple[float, float] = (0.0005, 0.05)
    """One way, for every piece anew; pieces never overtake each other."""
    rate: float | None = None
    """Octets a second in each direction; None is unlimited. A slow reader is a low rate."""
    window: int = 16 * 1024
    """Octets in one direction that have left the sender and not been taken by the receiver."""
    cut_probability: float = 0.3
    """That what is sent is cut into random pieces. Not a fault: TCP promises no boundaries."""
    merge_probability: float = 0.5
    """That pieces which have arrived together are read as one. Not a fault either."""

    unknown_probability: float = 0.0
    """Per connection: no such host."""
    refuse_probability: float = 0.0
    """Per connection: refused."""
    untrusted_probability: float = 0.0
    """Per TLS handshake: the server's certificate does not verify."""
    stall_probability: float = 0.0
    """Per piece: nothing behind it moves for `stall` seconds."""
    stall: tuple[float, float] = (1.0, 90.0)
    reset_probability: float = 0.0
    """Per piece: the connection is reset at a random octet of it."""
    black_hole_probability: float = 0.0
    """Per piece: from a random octet of it on, whatever either end sends vanishes, without end."""

    def without_faults(self) -> FaultProfile:
        return replace(
            self,
            rate=None,
            unknown_probability=0.0,
            refuse_probability=0.0,
            untrusted_probability=0.0,
            stall_probability=0.0,
            reset_probability=0.0,
            black_hole_probability=0.0,
        )


def chance(luck: random.Random, probability: float) -> bool:
    """Draws nothing when the answer is certain, so that quiet runs do not depend on it."""
    return probability > 0 and (probability >= 1 or luck.random() < probability)
