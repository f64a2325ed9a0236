"""Ways to log in and to TLS that real servers other than Dovecot offer, each taken once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.certificates import Certificates
from tests.e2e.dovecot import User
from tests.e2e.poplib_device import PoplibDevice
from tests.e2e.proxy import ProxyProcess, Table
from tests.e2e.rig import SYNC, login, small_mails
from tests.e2e.servers import OTHERS
from tests.e2e.servers.cyrus import Cyrus
from tests.e2e.servers.server import Server

pytestmark = pytest.mark.e2e

WAYS = [(kind, mechanism) for kind in OTHERS for mechanism in (*kind.mechanisms, "auto")]
ENCRYPTED = [(kind, tls) for kind in OTHERS for tls in kind.tls]


class OldCyrus(Cyrus):
    name = "cyrus-tls12"
    versions = "tls1_2"


class ScramCyrus(Cyrus):
    """Announces every way to log in, but nothing checks a password that comes in clear text."""

    name = "cyrus-scram"
    checks = "saslauthd"


@dataclass
class Hall:
    """The servers that are up, and the proxies of one test."""

    folder: Path
    certificates: Certificates
    servers: dict[type[Server], Server]
    proxies: list[ProxyProcess]

    def server(self, kind: type[Server]) -> Server:
        if kind not in self.servers:
            self.servers[kind] = kind(self.certificates)
        return self.servers[kind]

    def proxy(
        self, server: Server, user: User, auth: str, *, tls: str = "none", password: str = ""
    ) -> ProxyProcess:
        upstream: Table = {
            "host": "localhost",
            "port": server.tls_port if tls == "implicit" else server.port,
            "tls": tls,
            "auth": auth,
            "ca_file": str(self.certificates.ca_file),
        }
        account: Table = {
            "name": user.name,
            "password": password or user.password,
            "upstream": upstream,
        }
        folder = self.folder / f"proxy{len(self.proxies)}"
        made = ProxyProcess(folder, self.certificates, {"sync": SYNC}, [account])
        self.proxies.append(made)
        made.start()
        return made

    def assert_let_in(self, server: Server, auth: str, *, tls: str = "none") -> None:
        user = server.add_user("user" if auth == "auto" else auth)
        server.deliver(user, *small_mails(2, "way in"))
        proxy = self.proxy(server, user, auth, tls=tls)
        device = PoplibDevice(proxy.endpoint(), login(user, "laptop"))
        device.poll()
        assert len(device.mails()) == 2, proxy.log() + server.log()


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[type[Server], Server]]:
    """Each is started by the first test that wants it."""
    started: dict[type[Server], Server] = {}
    yield started
    for server in started.values():
        server.close()


@pytest.fixture
def hall(
    tmp_path: Path, certificates: Certificates, servers: dict[type[Server], Server]
) -> Iterator[Hall]:
    made = Hall(tmp_path, certificates, servers, [])
    yield made
    for proxy in made.proxies:
        proxy.kill()


def named(value: object) -> str:
    return value.name if isinstance(value, type) and issubclass(value, Server) else str(value)


@pytest.mark.parametrize(("kind", "auth"), WAYS, ids=named)
def test_each_way_to_log_in_lets_the_account_in(hall: Hall, kind: type[Server], auth: str) -> None:
    hall.assert_let_in(hall.server(kind), auth)


@pytest.mark.parametrize(("kind", "tls"), ENCRYPTED, ids=named)
def test_each_way_to_tls_lets_the_account_in(hall: Hall, kind: type[Server], tls: str) -> None:
    hall.assert_let_in(hall.server(kind), "auto", tls=tls)


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
@pytest.mark.parametrize("auth", ["scram-sha-1-plus", "scram-sha-256-plus"])
def test_channel_binding_holds_with_a_server_that_is_not_ours(
    hall: Hall, auth: str, tls: str
) -> None:
    """With tls-unique, which Cyrus knows alone and TLS 1.3 does not have."""
    hall.assert_let_in(hall.server(OldCyrus), auth, tls=tls)


def test_auto_leaves_out_the_binding_where_upstream_knows_another_one(hall: Hall) -> None:
    """Cyrus announces -PLUS on TLS 1.3 as well, and then refuses tls-server-end-point."""
    server = hall.server(ScramCyrus)
    hall.assert_let_in(server, "scram-sha-256", tls="implicit")
    hall.assert_let_in(server, "auto", tls="implicit")


@pytest.mark.parametrize("kind", OTHERS, ids=named)
def test_a_wrong_password_is_a_refused_login(hall: Hall, kind: type[Server]) -> None:
    """Whatever upstream says of it, and where it hangs up as well."""
    server = hall.server(kind)
    user = server.add_user()
    proxy = hall.proxy(server, user, "auto", password="not this one")
    assert proxy.cli("account", "sync", user.name).returncode == 1
    row = proxy.cli_json("account", "show", user.name)
    assert row["failure_kind"] == "UpstreamRefusedLogin", proxy.log()
