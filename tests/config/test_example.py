"""The example file is the schema: every key, its default, and a comment."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

from proxy.config.load import load
from proxy.config.schema import Settings
from proxy.config.structure import AccountTable
from proxy.domain.directory import DeclaredAccount
from proxy.domain.model import Credentials
from proxy.domain.password_source import PasswordSource
from proxy.domain.policy import UpstreamServer

EXAMPLE = Path(__file__).parents[2] / "config" / "proxy.toml"
TEXT = EXAMPLE.read_text()

PLACEHOLDERS = {("upstream", "host")}


def with_account() -> str:
    """The example with the account in it: the lines that begin with # and no space."""
    return re.sub(r"^#(?=\S)", "", TEXT, flags=re.MULTILINE)


def test_the_example_loads() -> None:
    settings = load(EXAMPLE, {})
    assert settings.upstream.host == "pop.example.com"
    assert settings.account == ()


def test_the_example_s_values_are_the_defaults() -> None:
    settings, defaults = load(EXAMPLE, {}), Settings()
    for table in fields(Settings):
        given, default = getattr(settings, table.name), getattr(defaults, table.name)
        if table.name == "data_dir":
            assert given == EXAMPLE.parent / default
        elif table.name == "secrets":
            assert given == replace(default, key_file=EXAMPLE.parent / default.key_file)
        elif is_dataclass(default):
            for key in fields(default):
                if (table.name, key.name) not in PLACEHOLDERS:
                    assert getattr(given, key.name) == getattr(default, key.name), key.name


def test_the_example_names_every_key() -> None:
    document = tomllib.loads(TEXT)
    defaults = Settings()
    assert document.keys() == {table.name for table in fields(Settings)} - {"account"}
    for name, table in document.items():
        if name != "data_dir":
            assert table.keys() == {key.name for key in fields(getattr(defaults, name))}, name


def test_every_key_has_a_comment_above_it() -> None:
    lines = TEXT.splitlines()
    keys = [number for number, line in enumerate(lines) if re.match(r"\w+ = ", line)]
    assert len(keys) == sum(
        len(table) if isinstance(table, dict) else 1 for table in tomllib.loads(TEXT).values()
    )
    for number in keys:
        assert lines[number - 1].startswith("# "), lines[number]


def test_the_example_s_account_loads_once_it_is_uncommented(tmp_path: Path) -> None:
    file = tmp_path / "proxy.toml"
    file.write_text(with_account())
    (account,) = load(file, {}).account
    place = f'{file}: account."alice@example.com".password_file'
    source = PasswordSource(
        "file", (str(tmp_path / "secrets" / "alice"),), '"secrets/alice"', place
    )
    login = Credentials("alice@example.com", b"")
    assert account == DeclaredAccount(
        "alice@example.com", login, account.policy, password_source=source
    )
    assert account.policy.upstream == UpstreamServer(host="pop.example.com")
    assert account.policy.retention.upstream == "delivered"


def test_the_example_s_account_names_every_key() -> None:
    account = with_account().partition("[[account]]")[2]
    for key in fields(AccountTable):
        assert re.search(rf"\b{key.name}\b", account), key.name
