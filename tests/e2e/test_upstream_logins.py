"""Every way to log in upstream, against a Dovecot that offers all; its log says which was taken."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import Certificates
from tests.e2e.dovecot import Dovecot, DovecotUnusable, User
from tests.e2e.proxy import ProxyProcess
from tests.e2e.rig import SYNC, login, small_mails
from tests.needs import cannot

pytestmark = pytest.mark.e2e

ALL = "plain login cram-md5 apop scram-sha-1 scram-sha-256"

_SIGN_IN = """\
auth_mechanisms = {mechanisms}
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {passwd}/%u
}}
"""


class DovecotWith(Dovecot):
    """One that offers these mechanisms."""

    def __init__(self, certificates: Certificates, mechanisms: str) -> None:
        self._mechanisms = mechanisms
        super().__init__(certificates)

    def sign_in(self, folder: Path) -> str:
        return _SIGN_IN.format(mechanisms=self._mechanisms, passwd=folder / "passwd")

    def methods(self, user: User) -> list[str]:
        """How the user logged in, each time."""
        return re.findall(rf"Login: user=<{user.name}>, method=([^,]+),", self.log())


@pytest.fixture(scope="module")
def offering_all(certificates: Certificates) -> Iterator[DovecotWith]:
    try:
        server = DovecotWith(certificates, ALL)
    except DovecotUnusable as error:
        cannot(str(error))
        raise
    with server:
        yield server


class Stage:
    def __init__(self, folder: Path, certificates: Certificates) -> None:
        self._folder = folder
        self._certificates = certificates
        self.proxies: list[ProxyProcess] = []

    def proxy(
        self, server: Dovecot, user: User, auth: str, *, tls: str = "none", password: str = ""
    ) -> ProxyProcess:
        upstream = {
            "host": "localhost",
            "port": server.tls_port if tls == "implicit" else server.port,
            "tls": tls,
            "auth": auth,
            "ca_file": str(self._certificates.ca_file),
        }
        account = {
            "name": user.name,
            "password": password or user.password,
            "upstream": upstream,
        }
        folder = self._folder / f"proxy{len(self.proxies)}"
        made = ProxyProcess(folder, self._certificates, {"sync": SYNC}, [account])
        self.proxies.append(made)
        made.start()
        return made


@pytest.fixture
def stage(tmp_path: Path, certificates: Certificates) -> Iterator[Stage]:
    made = Stage(tmp_path, certificates)
    yield made
    for proxy in made.proxies:
        proxy.kill()


@pytest.mark.parametrize(
    ("auth", "method"),
    [
        ("user", "PLAIN"),
        ("apop", "APOP"),
        ("plain", "PLAIN"),
        ("login", "LOGIN"),
        ("cram-md5", "CRAM-MD5"),
        ("scram-sha-1", "SCRAM-SHA-1"),
        ("scram-sha-256", "SCRAM-SHA-256"),
        ("auto", "SCRAM-SHA-256"),
    ],
)
def test_each_way_lets_the_account_in(
    stage: Stage, offering_all: DovecotWith, auth: str, method: str
) -> None:
    user = offering_all.add_user(password="a secret with ümlauts, = and ,")
    offering_all.deliver(user, *small_mails(2, "way"))
    proxy = stage.proxy(offering_all, user, auth)
    assert proxy.cli_json("account", "sync", user.name)["listed"] == 2
    assert set(offering_all.methods(user)) == {method}


@pytest.mark.parametrize("auth", ["apop", "login", "cram-md5", "scram-sha-256", "auto"])
def test_a_wrong_password_is_a_refused_login_by_each_way(
    stage: Stage, offering_all: DovecotWith, auth: str
) -> None:
    user = offering_all.add_user()
    proxy = stage.proxy(offering_all, user, auth, password="not this one")
    failed = proxy.cli("account", "sync", user.name)
    assert failed.returncode == 1
    row = proxy.cli_json("account", "show", user.name)
    assert row["failure_kind"] == "UpstreamRefusedLogin"
    assert "not this one" not in failed.stderr + proxy.log() + row["failure"]
    assert offering_all.methods(user) == []


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
def test_auto_takes_the_strongest_over_tls_as_well(
    stage: Stage, offering_all: DovecotWith, tls: str
) -> None:
    user = offering_all.add_user()
    proxy = stage.proxy(offering_all, user, "auto", tls=tls)
    assert proxy.cli("account", "sync", user.name).returncode == 0
    assert set(offering_all.methods(user)) == {"SCRAM-SHA-256"}


def test_a_way_that_upstream_does_not_know_is_said(stage: Stage, dovecot: Dovecot) -> None:
    user = dovecot.add_user()
    proxy = stage.proxy(dovecot, user, "cram-md5")
    failed = proxy.cli("account", "sync", user.name)
    assert failed.returncode == 1
    assert failed.stderr


def test_channel_binding_holds_between_two_proxies(
    stage: Stage, certificates: Certificates, dovecot: Dovecot, tmp_path: Path
) -> None:
    """Our own server knows SCRAM-SHA-256-PLUS with tls-server-end-point."""
    user = dovecot.add_user()
    dovecot.deliver(user, *small_mails(2, "bound"))
    first = stage.proxy(dovecot, user, "auto")
    upstream = {
        "host": "localhost",
        "port": first.endpoint("implicit").port,
        "tls": "implicit",
        "auth": "scram-sha-256-plus",
        "ca_file": str(certificates.ca_file),
    }
    name = login(user, "second").user
    account = {"name": name, "password": user.password, "upstream": upstream}
    second = ProxyProcess(tmp_path / "second", certificates, {"sync": SYNC}, [account])
    stage.proxies.append(second)
    second.start()
    assert second.cli_json("account", "sync", name)["listed"] == 2
