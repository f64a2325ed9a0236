"""More mail programs as devices: the POP3 libraries of Perl, Ruby and Node, fdm and mutt.

A library is driven by a small program in `scripts`, as its manual shows it.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import tempfile
import time
import weakref
from pathlib import Path
from typing import ClassVar

from tests.e2e import npm
from tests.e2e.clients import Program
from tests.e2e.devices import PollFailed

SCRIPTS = Path(__file__).parent / "scripts"
NODE_POP3 = "node-pop3@0.11.0"
PATIENCE = 50.0
"""Seconds for one poll of a program that draws on a terminal."""


class Unavailable(Exception):
    """What is missing on this machine."""


class AnotherProgram(Program):
    """A program that may need more than its executable."""

    @classmethod
    def look_for(cls) -> None:
        """Raises:
        Unavailable: it cannot run here.
        """
        if shutil.which(cls.name) is None:
            raise Unavailable(f"{cls.name} is not installed")


class Library(AnotherProgram):
    """A library with a script around it, which keeps the UIDLs and writes a file for each mail."""

    script: ClassVar[str]

    def set_up(self) -> None:
        settings = {
            "host": self.endpoint.host,
            "port": self.endpoint.port,
            "security": self.endpoint.security,
            "ca_file": str(self.endpoint.ca_file),
            "user": self.login.user,
            "password": self.login.password,
            "store": str(self.store),
            "seen": str(self.folder / "seen"),
            **self.more_settings(),
        }
        self._settings = self.write("settings.json", json.dumps(settings))

    def more_settings(self) -> dict[str, str]:
        return {}

    def poll(self) -> None:
        self.run(str(SCRIPTS / self.script), str(self._settings))


class Perl(Library):
    """Net::POP3. Over plain text its lines end in LF, over TLS in CRLF."""

    name = "perl"
    exact = True
    script = "poll.pl"

    @classmethod
    def look_for(cls) -> None:
        super().look_for()
        modules = ["-MNet::POP3", "-MIO::Socket::SSL", "-MJSON::PP"]
        if subprocess.run(["perl", *modules, "-e1"], capture_output=True, check=False).returncode:
            raise Unavailable("Perl has no Net::POP3 or no IO::Socket::SSL")

    def spelled(self, stored: bytes) -> bytes:
        return stored.replace(b"\n", b"\r\n") if self.endpoint.security == "plain" else stored


class Ruby(Library):
    """Net::POP3. It knows no STLS."""

    name = "ruby"
    exact = True
    speaks = ("plain", "implicit")
    script = "poll.rb"

    @classmethod
    def look_for(cls) -> None:
        super().look_for()
        asked = subprocess.run(["ruby", "-rnet/pop", "-e1"], capture_output=True, check=False)
        if asked.returncode:
            raise Unavailable("Ruby has no net/pop")


class Node(Library):
    """node-pop3. It knows no STLS."""

    name = "node"
    exact = False
    speaks = ("plain", "implicit")
    script = "poll.mjs"
    modules: ClassVar[Path]
    """Where it is installed; `install` sets it."""

    @classmethod
    def install(cls, folder: Path) -> None:
        """Fetch node-pop3 from npm's registry.

        Raises:
            Unavailable: the registry or npm cannot be had.
        """
        try:
            npm.install(NODE_POP3, folder)
        except npm.CannotInstall as reason:
            raise Unavailable(str(reason)) from None
        cls.modules = folder

    def more_settings(self) -> dict[str, str]:
        return {"modules": str(self.modules)}


class Fdm(AnotherProgram):
    """Delivers to a Maildir.

    Started by root it would fetch as a user of its own, who cannot see our folders; so it is
    started as nobody, in a folder that nobody can reach.
    """

    name = "fdm"
    exact = False

    def set_up(self) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="fdm"))
        weakref.finalize(self, shutil.rmtree, self._home, ignore_errors=True)
        self._mail = self._home / "mail"
        implicit = self.endpoint.security == "implicit"
        starttls = " starttls" if self.endpoint.security == "starttls" else ""
        self._config = self._home / "fdm.conf"
        self._config.write_text(
            f"""set no-received
set verify-certificates
set lock-file "{self._home / "lock"}"
set lock-types flock
set timeout 45
action "store" maildir "{self._mail}"
account "box" {"pop3s" if implicit else "pop3"} server "{self.endpoint.host}"
  port {self.endpoint.port} user "{self.login.user}" pass "{self.login.password}"
  new-only cache "{self._home / "seen"}" no-apop{starttls} keep
