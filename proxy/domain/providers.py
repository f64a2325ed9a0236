"""Providers whose POP3 is known, found by name, by address, or by who receives a domain's mail.

docs/providers.md is made from this table.
"""

from __future__ import annotations

from proxy.domain.provider import Provider
from proxy.domain.provider_table_access import ACCESS_PROVIDERS
from proxy.domain.provider_table_mail import MAIL_PROVIDERS
from proxy.domain.provider_table_oauth import OAUTH_PROVIDERS

_ALL = (*OAUTH_PROVIDERS, *MAIL_PROVIDERS, *ACCESS_PROVIDERS)

PROVIDERS = {provider.name: provider for provider in _ALL}

_ICLOUD = "iCloud Mail has no POP3, IMAP alone: https://support.apple.com/102525"
_PROTON = (
    "Proton Mail has no POP3; its Bridge gives IMAP on your own machine: "
    "https://proton.me/mail/bridge"
)
_TUTA = "Tuta can be read with its own programs alone: https://tuta.com/support/howto"
_HEY = (
    "HEY can be read with its own programs alone: "
    "https://github.com/chatmail/provider-db/blob/master/_providers/hey.com.md"
)

NO_POP3 = (
    dict.fromkeys(("icloud.com", "me.com", "mac.com"), _ICLOUD)
    | dict.fromkeys(("proton.me", "protonmail.com", "protonmail.ch", "pm.me"), _PROTON)
    | dict.fromkeys(
        ("tuta.com", "tutanota.com", "tutanota.de", "tutamail.com", "tuta.io", "keemail.me"), _TUTA
    )
    | {"hey.com": _HEY}
)
"""Domain of an address → why it cannot be had."""

_BY_DOMAIN = {domain: provider for provider in _ALL for domain in provider.domains}
# Of two with one server, the one for domains of one's own comes later in the table.
_BY_HOST = {provider.host: provider for provider in _ALL}
_BY_EXCHANGER = {end: provider for provider in _ALL for end in provider.exchangers}


def domain_of(address: str) -> str:
    """In lower case; an address without @ is a domain."""
    return address.rpartition("@")[2].rstrip(".").lower()


def provider_of(address: str) -> Provider | None:
    """By the domain of an address."""
    return _BY_DOMAIN.get(domain_of(address))


def provider_of_host(host: str) -> Provider | None:
    """By its POP3 server."""
    return _BY_HOST.get(host)


def provider_of_exchanger(host: str) -> Provider | None:
    """By an MX host of a domain: whose customer that domain is."""
    return next((_BY_EXCHANGER[end] for end in ends_of(host) if end in _BY_EXCHANGER), None)


def ends_of(host: str) -> list[str]:
    """The name and its parent domains, the longest first, without the top level."""
    labels = domain_of(host).split(".")
    return [".".join(labels[start:]) for start in range(len(labels) - 1)]


def hides_retrieved(host: str) -> bool:
    """Whether this server does not list a message again once it was retrieved."""
    return any(p.retr_hides and p.host == host.lower() for p in _ALL)
