"""What a proxy tells the service manager: a real process, a real socket."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.adapters.systemd import ServiceManager
from tests.certificates import Certificates
from tests.e2e.proxy import ProxyProcess
from tests.e2e.waiting import eventually
from tests.ops.notified import Manager

pytestmark = pytest.mark.e2e


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    path = str(tmp_path / "notify")
    hearing = Manager(f"@{path}" if request.param == "abstract" else path)
    yield hearing
    hearing.close()


@pytest.fixture
def proxy(
    manager: Manager,
    tmp_path: Path,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[ProxyProcess]:
    """Not started yet; its manager wants a sign of life every 400 ms."""
    monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    made = ProxyProcess(tmp_path / "proxy", certificates, {"upstream": {"host": "127.0.0.1"}})
    yield made
    made.kill()


def test_a_start_a_reload_and_a_stop_are_announced(manager: Manager, proxy: ProxyProcess) -> None:
    proxy.start()
    eventually(lambda: manager.heard("READY") == ["1"], what="READY=1")
    assert manager.said[0].keys() == {"EXTEND_TIMEOUT_USEC"}
    assert f"pop3={proxy.addresses['pop3'][0]}" in manager.heard("STATUS")[-1]
    assert manager.heard("RELOADING") == []

    asked = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    proxy.send(signal.SIGHUP)
    eventually(lambda: len(manager.heard("READY")) == 2, what="the end of the reload")
    (reloading,) = (said for said in manager.said if "RELOADING" in said)
    assert int(reloading["MONOTONIC_USEC"]) >= asked
    assert manager.heard("STOPPING") == []

    proxy.stop()
    assert manager.heard("STOPPING") == ["1"]


def test_a_reload_that_is_refused_is_over_too(manager: Manager, proxy: ProxyProcess) -> None:
    proxy.start()
    proxy.config.write_text("nonsense = true")
    proxy.send(signal.SIGHUP)
    eventually(lambda: len(manager.heard("READY")) == 2, what="the end of the reload")
    assert "reload refused" in proxy.log()


def test_nothing_is_ready_when_an_address_is_taken(
    manager: Manager, proxy: ProxyProcess, tmp_path: Path, certificates: Certificates
) -> None:
    proxy.start()
    eventually(lambda: manager.heard("READY") == ["1"], what="READY=1")
    second = ProxyProcess(tmp_path / "second", certificates, {"upstream": {"host": "127.0.0.1"}})
    text = second.config.read_text()
    second.config.write_text(text.replace("127.0.0.1:0", proxy.addresses["pop3"][0], 1))
    assert second.cli("serve").returncode == 1
    assert manager.heard("READY") == ["1"]


def test_the_watchdog_is_fed_until_the_process_hangs(manager: Manager, proxy: ProxyProcess) -> None:
    proxy.start()
    eventually(lambda: len(manager.heard("WATCHDOG")) >= 5, what="five signs of life")
    proxy.send(signal.SIGSTOP)
    eventually(lambda: not manager.hears_within(1.0), what="silence")
    proxy.send(signal.SIGCONT)
    assert manager.hears_within(10.0)


async def test_a_blocked_loop_gives_no_sign_of_life_whatever_threads_do(manager: Manager) -> None:
    environ = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "100000"}
    with ServiceManager(environ).kept_informed():
        await asyncio.sleep(0.2)
        assert len(manager.heard("WATCHDOG")) >= 2
        before = len(manager.heard("WATCHDOG"))
        time.sleep(0.5)  # noqa: ASYNC251 - the fault itself
        assert len(manager.heard("WATCHDOG")) == before
    manager.listen()
    await asyncio.sleep(0.3)
    assert not manager.hears_within(0), "it goes on after its end"


async def test_another_process_s_watchdog_is_not_fed(manager: Manager) -> None:
    environ = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "50000", "WATCHDOG_PID": "1"}
    with ServiceManager(environ).kept_informed():
        await asyncio.sleep(0.3)
    assert manager.heard("WATCHDOG") == []


@pytest.mark.parametrize("address", ["", "vsock:2:1", "/nowhere/notify", "@nobody"])
async def test_without_anybody_to_tell_all_goes_on(address: str) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000"})
    with manager.kept_informed():
        manager.ready("ready")
        await asyncio.sleep(0.01)
        manager.stopping()
