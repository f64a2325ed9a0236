"""Servers that know the machine's users alone, in a machine of the test's own.

Each runs in a mount namespace in which `/etc/passwd`, `/var/mail` and the like are the test's: the
machine itself gets no users, and several test runs do not meet.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tests.e2e.dovecot import User
from tests.e2e.servers.server import Server
from tests.e2e.waiting import eventually
from tests.needs import cannot, need

FIRST_UID = 23_000
"""Of users that exist in the test's view of the machine alone."""
MAIL_GROUP = 8

_PAM = """\
auth required pam_unix.so nodelay
account required pam_unix.so
"""
_SEPARATOR = b"From a@example.com Mon Nov  2 08:00:00 2026\n"


class ViewedServer(Server):
    """A server with paths compiled in, which lead it to the test's files."""

    def views(self) -> dict[str, Path]:
        """What the server sees, and where that is."""
        raise NotImplementedError

    def prepare(self) -> None:
        allowed = subprocess.run(
            [need("unshare"), "--mount", "mount", "--bind", "/etc/passwd", "/etc/passwd"],
            capture_output=True,
            text=True,
            check=False,
        )
        if allowed.returncode:
            cannot(f"{self.name} needs a mount namespace: {allowed.stderr.strip()}")

    def run_in_view(self, *command: str | Path, settings: tuple[str, ...] = ()) -> None:
        mounts = "".join(f"mount --bind '{at}' '{seen}' && " for seen, at in self.views().items())
        script = f'{mounts}exec "$@"'
        self.run(need("unshare"), "--mount", "sh", "-c", script, "sh", *command, settings=settings)

    def run_by_inetd(self, *command: str | Path) -> None:
        """The server for each connection, started by a listener such as inetd."""
        listener = (need("systemd-socket-activate"), "--inetd", "--accept")
        self.run_in_view(*listener, f"--listen={self.host}:{self.port}", *command)


class MboxServer(ViewedServer):
    """A server for the machine's users, each with an mbox (RFC 4155) in `/var/mail`."""

    def prepare(self) -> None:
        super().prepare()
        for name in ("passwd", "shadow"):
            shutil.copy(f"/etc/{name}", self.folder / name)
        (self.folder / "mail").mkdir()
        (self.folder / "mail").chmod(0o1777)
        (self.folder / "home").mkdir()
        # For every service that has no file of its own, which here is every one.
        (self.folder / "pam.d").mkdir()
        (self.folder / "pam.d" / "other").write_text(_PAM)

    def views(self) -> dict[str, Path]:
        names = {"/etc/passwd", "/etc/shadow", "/etc/pam.d", "/var/mail"}
        return {name: self.folder / Path(name).name for name in names}

    def add_system_user(self, name: str, uid: int, gid: int, home: Path | str) -> None:
        with (self.folder / "passwd").open("a") as passwd:
            passwd.write(f"{name}:x:{uid}:{gid}::{home}:/bin/sh\n")

    def home(self, user: User) -> Path:
        return self.folder / "home" / user.name

    def make_mailbox(self, serial: int, user: User, mechanism: str) -> None:
        owner = FIRST_UID + serial
        self.home(user).mkdir()
        self._box(user).touch(0o660)
        for path in (self.home(user), self._box(user)):
            os.chown(path, owner, MAIL_GROUP)
        asked = [need("openssl"), "passwd", "-6", user.password]
        hashed = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
        self.add_system_user(user.name, owner, MAIL_GROUP, self.home(user))
        with (self.folder / "shadow").open("a") as shadow:
            shadow.write(f"{user.name}:{hashed}:19000:0:99999:7:::\n")

    def deliver(self, user: User, *mails: bytes) -> None:
        octets = b""
        for mail in mails:
            lines = mail.replace(b"\r\n", b"\n").removesuffix(b"\n").split(b"\n")
            quoted = [b">" + line if line.startswith(b"From ") else line for line in lines]
            octets += _SEPARATOR + b"\n".join(quoted) + b"\n\n"
        with self._locked(user) as box:
            # In one go: mailutils also looks at the file without a lock.
            box.write(octets)

    def count(self, user: User) -> int:
        lines = self._box(user).read_bytes().split(b"\n")
        return sum(line.startswith(b"From ") for line in lines)

    def remove_all(self, user: User) -> None:
        with self._locked(user) as box:
            box.truncate(0)

    def _box(self, user: User) -> Path:
        return self.folder / "mail" / user.name

    @contextmanager
    def _locked(self, user: User) -> Iterator[IO[bytes]]:
        """By both kinds of lock, as a delivery agent does: some servers look at one alone."""
        lock = self._box(user).with_name(f"{user.name}.lock")
        eventually(lambda: _made(lock), what=f"the lock of {user.name}'s mailbox")
        try:
            with self._box(user).open("ab", buffering=0) as box:
                fcntl.lockf(box, fcntl.LOCK_EX)
                yield box
        finally:
            lock.unlink()


def _made(lock: Path) -> bool:
    try:
        lock.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
