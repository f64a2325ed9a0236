"""What `init` writes is read as it was meant, whatever names have in them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from proxy.config import writing
from proxy.config.load import load
from proxy.config.values import login
from proxy.config.writing import Answers, render
from proxy.domain.policy import RetentionPolicy, TlsMode
from proxy.domain.provider import Provider
from proxy.domain.providers import PROVIDERS
from proxy.services.discovery import Found, toml_text

FOUND = Found("here", "pop.example.com", 1995, "starttls", "alice")


def answers(server: Found = FOUND, *, password_file: str = "secrets/alice") -> Answers:
    return Answers(
        address="alice@example.com",
        server=server,
        ca_file="",
        password_file=password_file,
        listen_tls="0.0.0.0:1995",
        certificate_names=("192.0.2.7",),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "alice").write_text("secret\n")
    return tmp_path


@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("".join(map(chr, range(256))))
def test_any_text_comes_back(text: str) -> None:
    assert tomllib.loads(f"key = {toml_text(text)}") == {"key": text}


# Everything that may be a login name at all.
LOGINS = st.text(min_size=1).filter(str.isprintable)


@given(
    name=LOGINS,
    username=LOGINS,
    tls=st.sampled_from(["implicit", "starttls", "none"]),
    port=st.integers(1, 65535),
    listening=st.tuples(st.ip_addresses(v=4), st.integers(0, 65535)),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_it_loads_as_it_was_meant(
    folder: Path,
    name: str,
    username: str,
    tls: TlsMode,
    port: int,
    listening: tuple[object, int],
) -> None:
    assert login(name) == name
    listen = f"{listening[0]}:{listening[1]}"
    found = Found("here", "pop.example.com", port, tls, username)
    file = folder / "proxy.toml"
    given = Answers(name, found, "", "secrets/alice", listen, ("192.0.2.7", "mail.lan"))
    file.write_text(render(given))
    loaded = load(file, {})
    (account,) = loaded.account
    assert (account.name, account.credentials.username) == (name, username)
    assert account.password_source is not None
    assert account.password_source.value == (str(folder / "secrets" / "alice"),)
    server = account.policy.upstream
    assert (server.host, server.port, server.tls) == ("pop.example.com", port, tls)
    assert loaded.pop3.listen_tls == (listen,)
    assert loaded.pop3.certificate_names == ("192.0.2.7", "mail.lan")
    assert account.policy.retention == RetentionPolicy(upstream="keep")
    assert not loaded.accounts.pass_through


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=lambda provider: provider.name)
def test_every_known_provider_is_written_by_its_name(folder: Path, provider: Provider) -> None:
    oauth = provider.login == "oauth"
    server = Found("", provider.host, provider.port, "implicit", "me", provider, needs_oauth=oauth)
    file = folder / "proxy.toml"
    file.write_text(render(answers(server, password_file="" if oauth else "secrets/alice")))
    (account,) = load(file, {}).account
    assert account.policy.upstream.host == provider.host
    assert account.policy.upstream.oauth_client_id == (writing.CLIENT_ID if oauth else "")
    assert account.credentials.username == "me"


def test_a_trust_root_of_its_own_is_named(folder: Path) -> None:
    (folder / "ca.pem").write_text("a certificate")
    file = folder / "proxy.toml"
    given = Answers("alice", FOUND, str(folder / "ca.pem"), "secrets/alice", "127.0.0.1:0", ())
    file.write_text(render(given))
    assert load(file, {}).upstream.ca_file == str(folder / "ca.pem")


@pytest.mark.parametrize("password_file", ["secrets/alice", ""])
def test_every_key_has_a_comment_above_it(password_file: str) -> None:
    lines = render(answers(password_file=password_file)).splitlines()
    keys = [number for number, line in enumerate(lines) if re.match(r"\w+ = ", line)]
    assert keys
    assert all(lines[number - 1].startswith("# ") for number in keys)
    assert all(len(line) <= 100 for line in lines)
