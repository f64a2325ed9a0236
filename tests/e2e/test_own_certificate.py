"""TLS without a certificate of one's own: what a user does on each computer, with real programs."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.certificates import make_certificates
from tests.e2e.devices import Endpoint, Login
from tests.e2e.poplib_device import TIMEOUT, connect
from tests.e2e.proxy import ProxyProcess, Table
from tests.e2e.rig import Rig, small_mails
from tests.e2e.waiting import eventually
from tests.needs import need

pytestmark = pytest.mark.e2e

OWN: Table = {"certificate": "", "private_key": "", "listen_tls": ["127.0.0.1:0"]}


def own(rig: Rig, **pop3: object) -> tuple[ProxyProcess, Login]:
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *small_mails(1, "own"))
    proxy = rig.proxy(user, sections={"pop3": {**OWN, **pop3}})
    return proxy, Login(user.name, user.password)


def pops(proxy: ProxyProcess) -> str:
    return "pop3s://localhost:" + proxy.addresses["pop3s"][0].rpartition(":")[2]


def curl(proxy: ProxyProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    need("curl")
    command = ["curl", "--silent", "--show-error", "--max-time", "60", *arguments]
    return subprocess.run(
        [*command, f"{pops(proxy)}/1"], capture_output=True, text=True, check=False
    )


def test_who_trusts_the_printed_certificate_reads_mail(rig: Rig) -> None:
    proxy, login = own(rig)
    shown = proxy.cli_json("certificate")
    assert f"fingerprint={shown['fingerprint']}" in proxy.log()
    trusted = rig.folder / "trusted.pem"
    trusted.write_text(proxy.cli("certificate", "--pem").stdout)
    done = curl(proxy, "--cacert", str(trusted), "--user", f"{login.user}:{login.password}")
    assert done.returncode == 0, done.stderr
    assert "Subject: own 0" in done.stdout
    untrusting = curl(proxy, "--user", f"{login.user}:{login.password}")
    assert untrusting.returncode == 60, "the certificate verifies without being trusted"


@pytest.mark.parametrize(
    ("offered", "taken"), [("", True), ("pop3", True), ("http/1.1", False), ("h2,smtp", False)]
)
@pytest.mark.parametrize("stls", [True, False])
def test_a_browser_that_was_led_here_is_refused_in_the_handshake(
    rig: Rig, offered: str, *, taken: bool, stls: bool
) -> None:
    need("openssl")
    proxy, _ = own(rig)
    address = proxy.addresses["pop3" if stls else "pop3s"][0]
    options = [*(("-starttls", "pop3") if stls else ()), *(("-alpn", offered) if offered else ())]
    done = subprocess.run(
        ["openssl", "s_client", "-connect", address, "-ign_eof", "-crlf", *options],
        input="QUIT\n",
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert ("+OK bye" in done.stdout) == taken
    assert ("no application protocol" in done.stderr) != taken
    eventually(lambda: f"ended={'quit' if taken else 'tls_error'}" in proxy.log(), what="the end")


def test_a_renewed_certificate_is_trusted_where_the_first_one_was(rig: Rig) -> None:
    proxy, login = own(rig)
    trusted = rig.folder / "trusted.pem"
    trusted.write_text(proxy.cli("certificate", "--pem").stdout)
    proxy.stop()
    (proxy.folder / "data" / "certificate.pem").unlink()
    proxy.start()
    done = curl(proxy, "--cacert", str(trusted), "--user", f"{login.user}:{login.password}")
    assert done.returncode == 0, done.stderr


def served_certificate(proxy: ProxyProcess) -> str:
    port = int(proxy.addresses["pop3s"][0].rpartition(":")[2])
    return ssl.get_server_certificate(("127.0.0.1", port), timeout=TIMEOUT)


@pytest.mark.parametrize("told", [True, False], ids=["by SIGHUP", "by the change alone"])
def test_a_replaced_certificate_is_served_without_dropping_a_session(rig: Rig, told: bool) -> None:
    """As an ACME client replaces it: the key first, and for a moment they do not match."""
    files = make_certificates(make_folder(rig.folder / "live"))
    user = rig.dovecot.add_user()
    pop3: Table = {
        "certificate": str(files.certificate),
        "private_key": str(files.private_key),
        "listen_tls": ["127.0.0.1:0"],
    }
    proxy = rig.proxy(user, sections={"pop3": pop3})
    before = served_certificate(proxy)
    endpoint = Endpoint("localhost", int(pops(proxy).rpartition(":")[2]), "implicit", files.ca_file)
    session = connect(endpoint)
    session.user(user.name)
    session.pass_(user.password)
    fresh = make_certificates(make_folder(rig.folder / "fresh"))
    for new, old in (
        (fresh.private_key, files.private_key),
        (fresh.certificate, files.certificate),
    ):
        shutil.copy(new, f"{old}.new")
        os.replace(f"{old}.new", old)
    if told:
        proxy.send(signal.SIGHUP)
    eventually(lambda: served_certificate(proxy) != before, what="the new certificate")
    assert session.noop().startswith(b"+OK")
    session.quit()


def test_a_certificate_that_cannot_be_loaded_leaves_the_old_one(rig: Rig) -> None:
    files = make_certificates(make_folder(rig.folder / "live"))
    pop3: Table = {
        "certificate": str(files.certificate),
        "private_key": str(files.private_key),
        "listen_tls": ["127.0.0.1:0"],
    }
    proxy = rig.proxy(sections={"pop3": pop3})
    before = served_certificate(proxy)
    files.certificate.write_text("half a certif")
    eventually(lambda: "certificate_unusable" in proxy.log(), what="the complaint")
    assert served_certificate(proxy) == before


def make_folder(path: Path) -> Path:
    path.mkdir()
    return path


def certificate_of_phone(proxy: ProxyProcess, login: Login, out: Path) -> Path:
    assert proxy.cli("device", "add", login.user, "phone").returncode == 0
    done = proxy.cli("device", "certificate", login.user, "phone", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert out.stat().st_mode & 0o777 == 0o600
    return out


def test_a_device_logs_in_with_its_certificate_alone(rig: Rig) -> None:
    proxy, login = own(rig, client_certificates=True)
    made = certificate_of_phone(proxy, login, rig.folder / "phone.pem")
    ca = str(proxy.folder / "data" / "ca.pem")
    external = ["--login-options", "AUTH=EXTERNAL", "--user", f"{login.user}:"]
    done = curl(proxy, "--cacert", ca, "--cert", str(made), *external)
    assert done.returncode == 0, done.stderr
    assert "Subject: own 0" in done.stdout
    (phone,) = [d for d in proxy.cli_json("device", "list", login.user) if d["device"] == "phone"]
    assert phone["certificate"]
    assert phone["seen_at"]
    without = curl(proxy, "--cacert", ca, *external)
    assert without.returncode != 0
    assert proxy.cli("device", "remove", login.user, "phone").returncode == 0
    removed = curl(proxy, "--cacert", ca, "--cert", str(made), *external)
    assert removed.returncode != 0


def test_a_certificate_of_another_authority_does_not_get_through_the_handshake(rig: Rig) -> None:
    proxy, _ = own(rig, client_certificates=True)
    foreign = make_certificates(make_folder(rig.folder / "foreign"))
    context = ssl.create_default_context(cafile=proxy.folder / "data" / "ca.pem")
    context.load_cert_chain(foreign.certificate, foreign.private_key)
    port = int(pops(proxy).rpartition(":")[2])
    with socket.create_connection(("localhost", port), TIMEOUT) as raw:
        try:
            with context.wrap_socket(raw, server_hostname="localhost") as tls:
                greeting = tls.recv(100)
        except OSError:
            greeting = b""
        assert greeting == b""
    eventually(lambda: "ended=tls_error" in proxy.log(), what="the session's line")


def test_a_pkcs12_file_opens_with_the_password_that_is_shown_once(rig: Rig) -> None:
    need("openssl")
    proxy, login = own(rig, client_certificates=True)
    out = rig.folder / "phone.p12"
    assert proxy.cli("device", "add", login.user, "phone").returncode == 0
    row = proxy.cli_json("device", "certificate", login.user, "phone", "--out", str(out))
    command = ["openssl", "pkcs12", "-in", str(out), "-noout", "-legacy", "-passin", "stdin"]
    opened = subprocess.run(command, input=row["password"], text=True, check=False)
    assert opened.returncode == 0
    again = proxy.cli("device", "certificate", login.user, "phone", "--out", str(out))
    assert again.returncode == 1
    assert "exists" in again.stderr
