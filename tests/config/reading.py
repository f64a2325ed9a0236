"""What the tests of the configuration share."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from proxy.adapters.password_sources import SystemPasswordSources
from proxy.config.load import load
from proxy.domain.directory import DeclaredAccount, Directory
from proxy.domain.errors import BadConfig
from proxy.services.account_passwords import fetch_passwords

HOST = '[upstream]\nhost = "pop.example.com"\n'


def with_passwords(file: Path | None, environ: dict[str, str]) -> list[DeclaredAccount]:
    """The accounts of a configuration, their passwords fetched.

    Raises:
        BadConfig
    """
    settings = load(file, environ)
    directory = Directory(settings.account, settings.default_policy(), pass_through=False)
    asyncio.run(fetch_passwords(directory, SystemPasswordSources(environ)))
    return directory.all_declared()


def problems(file: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    """What is wrong with `text`, without the file's name before each line."""
    file.write_text(text)
    with pytest.raises(BadConfig) as caught:
        with_passwords(file, environ or {})
    assert all("\n" not in line for line in caught.value.problems)
    return [line.removeprefix(f"{file}: ") for line in caught.value.problems]
