"""The server that `init` uses: what it may use by itself, and what a person has to say."""

from __future__ import annotations

import socket

import pytest

from proxy.app import upstream_world
from proxy.cli import finding
from proxy.cli.asking import Person
from proxy.cli.finding import ByHand, find, usual
from proxy.config.schema import Settings
from proxy.domain.errors import BadRequest, NotFound, UpstreamUnreachable
from proxy.interfaces.lookup import Srv
from proxy.services.discovery import Found

NOTHING = ByHand("", 0, None, "", "")


class Names:
    """DNS that knows one record, and no web."""

    async def srv(self, name: str) -> list[Srv]:
        return [Srv("pop.own.example", 995)] if name == "_pop3s._tcp.own.example" else []

    async def mx(self, domain: str) -> list[str]:
        return []

    async def fetch(self, url: str) -> bytes | None:
        return None


def found(address: str, said: ByHand = NOTHING, *, agrees: bool = False) -> Found:
    person = Person(terminal=False, agrees=agrees)
    return find(address, said, person, Names(), upstream_world(Settings()))


def test_a_known_provider_needs_nobody_s_consent() -> None:
    assert found("me@web.de").username == "me"


def test_what_dns_names_is_used_only_with_consent() -> None:
    with pytest.raises(BadRequest, match="--yes"):
        found("me@own.example")
    assert found("me@own.example", agrees=True).host == "pop.own.example"


def test_where_nothing_is_found_the_host_has_to_be_said() -> None:
    with pytest.raises(BadRequest, match="--host"):
        found("me@other.example", agrees=True)


@pytest.mark.parametrize("address", ["me@icloud.com", "me"])
def test_where_there_can_be_no_server_that_is_the_end(address: str) -> None:
    with pytest.raises(NotFound):
        found(address, agrees=True)


def test_a_known_provider_is_recognized_by_its_host() -> None:
    said = ByHand("pop3.web.de", 995, "implicit", "", "")
    assert found("me@web.de", said).provider is not None
    assert found("me@web.de", said).username == "me"
    asked = ByHand("pop3.web.de", 995, "implicit", "you", "")
    assert found("me@web.de", asked).username == "you"


def test_a_port_without_a_host_is_refused() -> None:
    with pytest.raises(BadRequest, match="--host"):
        found("me@web.de", ByHand("", 995, None, "", ""))


def test_no_password_goes_out_in_clear_unless_that_was_said() -> None:
    for port in (0, 110, 995, 1110):
        assert all(tls != "none" for _, tls in usual(port, None))
    assert usual(0, "none") == [(110, "none")]


def test_a_port_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "PROBE_TIME", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(UpstreamUnreachable) as caught:
            found("alice", ByHand("127.0.0.1", port, None, "", ""))
    assert str(caught.value).count("no answer") == 2
