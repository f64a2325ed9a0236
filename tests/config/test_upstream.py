"""Known providers, OAuth 2.0 and kept secrets in the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config.load import load
from proxy.domain.policy import MINUTE
from proxy.domain.provider_table_oauth import GOOGLE, MICROSOFT
from proxy.domain.providers import PROVIDERS
from tests.config.reading import HOST, problems

ACCOUNT = '[[account]]\nname = "me@example.com"\n'


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_provider_is_all_that_a_file_needs(file: Path, name: str) -> None:
    file.write_text(f'[upstream]\nprovider = "{name}"\n')
    server = load(file, {}).upstream
    assert (server.host, server.port, server.tls) == (PROVIDERS[name].host, 995, "implicit")
    assert server.login_interval == PROVIDERS[name].login_interval


def test_what_stands_beside_a_provider_wins(file: Path) -> None:
    file.write_text('[upstream]\nprovider = "gmail"\nhost = "pop.example.com"\noauth_scope = "x"\n')
    server = load(file, {}).upstream
    assert (server.host, server.oauth_scope) == ("pop.example.com", "x")
    assert server.oauth_token_url == GOOGLE.token_url


def test_an_account_s_provider_takes_the_place_of_the_file_s_server(file: Path) -> None:
    file.write_text(
        HOST
        + "port = 1995\n"
        + ACCOUNT
        + 'upstream = { provider = "outlook", oauth_client_id = "me" }\n'
    )
    server = load(file, {}).account[0].policy.upstream
    assert (server.host, server.port) == ("outlook.office365.com", 995)
    assert server.oauth_device_url == MICROSOFT.device_url


def test_a_provider_may_come_from_the_environment(file: Path) -> None:
    file.write_text("")
    server = load(file, {"POP3_SYNC_UPSTREAM__PROVIDER": "web.de"}).upstream
    assert (server.host, server.login_interval) == ("pop3.web.de", 15 * MINUTE)


def test_a_provider_s_users_may_log_in_with_less_than_the_address(file: Path) -> None:
    file.write_text(
        '[upstream]\nprovider = "web.de"\n[[account]]\nname = "me@web.de"\npassword = "x"\n'
    )
    assert load(file, {}).account[0].credentials.username == "me"


def test_an_unknown_provider_is_told_with_those_that_are_known(file: Path) -> None:
    (problem,) = problems(file, '[upstream]\nprovider = "gmial"\nhost = "x"\n')
    assert '"gmial"' in problem
    assert '"gmail"' in problem


@pytest.mark.parametrize(
    "how", ["password_stored = true\n", 'upstream = { oauth_client_id = "me" }\n']
)
def test_an_account_may_have_no_password_in_the_file(file: Path, how: str) -> None:
    file.write_text(HOST + ACCOUNT + how)
    (account,) = load(file, {}).account
    assert account.credentials.password == b""
    assert account.password_stored is ("stored" in how)


def test_an_account_without_any_is_told_what_there_is(file: Path) -> None:
    (problem,) = problems(file, HOST + ACCOUNT)
    assert "password_file" in problem
    assert "password_stored = true" in problem


def test_a_password_is_kept_in_one_place(file: Path) -> None:
    (problem,) = problems(file, HOST + ACCOUNT + 'password = "x"\npassword_stored = true\n')
    assert "stands here already" in problem


@pytest.mark.parametrize(
    "address", ["http://tokens.example.com/", "tokens", "https://", "ftp://x", "https://a b", "//x"]
)
def test_tokens_come_over_tls(file: Path, address: str) -> None:
    (problem,) = problems(file, HOST + f'oauth_token_url = "{address}"\n')
    assert "https://" in problem


@pytest.mark.parametrize("address", ["https://t.example.com/x", "http://127.0.0.1:8080/t", ""])
def test_this_machine_s_own_token_server_needs_none(file: Path, address: str) -> None:
    file.write_text(HOST + f'oauth_token_url = "{address}"\n')
    assert load(file, {}).upstream.oauth_token_url == address


@pytest.mark.parametrize("key_file", ["data/proxy.key", "data/keys/../keys/k"])
def test_the_key_is_not_kept_with_what_it_opens(file: Path, key_file: str) -> None:
    (problem,) = problems(file, HOST + f'[secrets]\nkey_file = "{key_file}"\n')
    assert "key_file" in problem


def test_no_secret_stands_in_what_is_printed(file: Path) -> None:
    file.write_text(
        HOST + 'oauth_client_secret = "hush-1"\n[secrets]\nkey = "hush-2-hush-2-hush-2"\n'
    )
    assert "hush" not in repr(load(file, {}))


@pytest.mark.parametrize("size", ["0B", "10B", "many", "5"])
def test_a_message_size_is_a_size(file: Path, size: str) -> None:
    (problem,) = problems(file, HOST + f'[sync]\nmax_message_size = "{size}"\n')
    assert "max_message_size" in problem
