"""From an address and what a person says to the settings of its POP3 server."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from proxy.cli.asking import Person, say
from proxy.cli.common import run
from proxy.domain.errors import BadRequest, NotFound, UpstreamUnreachable
from proxy.domain.policy import TlsMode, UpstreamServer
from proxy.domain.providers import provider_of
from proxy.interfaces.lookup import Lookup
from proxy.interfaces.world import World
from proxy.services.discovery import Found, discover, recognized
from proxy.services.upstream_trial import try_upstream

SECURITY = {"implicit": "TLS", "starttls": "STARTTLS", "none": "no encryption"}

PROBE_TIME = 15.0
"""Seconds; a port that speaks another kind of TLS may wait for ever for us to begin."""


@dataclass(frozen=True, slots=True)
class ByHand:
    """What was said about the server; "", 0 and None where nothing was."""

    host: str
    port: int
    tls: TlsMode | None
    username: str
    ca_file: str


def find(address: str, said: ByHand, person: Person, lookup: Lookup, world: World) -> Found:
    """Raises:
    BadRequest: something is missing, and nobody is there to ask.
    NotFound: there is no such server.
    UpstreamUnreachable: none of the usual ports answers as a POP3 server.
    """
    if not said.host and (said.port or said.tls):
        raise BadRequest("--port and --tls need --host")
    found = None if said.host else _looked_up(address, person, lookup)
    if found is None:
        host = said.host or person.text("POP3 server of your provider", option="--host")
        found = _tried(address, replace(said, host=host), world)
    for hint in found.hints:
        say(f"  {hint}")
    return replace(found, username=said.username or found.username)


def _looked_up(address: str, person: Person, lookup: Lookup) -> Found | None:
    say(f"Looking for the POP3 server of {address} …")
    result = run(discover(address, lookup))
    found = result.found
    if result.no_pop3:
        raise NotFound(result.no_pop3)
    if found is None:
        say("Nothing found among known providers, in DNS and in autoconfiguration files.")
        return None
    say(f"Found by {found.source}: {described(found)}.")
    # What is not in our own table may have been forged on its way, and would get the password.
    if provider_of(address) is None and not person.confirms(
        f"Is {found.host} your provider's server?", option=f"--yes (to use {found.host}) or --host"
    ):
        return None
    return found


def described(found: Found) -> str:
    return f"{found.host}, port {found.port}, {SECURITY[found.tls]}"


def _tried(address: str, said: ByHand, world: World) -> Found:
    choices = usual(said.port, said.tls)
    if len(choices) == 1:
        return _by_hand(address, said.host, *choices[0])
    troubles = []
    for port, tls in choices:
        say(f"Trying {said.host}, port {port}, {SECURITY[tls]} …")
        server = UpstreamServer(said.host, port, tls, said.ca_file)
        trouble = run(_trouble(world, server))
        if trouble is None:
            return _by_hand(address, said.host, port, tls)
        troubles.append(f"port {port}, {SECURITY[tls]}: {trouble}")
    raise UpstreamUnreachable(f"no POP3 server on {said.host}:\n  " + "\n  ".join(troubles))


async def _trouble(world: World, server: UpstreamServer) -> object | None:
    try:
        async with asyncio.timeout(PROBE_TIME):
            return (await try_upstream(world, server, None)).error
    except TimeoutError:
        return f"no answer within {PROBE_TIME:.0f} seconds"


def usual(port: int, tls: TlsMode | None) -> list[tuple[int, TlsMode]]:
    """What to try, the likeliest first. Never without encryption, unless that was said."""
    if tls is not None:
        return [(port or (995 if tls == "implicit" else 110), tls)]
    if port == 110:
        return [(110, "starttls"), (110, "implicit")]
    if port:
        return [(port, "implicit"), (port, "starttls")]
    return [(995, "implicit"), (110, "starttls")]


def _by_hand(address: str, host: str, port: int, tls: TlsMode) -> Found:
    found = recognized(Found("hand", host.lower(), port, tls, address))
    if found.provider is not None and found.provider.local_part:
        return replace(found, username=address.rpartition("@")[0] or address)
    return found
