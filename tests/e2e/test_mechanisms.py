"""Ways to log in that need a real client's own cryptography: mpop, with GNU SASL and GnuTLS."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.clients import Mpop
from tests.e2e.devices import Endpoint, Login, PollFailed
from tests.e2e.dovecot import User
from tests.e2e.proxy import ProxyProcess, Table
from tests.e2e.rig import Rig, small_mails
from tests.needs import need

pytestmark = pytest.mark.e2e


class MpopBy(Mpop):
    """mpop, told how to log in."""

    mechanism = "on"
    certificate: Path | None = None

    def write(self, name: str, text: str) -> Path:
        lines = [line for line in text.splitlines() if not line.startswith("auth ")]
        lines.append(f"auth {self.mechanism}")
        if self.certificate is not None:
            lines += [f"tls_cert_file {self.certificate}", f"tls_key_file {self.certificate}"]
        return super().write(name, "\n".join(lines) + "\n")


def mpop(
    folder: Path,
    endpoint: Endpoint,
    login: Login,
    mechanism: str,
    certificate: Path | None = None,
) -> Mpop:
    need("mpop")
    kind = type("Told", (MpopBy,), {"mechanism": mechanism, "certificate": certificate})
    made: Mpop = kind(folder, endpoint, login)
    return made


def declared_only(rig: Rig) -> tuple[ProxyProcess, User]:
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *small_mails(3, "proved"))
    sections: dict[str, Table] = {
        "accounts": {"pass_through": False},
        "limits": {"login_delay": "0s"},
    }
    return rig.proxy(user, sections=sections), user


@pytest.mark.parametrize("security", ["plain", "starttls", "implicit"])
def test_scram_with_an_app_password(rig: Rig, security: str) -> None:
    proxy, user = declared_only(rig)
    row = proxy.cli_json("device", "add", user.name, "phone")
    endpoint = proxy.endpoint(security)  # type: ignore[arg-type]
    login = Login(user.name, row["app_password"])
    device = mpop(rig.folder / "phone", endpoint, login, "scram-sha-256")
    device.poll()
    assert len(device.mails()) == 3
    (phone,) = proxy.cli_json("device", "list", user.name)
    assert (phone["device"], phone["waiting"]) == ("phone", 0)


@pytest.mark.parametrize("mechanism", ["scram-sha-256", "on", "plain", "login", "user"])
def test_whatever_the_program_chooses_the_account_s_password_will_do(
    rig: Rig, mechanism: str
) -> None:
    """ "on" leaves it to mpop, which prefers SCRAM where it is announced."""
    proxy, user = declared_only(rig)
    login = Login(f"{user.name}+laptop", user.password)
    device = mpop(rig.folder / "laptop", proxy.endpoint("implicit"), login, mechanism)
    device.poll()
    assert len(device.mails()) == 3


def test_scram_with_a_wrong_password(rig: Rig) -> None:
    proxy, user = declared_only(rig)
    login = Login(user.name, "wrong")
    device = mpop(rig.folder / "phone", proxy.endpoint("implicit"), login, "scram-sha-256")
    with pytest.raises(PollFailed):
        device.poll()


def test_a_certificate(rig: Rig) -> None:
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *small_mails(3, "shown"))
    sections = {"pop3": {"certificate": "", "private_key": "", "client_certificates": True}}
    proxy = rig.proxy(user, sections=sections)
    proxy.cli_json("device", "add", user.name, "phone")
    made = rig.folder / "phone.pem"
    proxy.cli_json("device", "certificate", user.name, "phone", "--out", str(made))
    port = int(proxy.addresses["pop3s"][0].rpartition(":")[2])
    authority = proxy.folder / "data" / "ca.pem"
    endpoint = Endpoint("localhost", port, "implicit", authority)
    login = Login(user.name, "not asked for")
    device = mpop(rig.folder / "phone", endpoint, login, "external", made)
    device.poll()
    assert len(device.mails()) == 3
