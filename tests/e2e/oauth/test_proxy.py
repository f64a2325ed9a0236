"""The proxy with a real authorization server and a real Dovecot that asks it about every token."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.certificates import Certificates
from tests.e2e.dovecot import User
from tests.e2e.oauth.mail_server import TokenDovecot
from tests.e2e.oauth.server import OAuthServer
from tests.e2e.poplib_device import PoplibDevice
from tests.e2e.processes import bound
from tests.e2e.proxy import ProxyProcess, Table
from tests.e2e.rig import SYNC, login, small_mails

pytestmark = pytest.mark.e2e


class Stage:
    """A proxy with one account that logs in upstream by tokens; devices have a password."""

    def __init__(
        self,
        folder: Path,
        certificates: Certificates,
        server: OAuthServer,
        upstream: TokenDovecot,
        *,
        smtp: Table | None = None,
    ) -> None:
        """`smtp`: the account's server for outgoing mail."""
        self.server = server
        self.user: User = upstream.add_user()
        self._upstream = upstream
        server.forget_token_requests()
        self.proxy = ProxyProcess(
            folder / "proxy",
            certificates,
            {
                "sync": SYNC,
                **({"smtp": {"listen": ["127.0.0.1:0"]}} if smtp else {}),
            },
            [
                {
                    "name": self.user.name,
                    "password": self.user.password,
                    "upstream": {
                        "host": upstream.host,
                        "port": upstream.port,
                        "tls": "none",
                        "oauth_client_id": server.client_id,
                        "oauth_authorization_url": server.authorization_endpoint,
                        "oauth_token_url": server.token_endpoint,
                        "oauth_device_url": server.device_endpoint,
                        "oauth_scope": server.scope,
                    },
                    **({"smtp": smtp} if smtp else {}),
                }
            ],
        )
        self.proxy.start()

    def deliver(self, count: int, mark: str) -> None:
        self._upstream.deliver(self.user, *small_mails(count, mark))

    def device(self) -> PoplibDevice:
        return PoplibDevice(self.proxy.endpoint(), login(self.user, "laptop"))

    @contextmanager
    def authorizing(self, *options: str) -> Iterator[subprocess.Popen[str]]:
        """`account authorize`, waiting for a person."""
        command = ["account", "authorize", self.user.name, *options]
        with subprocess.Popen(
            bound([sys.executable, "-u", "-m", "proxy", *command, "--config", self.config]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    @property
    def config(self) -> str:
        return str(self.proxy.config)

    def authorize(self) -> None:
        with self.authorizing() as process:
            self.server.approve(shown_url(process), self.user.name)
            assert process.wait(30) == 0

    def row(self) -> dict[str, object]:
        shown: dict[str, object] = self.proxy.cli_json("account", "show", self.user.name)
        return shown

    def grants(self) -> list[str]:
        return [str(request.grant_type) for request in self.server.token_requests()]

    def sync(self) -> subprocess.CompletedProcess[str]:
        return self.proxy.cli("account", "sync", self.user.name)


def shown_url(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip().startswith("http"):
            return line.strip()
    raise AssertionError("it showed no address")


@pytest.fixture
def stage(
    tmp_path: Path,
    certificates: Certificates,
    oauth_server: OAuthServer,
    token_dovecot: TokenDovecot,
) -> Iterator[Stage]:
    made = Stage(tmp_path, certificates, oauth_server, token_dovecot)
    yield made
    made.proxy.kill()


def test_consent_in_a_browser_lets_the_account_fetch(stage: Stage) -> None:
    stage.deliver(3, "first")
    refused = stage.sync()
    assert refused.returncode == 1
    assert f"account authorize {stage.user.name}" in refused.stderr
    assert stage.row()["needs_consent"] is True
    assert 'consent_needed{account="' in metrics(stage)

    stage.authorize()
    device = stage.device()
    device.poll()
    assert len(device.mails()) == 3
    assert stage.row()["needs_consent"] is False


def test_consent_by_a_code_entered_elsewhere(stage: Stage) -> None:
    stage.deliver(1, "by code")
    with stage.authorizing("--device") as process:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        stage.server.approve_device(words[1], words[-1], stage.user.name)
        assert process.wait(60) == 0
    device = stage.device()
    device.poll()
    assert len(device.mails()) == 1


def test_consent_by_an_address_pasted_from_another_computer(stage: Stage) -> None:
    with stage.authorizing("--paste") as process:
        ended_at = stage.server.redirect(shown_url(process), stage.user.name)
        process.communicate(f"{ended_at}\n", timeout=30)
        assert process.returncode == 0
    assert stage.sync().returncode == 0


@pytest.mark.parametrize("pasted", ["", "http://localhost:8080/?code=x&state=another", "what?"])
def test_an_address_of_another_request_is_refused(stage: Stage, pasted: str) -> None:
    with stage.authorizing("--paste") as process:
        shown_url(process)
        output, _ = process.communicate(f"{pasted}\n", timeout=30)
    assert process.returncode == 2
    assert "not the answer to this request" in output
    assert stage.grants() == []


def test_a_person_who_refuses_changes_nothing(stage: Stage) -> None:
    assert stage.sync().returncode == 1
    with stage.authorizing() as process:
        stage.server.deny(shown_url(process), stage.user.name)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "consent was refused" in output
    assert stage.row()["needs_consent"] is True


def test_a_token_is_refreshed_once_and_a_new_refresh_token_outlives_a_restart(
    stage: Stage,
) -> None:
    stage.authorize()
    with stage.server.policy(access_token_seconds=3600):
        for _ in range(3):
            assert stage.sync().returncode == 0
    assert stage.grants() == ["authorization_code", "refresh_token"]
    stage.proxy.restart()
    assert stage.sync().returncode == 0
    assert stage.grants() == ["authorization_code", "refresh_token", "refresh_token"]


def test_a_token_revoked_before_its_time_is_replaced_in_the_same_sync(stage: Stage) -> None:
    stage.authorize()
    assert stage.sync().returncode == 0
    stage.server.revoke_access_tokens(stage.user.name)
    stage.deliver(1, "afterwards")
    assert stage.sync().returncode == 0
    assert stage.grants().count("refresh_token") == 2


def test_withdrawn_consent_is_said_and_given_again(stage: Stage) -> None:
    stage.authorize()
    stage.deliver(2, "before")
    device = stage.device()
    device.poll()
    stage.server.revoke_all(stage.user.name)
    stage.deliver(1, "behind")
    failed = stage.sync()
    assert failed.returncode == 1
    assert "consent has ended" in failed.stderr
    assert stage.row()["needs_consent"] is True
    assert "ConsentNeeded" in stage.proxy.log()
    # What is stored is served all the same.
    other = PoplibDevice(stage.proxy.endpoint(), login(stage.user, "other"))
    other.poll()
    assert len(other.mails()) == 2

    stage.authorize()
    assert stage.sync().returncode == 0
    device.poll()
    assert len(device.mails()) == 3


def test_a_token_server_that_is_down_is_no_loss_of_consent(stage: Stage) -> None:
    stage.authorize()
    stage.proxy.restart()
    stage.server.stop()
    try:
        failed = stage.sync()
    finally:
        stage.server.start()
    assert failed.returncode == 1
    assert "no answer from the token server" in failed.stderr
    assert stage.row()["needs_consent"] is False
    assert stage.sync().returncode == 0


def test_tokens_are_kept_encrypted_and_stand_in_no_log(stage: Stage) -> None:
    stage.authorize()
    assert stage.sync().returncode == 0
    key = (stage.proxy.folder / "proxy.key").read_bytes().strip()
    assert (stage.proxy.folder / "proxy.key").stat().st_mode & 0o777 == 0o600
    kept = b"".join(
        file.read_bytes() for file in (stage.proxy.folder / "data").rglob("*") if file.is_file()
    )
    secrets = stage.server.secrets_of(stage.user.name)
    assert secrets
    for secret in secrets:
        assert secret.encode() not in kept
        assert secret not in stage.proxy.log()
    assert key not in kept


def metrics(stage: Stage) -> str:
    (address,) = stage.proxy.addresses["http"]
    with urllib.request.urlopen(f"http://{address}/metrics") as page:
        text: str = page.read().decode()
    return text
