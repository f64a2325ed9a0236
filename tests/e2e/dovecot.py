"""A Dovecot of our own as the real upstream: generated configuration, free ports, Maildir.

It runs as whoever runs the tests; as root it uses the users that the Debian package made. Its
mailboxes are plain folders, so a test delivers and counts upstream's mail without speaking POP3.
"""

from __future__ import annotations

import grp
import itertools
import os
import poplib
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.certificates import Certificates
from tests.e2e.processes import bound
from tests.e2e.waiting import eventually

BINARY = "/usr/sbin/dovecot"

_CONFIG = """\
protocols = pop3
base_dir = {run}
state_dir = {run}
log_path = {log}
listen = 127.0.0.1
ssl = yes
ssl_cert = <{certificate}
ssl_key = <{private_key}
disable_plaintext_auth = no
{sign_in}
auth_failure_delay = 0
default_login_user = {login_user}
default_internal_user = {internal_user}
default_internal_group = {internal_group}
first_valid_uid = 1
first_valid_gid = 1
mail_location = maildir:{mail}/%u
mail_fsync = never
mail_max_userip_connections = 0
pop3_uidl_format = %08Xu%08Xv
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={mail}/%u
}}
service pop3-login {{
  {chroot}
  service_count = 0
  inet_listener pop3 {{
    port = {port}
  }}
  inet_listener pop3s {{
    port = {tls_port}
    ssl = yes
  }}
}}
service anvil {{
  {chroot}
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  {chroot}
}}
"""

_PASSWORDS = """\
auth_mechanisms = plain login
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {passwd}/%u
}}
"""


class DovecotUnusable(Exception):
    """There is no Dovecot here whose configuration we can write."""


@dataclass(frozen=True, slots=True)
class User:
    """A mailbox upstream."""

    name: str
    password: str


