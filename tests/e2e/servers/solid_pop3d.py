"""solid-pop3d: USER or APOP, an mbox."""

from __future__ import annotations

import os

from tests.e2e.dovecot import User
from tests.e2e.servers.machine import FIRST_UID, MAIL_GROUP, MboxServer

_CONFIG = """\
<Global>
  MailDropName "/var/mail/%s"
  MailDropType mailbox
  AddBulletins no
</Global>
"""


class SolidPop3d(MboxServer):
    name = "solid-pop3d"
    program = "solid-pop3d/usr/sbin/solid-pop3d"
    mechanisms = ("user", "apop")

    def prepare(self) -> None:
        super().prepare()
        # It gives up root for this user up to the login.
        self.add_system_user("spop3d", 22_998, MAIL_GROUP, "/nonexistent")
        (self.folder / "spop3d.conf").write_text(_CONFIG)

    def start(self) -> None:
        self.run_by_inetd(self.binary, "-f", self.folder / "spop3d.conf")

    def make_mailbox(self, serial: int, user: User, mechanism: str) -> None:
        super().make_mailbox(serial, user, mechanism)
        if mechanism == "apop":
            secret = self.home(user) / ".spop3d"
            # What its `pop_auth` writes: every bit the other way round.
            hidden = bytes(0xFF ^ octet for octet in user.password.encode()).hex()
            secret.write_text(f"APOPSecret {hidden}\n")
            secret.chmod(0o600)
            os.chown(secret, FIRST_UID + serial, MAIL_GROUP)
