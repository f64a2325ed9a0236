"""How a server may distort what it shows, and how it may fail: one name for each way.

`Quirks` is what one upstream does, in words, so that a failed example says all there is to know.
The tables tell what the words mean.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from tests.quirky.mailbox import TrueMail


@dataclass
class Quirks:
    """Every default is a well-behaved server. Change the fields at any time."""

    # --- what is shown
    shows: int | None = None
    """At most so many messages in one session, the oldest first."""
    after_retr: str = "keeps"
    """What becomes of a message after RETR and QUIT: "keeps", "hides", "deletes"."""
    sizes: str = "right"
    stat: str = "true"
    """The octets that STAT tells: "true", or the sum "as LIST" says; "zero": nor any message."""
    list_lines: str = "right"
    uidl_lines: str = "right"
    no_mail: str = "right"
    """What LIST and UIDL are of an empty mailbox: "right", or the answer that refuses them."""
    uids: str = "own"
    uidl: str = "yes"
    """Whether there is UIDL: "yes", "no", "not always" (every third session has none)."""
    top: str = "right"
    """"whole": sends all lines whatever was asked for; "no"; "not all": refuses every second."""
    ending: str = "right"
    """How a message ends that has no CRLF at its end: "glued" sends the dot right behind its last
    letter, "bare LF" behind its last LF."""
    stuffing: str = "right"
    """"none": a line of one dot ends the message early."""
    capa: str = "yes"
    """"no": -ERR."""
    pipelining: str = "no"
    """"right"; or announced, and what waits in the input while an answer is written is "drops"
    (thrown away), "reorders" (answered last first) or "closes" (the connection)."""

    # --- logins; seconds are of the server's own clock
    login_every: float = 0.0
    login_refusal: str = "-ERR [LOGIN-DELAY] too soon"
    refused_logins: int = 0
    """The first so many logins are answered by `refusal`."""
    refusal: str = "-ERR [IN-USE] locked by another session"
    greeting: str = "+OK ready"
    """"": never comes."""

    # --- faults
    silent_in: str = ""
    """First word of the command in whose answer the server falls silent; "RETR #3" is that of the
    third mail that ever came, whatever its number. "greeting" is one as well."""
    cut_in: str = ""
    """The same: it closes the connection there."""
    after_lines: int = 1
    """How many lines of that answer go out before."""
    closes_after: int | None = None
    """The connection is closed after so many messages of one session."""
    refuses_retr: int | None = None
    """RETR of the mail that came as this one is refused."""
    refuses_list: bool = False
    quit: str = "right"
    """"closes": without an answer, having deleted; "refuses": -ERR, having deleted nothing;
    "refuses but deletes". Where there is nothing to delete, only "closes" differs from "right"."""

    # --- hostile
    endless: str = ""
    """Name of the command, as in `silent_in`, whose answer has no end."""
    endless_line: bool = False
    """That answer is one line."""
    unasked: str = ""
    """The same; behind its answer comes one that nobody asked for."""
    stls: bytes = b""
    """The answer to STLS, and what comes behind it; b"": there is no STLS."""

    def distorted(self) -> dict[str, Any]:
        """The fields that differ from a well-behaved server's."""
        normal = Quirks()
        return {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if getattr(self, f.name) != getattr(normal, f.name)
        }

    def __repr__(self) -> str:
        words = ", ".join(f"{name}={value!r}" for name, value in self.distorted().items())
        return f"Quirks({words})"

    def calm(self) -> None:
        """No more faults; what the server is like, it stays like."""
        normal = Quirks()
        for name in FAULTS:
            setattr(self, name, getattr(normal, name))


FAULTS = (
    "refused_logins",
    "greeting",
    "silent_in",
    "cut_in",
    "closes_after",
    "quit",
    "endless",
    "unasked",
)

# --- sizes in LIST -------------------------------------------------------------------------------

SIZES: dict[str, Callable[[bytes, int, int], str]] = {
    # octets of the mail, its number, number of the session
    "right": lambda octets, _, __: f"{len(octets)}",
    "half": lambda octets, _, __: f"{len(octets) // 2}",
    "threefold": lambda octets, _, __: f"{3 * len(octets)}",
    "too many by 1000": lambda octets, _, __: f"{len(octets) + 1000}",
    "bare LF counted": lambda octets, _, __: f"{len(octets) - octets.count(10)}",
    "all alike": lambda *_: "1024",
    "other in each session": lambda octets, _, session: f"{len(octets) + 13 * session}",
    "zero": lambda *_: "0",
    "negative": lambda octets, _, __: f"{len(octets) - 2**32}",
    "huge": lambda *_: "1" + "0" * 30,
    "one without": lambda octets, number, _: "" if number == 1 else f"{len(octets)}",
    "one in words": lambda octets, number, _: "many" if number == 1 else f"{len(octets)}",
}

# --- lines of LIST and UIDL ----------------------------------------------------------------------


def _doubled_differently(lines: list[str]) -> list[str]:
    number, _, _ = lines[0].partition(" ") if lines else ("1", "", "")
    return [*lines, f"{number} 77777"]


def _arabic(lines: list[str]) -> list[str]:
    return [f"{'٠١٢٣٤٥٦٧٨٩'[int(line[0])]}{line[1:]}" for line in lines[:1]] + lines[1:]


LINES: dict[str, Callable[[list[str]], list[str]]] = {
    "right": lambda lines: lines,
    "first missing": lambda lines: lines[1:],
    "last missing": lambda lines: lines[:-1],
    "doubled": lambda lines: [line for line in lines for _ in range(2)],
    "one doubled with another value": _doubled_differently,
    "last first": lambda lines: lines[::-1],
    "one that is not there": lambda lines: [*lines, f"{len(lines) + 7} 4711"],
    "number 0": lambda lines: ["0 17", *lines],
    "negative number": lambda lines: ["-1 17", *lines],
    "digits of another script": _arabic,
    "empty line": lambda lines: [*lines[:1], "", *lines[1:]],
    "prose": lambda lines: [*lines[:1], "and now the rest:", *lines[1:]],
    "space first": lambda lines: [" " + line for line in lines],
    "two spaces": lambda lines: [line.replace(" ", "  ", 1) for line in lines],
    "space last": lambda lines: [line + " " for line in lines],
}

SPELLS: dict[str, Callable[[list[str]], list[str]]] = {
    "none": lambda lines: [],
    "first tenth": lambda lines: lines[: len(lines) // 10],
}
"""What no server goes on with for good."""

# --- UIDLs ---------------------------------------------------------------------------------------

UIDS: dict[str, Callable[[TrueMail, int, int], str]] = {
    # the mail, its number, number of the session
    "own": lambda mail, _, __: mail.uid,
    "all alike": lambda *_: "same",
    "two alike": lambda mail, _, __: f"pair{mail.serial // 2}",
    "too long": lambda mail, _, __: "L" * 200 + mail.uid,
    "far too long": lambda mail, _, __: "L" * 5000 + mail.uid,
    "with spaces": lambda mail, _, __: f"a b {mail.uid}",
    "empty": lambda *_: "",
    "one empty": lambda mail, number, _: "" if number == 1 else mail.uid,
    "not ASCII": lambda mail, _, __: f"\xfc{mail.uid}",
    "the number": lambda _, number, __: f"{number}",
    "other in each session": lambda mail, _, session: f"s{session}-{mail.serial}",
}
