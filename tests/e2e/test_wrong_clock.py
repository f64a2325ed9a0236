"""A wall clock that is wrong, by libfaketime: the proxy's own, while all others go right."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.dovecot import User
from tests.e2e.poplib_device import PoplibDevice
from tests.e2e.proxy import ProxyProcess, Table
from tests.e2e.rig import Rig, small_mails
from tests.e2e.waiting import eventually
from tests.needs import cannot, need

pytestmark = pytest.mark.e2e

MAILS = 10


def faketime() -> Path:
    for folder in sorted(Path("/usr/lib").glob("*/faketime")):
        if (library := folder / "libfaketime.so.1").exists():
            return library
    cannot("libfaketime is not installed")
    raise AssertionError


class Clock:
    """The proxy's, which may be set while it runs."""

    def __init__(self, proxy: ProxyProcess) -> None:
        self._file = proxy.folder / "clock"
        proxy.environment = {
            "LD_PRELOAD": str(faketime()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }
        self.set("+0")

    def set(self, what: str) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(f"{what}\n")
        new.replace(self._file)


def stage(rig: Rig, retention: Table) -> tuple[User, ProxyProcess, Clock]:
    """A proxy that is stopped, and mail for it."""
    user = rig.dovecot.add_user()
    proxy = rig.proxy(user, account={"retention": retention})
    proxy.stop()
    rig.dovecot.deliver(user, *small_mails(MAILS, "clock"))
    return user, proxy, Clock(proxy)


def sync(proxy: ProxyProcess, user: User) -> None:
    proxy.cli_json("account", "sync", user.name)


def doubted(proxy: ProxyProcess) -> bool:
    troubles = proxy.cli_json("status")["troubles"]
    return [trouble["kind"] for trouble in troubles] == ["clock_jump"]


def had(device: PoplibDevice) -> int:
    device.poll()
    return len(device.mails())


def test_a_clock_a_year_ahead_deletes_nothing_and_is_told_until_somebody_says_it_is_right(
    rig: Rig,
) -> None:
    user, proxy, clock = stage(rig, {"upstream": "age"})
    proxy.start()
    first, late = rig.device(proxy, user, "first"), rig.device(proxy, user, "late")
    assert had(first) == MAILS
    clock.set("+365d")
    sync(proxy, user)
    (row,) = proxy.cli_json("gc")
    assert (row["messages"], row["in_doubt"]) == (0, True)
    eventually(lambda: doubted(proxy), what="the trouble", otherwise=proxy.log)
    clock.set("+0")
    sync(proxy, user)
    assert rig.dovecot.count(user) == MAILS
    assert had(late) == MAILS
    said = proxy.cli("clock", "ok")
    assert said.returncode == 0
    assert said.stdout.startswith("The clock says ")
    assert not doubted(proxy)
    assert not proxy.cli_json("gc")[0]["in_doubt"]


def test_a_start_a_year_ahead_lets_go_of_nothing_that_a_device_lacks(rig: Rig) -> None:
    user, proxy, clock = stage(rig, {"upstream": "age", "upstream_age": "0s"})
    proxy.start()
    first, late = rig.device(proxy, user, "first"), rig.device(proxy, user, "late")
    assert had(first) == MAILS
    PoplibDevice(proxy.endpoint(), late.login).poll()
    rig.dovecot.deliver(user, *small_mails(MAILS, "later"))
    sync(proxy, user)
    sync(proxy, user)
    assert rig.dovecot.count(user) == 0
    proxy.kill()
    clock.set("+365d")
    proxy.start()
    assert proxy.cli_json("gc")[0]["messages"] == 0
    proxy.kill()
    assert proxy.cli_json("gc")[0]["in_doubt"], "a command on a stopped proxy knows it, too"
    clock.set("+0")
    proxy.start()
    assert had(PoplibDevice(proxy.endpoint(), late.login)) == 2 * MAILS
    proxy.stop()
    assert proxy.cli("clock", "ok").returncode == 0
    assert not doubted(proxy)
    proxy.start()
    assert not proxy.cli_json("gc")[0]["in_doubt"]


def test_a_computer_without_a_clock_boots_in_2020_and_is_set_right(rig: Rig) -> None:
    user, proxy, clock = stage(rig, {"upstream": "age"})
    shutil.rmtree(proxy.folder / "data")
    clock.set("@2020-01-01 00:00:00")
    proxy.start()
    first, late = rig.device(proxy, user, "first"), rig.device(proxy, user, "late")
    assert had(first) == MAILS
    clock.set("+0")
    sync(proxy, user)
    sync(proxy, user)
    assert rig.dovecot.count(user) == MAILS
    eventually(lambda: doubted(proxy), what="the trouble", otherwise=proxy.log)
    rig.dovecot.deliver(user, *small_mails(MAILS, "later"))
    assert had(first) == had(late) == 2 * MAILS


@pytest.mark.parametrize(
    "wrong",
    ["@1970-01-01 00:01:00", "+370d", "+4000d", "@2036-03-01 00:00:00", "@2100-01-01 00:00:00"],
)
def test_devices_with_right_clocks_are_served_whatever_the_clock_says_at_a_start(
    rig: Rig, wrong: str
) -> None:
    need("curl")
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *small_mails(1, "clock"))
    own = {"certificate": "", "private_key": "", "listen_tls": ["127.0.0.1:0"]}
    proxy = rig.proxy(user, sections={"pop3": own})
    proxy.stop()
    trusted = proxy.folder / "data" / "ca.pem"
    Clock(proxy).set(wrong)
    proxy.start()
    port = proxy.addresses["pop3s"][0].rpartition(":")[2]
    done = subprocess.run(
        [
            *("curl", "-sS", "--max-time", "60", "--cacert", str(trusted)),
            *("--user", f"{user.name}:{user.password}", f"pop3s://localhost:{port}/1"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Subject: clock 0" in done.stdout
