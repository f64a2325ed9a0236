"""Thunderbird's autoconfiguration files: which POP3 server a domain has.

https://wiki.mozilla.org/Thunderbird:Autoconfiguration:ConfigFileFormat
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree

_HOST = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)+")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
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
    host = _filled(_text(entry, "hostname"), address).lower()
    port = _text(entry, "port")
    tls = _SOCKETS.get(_text(entry, "socketType"))
    if entry.get("type") != "pop3" or tls is None or not _HOST.fullmatch(host):
        return None
    if not _PORT.fullmatch(port) or int(port) > 65535:
        return None
    ways = {(way.text or "").strip() for way in entry.iterfind("authentication")}
    username = _filled(_text(entry, "username") or "%EMAILADDRESS%", address)
    return AutoconfigServer(host, int(port), tls, username, oauth=ways == {"OAuth2"})


def _filled(text: str, address: str) -> str:
    """With the address in the place of what stands for it."""
    name, _, domain = address.rpartition("@")
    text = text.replace("%EMAILADDRESS%", address)
    return text.replace("%EMAILLOCALPART%", name).replace("%EMAILDOMAIN%", domain)


def _text(entry: ElementTree.Element, tag: str) -> str:
    return (entry.findtext(tag) or "").strip()
