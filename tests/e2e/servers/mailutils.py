"""GNU mailutils' pop3d as a daemon: USER or APOP, STLS, an mbox that it writes fields into."""

from __future__ import annotations

import shutil
import subprocess

from tests.e2e.dovecot import User
from tests.e2e.servers.machine import MboxServer
from tests.e2e.servers.server import KEPT, PACKAGES

_POPAUTH = PACKAGES / "mailutils-pop3d" / "usr/bin/popauth"

_CONFIG = """\
logging {{
  syslog no;
}}
apop-database-file {folder}/apop.db;
tls {{
  ssl-certificate-file {folder}/certificate.pem;
  ssl-key-file {folder}/key.pem;
}}
server {host}:{port} {{
  tls-mode ondemand;
  transcript yes;
}}
server {host}:{tls_port} {{
  tls-mode connection;
}}
"""


class Mailutils(MboxServer):
    name = "mailutils"
    program = "mailutils-pop3d/usr/sbin/pop3d"
    mechanisms = ("user", "apop")
    tls = ("starttls", "implicit")
    rewrites = True

    def prepare(self) -> None:
        super().prepare()
        shutil.copy(self.certificates.certificate, self.folder / "certificate.pem")
        shutil.copy(self.certificates.private_key, self.folder / "key.pem")
        (self.folder / "key.pem").chmod(0o600)
        self._write_secret(User("nobody-else", "x"))
        (self.folder / "pop3d.conf").write_text(
            _CONFIG.format(
                folder=self.folder, host=self.host, port=self.port, tls_port=self.tls_port
            )
        )

    def start(self) -> None:
        config = self.folder / "pop3d.conf"
        daemon = ("--daemon=40", "--foreground")
        self.run_in_view(*KEPT, self.binary, f"--config-file={config}", *daemon)

    def make_mailbox(self, serial: int, user: User, mechanism: str) -> None:
        super().make_mailbox(serial, user, mechanism)
        # A user with such a secret is let in by nothing else.
        if mechanism == "apop":
            self._write_secret(user)

    def _write_secret(self, user: User) -> None:
        add = [str(_POPAUTH), "--add", f"--file={self.folder / 'apop.db'}"]
        subprocess.run([*add, "-u", user.name, "-p", user.password], check=True)
