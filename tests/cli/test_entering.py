"""What a person is told to enter, and to do."""

from __future__ import annotations

import pytest

from proxy.cli.entering import what_to_enter
from proxy.config.writing import Answers
from proxy.domain.providers import PROVIDERS
from proxy.services.discovery import Found

FOUND = Found("here", "pop.example.com", 995, "implicit", "alice")


def told(
    server: Found = FOUND,
    *,
    listen: str = "0.0.0.0:1995",
    password_file: str = "secrets/alice",
    config: str = "proxy.toml",
) -> str:
    answers = Answers("alice@example.com", server, "", password_file, listen, ("192.168.1.5",))
    return what_to_enter(answers, ["laptop", "desktop", "laptop"], config)


def of_provider(name: str) -> Found:
    provider = PROVIDERS[name]
    return Found("", provider.host, 995, "implicit", "alice", provider)


def test_each_device_has_its_user_name_once() -> None:
    assert told().count("alice@example.com+laptop") == 1
    assert told().count("alice@example.com+desktop") == 1


@pytest.mark.parametrize(
    ("listen", "server"),
    [
        ("0.0.0.0:1995", "192.168.1.5"),
        ("[::]:1995", "192.168.1.5"),
        ("127.0.0.1:1995", "localhost"),
        ("10.0.0.7:1995", "10.0.0.7"),
    ],
)
def test_the_server_is_where_the_proxy_listens(listen: str, server: str) -> None:
    lines = told(listen=listen).splitlines()
    assert any(line.split()[:2] == ["server", server] for line in lines)
    assert any(line.split() == ["port", "1995"] for line in lines)


def test_commands_name_the_file_only_where_it_is_not_found_without() -> None:
    assert "--config" not in told()
    assert "serve --config 'my mail.toml'" in told(config="my mail.toml")


def test_a_provider_with_a_minimum_between_logins_is_given_its_time() -> None:
    assert "wait 15 min" in told(of_provider("web.de"))
    assert "wait" not in told(of_provider("gmx"))


def test_without_a_password_upstream_devices_get_their_own() -> None:
    text = told(of_provider("gmail"), password_file="")
    steps = [text.index(f"proxy {step}") for step in ("account authorize", "device add", "serve")]
    assert steps == sorted(steps)
    assert "that of the mailbox" not in text
