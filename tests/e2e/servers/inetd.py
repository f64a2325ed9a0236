"""Small servers for the machine's users, each with an mbox: popa3d and GNU mailutils."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.servers.server import SystemServer


class Popa3d(SystemServer):
    name = "popa3d"
    program = "usr/sbin/popa3d"
    pam = "popa3d"

    def prepare(self) -> None:
        super().prepare()
        # It gives up root for this user, in an empty folder.
        with (self.folder / "passwd").open("a") as passwd:
            passwd.write("popa3d:x:22999:22999::/nonexistent:/usr/sbin/nologin\n")
        # The home of that user, compiled in.
        (self.folder / "lib" / "popa3d").mkdir(parents=True)

    def views(self) -> dict[str, Path]:
        return {**super().views(), "/var/lib": self.folder / "lib"}

    def start(self) -> None:
        self.by_inetd(self.binary)


class Mailutils(SystemServer):
    name = "mailutils"
    program = "usr/sbin/pop3d"

    def start(self) -> None:
        self.by_inetd(self.binary, "--no-config", "--inetd")
