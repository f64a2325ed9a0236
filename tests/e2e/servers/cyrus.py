"""Cyrus: its master process, with services for POP3 and for delivery, and users in a sasldb."""

from __future__ import annotations

import poplib
import shutil
import smtplib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from tests.e2e.dovecot import User
from tests.e2e.servers.server import KEPT, Server
from tests.needs import need

PROGRAMS = Path("/usr/lib/cyrus/bin")

_IMAPD = """\
configdirectory: {folder}/config
partition-default: {folder}/spool
defaultpartition: default
admins: cyrus
allowplaintext: yes
allowapop: yes
sasl_pwcheck_method: {checks}
sasl_auxprop_plugin: sasldb
sasl_sasldb_path: {folder}/sasldb2
sasl_mech_list: PLAIN LOGIN CRAM-MD5 SCRAM-SHA-1 SCRAM-SHA-256
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
tls_server_cert: {folder}/certificate.pem
tls_server_key: {folder}/key.pem
tls_versions: {versions}
"""

_SERVICES = """\
START {{
  recover cmd="{programs}/ctl_cyrusdb -C {folder}/imapd.conf -r"
}}
SERVICES {{
  pop3 cmd="{pop3d} -C {folder}/imapd.conf" listen="{host}:{port}" prefork=0
  pop3s cmd="{pop3d} -s -C {folder}/imapd.conf" listen="{host}:{tls_port}" prefork=0
  lmtpunix cmd="{programs}/lmtpd -C {folder}/imapd.conf" listen="{folder}/lmtp" prefork=0
}}
EVENTS {{
}}
"""


class Cyrus(Server):
    name = "cyrus"
    program = "cyrus-pop3d/usr/lib/cyrus/bin/pop3d"
    mechanisms = ("user", "apop", "plain", "login", "cram-md5", "scram-sha-1", "scram-sha-256")
    tls = ("starttls", "implicit")
    checks: ClassVar[str] = "auxprop"
    """What a password in clear text is compared with; SCRAM and the like always take the sasldb."""
    versions: ClassVar[str] = "tls1_2 tls1_3"

    def prepare(self) -> None:
        folder = self.folder
        for name in ("config", "spool"):
            (folder / name).mkdir()
        for name in ("db", "socket", "proc", "log", "msg", "user", "quota", "sieve", "lock"):
            (folder / "config" / name).mkdir()
        shutil.copy(self.certificates.certificate, folder / "certificate.pem")
        shutil.copy(self.certificates.private_key, folder / "key.pem")
        (folder / "imapd.conf").write_text(
            _IMAPD.format(folder=folder, checks=self.checks, versions=self.versions)
        )
        services = _SERVICES.format(
            folder=folder,
            programs=PROGRAMS,
            pop3d=self.binary,
            host=self.host,
            port=self.port,
            tls_port=self.tls_port,
        )
        (folder / "cyrus.conf").write_text(services)
        # With somebody in it, so that the file is there.
        self._set_password(User("nobody-else", "x"))
        for path in (folder, *folder.rglob("*")):
            shutil.chown(path, "cyrus", "mail")

    def start(self) -> None:
        files = ("-C", self.folder / "imapd.conf", "-M", self.folder / "cyrus.conf")
        self.run(*KEPT, need(str(PROGRAMS / "master")), *files, "-p", self.folder / "pid", "-D")

    def make_mailbox(self, serial: int, user: User, mechanism: str) -> None:
        self._set_password(user)
        # A transcript of every session, in files of this folder.
        transcript = self.folder / "config" / "log" / user.name
        transcript.mkdir()
        shutil.chown(transcript, "cyrus", "mail")
        # The first login makes the mailbox; where that one is not let in, the first delivery.
        if self.checks == "auxprop":
            self.count(user)

    def deliver(self, user: User, *mails: bytes) -> None:
        # The type stubs know no path as the host of LMTP, which the documentation does.
        with smtplib.LMTP(str(self.folder / "lmtp")) as delivery:
            for mail in mails:
                delivery.sendmail("a@example.com", [user.name], mail)

    def count(self, user: User) -> int:
        with self._session(user) as session:
            return session.stat()[0]

    def remove_all(self, user: User) -> None:
        with self._session(user) as session:
            for number in range(1, session.stat()[0] + 1):
                session.dele(number)

    def log(self) -> str:
        transcripts = sorted((self.folder / "config" / "log").glob("*/*"))
        return super().log() + "".join(
            f"{file.parent.name}: {file.read_bytes()[-2000:]!r}\n" for file in transcripts
        )

    @contextmanager
    def _session(self, user: User) -> Iterator[poplib.POP3]:
        session = poplib.POP3(self.host, self.port, timeout=30)
        try:
            session.user(user.name)
            session.pass_(user.password)
            yield session
            session.quit()
        finally:
            session.close()

    def _set_password(self, user: User) -> None:
        subprocess.run(
            [need("saslpasswd2"), "-p", "-c", "-f", self.folder / "sasldb2", user.name],
            input=user.password.encode(),
            check=True,
            capture_output=True,
        )
