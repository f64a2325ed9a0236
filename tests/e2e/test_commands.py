"""The commands, on a running and on a stopped proxy, and what a bad configuration is told."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.dovecot import User
from tests.e2e.proxy import ProxyProcess
from tests.e2e.rig import Rig, small_mails

pytestmark = pytest.mark.e2e

MAILS = 4


def set_up(rig: Rig, *, running: bool) -> tuple[User, ProxyProcess, list[str]]:
    """A proxy that one device has polled, and the UIDLs that device has seen."""
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *small_mails(MAILS, "listed"))
    proxy = rig.proxy(user)
    device = rig.device(proxy, user, "laptop")
    device.poll()
    if not running:
        proxy.stop()
    return user, proxy, list(device.by_uid)


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_commands_show_accounts_devices_and_messages(rig: Rig, *, running: bool) -> None:
    user, proxy, uids = set_up(rig, running=running)
    for command in (["status"], ["account", "list"], ["account", "show", user.name]):
        assert user.name in json.dumps(proxy.cli_json(*command))
        assert user.name in proxy.cli(*command).stdout
    assert "laptop" in json.dumps(proxy.cli_json("device", "list", user.name))
    listed = json.dumps(proxy.cli_json("message", "list", user.name))
    assert all(uid in listed for uid in uids)
    shown = json.dumps(proxy.cli_json("message", "show", user.name, uids[0]))
    assert uids[0] in shown
    assert "laptop" in shown


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_commands_change_devices(rig: Rig, *, running: bool) -> None:
    user, proxy, _ = set_up(rig, running=running)

    def devices() -> str:
        return json.dumps(proxy.cli_json("device", "list", user.name))

    assert proxy.cli_json("device", "add", user.name, "tablet")["app_password"]
    assert "tablet" in devices()
    assert proxy.cli("device", "add", user.name, "tablet").returncode == 1
    assert proxy.cli("device", "rename", user.name, "tablet", "phone").returncode == 0
    assert "phone" in devices()
    assert "tablet" not in devices()
    assert proxy.cli("device", "remove", user.name, "phone").returncode == 0
    assert "phone" not in devices()
    assert proxy.cli("device", "add", user.name, "no/name").returncode == 2


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_a_reset_device_sees_all_stored_mail_again(rig: Rig, *, running: bool) -> None:
    user, proxy, _ = set_up(rig, running=True)
    device = rig.device(proxy, user, "laptop", delete=True)
    device.poll()
    if not running:
        proxy.stop()
    assert proxy.cli("device", "reset", user.name, "laptop").returncode == 0
    if not running:
        proxy.start()
    again = rig.device(proxy, user, "laptop")
    again.poll()
    assert again.by_uid == device.by_uid
    assert rig.tap.record().count("RETR") == MAILS


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_account_sync_fetches_what_is_new(rig: Rig, *, running: bool) -> None:
    user, proxy, uids = set_up(rig, running=running)
    rig.dovecot.deliver(user, *small_mails(2, "synced"))
    assert proxy.cli("account", "sync", user.name).returncode == 0
    listed = json.dumps(proxy.cli_json("message", "list", user.name))
    assert all(uid in listed for uid in uids)
    assert rig.tap.record().count("RETR") == MAILS + 2


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_an_account_is_forgotten_once_nothing_declares_it(rig: Rig, *, running: bool) -> None:
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *small_mails(MAILS, "forgotten"))
    other, proxy, _ = set_up(rig, running=True)
    declared = proxy.cli("account", "remove", other.name, "--yes")
    assert declared.returncode == 2
    assert "declared" in declared.stderr

    device = rig.device(proxy, user, "laptop")
    device.poll()
    if not running:
        proxy.stop()
    assert proxy.cli("account", "remove", user.name).returncode == 1, "nobody said yes"
    assert proxy.cli_json("account", "remove", user.name, "--yes")["messages"] == MAILS
    assert user.name not in json.dumps(proxy.cli_json("account", "list"))
    assert rig.dovecot.count(user) == MAILS
    if not running:
        proxy.start()
    device.endpoint = proxy.endpoint()
    device.poll()
    assert user.name in json.dumps(proxy.cli_json("account", "list"))


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_names_that_nobody_knows_are_failures(rig: Rig, *, running: bool) -> None:
    user, proxy, _ = set_up(rig, running=running)
    for command in (
        ["account", "show", "nobody"],
        ["account", "sync", "nobody"],
        ["device", "list", "nobody"],
        ["device", "remove", user.name, "nothing"],
        ["message", "show", user.name, "nothing"],
    ):
        done = proxy.cli(*command)
        assert done.returncode == 1, command
        assert command[-1] in done.stderr
        assert "Traceback" not in done.stderr


def test_check_says_what_upstream_offers(rig: Rig) -> None:
    user, proxy, _ = set_up(rig, running=False)
    done = proxy.cli("check")
    assert done.returncode == 0
    assert user.name in done.stdout
    rig.tap.trouble.login_reply = b"-ERR [AUTH] no"
    assert proxy.cli("check").returncode == 1


def test_http_tells_health_and_metrics(rig: Rig) -> None:
    _, proxy, _ = set_up(rig, running=True)
    for page in ("healthz", "readyz", "metrics"):
        with urllib.request.urlopen(f"http://{proxy.addresses['http'][0]}/{page}") as answer:
            assert answer.status == 200
            assert answer.read()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[sync]\nintervall = "5m"\n', ("intervall", "interval")),
        ('[sync]\ninterval = "often"\n', ("sync.interval", "often")),
        ('[retention]\nupstream = "never"\n', ("retention.upstream", "keep")),
        ('[[account]]\nname = "a"\nupstream = { host = "h" }\n', ("account", "password")),
        ("[pop3\n", ("line 1",)),
    ],
)
def test_a_bad_configuration_ends_with_2_and_names_the_key(
    tmp_path: Path, text: str, named: tuple[str, ...]
) -> None:
    config = tmp_path / "proxy.toml"
    config.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "serve", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert all(name in done.stderr for name in named), done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()
