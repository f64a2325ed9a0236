"""Real POP3 servers other than Dovecot, each from its Debian package, as upstreams.

The packages exclude each other, so `.ci/run` unpacks them below `PACKAGES` instead of installing
them. A server that knows the machine's users alone gets a view of the file system of its own, in
which `/etc/passwd`, `/var/mail` and the like are the test's.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Self

from tests.e2e.dovecot import User, free_ports
from tests.e2e.processes import bound
from tests.e2e.waiting import eventually
from tests.needs import cannot, need

PACKAGES = Path("/opt/pop3-servers")

FIRST_UID = 23_000
"""Of users that exist in the test's view of the machine alone."""
MAIL_GROUP = 8


class Server(ABC):
    """Started by its constructor; a context manager."""

    name: ClassVar[str]
    program: ClassVar[str]
    """Below `PACKAGES`."""

    def __init__(self) -> None:
        if os.getuid() != 0:
            cannot(f"{self.name} needs root")
        self.binary = PACKAGES / self.program
        if not self.binary.exists():
            cannot(f"{self.name} is not there: {self.binary} (see .ci/run)")
        self.folder = Path(tempfile.mkdtemp(prefix="pop3"))
        self.folder.chmod(0o755)
        self.host = "127.0.0.1"
        (self.port,) = free_ports(1)
        self._users = itertools.count()
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            self.prepare()
            self.start()
            eventually(self._answers, what=f"{self.name} to answer", otherwise=self.log)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @abstractmethod
    def prepare(self) -> None:
        """Write configurations."""

    @abstractmethod
    def start(self) -> None:
        """Start all processes."""

    @abstractmethod
    def make_mailbox(self, serial: int, user: User) -> None: ...

    @abstractmethod
    def deliver(self, user: User, *mails: bytes) -> None:
        """Put mails into the mailbox in this order, as a delivery agent does."""

    @abstractmethod
    def count(self, user: User) -> int:
        """Messages that lie upstream now."""

    def add_user(self) -> User:
        serial = next(self._users)
        user = User(f"person{serial}", f"secret{serial}")
        self.make_mailbox(serial, user)
        return user

    def run(self, command: Sequence[str | Path], environment: dict[str, str] | None = None) -> None:
        """A process that lasts as long as the server."""
        with (self.folder / "log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    bound([str(word) for word in command]),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **(environment or {})},
                    start_new_session=True,
                )
            )

    def log(self) -> str:
        log = self.folder / "log"
        return log.read_text(errors="replace") if log.exists() else ""

    def close(self) -> None:
        for process in self._processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=30)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self) -> bool:
        assert all(process.poll() is None for process in self._processes), self.log()
        try:
            with socket.create_connection((self.host, self.port), timeout=10) as connection:
                return connection.recv(3) == b"+OK"
        except OSError:
            return False


class SystemServer(Server):
    """A server that knows the machine's users, started by inetd for each connection."""

    pam: ClassVar[str] = ""
    """Name of its PAM service."""

    def prepare(self) -> None:
        for name in ("passwd", "shadow"):
            shutil.copy(f"/etc/{name}", self.folder / name)
        (self.folder / "mail").mkdir()
        (self.folder / "mail").chmod(0o1777)
        shutil.copytree("/etc/pam.d", self.folder / "pam.d")
        if self.pam:
            shutil.copy(PACKAGES / "etc/pam.d" / self.pam, self.folder / "pam.d" / self.pam)

    def views(self) -> dict[str, Path]:
        """What the server sees, and where that is."""
        return {
            "/etc/passwd": self.folder / "passwd",
            "/etc/shadow": self.folder / "shadow",
            "/etc/pam.d": self.folder / "pam.d",
            "/var/mail": self.folder / "mail",
        }

    def by_inetd(self, *command: str | Path, environment: Sequence[str] = ()) -> None:
        listener = [need("systemd-socket-activate"), "--inetd", "--accept"]
        listener += [f"--setenv={variable}" for variable in environment]
        listener += [f"--listen={self.host}:{self.port}", *map(str, command)]
        self.in_view(*listener)

    def in_view(self, *command: str | Path) -> None:
        mounts = "".join(f"mount --bind '{at}' '{seen}' && " for seen, at in self.views().items())
        script = f'{mounts}exec "$@"'
        self.run([need("unshare"), "--mount", "sh", "-c", script, "sh", *command])

    def make_mailbox(self, serial: int, user: User) -> None:
        uid = FIRST_UID + serial
        home = self.folder / "home" / user.name
        home.mkdir(parents=True)
        os.chown(home, uid, MAIL_GROUP)
        crypted = subprocess.run(
            [need("openssl"), "passwd", "-6", user.password],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        with (self.folder / "passwd").open("a") as passwd:
            passwd.write(f"{user.name}:x:{uid}:{MAIL_GROUP}::{home}:/bin/sh\n")
        with (self.folder / "shadow").open("a") as shadow:
            shadow.write(f"{user.name}:{crypted}:19000:0:99999:7:::\n")
        box = self.folder / "mail" / user.name
        box.touch(0o660)
        os.chown(box, uid, MAIL_GROUP)

    def deliver(self, user: User, *mails: bytes) -> None:
        """Into an mbox (RFC 4155)."""
        with (self.folder / "mail" / user.name).open("ab") as box:
            for mail in mails:
                lines = mail.replace(b"\r\n", b"\n").removesuffix(b"\n").split(b"\n")
                quoted = [b">" + line if line.startswith(b"From ") else line for line in lines]
                box.write(b"From a@example.com Mon Nov  2 08:00:00 2026\n")
                box.write(b"\n".join(quoted) + b"\n\n")

    def count(self, user: User) -> int:
        box = (self.folder / "mail" / user.name).read_bytes()
        return sum(line.startswith(b"From a@example.com ") for line in box.split(b"\n"))
