"""The keys that say how much of the disk mail may take, and for whom HTTP answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config.load import load
from proxy.domain.policy import Octets, StorePolicy
from tests.config.reading import HOST, problems


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "proxy.toml"


def test_sizes_are_read(file: Path) -> None:
    file.write_text(f'{HOST}[store]\nreserve = "2GiB"\nmax_account_size = "500MiB"\n')
    policy = StorePolicy(Octets(2 * 1024**3), Octets(500 * 1024**2))
    assert load(file, {}).store == policy
    variables = {"POP3_SYNC_STORE__RESERVE": "1GiB", "POP3_SYNC_HTTP__HOSTS": "proxy,b.example"}
    settings = load(file, variables)
    assert settings.store.reserve == 1024**3
    assert settings.http.hosts == ("proxy", "b.example")


@pytest.mark.parametrize("wrong", ["5%", "500MB", "-1B", ""])
def test_what_is_no_size_is_said(file: Path, wrong: str) -> None:
    (problem,) = problems(file, f'{HOST}[store]\nreserve = "{wrong}"\n')
    assert "store.reserve" in problem
    assert "is not a size" in problem


@pytest.mark.parametrize("wrong", ["", "proxy:9110", "http://proxy", "a b"])
def test_a_host_is_a_name_without_a_port(file: Path, wrong: str) -> None:
    (problem,) = problems(file, f'{HOST}[http]\nhosts = ["{wrong}"]\n')
    assert "http.hosts" in problem
