"""Upstream passwords that the store keeps, encrypted with a key from somewhere else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.e2e.dovecot import User
from tests.e2e.proxy import ProxyProcess
from tests.e2e.rig import SYNC, Rig, small_mails

pytestmark = pytest.mark.e2e

KEY = "0123456789abcdef0123456789abcdef"


def stage(rig: Rig) -> tuple[User, ProxyProcess]:
    user = rig.dovecot.add_user(password="of one piece & secret")
    rig.dovecot.deliver(user, *small_mails(2, "kept"))
    server = {"host": rig.dovecot.host, "port": rig.dovecot.port, "tls": "none"}
    account = {"name": user.name, "password_stored": True, "upstream": server}
    proxy = ProxyProcess(rig.folder / "proxy", rig.certificates, {"sync": SYNC}, [account])
    rig.proxies.append(proxy)
    return user, proxy


def command(
    proxy: ProxyProcess, *words: str, said: str = "", environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "proxy", *words, "--config", str(proxy.config)],
        cwd=proxy.folder,
        env={**os.environ, **(environment or {})},
        input=said,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def set_password(proxy: ProxyProcess, user: User, **more: Mapping[str, str]) -> None:
    done = command(proxy, "account", "set-password", user.name, said=f"{user.password}\n", **more)
    assert done.returncode == 0, done.stderr


def test_a_running_proxy_uses_it_at_once_and_after_a_restart(rig: Rig) -> None:
    user, proxy = stage(rig)
    proxy.start()
    failed = proxy.cli("account", "sync", user.name)
    assert failed.returncode == 1
    assert f"account set-password {user.name}" in failed.stderr
    set_password(proxy, user)
    assert proxy.cli_json("account", "sync", user.name)["listed"] == 2
    proxy.restart()
    device = rig.device(proxy, user, "laptop")
    device.poll()
    assert len(device.mails()) == 2


def test_it_can_be_set_while_no_proxy_runs(rig: Rig) -> None:
    user, proxy = stage(rig)
    set_password(proxy, user)
    proxy.start()
    assert proxy.cli_json("account", "sync", user.name)["listed"] == 2


def test_it_stands_nowhere_in_clear(rig: Rig) -> None:
    user, proxy = stage(rig)
    proxy.start()
    set_password(proxy, user)
    assert proxy.cli("account", "sync", user.name).returncode == 0
    proxy.stop()
    for file in proxy.folder.rglob("*"):
        assert not file.is_file() or user.password.encode() not in file.read_bytes(), file
    assert (proxy.folder / "proxy.key").stat().st_mode & 0o777 == 0o600


def test_without_its_key_a_copy_of_the_store_opens_nothing(rig: Rig) -> None:
    user, proxy = stage(rig)
    set_password(proxy, user)
    key = proxy.folder / "proxy.key"
    key.rename(proxy.folder / "elsewhere")
    gone = command(proxy, "account", "sync", user.name)
    assert gone.returncode == 1
    assert "proxy.key does not exist" in gone.stderr
    key.write_text(KEY)
    other = command(proxy, "account", "sync", user.name)
    assert other.returncode == 1
    assert "encrypted with another key" in other.stderr


@pytest.mark.parametrize("source", ["environment", "systemd"])
def test_the_key_may_come_from_outside(rig: Rig, source: str, tmp_path: Path) -> None:
    user, proxy = stage(rig)
    (tmp_path / "pop3-sync-proxy.key").write_text(KEY)
    environment = {
        "environment": {"POP3_SYNC_SECRETS__KEY": KEY},
        "systemd": {"CREDENTIALS_DIRECTORY": str(tmp_path)},
    }[source]
    set_password(proxy, user, environment=environment)
    assert not (proxy.folder / "proxy.key").exists()
    done = command(proxy, "account", "sync", user.name, environment=environment)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("said", ["", "\n"])
def test_an_empty_password_is_refused(rig: Rig, said: str) -> None:
    user, proxy = stage(rig)
    refused = command(proxy, "account", "set-password", user.name, said=said)
    assert refused.returncode == 2
    assert "not empty" in refused.stderr


def test_an_account_whose_password_stands_in_the_file_keeps_none(rig: Rig) -> None:
    user = rig.dovecot.add_user()
    proxy = rig.proxy(user)
    refused = command(proxy, "account", "set-password", user.name, said="x\n")
    assert refused.returncode == 2
    assert "password_stored = true" in refused.stderr
