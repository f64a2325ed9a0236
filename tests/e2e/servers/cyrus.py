"""Cyrus: its master process, with services for POP3 and for delivery, and users in a sasldb."""

from __future__ import annotations

import poplib
import shutil
import smtplib
import subprocess
from pathlib import Path

from tests.e2e.dovecot import User
from tests.e2e.servers.server import Server
from tests.needs import need

PROGRAMS = Path("/usr/lib/cyrus/bin")

_IMAPD = """\
configdirectory: {folder}/config
partition-default: {folder}/spool
defaultpartition: default
admins: cyrus
allowplaintext: yes
allowapop: no
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_sasldb_path: {folder}/sasldb2
sasl_mech_list: {mechanisms}
lmtpsocket: {folder}/lmtp
idlesocket: {folder}/idle
autocreate_quota: 0
autocreate_post: yes
virtdomains: off
unixhierarchysep: no
popminpoll: 0
popuseacl: no
poptimeout: 10
expunge_mode: immediate
duplicatesuppression: no
"""

_SERVICES = """\
START {{
  recover cmd="{programs}/ctl_cyrusdb -C {folder}/imapd.conf -r"
}}
SERVICES {{
  pop3 cmd="{pop3d} -C {folder}/imapd.conf" listen="127.0.0.1:{port}" prefork=0
  lmtpunix cmd="{programs}/lmtpd -C {folder}/imapd.conf" listen="{folder}/lmtp" prefork=0
}}
EVENTS {{
}}
"""


class Cyrus(Server):
    name = "cyrus"
    program = "usr/lib/cyrus/bin/pop3d"
    mechanisms = "PLAIN LOGIN CRAM-MD5 SCRAM-SHA-1 SCRAM-SHA-256"

    def prepare(self) -> None:
        folder = self.folder
        for name in ("config", "spool"):
            (folder / name).mkdir()
        for name in ("db", "socket", "proc", "log", "msg", "user", "quota", "sieve", "lock"):
            (folder / "config" / name).mkdir()
        (folder / "imapd.conf").write_text(_IMAPD.format(folder=folder, mechanisms=self.mechanisms))
        (folder / "cyrus.conf").write_text(
            _SERVICES.format(folder=folder, programs=PROGRAMS, pop3d=self.binary, port=self.port)
        )
        # With somebody in it, so that the file is there.
        self._set_password(User("nobody-else", "x"))
        for path in (folder, *folder.rglob("*")):
            shutil.chown(path, "cyrus", "mail")

    def start(self) -> None:
        need(str(PROGRAMS / "master"))
        files = ("-C", self.folder / "imapd.conf", "-M", self.folder / "cyrus.conf")
        pid = ("-p", self.folder / "master.pid")
        self.run([PROGRAMS / "master", *files, *pid, "-D"])

    def make_mailbox(self, serial: int, user: User) -> None:
        self._set_password(user)
        # The first login makes the mailbox.
        self.count(user)

    def deliver(self, user: User, *mails: bytes) -> None:
        # The type stubs know no path as the host of LMTP, which the documentation does.
        with smtplib.LMTP(str(self.folder / "lmtp")) as delivery:
            for mail in mails:
                delivery.sendmail("a@example.com", [user.name], mail)

    def count(self, user: User) -> int:
        session = poplib.POP3(self.host, self.port, timeout=30)
        session.user(user.name)
        session.pass_(user.password)
        count, _ = session.stat()
        session.quit()
        return count

    def _set_password(self, user: User) -> None:
        subprocess.run(
            [need("saslpasswd2"), "-p", "-c", "-f", self.folder / "sasldb2", user.name],
            input=user.password.encode(),
            check=True,
            capture_output=True,
        )
