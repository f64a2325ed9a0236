"""Two devices play against the demo and tell what each one got."""

from __future__ import annotations

import asyncio
import poplib
from collections.abc import Callable
from email import message_from_bytes
from email.policy import default

from proxy.demo.mails import LATE_MAIL, compose
from proxy.demo.stage import PASSWORD, USERNAME, Stage, set_up

_ANY_PORT = {"POP3_SYNC_POP3__LISTEN": "127.0.0.1:0", "POP3_SYNC_HTTP__LISTEN": "127.0.0.1:0"}

_TIMEOUT = 30.0


class PlayedDevice:
    """A mail program as Python's poplib sees it: remembers UIDLs, leaves mail on the server."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._had: set[str] = set()

    def poll(self) -> list[str]:
        """Fetch what is new; returns the subjects."""
        session = self._log_in()
        subjects = []
        for line in session.uidl()[1]:
            number, uid = line.decode().split()
            if uid not in self._had:
                octets = b"\r\n".join(session.retr(int(number))[1])
                subjects.append(str(message_from_bytes(octets, policy=default)["Subject"]))
                self._had.add(uid)
        session.quit()
        return subjects

    def delete_first(self) -> None:
        session = self._log_in()
        session.dele(1)
        session.quit()

    def count(self) -> int:
        session = self._log_in()
        count, _ = session.stat()
        session.quit()
        return count

    def _log_in(self) -> poplib.POP3:
        session = poplib.POP3(self._host, self._port, timeout=_TIMEOUT)
        session.user(f"{USERNAME}+{self.name}")
        session.pass_(PASSWORD)
        return session


async def show(say: Callable[[str], object]) -> None:
    """Play the story and tell it line by line."""
    async with set_up(_ANY_PORT) as stage:
        await _play(stage, say)


async def _play(stage: Stage, say: Callable[[str], object]) -> None:
    desktop = PlayedDevice("desktop", stage.pop3_address)
    laptop = PlayedDevice("laptop", stage.pop3_address)
    # poplib blocks, and the proxy it talks to runs on this loop.
    call = asyncio.to_thread  # noqa: TID251 - the demo is not under simulation

    say(f"The mailbox upstream holds {len(stage.mailbox.mails)} messages.\n")
    for device in (desktop, laptop):
        say(f"{device.name} polls and gets:")
        for subject in await call(device.poll):
            say(f"  {subject}")
    say(f"\nBoth poll again and get {await call(desktop.poll)} and {await call(laptop.poll)}.")

    await call(desktop.delete_first)
    say(
        f"desktop deletes its first message and now sees {await call(desktop.count)}; "
        f"laptop still sees {await call(laptop.count)}."
    )

    stage.mailbox.deliver(compose(*LATE_MAIL, number=9))
    # Longer than the demo's max_age, so that the next login syncs.
    await asyncio.sleep(1.1)
    say("\nA new message arrives upstream.")
    for device in (laptop, desktop):
        say(f"{device.name} polls and gets {await call(device.poll)}")

    say("\nWhat crossed the upstream wire:")
    say(f"  logins  {stage.mailbox.logins}")
    for uid, times in stage.mailbox.retrieved.items():
        say(f"  RETR    {uid}  {times} time{'s' if times > 1 else ''}")
    say(f"  still upstream: {len(stage.mailbox.mails)} messages, none was deleted there.")
