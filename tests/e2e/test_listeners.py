"""Every kind of address a proxy can listen on."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.devices import Login
from tests.e2e.poplib_device import TIMEOUT, Session
from tests.e2e.processes import bound
from tests.e2e.proxy import ProxyProcess
from tests.e2e.rig import Rig, small_mails
from tests.e2e.waiting import eventually
from tests.needs import need

pytestmark = pytest.mark.e2e


class UnixSession(Session):
    """`host` is the path."""

    def _create_socket(self, timeout: float) -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(timeout)
        made.connect(self.host)
        return made


def count(session: Session, login: Login) -> int:
    session.user(login.user)
    session.pass_(login.password)
    messages, _ = session.stat()
    session.quit()
    return int(messages)


def proxy_listening(rig: Rig, *addresses: str) -> tuple[ProxyProcess, Login]:
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *small_mails(2, "heard"))
    proxy = rig.proxy(
        user,
        sections={
            "pop3": {"listen": list(addresses), "listen_tls": []},
            "log": {"sessions": "debug"},
        },
    )
    return proxy, Login(user.name, user.password)


def test_a_unix_socket_is_for_its_owner_and_group_and_goes_with_the_proxy(rig: Rig) -> None:
    path = rig.folder / "pop3.sock"
    proxy, login = proxy_listening(rig, f"unix:{path}")
    assert proxy.addresses["pop3"] == [f"unix:{path}"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert count(UnixSession(str(path), timeout=TIMEOUT), login) == 2
    proxy.stop()
    assert not path.exists()


def test_a_unix_socket_left_by_a_kill_is_taken_over(rig: Rig) -> None:
    path = rig.folder / "pop3.sock"
    proxy, login = proxy_listening(rig, f"unix:{path}")
    proxy.kill()
    assert path.exists()
    proxy.start()
    assert count(UnixSession(str(path), timeout=TIMEOUT), login) == 2


def test_a_file_in_the_place_of_the_socket_is_not_touched(rig: Rig) -> None:
    path = rig.folder / "precious"
    path.write_text("mine")
    proxy, _ = proxy_listening(rig, "127.0.0.1:0")
    proxy.stop()
    proxy.config.write_text(proxy.config.read_text().replace("127.0.0.1:0", f"unix:{path}", 1))
    done = proxy.cli("serve")
    assert done.returncode == 1
    assert "is no socket" in done.stderr
    assert path.read_text() == "mine"


def test_ipv4_and_ipv6_side_by_side(rig: Rig) -> None:
    proxy, login = proxy_listening(rig, "127.0.0.1:0", "[::1]:0")
    four, six = proxy.addresses["pop3"]
    assert six.startswith("[::1]:")
    assert count(Session("127.0.0.1", int(four.rpartition(":")[2]), timeout=TIMEOUT), login) == 2
    assert count(Session("::1", int(six.rpartition(":")[2]), timeout=TIMEOUT), login) == 2
    eventually(lambda: f"peer=::1 account={login.user}" in proxy.log(), what="the session")


@contextmanager
def activated(proxy: ProxyProcess, command: list[str], **options: object) -> Iterator[Path]:
    """What the command prints and logs goes to one file."""
    log = proxy.folder / "activated"
    with log.open("wb") as output:
        process = subprocess.Popen(
            bound(
                [*command, sys.executable, "-m", "proxy", "serve", "--config", str(proxy.config)]
            ),
            stdout=output,
            stderr=output,
            cwd=proxy.folder,
            **options,  # type: ignore[call-overload]
        )
    try:
        yield log
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def test_systemd_hands_over_its_socket_at_the_first_connection(rig: Rig) -> None:
    need("systemd-socket-activate")
    proxy, login = proxy_listening(rig, "127.0.0.1:0")
    proxy.stop()
    proxy.config.write_text(proxy.config.read_text().replace("127.0.0.1:0", "systemd:mail", 1))
    path = rig.folder / "activated.sock"
    activate = ["systemd-socket-activate", "--listen", str(path), "--fdname", "mail"]
    with activated(proxy, [*activate, "--setenv=PATH"]) as log:
        eventually(path.exists, what="the socket")
        assert count(UnixSession(str(path), timeout=TIMEOUT), login) == 2
        assert f"ready pop3=unix:{path}" in log.read_text()
    assert path.exists(), "the socket is systemd's, and stays"


def test_tcp_sockets_of_one_name_are_all_taken_over(rig: Rig) -> None:
    """By the protocol of sd_listen_fds(3)."""
    proxy, login = proxy_listening(rig, "127.0.0.1:0")
    proxy.stop()
    proxy.config.write_text(proxy.config.read_text().replace("127.0.0.1:0", "systemd:mail", 1))
    with (
        socket.create_server(("127.0.0.1", 0)) as four,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as six,
    ):
        given = [four.fileno(), six.fileno()]
        moves = f"exec 3<&{given[0]} 4<&{given[1]}; LISTEN_PID=$$ LISTEN_FDS=2 "
        script = moves + 'LISTEN_FDNAMES=mail:mail exec "$@"'
        with activated(proxy, ["bash", "-c", script, "bash"], pass_fds=given) as log:
            eventually(lambda: "ready pop3=127.0.0.1" in log.read_text(), what="the proxy")
            for session in (
                Session("127.0.0.1", four.getsockname()[1], timeout=TIMEOUT),
                Session("::1", six.getsockname()[1], timeout=TIMEOUT),
            ):
                assert count(session, login) == 2


def test_a_name_that_systemd_has_not_opened_is_told(rig: Rig) -> None:
    proxy, _ = proxy_listening(rig, "127.0.0.1:0")
    proxy.stop()
    proxy.config.write_text(proxy.config.read_text().replace("127.0.0.1:0", "systemd:mail", 1))
    assert "LISTEN_FDS" not in os.environ
    done = proxy.cli("serve")
    assert done.returncode == 1
    assert "systemd has opened no socket named mail" in done.stderr
