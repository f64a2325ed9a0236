"""Courier's POP3 server with its authentication daemon, for users of the machine, on Maildir."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.dovecot import User
from tests.e2e.servers.server import FIRST_UID, MAIL_GROUP, PACKAGES, SystemServer
from tests.needs import need

AUTHENTICATION = Path("/usr/lib/courier/courier-authlib/authdaemond")


class Courier(SystemServer):
    name = "courier"
    program = "usr/lib/courier/courier/courierpop3login"
    pam = "pop3"

    def prepare(self) -> None:
        super().prepare()
        self._files: Iterator[int] = itertools.count()
        (self.folder / "run/courier/authdaemon").mkdir(parents=True)

    def views(self) -> dict[str, Path]:
        return {**super().views(), "/run": self.folder / "run"}

    def start(self) -> None:
        settings = ("authmodulelist=authpam", "daemons=2", "DEBUG_LOGIN=0", "DEFAULTOPTIONS=")
        self.in_view(need("env"), *settings, need(str(AUTHENTICATION)))
        server = PACKAGES / "usr/lib/courier/courier/courierpop3d"
        self.in_view(
            need("env"),
            "MAILDIRPATH=Maildir",
            "POP3AUTH=",
            need("couriertcpd"),
            f"-address={self.host}",
            "-maxprocs=40",
            "-maxperip=40",
            "-nodnslookup",
            "-noidentlookup",
            str(self.port),
            self.binary,
            server,
            "Maildir",
        )

    def make_mailbox(self, serial: int, user: User) -> None:
        super().make_mailbox(serial, user)
        for folder in ("", "tmp", "new", "cur"):
            made = self._maildir(user) / folder
            made.mkdir()
            os.chown(made, FIRST_UID + serial, MAIL_GROUP)

    def deliver(self, user: User, *mails: bytes) -> None:
        owner = self._maildir(user).stat().st_uid
        for mail in mails:
            name = f"1736157600.M{next(self._files):09d}.tests"
            file = self._maildir(user) / "tmp" / name
            file.write_bytes(mail.replace(b"\r\n", b"\n"))
            os.chown(file, owner, MAIL_GROUP)
            file.rename(self._maildir(user) / "new" / name)

    def count(self, user: User) -> int:
        return sum(len(list((self._maildir(user) / kind).iterdir())) for kind in ("new", "cur"))

    def _maildir(self, user: User) -> Path:
        return self.folder / "home" / user.name / "Maildir"
