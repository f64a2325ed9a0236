"""When passwords are fetched: each command as a user gives it, each fetching leaving its mark."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from proxy.adapters.store import open_store
from proxy.cli.main import app
from tests.certificates import Certificates
from tests.e2e.proxy import ProxyProcess, Table
from tests.e2e.rig import SYNC, Rig
from tests.interfaces.store_contract import NOW, add

pytestmark = pytest.mark.e2e

ALICE = ("alice", "1")

COMMANDS: dict[str, tuple[str, ...]] = {
    "status": (),
    "account list": (),
    "account show": ("alice",),
    "account distinct": ("alice", "old"),
    "account merge": ("old", "gone", "--yes"),
    "account remove": ("gone", "--yes"),
    "account authorize": ("alice",),
    "account set-password": ("carol",),
    "device list": ("alice",),
    "device add": ("alice", "tablet"),
    "device rename": ("alice", "tablet", "phone"),
    "device reset": ("alice", "phone"),
    "device mark-delivered": ("alice", "phone"),
    "device certificate": ("alice", "phone", "--out", "phone.pem"),
    "device import-seen": ("alice", "phone", "uidls"),
    "device remove": ("alice", "phone"),
    "message list": ("alice",),
    "message show": ALICE,
    "message trace": ALICE,
    "message export": ALICE,
    "message resend": (*ALICE, "laptop"),
    "certificate": (),
    "clock ok": (),
    "gc": (),
    "verify": (),
    "backup": ("backup",),
    "restore": ("backup",),
    "export": ("alice", "--mbox", "mbox"),
}
"""What an operator looks and changes with; nothing of it logs in upstream."""

LOG_IN = {"serve", "check", "sync", "account sync"}
ON_THEIR_OWN = {"demo", "init"}
"""They read no configuration."""


@dataclass
class Stage:
    proxy: ProxyProcess
    folder: Path

    def marks(self) -> list[str]:
        """Whose command has run, in the order they ran in."""
        path = self.folder / "marks"
        return path.read_text().split() if path.exists() else []

    def environment(self) -> str:
        return (self.folder / "environment").read_text()

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "proxy", *words, "--config", str(self.proxy.config)],
            cwd=self.folder,
            env={**os.environ, "POP3_SYNC_SECRETS__KEY": "0123456789abcdef", "BOBS": "bob's own"},
            input="typed\n",
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


def command_of(folder: Path, name: str, password: str = "secret") -> list[str]:
    marks, environment = folder / "marks", folder / "environment"
    return ["/bin/sh", "-c", f"echo {name} >> {marks}; env > {environment}; echo '{password}'"]


def all_commands(command: Any, *above: str) -> Iterator[str]:
    """Groups have commands, commands have none."""
    inner = getattr(command, "commands", {})
    for name in inner:
        yield from all_commands(inner[name], *above, name)
    if not inner:
        yield " ".join(above)


async def store_one_message(data_dir: Path) -> None:
    store = await open_store(data_dir)
    for name in ("alice", "old", "gone"):
        account = await store.ensure_account(name, declared=name == "alice", at=NOW)
        await add(store, account, b"Subject: x\r\n\r\nx\r\n", "1")
        await store.add_device(account.id, "laptop", since=None, at=NOW)
    await store.close()


@pytest.fixture
def stage(tmp_path: Path, certificates: Certificates) -> Iterator[Stage]:
    """Accounts whose passwords come from everywhere; their upstream is nowhere."""
    folder = tmp_path / "proxy"
    accounts: list[Table] = [
        {"name": "alice", "password_command": command_of(folder, "alice")},
        {"name": "bob", "password_env": "BOBS"},
        {"name": "carol", "password_stored": True},
        {"name": "dora", "password_file": "dora"},
    ]
    sections: dict[str, Table] = {"upstream": {"host": "127.0.0.1", "port": 1}}
    proxy = ProxyProcess(folder, certificates, sections, accounts)
    (folder / "uidls").write_text("1\n")
    # Who opens it waits for ever: the tests would not end.
    os.mkfifo(folder / "dora")
    asyncio.run(store_one_message(folder / "data"))
    yield Stage(proxy, folder)
    proxy.kill()


def test_every_command_is_looked_at() -> None:
    assert set(all_commands(get_command(app))) == {*COMMANDS, *LOG_IN, *ON_THEIR_OWN}


CANNOT = {"account authorize", "restore"}
"""There is no OAuth 2.0 here, and there is a store."""


def run_all(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, since there are so many."""
    monkeypatch.chdir(stage.folder)
    runner = CliRunner(env={"POP3_SYNC_SECRETS__KEY": "0123456789abcdef"})
    for words, arguments in COMMANDS.items():
        line = [*words.split(), *arguments, "--config", str(stage.proxy.config)]
        done = runner.invoke(app, line, input="typed\n")
        assert (done.exit_code == 0) != (words in CANNOT), (words, done.output, done.exception)


