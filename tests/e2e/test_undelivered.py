"""Programs that cannot remember UIDLs, and cannot store what they have fetched: it comes again.

A delivery program with room for two mails stands for a full disk; it fails as mail programs expect
of a fault that passes (EX_TEMPFAIL).
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from tests.e2e.clients import Fetchmail, Getmail, Program
from tests.e2e.devices import PollFailed
from tests.e2e.rig import Rig, login, small_mails
from tests.needs import need

pytestmark = pytest.mark.e2e

MAILS = 5
ROOM = 2


class Full(Program):
    """What the programs here have in common: they delete what they have delivered."""

    def delivery_agent(self) -> Path:
        agent = self.write(
            "deliver",
            f"""#!/bin/sh
if [ -e {self.folder}/full ] && [ "$(ls {self.store} | wc -l)" -ge {ROOM} ]; then
  cat > /dev/null; exit 75
fi
exec cat > "$(mktemp {self.store}/XXXXXXXX)"
""",
        )
        agent.chmod(0o700)
        return agent

    def told_to_delete(self, name: str, keeping: str, deleting: str) -> None:
        path = self.folder / name
        path.write_text(path.read_text().replace(keeping, deleting))

    def poll_whatever_comes(self) -> None:
        with contextlib.suppress(PollFailed):
            self.poll()


class FullFetchmail(Full, Fetchmail):
    def set_up(self) -> None:
        super().set_up()
        self.told_to_delete("fetchmailrc", "  keep ", "  nokeep ")
        self.told_to_delete("fetchmailrc", "protocol pop3 uidl", "protocol pop3")


class FullGetmail(Full, Getmail):
    def set_up(self) -> None:
        super().set_up()
        self.told_to_delete("getmailrc", "delete = false", "delete = true")
        self.told_to_delete("getmailrc", "read_all = false", "read_all = true")


@pytest.mark.parametrize("program", [FullFetchmail, FullGetmail], ids=lambda p: p.name)
def test_what_a_program_had_no_room_for_comes_again(rig: Rig, program: type[Full]) -> None:
    need(program.name)
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *small_mails(MAILS, "room"))
    proxy = rig.proxy(
        user,
        sections={"devices": {"view": "undelivered"}, "retention": {"upstream": "delivered"}},
    )
    device = program(rig.folder / "device", proxy.endpoint(), login(user, program.name))
    full = device.folder / "full"
    full.touch()
    device.poll_whatever_comes()
    assert len(device.mails()) == ROOM
    full.unlink()
    device.poll_whatever_comes()
    assert len(device.mails()) == MAILS
    device.poll_whatever_comes()
    assert len(device.mails()) == MAILS
