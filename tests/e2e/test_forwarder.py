"""HAProxy in front: the PROXY protocol tells who really is there."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
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

CLIENT = "127.0.0.2"
"""Where the device connects from; HAProxy itself connects from 127.0.0.1."""

CONFIG = """
defaults
  mode tcp
  timeout connect 10s
  timeout client 60s
  timeout server 60s
frontend devices
  bind fd@{descriptor} {tls}
  default_backend proxy
backend proxy
  server one {server} {send}
"""


@contextmanager
def haproxy(folder: Path, server: str, send: str, tls: str = "") -> Iterator[int]:
    """The port of a running HAProxy."""
    need("haproxy")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        descriptor = listening.fileno()
        config = folder / "haproxy.cfg"
        config.write_text(CONFIG.format(descriptor=descriptor, tls=tls, server=server, send=send))
        process = subprocess.Popen(
            bound([shutil.which("haproxy") or "haproxy", "-db", "-f", str(config)]),
            pass_fds=[descriptor],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            yield listening.getsockname()[1]
        finally:
            process.terminate()
            _, errors = process.communicate(timeout=30)
            print(errors.decode())


class FromElsewhere(Session):
    def _create_socket(self, timeout: float) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout, (CLIENT, 0))


class TlsFromElsewhere(FromElsewhere):
    context: ssl.SSLContext

    def _create_socket(self, timeout: float) -> socket.socket:
        raw = super()._create_socket(timeout)
        return self.context.wrap_socket(raw, server_hostname="localhost")


def poll(session: Session, login: Login) -> int:
    """Messages retrieved."""
    session.user(login.user)
    session.pass_(login.password)
    numbers = session.uids()
    for number in numbers:
        session.body(f"RETR {number}")
    session.quit()
    return len(numbers)


def forwarded_proxy(rig: Rig) -> tuple[ProxyProcess, Login]:
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *small_mails(2, "forwarded"))
    proxy = rig.proxy(
        user,
        sections={
            "pop3": {"proxy_protocol_from": ["127.0.0.1"], "plaintext_login": "loopback"},
            "devices": {"identify_by": ["address"]},
            "log": {"sessions": "debug"},
        },
    )
    return proxy, Login(user.name, user.password)


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
def test_the_device_s_own_address_is_what_counts(rig: Rig, version: str) -> None:
    proxy, login = forwarded_proxy(rig)
    with haproxy(rig.folder, proxy.addresses["pop3"][0], version) as port:
        session = FromElsewhere("127.0.0.1", port, timeout=TIMEOUT)
        assert poll(session, login) == 2
    (device,) = proxy.cli_json("device", "list", login.user)
    assert device["device"] == CLIENT
    eventually(lambda: f"peer={CLIENT} account={login.user}" in proxy.log(), what="the session")


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
def test_tls_goes_through_behind_the_header(rig: Rig, version: str) -> None:
    proxy, login = forwarded_proxy(rig)
    with haproxy(rig.folder, proxy.addresses["pop3s"][0], version) as port:
        TlsFromElsewhere.context = ssl.create_default_context(cafile=rig.certificates.ca_file)
        session = TlsFromElsewhere("127.0.0.1", port, timeout=TIMEOUT)
        assert poll(session, login) == 2
    eventually(lambda: "tls=TLSv1.3 ended=quit" in proxy.log(), what="the session")


def test_tls_that_ends_at_the_forwarder_counts_as_tls(rig: Rig) -> None:
    user = rig.dovecot.add_user()
    proxy = rig.proxy(
        user,
        sections={"pop3": {"proxy_protocol_from": ["127.0.0.1"], "plaintext_login": "never"}},
    )
    files = rig.certificates
    both = rig.folder / "both.pem"
    both.write_bytes(files.certificate.read_bytes() + files.private_key.read_bytes())
    server = proxy.addresses["pop3"][0]
    with haproxy(rig.folder, server, "send-proxy-v2-ssl", f"ssl crt {both}") as port:
        TlsFromElsewhere.context = ssl.create_default_context(cafile=files.ca_file)
        session = TlsFromElsewhere("127.0.0.1", port, timeout=TIMEOUT)
        assert poll(session, Login(user.name, user.password)) == 0
    eventually(lambda: "tls=forwarded ended=quit" in proxy.log(), what="the session")


def test_a_header_from_nobody_in_the_list_is_not_believed(rig: Rig) -> None:
    user = rig.dovecot.add_user()
    proxy = rig.proxy(
        user,
        sections={
            "pop3": {"proxy_protocol_from": ["192.0.2.1"]},
            "log": {"sessions": "debug"},
        },
    )
    host, _, port = proxy.addresses["pop3"][0].rpartition(":")
    with socket.create_connection((host, int(port)), TIMEOUT) as raw:
        raw.sendall(b"PROXY TCP4 203.0.113.9 203.0.113.1 1 2\r\nQUIT\r\n")
        answer = b""
        while chunk := raw.recv(1000):
            answer += chunk
    greeting, refusal, bye = answer.split(b"\r\n")[:3]
    assert greeting.startswith(b"+OK")
    assert refusal.startswith(b"-ERR unknown command")
    assert bye.startswith(b"+OK")
    eventually(lambda: "event=session_ended peer=127.0.0.1" in proxy.log(), what="the session")


def test_a_forwarder_that_sends_no_header_is_told_and_dropped(rig: Rig) -> None:
    proxy, _ = forwarded_proxy(rig)
    host, _, port = proxy.addresses["pop3"][0].rpartition(":")
    session = socket.create_connection((host, int(port)), TIMEOUT)
    with session as raw:
        raw.sendall(b"CAPA\r\n")
        answer = raw.recv(1000)
        assert answer.startswith(b"-ERR [SYS/TEMP] a PROXY protocol header")
        assert raw.recv(1000) == b""
    eventually(lambda: "ended=proxy_header" in proxy.log(), what="the session")
