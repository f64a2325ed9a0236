"""The service manager's side of sd_notify(3): a socket that hears what a service says."""

from __future__ import annotations

import select
import socket
from contextlib import suppress
from pathlib import Path


class Manager:
    """Hears from when it is made until `close`. `address` is what NOTIFY_SOCKET says."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._path = None if address.startswith("@") else Path(address)
        self.address = address
        self.said: list[dict[str, str]] = []
        """One for each datagram: what was assigned in it."""

    def close(self) -> None:
        self._socket.close()
        if self._path:
            self._path.unlink()

    def listen(self) -> None:
        """Take in what has come."""
        with suppress(BlockingIOError):
            while True:
                self._take(socket.MSG_DONTWAIT)

    def hears_within(self, seconds: float) -> bool:
        """Whether anything more comes in that time."""
        readable, _, _ = select.select([self._socket], [], [], seconds)
        if readable:
            self._take(0)
        return bool(readable)

    def _take(self, flags: int) -> None:
        text = self._socket.recv(4096, flags).decode()
        self.said.append(dict(line.split("=", 1) for line in text.splitlines()))

    def heard(self, name: str) -> list[str]:
        """Everything so far that was assigned to this name."""
        self.listen()
        return [one[name] for one in self.said if name in one]
