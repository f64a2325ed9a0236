"""Mail programs that other people wrote, as devices: curl, fetchmail, mpop, getmail.

Each leaves mail on the server and keeps its UIDLs, its configuration and its mail in a folder of
its own. What a program itself does to a mail's octets is not the proxy's doing; `exact` says
whether it leaves them alone, and `Program.spelled` how its store ends lines. For the others the
yardstick is the same program polling the upstream directly.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from tests.e2e.devices import Endpoint, Login, PollFailed, Security

TIMEOUT = 240.0
_STRAY_OCTET = re.compile(rb"([^\n]{8000,8192})\0.\n", re.DOTALL)
_RETURN_PATH = b"Return-Path: <unknown>\n"


class Program(ABC):
    """One installation of a mail program."""

    name: ClassVar[str]
    """Of the executable."""
    exact: ClassVar[bool]
    """Whether it stores every octet as it came, line ends aside."""
    speaks: ClassVar[tuple[Security, ...]] = ("plain", "starttls", "implicit")
    nothing_new: ClassVar[tuple[int, ...]] = (0,)
    """Exit codes that are no failure."""

    def __init__(self, folder: Path, endpoint: Endpoint, login: Login) -> None:
        """`folder` must not exist yet."""
        self.folder = folder
        self.endpoint = endpoint
        self.login = login
        self.store = folder / "mail"
        self.store.mkdir(parents=True)
        self.set_up()

    @abstractmethod
    def set_up(self) -> None:
        """Write its configuration."""

    @abstractmethod
    def poll(self) -> None:
        """Fetch what is new.

        Raises:
            PollFailed: with what the program printed.
        """

    def mails(self) -> list[bytes]:
        return [self.spelled(path.read_bytes()) for path in self.files()]

    def files(self) -> list[Path]:
        return sorted(self.store.iterdir())

    def spelled(self, stored: bytes) -> bytes:
        """A stored mail with the line ends of the wire."""
        return stored

    def write(self, name: str, text: str) -> Path:
        """A file that its owner alone may read, as most programs want it."""
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o600)
        return path

    def delivery_agent(self) -> Path:
        """A program that puts what it is handed into a new file of the store."""
        agent = self.write("deliver", f'#!/bin/sh\nexec cat > "$(mktemp {self.store}/XXXXXXXX)"\n')
        agent.chmod(0o700)
        return agent

    def command(self) -> list[str]:
        return [self.name]

    def run(self, *arguments: str) -> bytes:
        """Run it, and return what it printed."""
        # No variable of the person who runs the tests may change what the program does.
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.folder),
            "FETCHMAILHOME": str(self.folder),
            "LC_ALL": "C",
        }
        done = subprocess.run(
            [*self.command(), *arguments],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )
        if done.returncode not in self.nothing_new:
            output = (done.stdout[-2000:] + done.stderr[-4000:]).decode(errors="replace")
            raise PollFailed(f"{self.name} ended with {done.returncode}: {output}")
        return done.stdout


class Curl(Program):
    """UIDL in one session, RETR of everything new in the next; UIDLs are kept by us."""

    name = "curl"
    exact = True

    def set_up(self) -> None:
        self._scheme = "pop3s" if self.endpoint.security == "implicit" else "pop3"
        self._seen: set[str] = set()
        lines = [f'user = "{self.login.user}:{self.login.password}"', "silent", "show-error"]
        if self.endpoint.security != "plain":
            lines += [f'cacert = "{self.endpoint.ca_file}"', "ssl-reqd"]
        self._common = "\n".join(lines) + "\n"

    def poll(self) -> None:
        url = f"{self._scheme}://{self.endpoint.host}:{self.endpoint.port}/"
        listing = self.write("uidl", f'{self._common}url = "{url}"\nrequest = "UIDL"\n')
        lines = self.run("-K", str(listing)).decode("ascii").splitlines()
        new = [line.split(" ") for line in lines if line.split(" ")[1] not in self._seen]
        if not new:
            return
        wanted = [f'url = "{url}{number}"\noutput = "mail/{uid}"\n' for number, uid in new]
        self.run("-K", str(self.write("retr", self._common + "".join(wanted))))
        self._seen |= {uid for _, uid in new}


class Fetchmail(Program):
    """With `uidl` and `keep`, through a delivery program that writes what it is handed.

    Lines it hands out end in LF. It turns bare CR into them, puts a header in front of a mail that
    has none, and into a line of more than 8192 octets, each so many, a line end with a NUL and an
    octet of its memory before it. The user's name and that octet are made alike by `spelled`.
    """

    name = "fetchmail"
    exact = False
    # 1: there was no new mail.
    nothing_new = (0, 1)

    def set_up(self) -> None:
        secure = {
            "plain": "sslproto ''",
            "starttls": f"sslproto 'TLS1.2+' sslcertck sslcertfile '{self.endpoint.ca_file}'",
            "implicit": f"ssl sslproto 'TLS1.2+' sslcertck sslcertfile '{self.endpoint.ca_file}'",
        }[self.endpoint.security]
        self._config = self.write(
            "fetchmailrc",
            f"""set invisible
