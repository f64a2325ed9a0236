"""What is fuzzed: functions that take any octets and raise when an oracle, or Python, objects."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv6Address, ip_address

from proxy.wire.mechanisms import Mechanism
from proxy.wire.pop3_server import Pop3Server
from proxy.wire.proxy_header import (
    BLOCK_LIMIT,
    ProxyHeader,
    ProxyHeaderError,
    ProxyHeaderReader,
)
from proxy.wire.sasl import SaslError
from tests.fuzz import sasl_run
from tests.fuzz.checks import expect
from tests.fuzz.plan import read_plan, whole
from tests.fuzz.pop3_run import Make, Run

Target = Callable[[bytes], None]


def server_machine(data: bytes, make: Make = Pop3Server) -> None:
    """A session as tests.fuzz.plan reads it."""
    plan = read_plan(data)
    transcript = Run(plan, make).play()
    # What STLS throws away depends on what has come by then.
    if plan.compared and not transcript.upgraded:
        expect(Run(whole(plan), make).play() == transcript, "other pieces, another session")


def sasl_layer(
    data: bytes,
    mechanism: Callable[[int], Mechanism] = sasl_run.make_mechanism,
    server: sasl_run.Server = sasl_run.make_server,
) -> None:
    """The first octet tells a mechanism and its responses from a client that knows a password."""
    with suppress(SaslError):
        if len(data) > 1 and data[0] & 1:
            sasl_run.play_client(data[1:], server)
        elif len(data) > 1:
            sasl_run.play_mechanism(data[1:], mechanism)


# --- PROXY protocol -----------------------------------------------------------------------------

WHOLE_HEADER = 16 + BLOCK_LIMIT
_SINGLE = 240
"""Octets fed one by one; then they come in pieces, for each feeding reads the header anew."""
_PIECE = 97

_Outcome = tuple[ProxyHeader, bytes] | ProxyHeaderError | None


def proxy_header(data: bytes, make: Callable[[], ProxyHeaderReader] = ProxyHeaderReader) -> None:
    """The first octet is where the header is cut in two; the others are what a forwarder sends."""
    place, octets = (data[0], data[1:]) if data else (0, b"")
    cut = place * len(octets) // 255
    outcome = _read([octets], make)
    _check_outcome(outcome, octets)
    for pieces in ([octets[:cut], octets[cut:]], _crumbs(octets)):
        other = _read(pieces, make)
        expect(_seen(other) == _seen(outcome), "other pieces, another outcome")


def _crumbs(octets: bytes) -> list[bytes]:
    singles = [octets[at : at + 1] for at in range(min(len(octets), _SINGLE))]
    return singles + [
        octets[at : at + _PIECE] for at in range(_SINGLE, max(len(octets), _SINGLE), _PIECE)
    ]


def _read(pieces: list[bytes], make: Callable[[], ProxyHeaderReader]) -> _Outcome:
    """The header and all octets behind it, those in later pieces as well."""
    reader = make()
    for number, piece in enumerate(pieces, 1):
        try:
            read = reader.feed(piece)
        except ProxyHeaderError as error:
            _check_over(reader)
            return error
        if read is not None:
            _check_over(reader)
            header, rest = read
            return header, rest + b"".join(pieces[number:])
    return None


def _check_over(reader: ProxyHeaderReader) -> None:
    with suppress(ProxyHeaderError):
        reader.feed(b"PROXY UNKNOWN\r\n")
        expect(False, "a second header was read")


def _check_outcome(outcome: _Outcome, octets: bytes) -> None:
    if outcome is None:
        expect(len(octets) < WHOLE_HEADER, "more waits than a header may have octets")
    elif isinstance(outcome, tuple):
        header, rest = outcome
        expect(octets.endswith(rest) and len(rest) < len(octets), "other octets behind the header")
        _check_address(header.address)


def _check_address(text: str | None) -> None:
    """None, or an address in the one form that log lines and limits know."""
    if text is None:
        return
    address = ip_address(text)
    expect(str(address) == text and "%" not in text, "an address that is not canonical")
    expect(not isinstance(address, IPv6Address) or address.ipv4_mapped is None, "IPv4 in IPv6")


def _seen(outcome: _Outcome) -> tuple[ProxyHeader, bytes] | str | None:
    return "refused" if isinstance(outcome, ProxyHeaderError) else outcome


TARGETS: dict[str, Target] = {
    "server_machine": server_machine,
    "sasl_layer": sasl_layer,
    "proxy_header": proxy_header,
}
