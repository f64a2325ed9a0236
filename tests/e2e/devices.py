"""What a device is to the tests, and where it finds its server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

Security = Literal["plain", "starttls", "implicit"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A POP3 server as it is entered into a mail program."""

    host: str
    port: int
    security: Security = "plain"
    ca_file: Path = Path()
    """Trusted alone; not looked at for plain text."""


@dataclass(frozen=True, slots=True)
class Login:
    user: str
    password: str


class Device(Protocol):
    """A mail program that leaves mail on the server and remembers what it has had."""

    def poll(self) -> None:
        """Fetch what is new.

        Raises:
            PollFailed: the program says it did not work.
        """

    def mails(self) -> list[bytes]:
        """Everything it has fetched, in its own store, in no particular order."""


class PollFailed(Exception):
    """Why, in the words of the program."""