class Dovecot:
    """Started by its constructor; `stop` it, or use it as a context manager."""

    def __init__(self, certificates: Certificates) -> None:
        """Raises:
        DovecotUnusable: there is none, or its version is not 2.3 (2.4 has another syntax).
        """
        _check_version()
        # Below /tmp: the path of a Unix socket has little room.
        self._folder = Path(tempfile.mkdtemp(prefix="dove"))
        self._folder.chmod(0o755)
        self._mail = self._folder / "mail"
        self._mail.mkdir()
        self._owner = _mail_owner()
        os.chown(self._mail, *self._owner)
        self._passwd = self._folder / "passwd"
        # A file for each user: Dovecot looks only once a second whether a file has changed.
        self._passwd.mkdir()
        self._log = self._folder / "log"
        self._users = itertools.count()
        self._files = itertools.count()
        self._process: subprocess.Popen[bytes] | None = None
        self.host = "127.0.0.1"
        self.port, self.tls_port = free_ports(2)
        self._config = self._folder / "dovecot.conf"
        self._config.write_text(self._configuration(certificates))
        self.start()

    def __enter__(self) -> Dovecot:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _configuration(self, certificates: Certificates) -> str:
        root = os.getuid() == 0
        me = pwd.getpwuid(os.getuid()).pw_name
        my_group = grp.getgrgid(os.getgid()).gr_name
        return _CONFIG.format(
            run=self._folder / "run",
            log=self._log,
            certificate=certificates.certificate,
            private_key=certificates.private_key,
            login_user="dovenull" if root else me,
            internal_user="dovecot" if root else me,
            internal_group="dovecot" if root else my_group,
            chroot="" if root else "chroot =",
            mail=self._mail,
            sign_in=self.sign_in(self._folder),
            uid=self._owner[0],
            gid=self._owner[1],
            port=self.port,
            tls_port=self.tls_port,
        )

    def sign_in(self, folder: Path) -> str:
        """The part of the configuration that says how users log in: mechanisms and passdb.

        `folder` is there for further files, which Dovecot's own users must be able to read.
        """
        return _PASSWORDS.format(passwd=self._passwd)

    # --- the server -----------------------------------------------------------------------------

    def start(self) -> None:
        """Start, or start again on the same ports with the same mail."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                bound([BINARY, "-F", "-c", str(self._config)]),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        eventually(self._answers, what="Dovecot to answer", otherwise=self.log)

    def stop(self) -> None:
        """End the master process and all the others, and with them their connections."""
        if self._process is None:
            return
        self._process.terminate()
        self._process.wait(timeout=30)
        # A process that is busy with a client outlives the master, but not its group.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process = None
        eventually(lambda: not self._connects(), what="Dovecot to be gone")

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _connects(self) -> bool:
        try:
            socket.create_connection((self.host, self.port), timeout=5).close()
        except OSError:
            return False
        return True

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise DovecotUnusable(f"Dovecot ended: {self.log()}")
        try:
            with socket.create_connection((self.host, self.port), timeout=5) as connection:
                return connection.recv(3) == b"+OK"
        except OSError:
            return False

    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def clear_log(self) -> None:
        self._log.write_bytes(b"")

    # --- its mailboxes --------------------------------------------------------------------------

    def add_user(self, name: str = "", password: str = "") -> User:
        """A mailbox of its own; a name nobody else has, unless one is given."""
        serial = next(self._users)
        user = User(name or f"user{serial}", password or f"secret {serial}")
        home = self._mail / user.name
        for folder in (home, home / "new", home / "cur", home / "tmp"):
            folder.mkdir()
            os.chown(folder, *self._owner)
        self._write_password(user)
        return user

    def add_alias(self, user: User) -> User:
        """Another name for the mailbox of this user, with a password of its own."""
        alias = User(f"{user.name}@example.com", f"{user.password} too")
        self._write_password(alias, f"::::::user={user.name}")
        return alias

    def change_password(self, user: User, password: str) -> User:
        """Returns once Dovecot has noticed."""
        changed = User(user.name, password)
        self._write_password(changed)
        eventually(lambda: self._lets_in(changed), what="Dovecot to notice the new password")
        return changed

    def _write_password(self, user: User, fields: str = "") -> None:
        fresh = self._folder / "passwd.new"
        fresh.write_text(f"{user.name}:{{PLAIN}}{user.password}{fields}\n")
        fresh.chmod(0o644)
        fresh.replace(self._passwd / user.name)

    def _lets_in(self, user: User) -> bool:
        session = poplib.POP3(self.host, self.port, timeout=30)
        try:
            session.user(user.name)
            session.pass_(user.password)
            session.quit()
        except poplib.error_proto:
            return False
        finally:
            session.close()
        return True

    def deliver(self, user: User, *mails: bytes) -> None:
        """Put mails into the mailbox in this order, as a delivery agent does."""
        folder = self._mail / user.name
        for raw in mails:
            # Dovecot orders new mail by file name.
            name = f"1736157600.M{next(self._files):09d}.tests"
            (folder / "tmp" / name).write_bytes(raw)
            (folder / "tmp" / name).rename(folder / "new" / name)

    def mails(self, user: User) -> list[bytes]:
        """What lies upstream now."""
        folder = self._mail / user.name
        files = [*(folder / "new").iterdir(), *(folder / "cur").iterdir()]
        return [file.read_bytes() for file in sorted(files, key=lambda file: file.name)]

    def remove_all(self, user: User) -> None:
        """Empty the mailbox, as another program or the provider may."""
        for folder in ("new", "cur"):
            for file in (self._mail / user.name / folder).iterdir():
                file.unlink()

    def count(self, user: User) -> int:
        return len(self.mails(user))


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _mail_owner() -> tuple[int, int]:
    """Whose the mail is: ours, or nobody's, since Dovecot lets root have none."""
    if os.getuid() != 0:
        return os.getuid(), os.getgid()
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def _check_version() -> None:
    if not Path(BINARY).exists():
        raise DovecotUnusable(f"there is no {BINARY}")
    asked = subprocess.run([BINARY, "--version"], capture_output=True, text=True, check=False)
    if not re.match(r"2\.3\.", asked.stdout):
        raise DovecotUnusable(
            f"the tests write a configuration for Dovecot 2.3, but here is {asked.stdout.strip()}"
        )