match all action "store"
"""
        )
        self._config.chmod(0o600)
        self._ca_file = self._home / "ca.pem"
        if self.endpoint.security != "plain":
            shutil.copy(self.endpoint.ca_file, self._ca_file)
        if os.getuid() == 0:
            for path in (self._home, *self._home.iterdir()):
                shutil.chown(path, "nobody", "nogroup")

    def poll(self) -> None:
        done = subprocess.run(
            [self.name, "-v", "-f", str(self._config), "fetch"],
            cwd=self._home,
            env={
                "PATH": os.environ.get("PATH", os.defpath),
                "HOME": str(self._home),
                "TMPDIR": str(self._home),
                # It has no setting for whom to trust; OpenSSL's own variable says it.
                "SSL_CERT_FILE": str(self._ca_file),
            },
            user="nobody" if os.getuid() == 0 else None,
            group="nogroup" if os.getuid() == 0 else None,
            extra_groups=[] if os.getuid() == 0 else None,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        # It ends with 0 also when it could not fetch.
        if done.returncode or "fetching error" in done.stderr:
            raise PollFailed(f"fdm ended with {done.returncode}: {done.stderr[-2000:]}")

    def files(self) -> list[Path]:
        return sorted((self._mail / "new").glob("*"))

    def spelled(self, stored: bytes) -> bytes:
        return stored.replace(b"\n", b"\r\n")


class Mutt(AnotherProgram):
    """`fetch-mail` into a Maildir. It remembers no UIDL; so it deletes what it has fetched.

    Without a terminal it does not run, so it is given one that nobody looks at.
    """

    name = "mutt"
    exact = False

    def set_up(self) -> None:
        scheme = "pops" if self.endpoint.security == "implicit" else "pop"
        for folder in ("new", "cur", "tmp"):
            (self.store / folder).mkdir()
        user = self.login.user.replace("@", "%40")
        self._config = self.write(
            "muttrc",
            f"""set mbox_type = Maildir
set folder = "{self.store}"
set spoolfile = "{self.store}"
set pop_host = "{scheme}://{self.endpoint.host}:{self.endpoint.port}"
set pop_user = "{user}"
set pop_pass = "{self.login.password}"
set pop_delete = yes
set ssl_starttls = {"yes" if self.endpoint.security == "starttls" else "no"}
set ssl_force_tls = {"no" if self.endpoint.security == "plain" else "yes"}
set ssl_ca_certificates_file = "{self.endpoint.ca_file}"
set certificate_file = "{self.folder / "accepted"}"
set quit = yes
""",
        )

    def poll(self) -> None:
        screen = self._on_a_terminal("-F", str(self._config), "-e", "push <fetch-mail><quit>")
        for trouble in (b"onnection", b"ertificate", b"failed", b"rror"):
            if trouble in screen:
                raise PollFailed(f"mutt: {screen[-2000:]!r}")

    def _on_a_terminal(self, *arguments: str) -> bytes:
        """Run it until it ends, and return what it drew."""
        mine, its = pty.openpty()
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.folder),
            "LC_ALL": "C",
            "TERM": "vt100",
        }
        process = subprocess.Popen(
            [self.name, "-n", *arguments],
            cwd=self.folder,
            env=environment,
            stdin=its,
            stdout=its,
            stderr=its,
            start_new_session=True,
        )
        os.close(its)
        screen = bytearray()
        deadline = time.monotonic() + PATIENCE
        try:
            while time.monotonic() < deadline:
                if select.select([mine], [], [], 0.1)[0]:
                    # Linux reports the end of the other side as an error.
                    try:
                        screen += os.read(mine, 65536)
                    except OSError:
                        break
                if b"(r)eject" in screen:
                    raise PollFailed("mutt asks whether to accept the certificate")
            else:
                raise PollFailed(f"mutt did not end: {bytes(screen[-2000:])!r}")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            os.close(mine)
        return bytes(screen)

    def files(self) -> list[Path]:
        return sorted([*(self.store / "new").iterdir(), *(self.store / "cur").iterdir()])

    def spelled(self, stored: bytes) -> bytes:
        return stored.replace(b"\n", b"\r\n")
