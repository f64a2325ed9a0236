"""One POP3 session as its client lived it: which commands had to wait for which answers.

The depth of a command is one more than that of the deepest answer which had begun to reach the
client before the client sent it. So commands sent together share a depth, a command sent after an
answer has the next one, and the greatest depth is how many round trips one after the other the
session took at most. Unlike turns of the conversation this counts a client right that keeps a
window of commands under way: it speaks after every answer, but waits only once a window.

It shares no code with the proxy, so that a mistake there is not repeated here.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

_END = b"\r\n.\r\n"
_LONG = ("CAPA", "RETR", "TOP")
_LONG_ALONE = ("LIST", "UIDL", "AUTH")
_LOGIN = ("PASS", "APOP", "AUTH", "(response)")


@dataclass(frozen=True, slots=True)
class Batch:
    """The commands of one depth, in order."""

    at: float
    """Seconds from the beginning of the connection to the first of them."""
    commands: list[str]
    """Without what PASS, APOP and AUTH say."""


class Conversation:
    """Tell it what the client sends and is sent, in the order in which the client does it."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.login = 0
        """The depth of the command by which the client logged in; 0 while it has not."""
        self._answered = 0
        self._waiting: deque[tuple[str, int]] = deque([("(greeting)", 0)])
        """Commands whose answers have not ended, and their depths."""
        self._line = b""
        self._reply = bytearray()
        self._in_body = False
        self._response = False

    @property
    def round_trips(self) -> int:
        """After the login."""
        return len(self.batches) - self.login

    # --- from the client ------------------------------------------------------------------------

    def sent(self, data: bytes, at: float) -> None:
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            self._command(line.rstrip(b"\r").decode("latin-1"), at)

    def _command(self, line: str, at: float) -> None:
        words = line.upper().split()
        verb = words[0] if words else ""
        if self._response:
            shown = awaited = "(response)"
        elif verb in _LOGIN:
            shown = awaited = verb
        else:
            shown, awaited = line, verb
        if len(words) == 1 and verb in _LONG_ALONE:
            awaited += " *"
        # Whoever gives no initial response gives one without being asked, or after a challenge.
        self._response = verb == "AUTH" and len(words) == 2 and not self._response
        if len(self.batches) <= self._answered:
            self.batches.append(Batch(at, []))
        self.batches[self._answered].commands.append(shown)
        self._waiting.append((awaited, self._answered + 1))

    # --- to the client --------------------------------------------------------------------------

    def answered(self, data: bytes) -> None:
        self._reply += data
        while self._continue_body() if self._in_body else self._status():
            pass

    def _status(self) -> bool:
        """Take one status line; False when none is whole."""
        end = self._reply.find(b"\n")
        if end < 0 or not self._waiting:
            return False
        line = bytes(self._reply[:end])
        command, depth = self._waiting[0]
        self._answered = max(self._answered, depth)
        if line.startswith(b"+OK") and (command in _LONG or command.endswith(" *")):
            # The line end stays, since a body without lines begins with the terminator.
            del self._reply[: end - 1]
            self._in_body = True
            return True
        del self._reply[: end + 1]
        self._waiting.popleft()
        if command in _LOGIN:
            self._response = not self._waiting and line.startswith(b"+ ")
            if line.startswith(b"+OK"):
                self.login = depth
        return True

    def _continue_body(self) -> bool:
        """Take the body to its end; False when that is still to come."""
        end = self._reply.find(_END)
        if end < 0:
            del self._reply[: 1 - len(_END)]
            return False
        del self._reply[: end + len(_END)]
        self._waiting.popleft()
        self._in_body = False
        return True
