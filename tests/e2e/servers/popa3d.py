"""popa3d: USER and PASS, an mbox, no CAPA."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.servers.machine import MboxServer


class Popa3d(MboxServer):
    name = "popa3d"
    program = "popa3d/usr/sbin/popa3d"

    def prepare(self) -> None:
        super().prepare()
        # It gives up root for this user, in a folder compiled in that must be there.
        self.add_system_user("popa3d", 22_999, 22_999, "/nonexistent")
        (self.folder / "lib" / "popa3d").mkdir(parents=True)

    def views(self) -> dict[str, Path]:
        return {**super().views(), "/var/lib": self.folder / "lib"}

    def start(self) -> None:
        self.run_by_inetd(self.binary)
