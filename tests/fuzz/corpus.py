"""What fuzzing starts from: dialogues as programs hold them, headers as forwarders send them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from ipaddress import ip_address

from tests.fuzz.plan import CUTS, DECISIONS, LINE, LINE_LIMITS, REST, plan_octets
from tests.fuzz.pop3_run import END_POINT, ITERATIONS, PASSWORDS, SALT, server_nonce
from tests.fuzz.sasl_run import SEPARATOR
from tests.wire.scram_client import CLIENT_NONCE, ScramClient


def seeds(target: str) -> list[bytes]:
    return list(_SEEDS[target]())


def tokens(target: str) -> list[bytes]:
    """Octets worth putting in anywhere."""
    return _TOKENS[target]


# --- SCRAM --------------------------------------------------------------------------------------

_PLUS = "p=tls-server-end-point,,"


def scram_messages(
    number: int = 1, *, header: str = "n,,", password: bytes = PASSWORDS[0], more: str = ""
) -> tuple[bytes, bytes]:
    """First and final message of the session's exchange of this number."""
    data = END_POINT if header.startswith("p=") else b""
    client = ScramClient("alice", password, header=header, data=data, more=more)
    salt = base64.b64encode(SALT).decode()
    challenge = f"r={CLIENT_NONCE}{server_nonce(number)},s={salt},i={ITERATIONS}"
    return client.first(), client.final(challenge.encode())


def _wrong_proof() -> tuple[bytes, bytes]:
    first, final = scram_messages(password=b"a guess")
    return first, final


# --- the server machine -------------------------------------------------------------------------


def _lines(*lines: bytes) -> bytes:
    return b"".join(line + b"\r\n" for line in lines)


def _auth_scram(mechanism: bytes, messages: tuple[bytes, bytes]) -> bytes:
    first, final = map(base64.b64encode, messages)
    return _lines(b"AUTH " + mechanism, first, final, b"")


_PLAIN = base64.b64encode(b"\0alice\0se cret")
_USER = _lines(b"USER alice@example.com+laptop", b"PASS two words ")
_TRANSACTION = _lines(
    *(b"STAT", b"LIST", b"LIST 1", b"UIDL", b"UIDL 2", b"CAPA", b"TOP 1 0", b"RETR 1"),
    *(b"DELE 1", b"NOOP", b"RSET", b"TOP 2 10", b"RETR 2", b"LANG", b"LANG en", b"QUIT"),
)
_EXTERNAL = "stls plaintext scram tls certificate end_point compared"