set no bouncemail
defaults bad-header accept
set idfile "{self.folder / "ids"}"
set pidfile "{self.folder / "pid"}"
poll {self.endpoint.host} service {self.endpoint.port} protocol pop3 uidl timeout 90
  username "{self.login.user}" password "{self.login.password}"
  keep no rewrite pass8bits {secure}
  mda "{self.delivery_agent()}"
""",
        )

    def poll(self) -> None:
        self.run("--nodetach", "--nosyslog", "--fetchmailrc", str(self._config))

    def spelled(self, stored: bytes) -> bytes:
        alike = _STRAY_OCTET.sub(rb"\1\0?\n", stored)
        name = f"from {self.login.user}'s mailbox".encode()
        return alike.replace(name, b"from somebody's mailbox").replace(b"\n", b"\r\n")


class Mpop(Program):
    """Delivers to a Maildir, with LF for CRLF."""

    name = "mpop"
    exact = True

    def set_up(self) -> None:
        for folder in ("new", "cur", "tmp"):
            (self.store / folder).mkdir()
        tls = "off" if self.endpoint.security == "plain" else "on"
        starttls = "on" if self.endpoint.security == "starttls" else "off"
        lines = [
            "account default",
            f"host {self.endpoint.host}",
            f"port {self.endpoint.port}",
            f"user {self.login.user}",
            f'password "{self.login.password}"',
            f"tls {tls}",
            f"tls_starttls {starttls}",
            "keep on",
            f"uidls_file {self.folder / 'uidls'}",
            f"delivery maildir {self.store}",
            "received_header off",
            # By itself it sends no password in clear.
            f"auth {'user' if tls == 'off' else 'on'}",
        ]
        if tls == "on":
            lines.append(f"tls_trust_file {self.endpoint.ca_file}")
        self._config = self.write("mpoprc", "\n".join(lines) + "\n")

    def poll(self) -> None:
        self.run("-q", "-C", str(self._config))

    def files(self) -> list[Path]:
        return sorted((self.store / "new").iterdir())

    def spelled(self, stored: bytes) -> bytes:
        return stored.replace(b"\n", b"\r\n")


class Getmail(Program):
    """Through a delivery program, which gets what Python's email package makes of a mail.

    In front of it stands a Return-Path that getmail adds and `spelled` takes away. It knows no
    STLS. To a Maildir it delivers only as somebody else than root, hence the program.
    """

    name = "getmail"
    exact = False
    speaks = ("plain", "implicit")

    def set_up(self) -> None:
        lines = [
            "[retriever]",
            "type = SimplePOP3Retriever",
            f"server = {self.endpoint.host}",
            f"port = {self.endpoint.port}",
            f"username = {self.login.user}",
            f"password = {self.login.password}",
            "timeout = 30",
        ]
        if self.endpoint.security == "implicit":
            lines[1] = "type = SimplePOP3SSLRetriever"
            lines.append(f"ca_certs = {self.endpoint.ca_file}")
        lines += [
            "[destination]",
            "type = MDA_external",
            f"path = {self.delivery_agent()}",
            "allow_root_commands = true",
            "[options]",
            "read_all = false",
            "delete = false",
            "delivered_to = false",
            "received = false",
            "verbose = 0",
        ]
        self.write("getmailrc", "\n".join(lines) + "\n")

    def poll(self) -> None:
        for _ in range(3):
            try:
                self.run("--getmaildir", str(self.folder), "--rcfile", "getmailrc")
            except PollFailed as error:
                # Now and then getmail misses that its delivery program has ended, and gives up
                # with the mail delivered and not noted. A fresh installation forgets both.
                if "waiting child pid" not in str(error):
                    raise
                shutil.rmtree(self.folder)
                self.store.mkdir(parents=True)
                self.set_up()
            else:
                return
        raise PollFailed("getmail lost its delivery program three times")

    def spelled(self, stored: bytes) -> bytes:
        return stored.removeprefix(_RETURN_PATH).replace(b"\n", b"\r\n")


PROGRAMS: tuple[type[Program], ...] = (Curl, Fetchmail, Mpop, Getmail)
