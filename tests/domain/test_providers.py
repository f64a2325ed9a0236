"""The table of providers holds together, and docs/providers.md says the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from proxy.config.values import host, port, url
from proxy.domain.provider import OutgoingServer, Provider
from proxy.domain.provider_table_smtp import OUTGOING
from proxy.domain.providers import (
    NO_POP3,
    PROVIDERS,
    hides_retrieved,
    provider_of,
    provider_of_exchanger,
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "providers.md"

ALL = pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS.keys())


@ALL
def test_an_entry_can_be_used_as_it_stands(provider: Provider) -> None:
    assert host(provider.host) == provider.host.lower()
    assert port(provider.port) == 995
    assert provider.domains or provider.exchangers
    for name in (*provider.domains, *provider.exchangers):
        assert host(name) == name.lower()
    if provider.oauth is not None:
        assert all(
            url(address).startswith("https://")
            for address in (provider.oauth.authorization_url, provider.oauth.token_url)
        )
    assert provider.login != "oauth" or provider.oauth is not None


@pytest.mark.parametrize(("name", "outgoing"), OUTGOING.items())
def test_an_smtp_server_is_that_of_a_known_provider(name: str, outgoing: OutgoingServer) -> None:
    assert name in PROVIDERS
    assert host(outgoing.host) == outgoing.host.lower()
    assert (outgoing.port, outgoing.tls) in {(465, "implicit"), (587, "starttls")}


@ALL
def test_an_entry_names_its_sources(provider: Provider) -> None:
    assert provider.sources
    for source in provider.sources:
        assert urlsplit(source).scheme in {"http", "https"}
        assert host(str(urlsplit(source).hostname))


@ALL
def test_hints_are_sentences_that_fit_into_the_table(provider: Provider) -> None:
    for hint in provider.hints:
        assert hint[0].isupper()
        assert hint.endswith(".")
        assert "|" not in hint


def test_a_domain_has_one_provider_or_none() -> None:
    domains = Counter(domain for provider in PROVIDERS.values() for domain in provider.domains)
    assert max(domains.values()) == 1
    ends = Counter(end for provider in PROVIDERS.values() for end in provider.exchangers)
    assert max(ends.values()) == 1
    assert not domains.keys() & NO_POP3.keys()


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("someone@gmail.com", "gmail"),
        ("Someone@GoogleMail.com.", "gmail"),
        ("web.de", "web.de"),
        ("a@b@msn.com", "outlook"),
    ],
)
def test_an_address_is_known_by_its_domain(address: str, name: str) -> None:
    provider = provider_of(address)
    assert provider is not None
    assert provider.name == name


@pytest.mark.parametrize("address", ["", "@", "a@example.com", "gmail.com@example.com"])
def test_other_addresses_are_not_known(address: str) -> None:
    assert provider_of(address) is None


@pytest.mark.parametrize(
    ("exchanger", "name"),
    [
        ("aspmx.l.google.com", "gmail"),
        ("SMTP.GOOGLE.COM.", "gmail"),
        ("contoso-com.mail.protection.outlook.com", "microsoft365"),
        ("contoso-com.o-v1.mx.microsoft", "microsoft365"),
        ("outlook-com.olc.protection.outlook.com", "outlook"),
        ("mx-eu.mail.am0.yahoodns.net", "yahoo"),
        ("mx-aol.mail.gm0.yahoodns.net", "aol"),
    ],
)
def test_a_domain_of_one_s_own_is_known_by_its_exchanger(exchanger: str, name: str) -> None:
    assert provider_of_exchanger(exchanger) is PROVIDERS[name]


@pytest.mark.parametrize("exchanger", ["", ".", "com", "mx.example.com", "notgoogle.com"])
def test_other_exchangers_are_not_known(exchanger: str) -> None:
    assert provider_of_exchanger(exchanger) is None


def test_where_retrieved_mail_is_hidden_is_known_by_the_host() -> None:
    assert hides_retrieved("POP.gmail.com")
    assert not hides_retrieved("pop.example.com")


def outgoing_cell(provider: Provider) -> str:
    outgoing = OUTGOING.get(provider.name)
    return f"`{outgoing.host}`, {outgoing.port}" if outgoing else ""


def row(provider: Provider) -> str:
    """As the document has it."""
    login = {"password": "password", "app-password": "app password", "oauth": "OAuth 2.0"}
    interval = f"{provider.login_interval / 60:.0f} min" if provider.login_interval else ""
    sources = " ".join(f"[{n}]({source})" for n, source in enumerate(provider.sources, 1))
    cells = (
        f"`{provider.name}`",
        provider.title,
        f"`{provider.host}`",
        outgoing_cell(provider),
        login[provider.login],
        interval,
        " ".join(provider.hints),
        sources,
    )
    return f"| {' | '.join(cells)} |"


def test_the_document_has_the_same_table() -> None:
    rows = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| `")]
    assert rows == [row(provider) for provider in PROVIDERS.values()]