def _server_seeds() -> Iterator[bytes]:
    at_once = bytes([REST]) * CUTS
    octetwise = bytes([2]) * CUTS
    yield plan_octets(b"")
    for cuts in (at_once, octetwise, bytes([8, 2, 40, 3])):
        yield plan_octets(_USER + _TRANSACTION, cuts=cuts)
    yield plan_octets(_USER + _TRANSACTION)
    # Every mail, in parts of several lengths, while the peer goes on sending.
    for decisions in (bytes([0, 2, 4, 6]), bytes([0, 0x82, 0x8C, 0xF6]), bytes([0, 1, 3, 5])):
        yield plan_octets(
            _USER + _lines(b"RETR 1", b"TOP 1 2", b"RETR 3", b"DELE 1", b"QUIT"),
            decisions=decisions * (DECISIONS // len(decisions)),
        )
    yield from _login_seeds()
    yield from _tls_seeds()
    yield from _rude_seeds()


def _login_seeds() -> Iterator[bytes]:
    alice, secret = base64.b64encode(b"alice"), base64.b64encode(b"se cret")
    dialogues = [
        _lines(b"CAPA", b"USER alice", b"CAPA", b"PASS x", b"CAPA", b"NOOP"),
        _lines(b"USER alice", b"PASS", b"USER bob", b"PASS ", b"QUIT"),
        _lines(b"AUTH", b"AUTH PLAIN " + _PLAIN, b"STAT", b"QUIT"),
        _lines(b"auth plain", _PLAIN, b"stat", b"quit"),
        _lines(b"AUTH PLAIN =", b"AUTH PLAIN", b"*", b"AUTH GSSAPI", b"AUTH PLAIN a b"),
        _lines(b"AUTH LOGIN", alice, secret, b"UIDL"),
        _lines(b"AUTH LOGIN " + alice, secret, b"LIST"),
        _lines(b"AUTH LOGIN =", b"AUTH LOGIN", b"", b"AUTH LOGIN", b"not base64!"),
        _lines(b"UTF8", b"STLS", "USER аліса".encode(), "PASS пароль".encode(), b"UTF8"),
        _lines(b"LANG", b"LANG *", b"LANG en-GB", b"LANG de", b"LANG i-default", b"LANG en x"),
        _auth_scram(b"SCRAM-SHA-256", scram_messages()) + _TRANSACTION,
        _auth_scram(b"SCRAM-SHA-256", scram_messages(password=PASSWORDS[1], more=",x=y")),
        _auth_scram(b"SCRAM-SHA-256", _wrong_proof())
        + _auth_scram(b"scram-sha-256", scram_messages(2)),
        _lines(b"AUTH SCRAM-SHA-256 " + base64.b64encode(scram_messages()[0]), b"*", b"QUIT"),
        _lines(b"AUTH SCRAM-SHA-256-PLUS " + base64.b64encode(scram_messages(header=_PLUS)[0])),
    ]
    for dialogue in dialogues:
        yield plan_octets(dialogue)
        yield plan_octets(dialogue, flags="stls", decisions=bytes(range(1, DECISIONS + 1)))
        yield plan_octets(dialogue, flags="tls scram", decisions=bytes([1]) + bytes(7))


def _tls_seeds() -> Iterator[bytes]:
    after = _lines(b"CAPA", b"STLS", b"PASS x") + _USER + _lines(b"STAT", b"QUIT")
    yield plan_octets(_lines(b"CAPA", b"STLS") + after)
    yield plan_octets(_lines(b"CAPA", b"STLS") + after, flags="stls")
    for cuts in (bytes([REST]) * CUTS, bytes([LINE]) * CUTS):
        yield plan_octets(_lines(b"USER mallory", b"STLS") + after, cuts=cuts)
    plus = _auth_scram(b"SCRAM-SHA-256-PLUS", scram_messages(header=_PLUS))
    yield plan_octets(_lines(b"STLS") + plus + _TRANSACTION, flags="stls end_point")
    yield plan_octets(plus + _TRANSACTION, flags="tls end_point compared")
    yield plan_octets(plus, flags="tls compared")
    for external in (
        _lines(b"AUTH EXTERNAL =", b"STAT", b"QUIT"),
        _lines(b"AUTH", b"AUTH EXTERNAL", base64.b64encode(b"alice"), b"QUIT"),
        _lines(b"AUTH EXTERNAL " + base64.b64encode(b"alice"), b"RSET", b"QUIT"),
    ):
        yield plan_octets(external, flags=_EXTERNAL)
        yield plan_octets(_lines(b"STLS") + external, flags=_EXTERNAL.replace(" tls", ""))
        yield plan_octets(external)
        yield plan_octets(external, flags="tls")


def _rude_seeds() -> Iterator[bytes]:
    yield plan_octets(b"GET / HTTP/1.1\r\n" * 20)
    yield plan_octets(b"HELO there\r\n" * 20)
    yield plan_octets(b"\r\n\n\r\r\n" * 3 + b"QUIT\n", max_errors=7)
    yield plan_octets(b"USER a\nPASS b\nRETR 1\nQUIT\n")
    yield plan_octets(_lines(b"RETR 1", b"DELE -1", b"TOP 1", b"LIST 1 2", b"XYZZY", b"QUIT now"))
    yield plan_octets(_USER + _lines(b"RETR 99999999999", b"LIST x", "RETR ١".encode(), b"TOP 1"))
    yield plan_octets(_lines(b"USER \xff", b"USER a\0b", b"USER ", b"USER \x1b[0m", b"PASS a\0b"))
    # A line at its limit, and two beyond it: cut, and whole.
    for limit in LINE_LIMITS:
        for cuts in (bytes([REST]) * CUTS, bytes([200, 57, 2, 99])):
            for more in (0, 1, 2):
                line = b"USER ".ljust(limit - 1 + more, b"a") + b"\r\nQUIT\r\n"
                yield plan_octets(line, line_limit=limit, cuts=cuts)
    # tests.fuzz.plan makes 12,288 octets of the first and more of the second.
    for stretch in (b"\xfe\xc0", b"\xfe\xc0A", b"\xfe\xff"):
        yield plan_octets(b"AUTH PLAIN\r\n" + stretch + b"\r\nUSER " + stretch + b"\r\nQUIT\r\n")


# --- the SASL layer -----------------------------------------------------------------------------

_PLAIN_KIND, _LOGIN_KIND, _EXTERNAL_KIND, _SCRAM_KIND = range(4)
_IS_PLUS, _NO_INITIAL, _HAS_TLS = 4, 8, 16


def _sasl_seeds() -> Iterator[bytes]:
    for kind, *responses in (
        (_PLAIN_KIND, b"\0alice\0se cret"),
        (_PLAIN_KIND, b"alice\0alice\0se cret"),
        (_PLAIN_KIND, b"bob\0alice\0se cret"),
        (_LOGIN_KIND, b"alice", b"se cret"),
        (_EXTERNAL_KIND, b""),
        (_EXTERNAL_KIND, "аліса".encode()),
        (_SCRAM_KIND, *scram_messages(), b""),
        (_SCRAM_KIND | _HAS_TLS, *scram_messages(header="y,a=alice,", more=",x=y"), b""),
        (_SCRAM_KIND, *_wrong_proof()),
        (_SCRAM_KIND | _IS_PLUS | _HAS_TLS, *scram_messages(header=_PLUS), b""),
        (_SCRAM_KIND | _IS_PLUS, *scram_messages(header=_PLUS), b""),
        # tests.fuzz.plan makes long ones of these: too long a message, too long a nonce.
        (_SCRAM_KIND, b"n,,n=\xfe\x7f,r=clientnonce"),
        (_SCRAM_KIND, b"n,,n=alice,r=\xfe\x08", b"c=biws,r=\xfe\xff,p=x"),
    ):
        for flags in (kind, kind | _NO_INITIAL):
            yield bytes([0, flags]) + SEPARATOR.join(responses)
    yield from _client_seeds()


def _client_seeds() -> Iterator[bytes]:
    texts = [
        "alice",
        "alice\nx=y",
        "a,b=c\nx=1,Y=2",
        "аліса",
        "Ａlice",
        "a\u00adb",
        "a\u202e",
        "\n",
    ]
    for text in texts:
        # Without TLS, and with it and channel binding; then a final message with an edit in it.
        for choices in (0, 2, 32, 3 | 8 | 16, 5 | 8 | 16 | 32):
            yield bytes([1, choices, 0, 0, 0]) + text.encode()
            yield bytes([1, choices | 64, 90, 65, 0]) + text.encode()
            yield bytes([1, choices | 128, 0, 0, 0]) + text.encode()
    # The client believes that channel binding was not offered, and is right or not.
    for choices in (1, 1 | 16):
        for announced in (0, 1):
            yield bytes([1, choices, 0, 0, announced]) + b"alice"


# --- PROXY protocol -----------------------------------------------------------------------------

SIGNATURE = bytes.fromhex("0D0A0D0A000D0A515549540A")


def _block(command: int, kind: int, payload: bytes) -> bytes:
    return SIGNATURE + bytes([command, kind]) + len(payload).to_bytes(2) + payload


def _tlv(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + len(value).to_bytes(2) + value


_IPV4 = bytes([192, 168, 0, 1, 192, 168, 0, 11]) + b"\xdc\x04\0\x6e"
_IPV6 = ip_address("2001:db8::1").packed + ip_address("2001:db8::2").packed + b"\xdc\x04\0\x6e"
_MAPPED = ip_address("::ffff:192.0.2.7").packed * 2 + b"\xdc\x04\0\x6e"
_UNIX = b"/run/a".ljust(108, b"\0") + b"/run/b".ljust(108, b"\0")
_SSL = _tlv(0x20, b"\1\0\0\0\0" + _tlv(0x21, b"TLSv1.3") + _tlv(0x23, b"TLS_AES_128_GCM_SHA256"))

_HEADERS = (
    b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
    b"PROXY TCP6 2001:DB8:0:0::1 ::1 56324 443\r\n",
    b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:192.0.2.1 56324 110\r\n",
    b"PROXY TCP6 %b %b 65535 65535\r\n" % ((b":".join([b"ffff"] * 8),) * 2),
    b"PROXY UNKNOWN\r\n",
    b"PROXY UNKNOWN ffff:f::ffff ffff:f::ffff 65535 65535\r\n",
    b"PROXY UNKNOWN ".ljust(105, b"x") + b"\r\n",
    _block(0x20, 0x00, b""),
    _block(0x20, 0x11, _IPV4),
    _block(0x21, 0x00, b"anything"),
    _block(0x21, 0x11, _IPV4),
    _block(0x21, 0x21, _IPV6),
    _block(0x21, 0x21, _MAPPED),
    _block(0x21, 0x31, _UNIX),
    _block(0x21, 0x11, _IPV4 + _SSL),
    _block(0x21, 0x21, _IPV6 + _tlv(0x04, b"") + _SSL + _tlv(0xEA, b"x")),
    _block(0x21, 0x31, _UNIX + _tlv(0x03, b"\1\2\3\4") + _SSL),
    _block(0x21, 0x11, _IPV4 + _tlv(0x04, bytes(300))),
    # Refused.
    b"PROXY TCP6 fe80::1%eth0 ::1 56324 443\r\n",
    b"PROXY TCP4 192.168.00.1 192.168.0.11 56324 443\r\n",
    _block(0x21, 0x12, _IPV4),
    _block(0x21, 0x11, _IPV4 + _SSL + _SSL),
    _block(0x21, 0x11, _IPV4 + b"\x04\0"),
    b"USER alice\r\n",
)


def _proxy_seeds() -> Iterator[bytes]:
    for number, header in enumerate(_HEADERS):
        yield bytes([number * 37 % 256]) + header
        yield bytes([number * 53 % 256]) + header + b"USER a\r\nPASS b\r\n"


# --- dictionaries -------------------------------------------------------------------------------

_COMMANDS = (
    b"CAPA USER PASS AUTH STLS UTF8 LANG QUIT STAT LIST UIDL RETR TOP DELE NOOP RSET".split()
)

_SEEDS = {
    "server_machine": _server_seeds,
    "sasl_layer": _sasl_seeds,
    "proxy_header": _proxy_seeds,
}
_TOKENS: dict[str, list[bytes]] = {
    "server_machine": [
        *(verb + ending for verb in _COMMANDS for ending in (b"\r\n", b" ")),
        *(b"\r\n", b"\n", b"\r", b"*\r\n", b"=\r\n", b"\0", b"\xff", b" 1\r\n", b" 1 2\r\n"),
        *(b"AUTH PLAIN ", b"AUTH LOGIN\r\n", b"AUTH EXTERNAL =\r\n", b"en-GB", b"i-default"),
        *(b"AUTH SCRAM-SHA-256\r\n", b"AUTH SCRAM-SHA-256-PLUS\r\n", b"USER a\r\nPASS b\r\n"),
        *(_PLAIN, b"YWxpY2U=\r\n", b"\xfe\xc0", b"\xfe\xff", b"\xfe\x04", b"9999999999"),
        *(base64.b64encode(message) + b"\r\n" for message in scram_messages()),
        *(base64.b64encode(message) + b"\r\n" for message in scram_messages(header=_PLUS)),
    ],
    "sasl_layer": [
        *(SEPARATOR, b"\0", b",", b"=2C", b"=3D", b"n=", b"r=", b"a=", b"c=", b"p=", b"m=", b"x=y"),
        *(b"n,,", b"y,,", _PLUS.encode(), b"c=biws", b"\xc2\xad", "Ａ".encode(), "\u202e".encode()),
        *(CLIENT_NONCE.encode(), server_nonce(1).encode(), b"alice", b"se cret"),
        b"c=" + base64.b64encode(_PLUS.encode() + hashlib.sha256(b"a certificate").digest()),
    ],
    "proxy_header": [
        *(b"PROXY ", b"TCP4 ", b"TCP6 ", b"UNKNOWN", b"\r\n", b" ", b"::", b"1.2.3.4 ", b"::1 "),
        *(b"0 ", b"65535", b"65536", b"%", b"::ffff:", SIGNATURE, b"\x21\x11", b"\x21\x21"),
        *(b"\x21\x31", b"\x20\x00", b"\x20\0\x05\1\0\0\0\0", _IPV4, _IPV6, _SSL, b"\x04\0\0"),
    ],
}
