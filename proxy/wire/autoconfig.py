"""Thunderbird's autoconfiguration files: which POP3 server a domain has.

https://wiki.mozilla.org/Thunderbird:Autoconfiguration:ConfigFileFormat
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree

_SOCKETS: dict[str, Literal["implicit", "starttls"]] = {"SSL": "implicit", "STARTTLS": "starttls"}


@dataclass(frozen=True, slots=True)
class AutoconfigServer:
    host: str
    port: int
    tls: Literal["implicit", "starttls"]
    username: str
    oauth: bool
    """The only way to log in is OAuth 2.0."""


def parse_autoconfig(document: bytes, address: str) -> list[AutoconfigServer]:
    """POP3 servers with TLS in the order of the file; none when it is no such file.

    Files with a document type are refused: entities can make a small file a huge one.
    """
    text = document.decode("utf-8", "replace").lstrip("\ufeff")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        return []
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 - there are no entities
    except (ElementTree.ParseError, ValueError):
        return []
    found = [_server(entry, address) for entry in root.iterfind(".//incomingServer")]
    return [server for server in found if server is not None]


def _server(entry: ElementTree.Element, address: str) -> AutoconfigServer | None:
    host = _text(entry, "hostname").lower()
    port = _text(entry, "port")
    tls = _SOCKETS.get(_text(entry, "socketType"))
    good_port = port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536
    if entry.get("type") != "pop3" or tls is None or not good_port:
        return None
    name, _, domain = address.rpartition("@")
    for placeholder, value in (
        ("%EMAILADDRESS%", address),
        ("%EMAILLOCALPART%", name),
        ("%EMAILDOMAIN%", domain),
    ):
        host = host.replace(placeholder.lower(), value.lower())
    if not all(part.isalnum() for label in host.split(".") for part in label.split("-") if part):
        return None
    ways = {(way.text or "").strip() for way in entry.iterfind("authentication")}
    username = _text(entry, "username") or "%EMAILADDRESS%"
    for placeholder, value in (
        ("%EMAILADDRESS%", address),
        ("%EMAILLOCALPART%", name),
        ("%EMAILDOMAIN%", domain),
    ):
        username = username.replace(placeholder, value)
    return AutoconfigServer(host, int(port), tls, username, oauth=ways == {"OAuth2"})


def _text(entry: ElementTree.Element, tag: str) -> str:
    return (entry.findtext(tag) or "").strip()
