"""`sync`, `gc`, `verify`, `backup` and `restore`, on a running and on a stopped proxy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.e2e.dovecot import User
from tests.e2e.poplib_device import logged_in
from tests.e2e.proxy import ProxyProcess
from tests.e2e.rig import Rig, assert_same_mails, login, poll_together, small_mails
from tests.e2e.terminal import Terminal
from tests.e2e.waiting import eventually

pytestmark = pytest.mark.e2e

either = pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])


def set_up(rig: Rig, mails: list[bytes], *, running: bool = True) -> tuple[User, ProxyProcess]:
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *mails)
    proxy = rig.proxy(user)
    rig.device(proxy, user, "laptop").poll()
    if not running:
        proxy.stop()
    return user, proxy


def blobs(proxy: ProxyProcess) -> list[Path]:
    return sorted((proxy.folder / "data" / "blobs").glob("??/*"))


@either
def test_sync_fetches_for_all_accounts_and_tells_who_failed(rig: Rig, *, running: bool) -> None:
    first, second = rig.dovecot.add_user(), rig.dovecot.add_user()
    proxy = rig.proxy(first, second)
    eventually(
        lambda: all(row["synced_at"] for row in proxy.cli_json("account", "list")),
        what="the syncs at the start",
    )
    if not running:
        proxy.stop()
    rig.dovecot.deliver(first, *small_mails(2, "first"))
    rig.dovecot.deliver(second, *small_mails(3, "second"))
    rows = {row["account"]: row["fetched"] for row in proxy.cli_json("sync")}
    assert rows == {first.name: 2, second.name: 3}
    rig.tap.trouble.login_reply = b"-ERR [SYS/TEMP] not now"
    failed = proxy.cli("sync")
    assert failed.returncode == 1
    assert "not now" in failed.stdout


@either
def test_gc_frees_what_retention_no_longer_keeps(rig: Rig, *, running: bool) -> None:
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *small_mails(4, "collected"))
    proxy = rig.proxy(user, sections={"retention": {"upstream": "delivered", "local_keep": "0s"}})
    device = rig.device(proxy, user, "laptop")
    device.poll()
    device.poll()
    assert rig.dovecot.count(user) == 0
    with logged_in(proxy.endpoint(), login(user, "laptop")):
        (row,) = proxy.cli_json("gc")
        assert (row["messages"], row["in_use"]) == (0, True)
    if not running:
        proxy.stop()
    (row,) = proxy.cli_json("gc")
    assert (row["messages"], row["in_use"]) == (4, False)
    assert blobs(proxy) == []


@either
def test_verify_fetches_again_what_is_damaged_or_missing(rig: Rig, *, running: bool) -> None:
    mails = small_mails(5, "verified")
    user, proxy = set_up(rig, mails, running=running)
    damaged, missing, *_ = blobs(proxy)
    sound = damaged.read_bytes()
    damaged.write_bytes(sound.replace(b"x", b"y", 1))
    missing.unlink()
    row = proxy.cli_json("verify")
    assert (row["blobs"], row["repaired"], row["catalogue"]) == (5, 2, [])
    assert {one["sha256"] for one in row["damaged"]} == {damaged.name, missing.name}
    assert damaged.read_bytes() == sound
    assert rig.tap.record().count("RETR") == 7
    assert proxy.cli_json("verify")["damaged"] == []
    if not running:
        proxy.start()
    device = rig.device(proxy, user, "desktop")
    device.poll()
    assert_same_mails(device.mails(), mails)


@either
def test_verify_fails_when_upstream_has_no_other_copy(rig: Rig, *, running: bool) -> None:
    user, proxy = set_up(rig, small_mails(2, "lost"), running=running)
    lost = blobs(proxy)[0]
    lost.unlink()
    rig.dovecot.remove_all(user)
    done = proxy.cli("verify")
    assert done.returncode == 1
    assert lost.name in done.stderr
    assert user.name in done.stderr


@either
def test_a_backup_is_restored_elsewhere(rig: Rig, tmp_path: Path, *, running: bool) -> None:
    mails = small_mails(20, "kept")
    user, proxy = set_up(rig, mails, running=running)
    (authority := proxy.folder / "data" / "ca.pem").write_text("ours")
    target = tmp_path / "backup"
    first = proxy.cli_json("backup", str(target))
    assert (first["messages"], first["blobs"], first["damaged"]) == (20, 20, [])
    assert proxy.cli_json("backup", str(target))["octets"] == 0

    refused = proxy.cli("restore", str(target))
    assert refused.returncode == 1
    assert "runs on" in refused.stderr if running else "move it away" in refused.stderr

    if running:
        proxy.stop()
    shutil.rmtree(proxy.folder / "data")
    assert proxy.cli_json("restore", str(target))["messages"] == 20
    assert authority.read_text() == "ours"
    authority.unlink()
    assert proxy.cli_json("verify")["damaged"] == []
    proxy.start()
    asked = rig.tap.record().count("RETR")
    laptop, desktop = rig.device(proxy, user, "laptop"), rig.device(proxy, user, "desktop")
    poll_together(laptop, desktop)
    assert_same_mails(desktop.mails(), mails)
    assert rig.tap.record().count("RETR") == asked == 20


def test_a_backup_under_load_is_whole(rig: Rig, tmp_path: Path) -> None:
    """Taken again and again while mail comes in, is deleted everywhere, and is purged."""
    user = rig.dovecot.add_user()
    proxy = rig.proxy(
        user,
        sections={
            "retention": {"on_delete": "everywhere", "upstream": "delivered", "local_keep": "0s"}
        },
    )
    keeps = rig.device(proxy, user, "keeps")
    stop = threading.Event()

    def load() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            rig.dovecot.deliver(user, *small_mails(40, f"load {turn}"))
            keeps.poll()
            rig.device(proxy, user, "deletes", delete=True).poll()
            proxy.cli("gc")

    thread = threading.Thread(target=load)
    thread.start()
    try:
        backups = [tmp_path / f"backup{number}" for number in range(3)]
        for target in (*backups, *backups):
            assert proxy.cli_json("backup", str(target))["damaged"] == []
    finally:
        stop.set()
        thread.join()
    proxy.stop()
    for target in backups:
        shutil.rmtree(proxy.folder / "data")
        restored = proxy.cli_json("restore", str(target))
        verified = proxy.cli_json("verify")
        assert verified["damaged"] == []
        assert verified["catalogue"] == []
        assert restored["blobs"] == verified["blobs"] == len(blobs(proxy))


def test_a_backup_goes_into_no_folder_of_somebody_elses(rig: Rig, tmp_path: Path) -> None:
    _, proxy = set_up(rig, small_mails(1, "refused"), running=False)
    (tmp_path / "holiday.jpg").touch()
    for target, word in ((tmp_path, "not empty"), (proxy.folder / "data" / "b", "elsewhere")):
        done = proxy.cli("backup", str(target))
        assert done.returncode == 2
        assert word in done.stderr
    done = proxy.cli("restore", str(tmp_path))
    assert done.returncode == 1
    assert "no complete backup" in done.stderr


def test_long_work_shows_on_a_terminal_how_far_it_is(rig: Rig) -> None:
    _, proxy = set_up(rig, small_mails(7, "shown"))
    command = [sys.executable, "-m", "proxy", "verify", "--config", str(proxy.config)]
    with Terminal(command, proxy.folder, os.environ) as terminal:
        terminal.wait_for("/7")
        assert terminal.end() == 0
        assert "7 messages compared: 0 damaged" in terminal.screen


def test_the_shell_completes_commands() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("pop3-sync-proxy")],
        env={
            **os.environ,
            "_POP3_SYNC_PROXY_COMPLETE": "complete_bash",
            "COMP_WORDS": "pop3-sync-proxy device mark",
            "COMP_CWORD": "2",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == ["mark-delivered"]
