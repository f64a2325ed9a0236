"""What a test needs of a real POP3 server, and how one is started that is not Dovecot.

Debian's packages of POP3 servers exclude each other, so `.ci/run` unpacks each of them into a
folder below `PACKAGES` instead of installing it.
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
from typing import ClassVar, Protocol, Self

from tests.certificates import Certificates
from tests.e2e.dovecot import User, free_ports
from tests.e2e.processes import bound
from tests.e2e.waiting import eventually
from tests.needs import cannot

PACKAGES = Path("/opt/pop3-servers")

KEPT = ("/bin/sh", "-c", """trap 'kill -KILL 0' TERM; "$@" & wait $!""", "sh")
"""Before the command of a process that changes its user, and by that is no longer bound to the
tests: a shell that stays bound, and takes its process group with it."""


class Upstream(Protocol):
    """What Dovecot and all the others have in common."""

    host: str
    port: int
    tls_port: int

    def add_user(self) -> User: ...
    def deliver(self, user: User, *mails: bytes) -> None: ...
    def count(self, user: User) -> int: ...
    def remove_all(self, user: User) -> None: ...
    def log(self) -> str: ...
    def close(self) -> None: ...


class Server(ABC):
    """Started by its constructor; `close` it, or use it as a context manager."""

    name: ClassVar[str]
    """Of the test, and the beginning of all log lines."""
    program: ClassVar[str]
    """Below `PACKAGES`."""
    mechanisms: ClassVar[tuple[str, ...]] = ("user",)
    """Ways to log in, as `auth` calls them in the proxy's configuration."""
    tls: ClassVar[tuple[str, ...]] = ()
    """Ways to TLS, as `tls` calls them: "starttls" at `port`, "implicit" at `tls_port`."""
    rewrites: ClassVar[bool] = False
    """Gives a message other octets in a later session."""

    def __init__(self, certificates: Certificates) -> None:
        if os.getuid() != 0:
            cannot(f"{self.name} needs root")
        self.binary = PACKAGES / self.program
        if not self.binary.exists():
            cannot(f"{self.name} is not there: {self.binary} (see .ci/run)")
        self.certificates = certificates
        # Below /tmp: the path of a Unix socket has little room.
        self.folder = Path(tempfile.mkdtemp(prefix=self.name))
        self.folder.chmod(0o755)
        self.host = "127.0.0.1"
        self.port, self.tls_port = free_ports(2)
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

    # --- of each server -------------------------------------------------------------------------

    @abstractmethod
    def prepare(self) -> None:
        """Write configurations."""

    @abstractmethod
    def start(self) -> None:
        """Start all processes."""

    @abstractmethod
    def make_mailbox(self, serial: int, user: User, mechanism: str) -> None: ...

    @abstractmethod
    def deliver(self, user: User, *mails: bytes) -> None:
        """Put mails into the mailbox in this order, as a delivery agent does."""

    @abstractmethod
    def count(self, user: User) -> int:
        """Messages that lie upstream now."""

    @abstractmethod
    def remove_all(self, user: User) -> None:
        """Empty the mailbox, as another program or the provider may."""

    # --- of all ---------------------------------------------------------------------------------

    def add_user(self, mechanism: str = "user") -> User:
        """A mailbox of its own, whose user can log in by this mechanism."""
        serial = next(self._users)
        user = User(f"person{serial}", f"secret{serial}")
        self.make_mailbox(serial, user, mechanism)
        return user

    def run(self, *command: str | Path, settings: Sequence[str] = ()) -> None:
        """A process that lasts as long as the server. `settings` are NAME=value."""
        with (self.folder / "log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    bound([str(word) for word in command]),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **dict(each.split("=", 1) for each in settings)},
                    start_new_session=True,
                )
            )

    def log(self) -> str:
        """The end of what the processes printed; what they tell syslog is lost."""
        log = self.folder / "log"
        return log.read_text(errors="replace")[-20_000:] if log.exists() else ""

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