def test_no_operator_s_command_fetches_a_password_while_the_proxy_is_stopped(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_all(stage, monkeypatch)
    assert stage.marks() == []


def test_nor_while_it_runs(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOBS", "bob's own")
    (stage.folder / "dora").unlink()
    (stage.folder / "dora").write_text("dora's own\n")
    stage.proxy.start()
    assert stage.marks() == ["alice"], "serve fetches it once"
    (stage.folder / "dora").unlink()
    os.mkfifo(stage.folder / "dora")
    run_all(stage, monkeypatch)
    assert stage.marks() == ["alice"]


def with_upstream(rig: Rig, folder: Path) -> tuple[Stage, list[str]]:
    """Two accounts of a real server, each with a command of its own."""
    users = [rig.dovecot.add_user(), rig.dovecot.add_user()]
    server = {"host": rig.dovecot.host, "port": rig.dovecot.port, "tls": "none"}
    accounts: list[Table] = [
        {
            "name": user.name,
            "upstream": server,
            "password_command": command_of(folder, user.name, user.password),
        }
        for user in users
    ]
    proxy = ProxyProcess(folder, rig.certificates, {"sync": SYNC}, accounts)
    rig.proxies.append(proxy)
    return Stage(proxy, folder), [user.name for user in users]


def test_who_logs_in_fetches_what_that_takes_and_hands_on_none_of_our_secrets(rig: Rig) -> None:
    stage, names = with_upstream(rig, rig.folder / "proxy")
    assert stage.command("account", "sync", names[0]).returncode == 0
    assert stage.marks() == names[:1]
    assert "POP3_SYNC" not in stage.environment()
    assert "PATH=" in stage.environment()
    checked = stage.command("check")
    assert checked.returncode == 0, checked.stderr
    assert sorted(stage.marks()[1:]) == sorted(names)
    assert stage.command("sync").returncode == 0
    assert sorted(stage.marks()[3:]) == sorted(names)
    stage.proxy.start()
    assert sorted(stage.marks()[5:]) == sorted(names)
    assert stage.command("sync").returncode == 0
    assert len(stage.marks()) == 7


def test_one_command_that_fails_stops_its_own_account_alone(rig: Rig) -> None:
    stage, (first, second) = with_upstream(rig, rig.folder / "proxy")
    text = stage.proxy.config.read_text()
    stage.proxy.config.write_text(text.replace(f"echo {first} >>", f"exit 3; echo {first} >>"))
    done = stage.command("sync")
    assert done.returncode == 1
    assert f"account.{first}.password_command: the command ended with exit code 3" in done.stdout
    assert f"{second}: 0 messages upstream" in done.stdout


@pytest.mark.parametrize("command", ["serve", "check"])
def test_what_cannot_be_had_is_told_in_full_at_the_start_by_its_key(
    stage: Stage, command: str
) -> None:
    (stage.folder / "dora").unlink()
    text = stage.proxy.config.read_text()
    stage.proxy.config.write_text(text.replace("echo alice >>", "exit 3; echo alice >>"))
    done = stage.command(command)
    assert done.returncode == 2
    assert "account.alice.password_command: the command ended with exit code 3" in done.stderr
    assert 'account.dora.password_file: "dora" cannot be read: No such file' in done.stderr
    assert "ready" not in done.stdout
