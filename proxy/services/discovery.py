"""Finding the POP3 server of an address: by what is known, by DNS, by autoconfiguration.

What is found is proposed to a person and never used by itself: DNS without DNSSEC can be forged
(RFC 6186 §6).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from urllib.parse import quote

from proxy.domain.policy import TlsMode
from proxy.domain.provider import Provider
from proxy.domain.providers import (
    NO_POP3,
    domain_of,
    ends_of,
    provider_of,
    provider_of_exchanger,
    provider_of_host,
)
from proxy.interfaces.lookup import Lookup
from proxy.wire.autoconfig import parse_autoconfig

ISPDB = "https://autoconfig.thunderbird.net/v1.1/"

_OWNERS = 3
"""Parent domains of an MX host that are asked for; the last may be a country's "co.uk"."""

_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z](?:[a-z0-9-]*[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Found:
    source: str
    host: str
    port: int
    tls: TlsMode
    username: str
    provider: Provider | None = None
    hints: tuple[str, ...] = ()
    needs_oauth: bool = False
    """It takes no password."""


@dataclass(slots=True)
class Discovery:
    address: str
    found: Found | None = None
    no_pop3: str = ""
    """Why there can be none, where that is known."""
    tried: list[str] = field(default_factory=list)


async def discover(address: str, lookup: Lookup) -> Discovery:
    """The first that answers: a known provider, SRV, autoconfiguration, the provider of the MX."""
    result = Discovery(address)
    domain = _asked_for(address)
    result.no_pop3 = NO_POP3.get(domain, "") if domain else f"{address!r} is no e-mail address"
    if result.no_pop3:
        return result
    provider = provider_of(domain)
    result.tried.append("known providers")
    if provider is not None:
        result.found = _by_provider(provider, address, "known provider")
        return result
    for step in (_by_srv, _by_autoconfig, _by_mx):
        result.found = await step(address, domain, lookup, result)
        if result.found is not None or result.no_pop3:
            break
    if result.found is not None:
        result.found = recognized(result.found)
    return result


def recognized(found: Found) -> Found:
    """With what is known of the server, which may be a known provider's."""
    provider = provider_of_host(found.host)
    if found.provider or not provider or (found.port, found.tls) != (provider.port, "implicit"):
        return found
    needs_oauth = found.needs_oauth or provider.login == "oauth"
    hints = (*found.hints, *provider.hints)
    return replace(found, provider=provider, hints=hints, needs_oauth=needs_oauth)


def _asked_for(address: str) -> str:
    """The domain as DNS knows it; "" when it is none, and may not be put into an address."""
    try:
        domain = domain_of(address).encode("idna").decode()
    except UnicodeError:
        return ""
    return domain if address.isprintable() and _DOMAIN.fullmatch(domain) else ""


async def _by_srv(address: str, domain: str, lookup: Lookup, result: Discovery) -> Found | None:
    """RFC 6186 §3.3."""
    services: tuple[tuple[str, TlsMode], ...] = (("_pop3s", "implicit"), ("_pop3", "starttls"))
    for service, tls in services:
        name = f"{service}._tcp.{domain}"
        result.tried.append(f"SRV {name}")
        records = await lookup.srv(name)
        if not records or not records[0].host:
            continue
        host = records[0].host
        hints = []
        if host != domain and not host.endswith(f".{domain}"):
            hints.append(
                f"The server is outside of {domain}, and DNS can be forged: make sure that "
                f"{host} is your provider's."
            )
        return Found(f"SRV {name}", host, records[0].port, tls, address, hints=tuple(hints))
    return None


async def _by_autoconfig(
    address: str, domain: str, lookup: Lookup, result: Discovery
) -> Found | None:
    for url in (
        f"https://autoconfig.{domain}/mail/config-v1.1.xml?emailaddress={quote(address)}",
        f"https://{domain}/.well-known/autoconfig/mail/config-v1.1.xml",
        f"{ISPDB}{domain}",
    ):
        result.tried.append(url)
        found = await _read(url, address, lookup)
        if found is not None:
            return found
    return None


async def _by_mx(address: str, domain: str, lookup: Lookup, result: Discovery) -> Found | None:
    """Whoever receives the mail of a domain of one's own, as Thunderbird looks.

    A forged answer can name a wrong provider, and no server that is not known to be one's.
    """
    result.tried.append(f"MX {domain}")
    for host in (await lookup.mx(domain))[:1]:
        owners = ends_of(host)[-_OWNERS:]
        known = [provider_of_exchanger(host), *map(provider_of, owners)]
        provider = next((each for each in known if each is not None), None)
        if provider is not None:
            return _by_provider(provider, address, f"MX of {domain}, {host}")
        result.no_pop3 = next((NO_POP3[owner] for owner in owners if owner in NO_POP3), "")
        for owner in owners if not result.no_pop3 else []:
            found = await _read(f"{ISPDB}{owner}", address, lookup)
            if found is not None:
                return found
    return None


async def _read(url: str, address: str, lookup: Lookup) -> Found | None:
    document = await lookup.fetch(url)
    servers = parse_autoconfig(document, address) if document else []
    if not servers:
        return None
    server = servers[0]
    return Found(
        f"autoconfiguration {url}",
        server.host,
        server.port,
        server.tls,
        server.username,
        hints=("This server takes OAuth 2.0 alone.",) if server.oauth else (),
        needs_oauth=server.oauth,
    )


def _by_provider(provider: Provider, address: str, source: str) -> Found:
    username = address.rpartition("@")[0] if provider.local_part else address
    return Found(
        f"{source}: {provider.title}",
        provider.host,
        provider.port,
        "implicit",
        username,
        provider,
        provider.hints,
        needs_oauth=provider.login == "oauth",
    )


def lines_for(found: Found, address: str) -> list[str]:
    """The lines for the configuration file; TOML."""
    lines = ["[[account]]", f"name = {toml_text(address)}"]
    if found.username != address:
        lines.append(f"username = {toml_text(found.username)}")
    if found.provider is not None:
        server = f"provider = {toml_text(found.provider.name)}"
    else:
        host, tls = toml_text(found.host), toml_text(found.tls)
        server = f"host = {host}, port = {found.port}, tls = {tls}"
    if found.needs_oauth:
        lines.append("# then: pop3-sync-proxy account authorize " + address)
        server += ', oauth_client_id = "YOUR CLIENT\'S ID"'
        if found.provider is None:
            lines.append("# and the other oauth_ keys of upstream, as docs/providers.md says")
    else:
        lines.append(f"password_file = {toml_text('secrets/' + file_name_for(address))}")
    return [*lines, f"upstream = {{ {server} }}"]


def file_name_for(address: str) -> str:
    """A file's name that no other address of the domain has; for its password."""
    return re.sub(r"[^a-z0-9@._+-]", "_", address.lower()).lstrip(".")


def toml_text(text: str) -> str:
    """As TOML writes it, on one line; surrogates cannot be written."""
    # JSON's strings are TOML's too, but for one character.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
