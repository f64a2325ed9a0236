"""Reading single values: every function takes what TOML gave and returns it typed, or says in
`WrongValue` what was given and what is allowed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import date, time
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from proxy.domain.allowed import check_pattern
from proxy.domain.model import is_valid_device_name
from proxy.domain.policy import MINUTE, Octets, Seconds, backlog_age, parse_duration
from proxy.domain.providers import PROVIDERS

SHOWN = 80
"""Characters of a wrong value that a message repeats."""

_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.%\w]+\]|[^\s:\[\]/]+):(\d{1,5})", re.ASCII)
_MAIL_ADDRESS = re.compile(r"[A-Za-z0-9._%+=-]{1,64}@[A-Za-z0-9.-]{1,190}[A-Za-z0-9]", re.ASCII)
_SIZE = re.compile(r"(\d{1,12})(B|KiB|MiB|GiB)", re.ASCII)
_SIZE_UNITS = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


class WrongValue(ValueError):
    """A value that cannot be used; the text is the whole of what the operator is told."""


def show(value: object) -> str:
    """A value as TOML writes it, on one line and of bounded length; tables are not shown."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, date | time):
        return "a date or time"
    text = json.dumps(value) if isinstance(value, str | bool) else str(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise WrongValue(f"{show(value)} is not text in quotes")
    return value


def truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise WrongValue(f"{show(value)} is not true or false")
    return value


def whole_number(value: Any) -> int:
    # A bool is an int to Python, not to the person who wrote it.
    if not isinstance(value, int) or isinstance(value, bool):
        raise WrongValue(f"{show(value)} is not a whole number")
    return value


def port(value: Any) -> int:
    number = whole_number(value)
    if not 1 <= number <= 65535:
        raise WrongValue(f"{number} is not a port from 1 to 65535")
    return number


def positive(value: Any) -> int:
    number = whole_number(value)
    if number < 1:
        raise WrongValue(f"{number} is not a number from 1 up")
    return number


def duration(value: Any) -> Seconds:
    try:
        return parse_duration(value if isinstance(value, str) else "")
    except (ValueError, OverflowError):
        allowed = 'a time such as "30s", "5m", "2h" or "30d"'
        raise WrongValue(f"{show(value)} is not {allowed}") from None


def some_time(value: Any) -> Seconds:
    """A duration that must not be nothing."""
    seconds = duration(value)
    if seconds <= 0:
        raise WrongValue(f"{show(value)} is not a time above zero")
    return seconds


def autologout(value: Any) -> Seconds:
    """RFC 1939 §3."""
    seconds = duration(value)
    if seconds < 10 * MINUTE:
        raise WrongValue(f"{show(value)} is less than 10m, the least that RFC 1939 allows")
    return seconds


def size(value: Any) -> Octets:
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise WrongValue(f'{show(value)} is not a size such as "512B", "64KiB" or "25MiB"')
    return Octets(int(match[1]) * _SIZE_UNITS[match[2]])


def size_from(least: int) -> Callable[[Any], Octets]:
    """A size of at least so many octets."""

    def read(value: Any) -> Octets:
        octets = size(value)
        if octets < least:
            raise WrongValue(f"{show(value)} is less than {least}B")
        return octets

    return read


def choice(value: Any, allowed: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise WrongValue(f"{show(value)} is not one of {', '.join(map(json.dumps, allowed))}")
    return value


def address(value: Any) -> str:
    """ "host:port"; port 0 asks for any free one."""
    match = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[1]) > 65535:
        allowed = '"host:port" such as "127.0.0.1:1110" or "[::1]:1110"'
        raise WrongValue(f"{show(value)} is not {allowed}")
    return match[0]


def listening(base: Path) -> Callable[[Any], str]:
    """What can be listened on: an address, "unix:PATH" or "systemd:NAME"; paths are relative to
    `base`."""

    def read(value: Any) -> str:
        kind, _, rest = value.partition(":") if isinstance(value, str) else ("", "", "")
        if kind == "unix" and rest:
            return f"unix:{directory(base)(rest)}"
        # systemd.socket(5), FileDescriptorName=
        if kind == "systemd" and rest.isprintable() and rest and ":" not in rest:
            return f"systemd:{rest}"
        try:
            return address(value)
        except WrongValue as error:
            raise WrongValue(f'{error}, "unix:PATH" or "systemd:NAME"') from None

    return read


def network(value: Any) -> IPv4Network | IPv6Network:
    try:
        return ip_network(value if isinstance(value, str) else "")
    except ValueError:
        allowed = 'an address or a network such as "192.0.2.7" or "10.0.0.0/8"'
        raise WrongValue(f"{show(value)} is not {allowed}") from None


def address_or_none(value: Any) -> str:
    return "" if value == "" else address(value)


def host(value: Any) -> str:
    """A host name or a bare IP address; "" where there is none."""
    name = text(value)
    if name.count(":") == 1:
        raise WrongValue(f"{show(name)} is not a host name alone; the port is a key of its own")
    if not name.isprintable() or any(character in name for character in " /@[]"):
        raise WrongValue(f"{show(name)} is not a host name or an IP address")
    return name


def host_name(value: Any) -> str:
    """A host that is there."""
    if not (name := host(value)):
        raise WrongValue(f"{show(name)} is not a host name")
    return name


def provider(value: Any) -> str:
    """The name of a known provider; "" for none."""
    name = text(value)
    if name and name not in PROVIDERS:
        raise WrongValue(f"{show(name)} is not one of {', '.join(map(json.dumps, PROVIDERS))}")
    return name


def url(value: Any) -> str:
    """An address of a token server: https, or this machine's own; "" where there is none."""
    address = text(value)
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    secure = parts.scheme == "https" or (
        parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")
    )
    if address and not (secure and parts.hostname and address.isprintable() and " " not in address):
        raise WrongValue(f"{show(address)} is not an address that begins with https://")
    return address


def separator(value: Any) -> str:
    """What stands between account and device in a login name."""
    mark = text(value)
    if len(mark) != 1 or mark == "@" or not mark.isprintable() or mark == " ":
        raise WrongValue(f'{show(mark)} is not a single character other than "@" and space')
    if is_valid_device_name(mark):
        raise WrongValue(f"{show(mark)} may stand in device names, so it cannot separate them")
    return mark


def backlog(value: Any) -> str:
    try:
        backlog_age(value if isinstance(value, str) else "")
    except (ValueError, OverflowError):
        raise WrongValue(f'{show(value)} is not "all", "none" or an age such as "30d"') from None
    return str(value)


def login(value: Any) -> str:
    """An account's name or upstream login: it goes on one POP3 line."""
    name = text(value)
    if not name or not name.isprintable():
        raise WrongValue(f"{show(name)} is not a login name on one line")
    return name


def pattern(value: Any) -> str:
    """One of `accounts.allow`."""
    name = text(value)
    try:
        check_pattern(name)
    except ValueError as error:
        raise WrongValue(f"{show(name)} matches no account: {error}") from None
    return name


def login_or_none(value: Any) -> str:
    return "" if value == "" else login(value)


def mail_address(value: Any) -> str:
    name = text(value)
    if not _MAIL_ADDRESS.fullmatch(name):
        raise WrongValue(f'{show(name)} is not an e-mail address such as "me@example.com"')
    return name


def mail_address_or_none(value: Any) -> str:
    return "" if value == "" else mail_address(value)


def directory(base: Path) -> Callable[[Any], Path]:
    """Paths are relative to `base`."""

    def read(value: Any) -> Path:
        name = text(value)
        if not name or "\0" in name:
            raise WrongValue(f"{show(name)} is not a path")
        return base / name

    return read


def path_or_none(base: Path) -> Callable[[Any], str]:
    """An absolute path that is not looked at; "" where there is none."""
    read = directory(base)
    return lambda value: str(read(value)) if text(value) else ""


def file(base: Path) -> Callable[[Any], str]:
    """A file that can be read, as an absolute path; "" where there is none."""

    def read(value: Any) -> str:
        if not text(value):
            return ""
        path = directory(base)(value)
        try:
            path.open("rb").close()
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise WrongValue(f"{show(value)} is not a file that can be read: {why}") from None
        return str(path)

    return read
