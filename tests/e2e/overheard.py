"""What goes over one upstream connection, read by a listener with a POP3 grammar of its own.

It shares no code with the proxy, so that a mistake there is not repeated here.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from dataclasses import dataclass, field

_END = b"\r\n.\r\n"
_LISTINGS = ("LIST", "UIDL")


def digest(body: bytes) -> str:
    """The name of a message's octets in every count of these tests."""
    return hashlib.sha256(body).hexdigest()


@dataclass(slots=True)
class Record:
    """What all connections have shown so far."""

    commands: list[tuple[int, str]] = field(default_factory=list)
    """Connection and command line; what PASS and AUTH say is left out."""
    retrieved: Counter[str] = field(default_factory=Counter)
    """Digest of a message → how often RETR was answered up to the terminator."""
    cut_short: int = 0
    """Answers to RETR that began and did not end."""
    logins: int = 0
    quits: int = 0
    """QUITs answered with +OK."""

    def count(self, verb: str) -> int:
        return sum(line.split(" ")[0] == verb for _, line in self.commands)


class Overheard:
    """One connection. Feed it only what was passed on."""

    def __init__(self, number: int, record: Record) -> None:
        self._number = number
        self._record = record
        self._waiting: deque[str] = deque(["(greeting)"])
        self._secret = False
        self._reply = bytearray()
        self._body: bytearray | None = None
        self._searched = 0

    # --- from the client ------------------------------------------------------------------------

    def command(self, line: bytes) -> None:
        """One line of the client, line end included or not."""
        if self._secret:
            self._secret = False
            self._waiting.append("(response)")
            return
        text = line.rstrip(b"\r\n").decode("latin-1")
        verb = text.split(" ")[0].upper()
        private = verb in ("PASS", "AUTH")
        self._record.commands.append((self._number, verb if private else text))
        self._waiting.append(verb + " *" if text.upper() in _LISTINGS else verb)

    # --- from the server ------------------------------------------------------------------------

    def answer(self, data: bytes) -> None:
        """The next octets of the server."""
        while data:
            if self._body is not None:
                data = self._continue_body(data)
                continue
            line, end, data = data.partition(b"\n")
            self._reply += line + end
            if end:
                reply, self._reply = bytes(self._reply), bytearray()
                self._status(reply)

    def closed(self) -> None:
        if self._body is not None and self._waiting and self._waiting[0] == "RETR":
            self._record.cut_short += 1

    def _status(self, reply: bytes) -> None:
        verb = self._waiting[0] if self._waiting else ""
        if reply.startswith(b"+ "):
            self._secret = True
        ok = reply.startswith(b"+OK")
        self._record.logins += ok and verb in ("PASS", "AUTH", "(response)")
        self._record.quits += ok and verb == "QUIT"
        if ok and verb in ("RETR", "TOP", "CAPA", "LIST *", "UIDL *"):
            # The line end before the body makes a dot in its first line one like all others.
            self._body, self._searched = bytearray(b"\r\n"), 0
        elif self._waiting:
            self._waiting.popleft()

    def _continue_body(self, data: bytes) -> bytes:
        assert self._body is not None
        self._body += data
        end = self._body.find(_END, max(self._searched - len(_END), 0))
        if end < 0:
            self._searched = len(self._body)
            return b""
        rest = bytes(self._body[end + len(_END) :])
        body = bytes(self._body[: end + 2])
        self._body = None
        if self._waiting.popleft() == "RETR":
            self._record.retrieved[digest(body.replace(b"\r\n.", b"\r\n")[2:])] += 1
        return rest
