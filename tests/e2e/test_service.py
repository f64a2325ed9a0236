"""`serve` as a service manager and a user treat it: signals, ports, a wrong file, the demo."""

from __future__ import annotations

import poplib
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.certificates import Certificates
from tests.e2e.devices import Endpoint, Login, PollFailed
from tests.e2e.poplib_device import PoplibDevice, logged_in
from tests.e2e.proxy import ProxyProcess, Table
from tests.e2e.rig import Rig, login, small_mails
from tests.e2e.waiting import eventually

pytestmark = pytest.mark.e2e


def test_sighup_takes_over_a_new_account_and_keeps_open_sessions(rig: Rig) -> None:
    first, second = rig.dovecot.add_user(), rig.dovecot.add_user()
    rig.dovecot.deliver(second, *small_mails(2, "reloaded"))
    proxy = rig.proxy(first, sections={"accounts": {"pass_through": False}})
    device = rig.device(proxy, second, "laptop")
    with logged_in(proxy.endpoint(), login(first, "laptop")) as session:
        with pytest.raises(PollFailed):
            device.poll()
        text = proxy.config.read_text()
        added = text.partition("[[account]]")[2].replace(first.name, second.name)
        added = added.replace(first.password, second.password)
        proxy.config.write_text(f"{text}\n[[account]]{added}")
        proxy.send(signal.SIGHUP)
        eventually(lambda: "configuration reloaded" in proxy.log(), what="the reload")
        device.poll()
        assert len(device.mails()) == 2
        assert session.noop().startswith(b"+OK")


def test_sighup_with_a_wrong_file_changes_nothing(rig: Rig) -> None:
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *small_mails(1, "kept"))
    proxy = rig.proxy(user)
    proxy.config.write_text(proxy.config.read_text().replace("interval", "intervall"))
    proxy.send(signal.SIGHUP)
    eventually(lambda: "reload refused" in proxy.log(), what="the refusal")
    assert "intervall" in proxy.log()
    device = rig.device(proxy, user, "laptop")
    device.poll()
    assert len(device.mails()) == 1


def test_sigterm_hangs_up_on_sessions_that_do_not_end_and_exits_cleanly(rig: Rig) -> None:
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *small_mails(1, "stopped"))
    proxy = rig.proxy(user)
    with logged_in(proxy.endpoint(), login(user, "laptop")) as session:
        session.dele(1)
        proxy.stop()
        with pytest.raises((OSError, poplib.error_proto)):
            session.quit()
    proxy.start()
    device = rig.device(proxy, user, "laptop")
    device.poll()
    assert len(device.mails()) == 1, "a DELE without QUIT came into force"


def test_an_address_that_is_taken_ends_serve_with_a_clear_word(
    tmp_path: Path, certificates: Certificates
) -> None:
    sections: dict[str, Table] = {"upstream": {"host": "127.0.0.1"}}
    first = ProxyProcess(tmp_path / "first", certificates, sections)
    first.start()
    try:
        taken: Table = {"listen": [first.addresses["pop3"][0]]}
        second = ProxyProcess(tmp_path / "second", certificates, {"pop3": taken, **sections})
        done = second.cli("serve")
        assert done.returncode == 1
        assert "address already in use" in done.stderr
        assert "Traceback" not in done.stderr
    finally:
        first.kill()


@pytest.mark.parametrize("command", ["serve", "check", "status"])
def test_a_wrong_file_is_told_in_full_and_exits_with_2(tmp_path: Path, command: str) -> None:
    config = tmp_path / "proxy.toml"
    config.write_text('[upstream]\nhostt = "x"\n[sync]\ninterval = "5 minutes"\n')
    done = subprocess.run(
        [sys.executable, "-m", "proxy", command, "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert 'unknown key; did you mean "host"?' in done.stderr
    assert "sync.interval" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_demo_tells_what_each_device_got_and_what_crossed_the_wire() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "demo", "--play"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert re.findall(r"RETR +\S+ +(\d+) time", done.stdout) == ["1"] * 6
    assert "desktop deletes its first message and now sees 4; laptop still sees 5" in done.stdout


def test_the_demo_can_be_used_as_it_says() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "proxy", "demo"],
        stdout=subprocess.PIPE,
        text=True,
        env={"POP3_SYNC_POP3__LISTEN": "127.0.0.1:0", "POP3_SYNC_HTTP__LISTEN": "127.0.0.1:0"},
    ) as process:
        assert process.stdout is not None
        text = ""
        while "\nready " not in text:
            line = process.stdout.readline()
            assert line, f"the demo ended:\n{text}"
            text += line
        username, password = re.findall(r"curl -u (\S+):(\S+) ", text)[0]
        port = re.findall(r"ready pop3=127\.0\.0\.1:(\d+)", text)[0]
        device = PoplibDevice(Endpoint("localhost", int(port)), Login(username, password))
        device.poll()
        assert len(device.mails()) == 5
        process.terminate()
        assert process.wait(30) == 0


def test_a_tls_port_without_a_certificate_gets_one_of_its_own_that_lasts(rig: Rig) -> None:
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *small_mails(1, "own certificate"))
    proxy = rig.proxy(user, sections={"pop3": {"certificate": "", "private_key": ""}})
    made = proxy.folder / "data" / "certificate.pem"
    octets = made.read_bytes()
    for security in ("implicit", "starttls"):
        endpoint = proxy.endpoint("implicit" if security == "implicit" else "starttls")
        device = PoplibDevice(replace(endpoint, ca_file=made), login(user, security))
        device.poll()
        assert len(device.mails()) == 1
        proxy.restart()
        assert made.read_bytes() == octets


def test_metrics_and_health_are_served(rig: Rig) -> None:
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *small_mails(3, "counted"))
    proxy = rig.proxy(user, sections={"http": {"account_names_in_metrics": True}})
    rig.device(proxy, user, "laptop").poll()

    def get(path: str) -> str:
        with urlopen(f"http://{proxy.addresses['http'][0]}{path}", timeout=30) as answer:
            text: str = answer.read().decode()
        return text

    assert get("/healthz")
    assert get("/readyz")
    eventually(
        lambda: "pop3_sync_messages_retrieved_total 3.0" in get("/metrics"), what="the count"
    )
    assert f'pop3_sync_messages_fetched_total{{account="{user.name}"}} 3.0' in get("/metrics")
    assert user.password not in get("/metrics") + proxy.log()
