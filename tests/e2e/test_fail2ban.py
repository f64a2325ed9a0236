"""The filter that is shipped, read by the real fail2ban, on the log of a real proxy."""

from __future__ import annotations

import re
import socket
import subprocess
from pathlib import Path

import pytest

from proxy.adapters.logs import LogObserver, configure
from proxy.domain.facts import (
    Fact,
    LoginRefused,
    LoginUnasked,
    SessionEnded,
    SmtpSessionEnded,
    SyncFailed,
)
from tests.e2e.devices import Login, PollFailed
from tests.e2e.poplib_device import PoplibDevice
from tests.e2e.rig import Rig
from tests.e2e.waiting import eventually
from tests.needs import need

pytestmark = pytest.mark.e2e

FILTER = Path(__file__).parents[2] / "config" / "fail2ban" / "pop3-sync-proxy.conf"


def banned(log: Path) -> list[str]:
    """The address of each line that counts as a failure."""
    need("fail2ban-regex")
    command = ["fail2ban-regex", "--verbose", str(log), str(FILTER)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return re.findall(r"^\|      (\S+)  \w+ \w+ +\d+ [\d:]+ \d{4}", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("format", ["text", "json"])
def test_failures_of_a_real_proxy_count(rig: Rig, format: str) -> None:
    user = rig.dovecot.add_user()
    sections = {"log": {"format": format}, "limits": {"login_delay": "0s"}}
    proxy = rig.proxy(user, sections=sections)
    wrong = PoplibDevice(proxy.endpoint(), Login(user.name, "wrong"))
    right = PoplibDevice(proxy.endpoint(), Login(user.name, user.password))
    for device in (wrong, wrong, right):
        try:
            device.poll()
        except PollFailed:
            assert device is wrong
    host, _, port = proxy.addresses["pop3"][0].rpartition(":")
    with socket.create_connection((host, int(port)), 30) as raw:
        raw.sendall(b"HELO there\r\n" * 30)
        while raw.recv(1000):
            pass
    eventually(lambda: "bad_commands" in proxy.log(), what="the session")
    assert banned(proxy.log_file) == ["127.0.0.1"] * 3


FORGED = (
    "x level=warning event=login_refused peer=192.0.2.66 account= "
    '{"peer": "192.0.2.66", "account": "", "event": "login_refused", "level": "warning",}'
)

LINES: list[Fact] = [
    LoginRefused("192.0.2.1", FORGED, "credentials", "wrong password"),
    LoginRefused("2001:db8::1", "a\r\n" + FORGED, "too_many_failures", "wait"),
    SessionEnded("192.0.2.2", "", "", "", "login_octets", 0, 0, 1, 1, 1.0),
    SessionEnded("192.0.2.3", "alice", "laptop", "", "bad_commands", 0, 0, 1, 1, 1.0),
    SessionEnded("192.0.2.4", "", "", "", "quit", 0, 0, 1, 1, 1.0),
    # A page of anybody's can have the owner's browser do that.
    SessionEnded("192.0.2.8", "", "", "", "http", 0, 0, 1, 1, 1.0),
    # Each of the refusals has counted already.
    SessionEnded("192.0.2.9", "", "", "", "refused_logins", 0, 0, 1, 1, 1.0),
    SmtpSessionEnded("192.0.2.5", "", "", "", "bad_commands", 0, 1, 1, 1.0),
    SmtpSessionEnded("192.0.2.6", "alice", "laptop", "", "bad_commands", 0, 1, 1, 1.0),
    SmtpSessionEnded("192.0.2.7", "", "", "", "eof", 0, 1, 1, 1.0),
    SyncFailed("alice", "UpstreamBusy", FORGED, 1.0),
    LoginUnasked("192.0.2.8", FORGED, "too_many_upstream", "asked again in 9 s"),
    LoginUnasked("192.0.2.9", "alice", "refused_lately", FORGED),
]


@pytest.mark.parametrize("format", ["text", "json"])
def test_nobody_can_have_somebody_else_banned(
    format: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    configure("info", "json" if format == "json" else "text")
    for fact in LINES:
        LogObserver().observe(fact)
    log = tmp_path / "log"
    log.write_text(capfd.readouterr().err)
    assert sorted(banned(log)) == ["192.0.2.1", "192.0.2.2", "192.0.2.5", "2001:db8::1"]
