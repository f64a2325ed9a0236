"""Strangers' files, and a proxy that ends: as real processes, some of them another user's."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import Certificates
from tests.e2e.proxy import ProxyProcess, Table
from tests.e2e.waiting import eventually
from tests.needs import need

pytestmark = pytest.mark.e2e

NOBODY, SOMEBODY = 65534, 65533

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="runs as other users")


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that every user can reach."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


def write_config(folder: Path, owner: int) -> None:
    """One that leaves a mark when its command is run."""
    (folder / "proxy.toml").write_text(
        f'data_dir = "{folder}/data"\n[upstream]\nhost = "127.0.0.1"\nport = 1\n'
        '[[account]]\nname = "x"\n'
        f'password_command = ["/bin/sh", "-c", "id -u > {folder}/pwned; echo pw"]\n'
    )
    os.chown(folder / "proxy.toml", owner, owner)


def run_here(folder: Path, *words: str, user: int = 0) -> subprocess.CompletedProcess[str]:
    environ = {name: text for name, text in os.environ.items() if "POP3_SYNC" not in name}
    become = [need("setpriv"), f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    return subprocess.run(
        [*(become if user else []), sys.executable, "-m", "proxy", *words],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@root_only
@pytest.mark.parametrize("command", ["status", "check", "serve"])
def test_root_runs_nothing_that_a_stranger_s_file_says(folder: Path, command: str) -> None:
    write_config(folder, NOBODY)
    done = run_here(folder, command)
    assert done.returncode == 2
    assert "belongs to user 65534" in done.stderr
    assert "--config" in done.stderr
    assert not (folder / "pwned").exists()
    assert not (folder / "data").exists()


@root_only
@pytest.mark.parametrize(("owner", "code"), [(NOBODY, 0), (0, 0), (SOMEBODY, 2)])
def test_a_user_trusts_root_and_itself(folder: Path, owner: int, code: int) -> None:
    os.chown(folder, NOBODY, NOBODY)
    write_config(folder, owner)
    reachable = subprocess.run(
        [need("setpriv"), f"--reuid={NOBODY}", sys.executable, "-c", "import proxy"],
        cwd=folder,
        capture_output=True,
        check=False,
    )
    if reachable.returncode != 0:
        pytest.skip("the program is where other users cannot reach it")
    done = run_here(folder, "status", user=NOBODY)
    assert done.returncode == code, done.stderr
    assert not (folder / "pwned").exists()


def silent_upstream() -> socket.socket:
    made = socket.create_server(("127.0.0.1", 0))
    made.settimeout(60)
    return made


def test_a_proxy_killed_while_it_is_at_it_is_told_as_that(
    tmp_path: Path, certificates: Certificates
) -> None:
    with silent_upstream() as upstream:
        port = upstream.getsockname()[1]
        sections: dict[str, Table] = {
            "upstream": {"host": "127.0.0.1", "port": port, "tls": "none"},
            "sync": {"interval": "1d"},
        }
        account: Table = {"name": "alice", "password": "secret"}
        proxy = ProxyProcess(tmp_path / "proxy", certificates, sections, [account])
        proxy.start()
        try:
            first, _ = upstream.accept()
            first.sendall(b"-ERR not now\r\n")
            first.close()
            eventually(lambda: "sync_failed" in proxy.log(), what="the sync at the start to end")
            with subprocess.Popen(
                [
                    *(sys.executable, "-m", "proxy", "account", "sync", "alice"),
                    *("--config", str(proxy.config)),
                ],
                stderr=subprocess.PIPE,
                text=True,
            ) as command:
                second, _ = upstream.accept()
                proxy.kill()
                _, said = command.communicate(timeout=60)
                second.close()
        finally:
            proxy.kill()
    assert command.returncode == 1
    assert said.strip() == "the proxy ended while it was at it; see its log"


def test_a_reload_that_lacks_a_password_changes_nothing(
    tmp_path: Path, certificates: Certificates
) -> None:
    sections: dict[str, Table] = {"upstream": {"host": "127.0.0.1", "port": 1}}
    folder = tmp_path / "proxy"
    account: Table = {"name": "alice", "password_file": "alice"}
    proxy = ProxyProcess(folder, certificates, sections, [account])
    (folder / "alice").write_text("secret\n")
    proxy.start()
    try:
        config = proxy.config.read_text()
        proxy.config.write_text(f'{config}\n[[account]]\nname = "bob"\npassword_file = "bob"\n')
        proxy.send(signal.SIGHUP)
        eventually(lambda: "reload refused" in proxy.log(), what="the refusal")
        assert "account.bob.password_file" in proxy.log()
        assert [row["account"] for row in proxy.cli_json("account", "list")] == ["alice"]
        (folder / "bob").write_text("secret\n")
        proxy.send(signal.SIGHUP)
        eventually(lambda: "configuration reloaded" in proxy.log(), what="the reload")
        assert len(proxy.cli_json("account", "list")) == 2
    finally:
        proxy.kill()


@root_only
def test_a_service_of_its_own_user_is_asked_by_root_and_nobody_else(
    folder: Path, certificates: Certificates
) -> None:
    """Under a path that is too long for a socket."""
    deep = folder / ("x" * 120)
    deep.mkdir(mode=0o755)
    os.chown(deep, NOBODY, NOBODY)
    write_config(deep, 0)
    text = (
        (deep / "proxy.toml")
        .read_text()
        .replace("[upstream]", '[pop3]\nlisten=["127.0.0.1:0"]\n[http]\nlisten=""\n[upstream]')
    )
    (deep / "proxy.toml").write_text(text)
    command = [sys.executable, "-m", "proxy", "serve", "--config", "proxy.toml"]
    become = [need("setpriv"), f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    service = subprocess.Popen([*become, *command], cwd=deep, stdout=subprocess.PIPE, text=True)
    try:
        assert service.stdout is not None
        if not service.stdout.readline().startswith("ready"):
            pytest.skip("the program is where other users cannot reach it")
        sock = deep / "data" / "control.sock"
        assert sock.stat().st_mode & 0o777 == 0o600
        assert sock.stat().st_uid == NOBODY
        assert run_here(deep, "status", "--config", "proxy.toml").returncode == 0
        (deep / "data").chmod(0o755)
        other = run_here(deep, "status", "--config", "proxy.toml", user=SOMEBODY)
        assert other.returncode == 1
    finally:
        service.terminate()
        service.communicate(timeout=60)
    assert not sock.exists()
    shutil.rmtree(deep)
