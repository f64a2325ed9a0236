"""Courier: its authentication daemon with a userdb, and its POP3 server on Maildir."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.dovecot import User
from tests.e2e.servers.machine import FIRST_UID, MAIL_GROUP, ViewedServer
from tests.e2e.servers.server import PACKAGES
from tests.needs import need

_AUTHENTICATION = "/usr/lib/courier/courier-authlib/authdaemond"
_DAEMON = """\
authmodulelist="authuserdb"
authmodulelistorig="authuserdb"
daemons=2
authdaemonvar=/run/courier/authdaemon
DEBUG_LOGIN=0
DEFAULTOPTIONS=""
LOGGEROPTS=""
"""
_MAIL_SERVER = PACKAGES / "courier-pop/usr/lib/courier/courier/courierpop3d"


class Courier(ViewedServer):
    name = "courier"
    program = "courier-pop/usr/lib/courier/courier/courierpop3login"
    mechanisms = ("user", "plain", "login", "cram-md5")
    tls = ("starttls", "implicit")

    def prepare(self) -> None:
        super().prepare()
        self._files: Iterator[int] = itertools.count()
        (self.folder / "etc").mkdir()
        (self.folder / "etc" / "authdaemonrc").write_text(_DAEMON)
        (self.folder / "run/courier/authdaemon").mkdir(parents=True)
        (self.folder / "both.pem").write_bytes(
            self.certificates.private_key.read_bytes() + self.certificates.certificate.read_bytes()
        )
        self._write_user("nobody-else", {"uid": "1"})

    def views(self) -> dict[str, Path]:
        return {"/etc/courier": self.folder / "etc", "/run": self.folder / "run"}

    def start(self) -> None:
        self.run_in_view(need(_AUTHENTICATION))
        tls = need("couriertls")
        self._listen(self.port)
        self._listen(self.tls_port, tls, "-server", "-tcpd")

    def _listen(self, port: int, *before: str) -> None:
        listener = [need("couriertcpd"), f"-address={self.host}", "-maxprocs=40", "-maxperip=40"]
        self.run_in_view(
            *(*listener, "-nodnslookup", "-noidentlookup", str(port), *before),
            *(self.binary, _MAIL_SERVER, "Maildir"),
            settings=(
                "MAILDIRPATH=Maildir",
                "POP3AUTH=PLAIN LOGIN CRAM-MD5",
                f"POP3_STARTTLS={'NO' if before else 'YES'}",
                "POP3_TLS_REQUIRED=0",
                f"COURIERTLS={need('couriertls')}",
                f"TLS_CERTFILE={self.folder / 'both.pem'}",
                "TLS_VERIFYPEER=NONE",
            ),
        )

    def make_mailbox(self, serial: int, user: User, mechanism: str) -> None:
        home = self.folder / "home" / user.name
        for folder in ("tmp", "new", "cur"):
            (home / "Maildir" / folder).mkdir(parents=True)
        for path in (home, *home.rglob("*")):
            os.chown(path, FIRST_UID, MAIL_GROUP)
        fields = {"uid": str(FIRST_UID), "gid": str(MAIL_GROUP), "home": str(home)}
        fields["systempw"] = _hashed(user.password, "-md5")
        fields["hmac-md5pw"] = _hashed(user.password, "-hmac-md5")
        self._write_user(user.name, fields)

    def _write_user(self, name: str, fields: dict[str, str]) -> None:
        userdb = self.folder / "etc" / "userdb"
        line = "|".join(f"{key}={value}" for key, value in fields.items())
        with userdb.open("a") as database:
            database.write(f"{name}\t{line}\n")
        userdb.chmod(0o600)
        subprocess.run([need("makeuserdb"), "-f", userdb], check=True)

    def deliver(self, user: User, *mails: bytes) -> None:
        for mail in mails:
            name = f"1736157600.M{next(self._files):09d}.tests"
            file = self._maildir(user) / "tmp" / name
            file.write_bytes(mail.replace(b"\r\n", b"\n"))
            shutil.chown(file, FIRST_UID, MAIL_GROUP)
            file.rename(self._maildir(user) / "new" / name)

    def count(self, user: User) -> int:
        return len(self._mails(user))

    def remove_all(self, user: User) -> None:
        for file in self._mails(user):
            file.unlink()

    def _mails(self, user: User) -> list[Path]:
        return [file for kind in ("new", "cur") for file in (self._maildir(user) / kind).iterdir()]

    def _maildir(self, user: User) -> Path:
        return self.folder / "home" / user.name / "Maildir"


def _hashed(password: str, kind: str) -> str:
    """For the userdb."""
    asked = [need("userdbpw"), kind]
    done = subprocess.run(
        asked, input=f"{password}\n{password}\n", capture_output=True, text=True, check=True
    )
    return done.stdout.split()[-1]
