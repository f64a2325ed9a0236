"""Programs that other people wrote and that hand in mail: swaks, msmtp, curl, Python's smtplib."""

from __future__ import annotations

import os
import smtplib
import ssl
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tests.e2e.devices import Endpoint, Login
from tests.needs import need

TIMEOUT = 90.0


class SendFailed(Exception):
    """The mail was not taken; with what the program says of it."""


class Sender(Protocol):
    def __call__(
        self, folder: Path, at: Endpoint, login: Login, recipients: Sequence[str], mail: bytes
    ) -> None:
        """Hand in one mail from alice@example.org; TLS is verified.

        Raises:
            SendFailed
        """


def _run(folder: Path, command: Sequence[str]) -> None:
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder), "LC_ALL": "C"}
    with (folder / "mail").open("rb") as mail:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=mail,
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )
    if done.returncode != 0:
        raise SendFailed((done.stdout + done.stderr).decode(errors="replace")[-4000:])


def swaks(folder: Path, at: Endpoint, login: Login, recipients: Sequence[str], mail: bytes) -> None:
    # It ends the last line by itself.
    (folder / "mail").write_bytes(mail.removesuffix(b"\r\n"))
    tls = "--tls-on-connect" if at.security == "implicit" else "--tls"
    command = [need("swaks"), "--server", at.host, "--port", str(at.port), tls, "--tls-verify"]
    command += ["--tls-ca-path", str(at.ca_file), "--auth", "PLAIN", "--from", "alice@example.org"]
    command += ["--auth-user", login.user, "--auth-password", login.password]
    command += ["--to", ",".join(recipients), "--data", "@mail"]
    _run(folder, command)


def msmtp(folder: Path, at: Endpoint, login: Login, recipients: Sequence[str], mail: bytes) -> None:
    configuration = (
        f"account default\nhost {at.host}\nport {at.port}\nfrom alice@example.org\n"
        f"tls on\ntls_trust_file {at.ca_file}\n"
        f"tls_starttls {'off' if at.security == 'implicit' else 'on'}\n"
        f'auth on\nuser {login.user}\npassword "{login.password}"\n'
    )
    send_by_msmtp(folder, configuration, recipients, mail)


def send_by_msmtp(folder: Path, configuration: str, recipients: Sequence[str], mail: bytes) -> None:
    """Raises:
    SendFailed
    """
    # It reads a mail in the local spelling, and sends CRLF.
    (folder / "mail").write_bytes(mail.replace(b"\r\n", b"\n"))
    file = folder / "msmtprc"
    file.write_text(configuration)
    file.chmod(0o600)
    _run(folder, [need("msmtp"), "-C", str(file), "--", *recipients])


def curl(folder: Path, at: Endpoint, login: Login, recipients: Sequence[str], mail: bytes) -> None:
    (folder / "mail").write_bytes(mail)
    scheme = "smtps" if at.security == "implicit" else "smtp"
    lines = [
        f'url = "{scheme}://{at.host}:{at.port}"',
        f'user = "{login.user}:{login.password}"',
        f'cacert = "{at.ca_file}"',
        'mail-from = "alice@example.org"',
        *(f'mail-rcpt = "{recipient}"' for recipient in recipients),
        'upload-file = "mail"',
        "ssl-reqd\nsilent\nshow-error\nverbose",
    ]
    (folder / "curlrc").write_text("\n".join(lines) + "\n")
    _run(folder, [need("curl"), "--disable", "--config", "curlrc"])


def connect(at: Endpoint) -> smtplib.SMTP:
    """Past the greeting and TLS."""
    if at.security == "plain":
        return smtplib.SMTP(at.host, at.port, timeout=TIMEOUT)
    context = ssl.create_default_context(cafile=str(at.ca_file))
    if at.security == "implicit":
        return smtplib.SMTP_SSL(at.host, at.port, timeout=TIMEOUT, context=context)
    session = smtplib.SMTP(at.host, at.port, timeout=TIMEOUT)
    session.starttls(context=context)
    return session


def smtplib_(
    folder: Path, at: Endpoint, login: Login, recipients: Sequence[str], mail: bytes
) -> None:
    try:
        with connect(at) as session:
            session.login(login.user, login.password)
            session.sendmail("alice@example.org", list(recipients), mail)
    except smtplib.SMTPException as error:
        raise SendFailed(str(error)) from error


SENDERS: tuple[Sender, ...] = (swaks, msmtp, curl, smtplib_)
