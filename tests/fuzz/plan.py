"""Octets read as a plan of one POP3 session, and a plan written as octets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from proxy.wire.pop3 import Expire
from proxy.wire.pop3_server import Offer

LINE_LIMITS = (1024, 255, 512, 2048)
"""255 is the least that can be configured."""
EXPIRES = (Expire(None), Expire(0), Expire(30), Expire(30, may_differ=True))

CUTS = 4
DECISIONS = 8
HEADER = 3 + CUTS + DECISIONS

PIECES = 100
"""How many there are before all that is left comes at once."""

REST, LINE = 0, 1
"""Octets of `cuts`: a piece is all that is left, or goes to the end of the line. Any other is the
piece's length plus 1."""

_STRETCH = re.compile(rb"\xfe(.)", re.DOTALL)
_STRETCH_UNIT = 64
_STRETCHES = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """What is offered, what the peer sends in which pieces, how the driver decides."""

    offer: Offer
    tls: bool
    """Whether the session begins with TLS."""
    certificate: bool
    """Whether the peer shows a certificate once there is TLS."""
    end_point: bool
    """Whether channel binding is to be had once there is TLS."""
    compared: bool
    """Whether the same octets are also to be fed whole, for the same outcome."""
    cuts: bytes
    decisions: bytes
    stream: bytes

    def pieces(self) -> Iterator[bytes]:
        position = number = 0
        while position < len(self.stream):
            cut = self.cuts[number % CUTS] if number < PIECES else REST
            end = self._end_of_piece(position, cut)
            yield self.stream[position:end]
            position = end
            number += 1

    def _end_of_piece(self, position: int, cut: int) -> int:
        if cut == REST:
            return len(self.stream)
        if cut == LINE:
            return (self.stream.find(b"\n", position) + 1) or len(self.stream)
        return position + cut - 1


def read_plan(data: bytes) -> Plan:
    """Any octets are a plan."""
    header, stream = data[:HEADER].ljust(HEADER, b"\0"), data[HEADER:]
    flags, errors, choices = header[:3]
    return Plan(
        offer=Offer(
            stls=bool(flags & 1),
            plaintext_login=bool(flags & 2),
            implementation="name/1.2",
            scram=bool(flags & 4),
            expire=EXPIRES[choices >> 2 & 3],
            max_errors=1 + (errors & 31),
            line_limit=LINE_LIMITS[choices & 3],
        ),
        tls=bool(flags & 8),
        certificate=bool(flags & 16),
        end_point=bool(flags & 32),
        compared=bool(flags & 64),
        cuts=header[3 : 3 + CUTS],
        decisions=header[3 + CUTS :],
        stream=stretched(stream),
    )


def plan_octets(
    stream: bytes,
    *,
    flags: str = "stls plaintext scram end_point compared",
    max_errors: int = 20,
    line_limit: int = 1024,
    cuts: bytes = bytes([LINE]) * CUTS,
    decisions: bytes = bytes(DECISIONS),
) -> bytes:
    """What `read_plan` reads. The driver grants what its decision, an even octet, lets it grant."""
    names = ("stls", "plaintext", "scram", "tls", "certificate", "end_point", "compared")
    bits = sum(1 << names.index(flag) for flag in flags.split())
    header = bytes([bits, max_errors - 1, LINE_LIMITS.index(line_limit)])
    return header + cuts + decisions + stream


def whole(plan: Plan) -> Plan:
    """The same with all octets in one piece."""
    return replace(plan, cuts=bytes([REST]) * CUTS)


def stretched(stream: bytes) -> bytes:
    """Short inputs make long lines: 0xFE, which no UTF-8 has, and an octet stand for many."""
    return _STRETCH.sub(lambda found: b"A" * (_STRETCH_UNIT * found[1][0]), stream, _STRETCHES)
