"""The PROXY protocol, versions 1 and 2, receiver's side: what a forwarder says before the client.

Sections are those of HAProxy's doc/proxy-protocol.txt. Whether a peer may speak it at all is for
the caller: whoever is believed here can claim any address (§2).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

LINE_LIMIT = 107
"""§2.1: octets of a version 1 header, its CRLF included."""

BLOCK_LIMIT = 4096
"""Octets we take behind the 16 of a version 2 header; senders keep below one TCP segment (§2)."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """What the sender says about the client."""

    address: str | None
    """The client's IP address in canonical form, IPv4 where IPv6 only carries it. None: the
    connection's own address holds (LOCAL, UNKNOWN, AF_UNSPEC, AF_UNIX)."""
    tls: bool = False
    """Whether the client speaks TLS with the sender."""


class ProxyHeaderError(Exception):
    """What came is no header of the PROXY protocol; nothing the peer sends is to be believed."""


class ProxyHeaderReader:
    """Reads the one header a connection begins with.

    Holds no more than an unfinished header, 16 + `BLOCK_LIMIT` octets at most, and what was fed
    last.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._over = False

    def feed(self, data: bytes) -> tuple[ProxyHeader, bytes] | None:
        """The header and the octets behind it as soon as it is whole; None while it is not.

        Raises:
            ProxyHeaderError: these octets cannot become a valid header, or feeding went on after
                the header was given or refused.
        """
        if self._over:
            raise ProxyHeaderError("the header is over")
        self._data += data
        try:
            read = _read(bytes(self._data))
        except ProxyHeaderError:
            self._end()
            raise
        if read is None:
            return None
        header, size = read
        rest = bytes(self._data[size:])
        self._end()
        return header, rest

    def _end(self) -> None:
        self._over = True
        self._data.clear()


# A header is small and nearly always comes at once, so each feeding reads it from its start.
_Read = tuple[ProxyHeader, int] | None
"""The header and its octets; None: more is needed."""


def _read(data: bytes) -> _Read:
    for start, read in ((_WORD, _read_line), (_SIGNATURE, _read_block)):
        if data.startswith(start):
            return read(data)
        if start.startswith(data):
            return None
    raise ProxyHeaderError("no PROXY protocol header")


# --- version 1, §2.1 ----------------------------------------------------------------------------

_WORD = b"PROXY "
_UNKNOWN = b"UNKNOWN"

_Field = Callable[[bytes], bool]


def _address(kind: type[IPv4Address] | type[IPv6Address], text: bytes) -> str | None:
    # ipaddress would take a zone ("fe80::1%eth0"), which means nothing on another machine.
    if b"%" in text:
        return None
    try:
        return _canonical(kind(text.decode("ascii")))
    except ValueError:
        return None


def _canonical(address: IPv4Address | IPv6Address) -> str:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def _is_ipv4(text: bytes) -> bool:
    return _address(IPv4Address, text) is not None


def _is_ipv6(text: bytes) -> bool:
    return _address(IPv6Address, text) is not None


def _is_port(text: bytes) -> bool:
    return re.fullmatch(rb"0|[1-9][0-9]{0,4}", text) is not None and int(text) <= 0xFFFF


_FAMILIES: dict[bytes, tuple[type[IPv4Address] | type[IPv6Address], tuple[_Field, ...]]] = {
    b"TCP4": (IPv4Address, (_is_ipv4, _is_ipv4, _is_port, _is_port)),
    b"TCP6": (IPv6Address, (_is_ipv6, _is_ipv6, _is_port, _is_port)),
}
"""For each family: its addresses, and what its fields must be."""

_ENDINGS = (
    *(b"", b"0", b":", b"::"),
    *(b"0.0", b"0.0.0", b"0.0.0.0", b".0", b".0.0", b".0.0.0"),
)
"""Every beginning of a valid field becomes a valid one with one of these."""


def _read_line(data: bytes) -> _Read:
    end = data.find(b"\r\n", 0, LINE_LIMIT)
    if end >= 0:
        return _header_of_line(data[:end]), end + len(b"\r\n")
    missing = 1 if data.endswith(b"\r") else 2
    if len(data) + missing > LINE_LIMIT:
        raise ProxyHeaderError("the line is too long")
    if missing == 1:
        # The line is whole but for the LF: what is wrong with it shows now.
        _header_of_line(data[:-1])
    else:
        _check_beginning(data)
    return None


def _header_of_line(line: bytes) -> ProxyHeader:
    _, family, *fields = line.split(b" ")
    if family == _UNKNOWN:
        return ProxyHeader(None)
    addresses, checks = _checks_of(family)
    if len(fields) != len(checks) or not _all_valid(checks, fields):
        raise ProxyHeaderError("malformed line")
    return ProxyHeader(_address(addresses, fields[0]))


def _check_beginning(line: bytes) -> None:
    """Raises:
    ProxyHeaderError: no valid line begins so.
    """
    _, family, *fields = line.split(b" ")
    if not fields:
        if not any(name.startswith(family) for name in (*_FAMILIES, _UNKNOWN)):
            raise ProxyHeaderError("unknown protocol family")
        return
    if family == _UNKNOWN:
        return
    _, checks = _checks_of(family)
    *whole, last = fields
    if len(fields) > len(checks) or not _all_valid(checks, whole):
        raise ProxyHeaderError("malformed line")
    valid = checks[len(whole)]
    if not any(valid(last + ending) for ending in _ENDINGS):
        raise ProxyHeaderError("malformed line")


def _checks_of(family: bytes) -> tuple[type[IPv4Address] | type[IPv6Address], tuple[_Field, ...]]:
    try:
        return _FAMILIES[family]
    except KeyError:
        raise ProxyHeaderError("unknown protocol family") from None


def _all_valid(checks: tuple[_Field, ...], fields: list[bytes]) -> bool:
    return all(valid(field) for valid, field in zip(checks, fields, strict=False))


# --- version 2, §2.2 ----------------------------------------------------------------------------

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_START = 16

_LOCAL, _PROXY = 0x20, 0x21
_UNSPEC = 0
_INET, _INET6, _UNIX = 1, 2, 3
_STREAM = 1

_ADDRESS_OCTETS = {_INET: 12, _INET6: 36, _UNIX: 216}
"""Both addresses and, but for AF_UNIX, both ports."""

_SSL = 0x20
_SSL_FIXED = 5
_CLIENT_SSL = 0x01


def _read_block(data: bytes) -> _Read:
    _check_kind(data)
    # An octet of the length that is still to come counts as 0.
    length = int.from_bytes(data[14:_START].ljust(2, b"\0"), "big")
    if length > BLOCK_LIMIT:
        raise ProxyHeaderError("the header is too long")
    if len(data) < _START:
        return None
    block = data[_START : _START + length]
    header = ProxyHeader(None) if data[12] == _LOCAL else _header_of_block(data[13], block, length)
    return (header, _START + length) if len(block) == length else None


def _check_kind(data: bytes) -> None:
    """Judge version, command, family and transport, as far as they have come.

    Raises:
        ProxyHeaderError: not ones that are taken.
    """
    if len(data) > 12 and data[12] not in (_LOCAL, _PROXY):
        raise ProxyHeaderError("unknown version or command")
    # §2.2: for LOCAL the family is ignored.
    if len(data) > 13 and data[12] == _PROXY:
        family, transport = divmod(data[13], 16)
        if family not in (_UNSPEC, *_ADDRESS_OCTETS) or transport not in (_UNSPEC, _STREAM):
            raise ProxyHeaderError("no stream of a known protocol family")


def _header_of_block(kind: int, block: bytes, length: int) -> ProxyHeader:
    """What the `length` octets behind the fixed part say; a mere beginning of them is judged."""
    family, transport = divmod(kind, 16)
    if _UNSPEC in (family, transport):
        # Nobody knows how long the addresses are, so TLVs behind them cannot be found either.
        return ProxyHeader(None)
    octets = _ADDRESS_OCTETS[family]
    if length < octets:
        raise ProxyHeaderError("no room for the addresses")
    # The checksum (PP2_TYPE_CRC32C) is optional for receivers (§2.2.3) and left alone: TCP has one.
    ssl = [_is_ssl(value) for tlv, value in _tlvs(block, octets, length) if tlv == _SSL]
    if len(ssl) > 1:
        raise ProxyHeaderError("PP2_TYPE_SSL comes twice")
    return ProxyHeader(_address_in(family, block), any(ssl))


def _address_in(family: int, block: bytes) -> str | None:
    if family == _INET and len(block) >= 4:
        return _canonical(IPv4Address(block[:4]))
    if family == _INET6 and len(block) >= 16:
        return _canonical(IPv6Address(block[:16]))
    return None


def _is_ssl(value: bytes) -> bool:
    """What the value of PP2_TYPE_SSL says of the client (§2.2.6).

    Raises:
        ProxyHeaderError: malformed, or the TLVs within it are.
    """
    if len(value) < _SSL_FIXED:
        raise ProxyHeaderError("PP2_TYPE_SSL is too short")
    for _ in _tlvs(value, _SSL_FIXED, len(value)):
        pass
    return bool(value[0] & _CLIENT_SSL)


def _tlvs(block: bytes, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Types and values from `start` to `end`, as far as `block` has them whole already.

    Raises:
        ProxyHeaderError: one does not fit before `end`.
    """
    while start < end:
        value = start + 3
        # A length that is still to come counts as 0.
        stop = value + int.from_bytes(block[start + 1 : value].ljust(2, b"\0"), "big")
        if stop > end:
            raise ProxyHeaderError("a TLV is longer than what it is in")
        if stop > len(block):
            return
        yield block[start], block[value:stop]
        start = stop
