"""The true mailbox behind a quirky upstream: what lies in it, and what has become of it.

A mail's text holds its name, so that what a device has got can be told apart from all other mails.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from tests.corpus import normalise

_NAME = re.compile(rb"true mail (\d+)\.")


@dataclass(eq=False)
class TrueMail:
    serial: int
    """Which mail it is of all that ever came; never used again."""
    name: int
    """The serial number in its text: that of another mail, if it is a twin of that."""
    shape: str
    octets: bytes
    """As the upstream sends them now."""
    uid: str
    forms: set[bytes] = field(default_factory=set)
    """As a device may get it: normalised, for all that `octets` has ever been."""
    hidden: bool = False
    """From sessions to come."""
    renamed: bool = False
    """It has had another UIDL."""
    dropped: bool = False
    """By a person."""
    whole: int = 0
    """RETRs of it that went out whole, up to the last octet."""

    def __post_init__(self) -> None:
        self.forms.add(normalise(self.octets))

    def change(self, octets: bytes) -> None:
        self.octets = octets
        self.forms.add(normalise(octets))


class Mailbox:
    """What people and mail servers do to it; it knows nothing of POP3."""

    def __init__(self) -> None:
        self.mails: list[TrueMail] = []
        self.ever: list[TrueMail] = []
        self.on_expunge: Callable[[TrueMail], None] = lambda mail: None
        """Called for each mail that DELE and QUIT take away, before it is gone."""
        self.expunged: list[TrueMail] = []
        self.away: list[TrueMail] = []
        """Not in the mailbox for a while, and nobody's doing."""
        self._generation = 0

    def deliver(self, *shapes: str) -> list[TrueMail]:
        """One mail of each shape; "twin" is equal in every octet to the mail delivered last."""
        return [self._deliver(shape) for shape in shapes]

    def _deliver(self, shape: str) -> TrueMail:
        serial = len(self.ever) + 1
        uid = self._uid(serial)
        if shape == "twin" and self.ever:
            first = self.ever[-1]
            mail = TrueMail(serial, first.name, first.shape, first.octets, uid)
        else:
            mail = TrueMail(serial, serial, shape, SHAPES.get(shape, plain)(serial), uid)
        self.mails.append(mail)
        self.ever.append(mail)
        return mail

    def drop(self, *mails: TrueMail) -> None:
        """Somebody else takes them away: in web mail, by another program, by a rule."""
        for mail in mails:
            mail.dropped = True
        self.take(*mails)

    def take(self, *mails: TrueMail) -> None:
        self.mails = [mail for mail in self.mails if mail not in mails]

    def set_aside(self, *mails: TrueMail) -> None:
        """They are away, all that are there if none is named, until `bring_back`."""
        chosen = mails or tuple(self.mails)
        self.take(*chosen)
        self.away += chosen

    def bring_back(
        self, most: int | None = None, *, new_uids: bool = True, header: bytes = b""
    ) -> None:
        """So many of what is away, or all, as `change_uids` leaves them."""
        back, self.away = self.away[:most], self.away[len(self.away[:most]) :]
        self.mails = back + self.mails
        if back and new_uids:
            self.change_uids(*back, header=header)

    def expunge(self, mails: Collection[TrueMail]) -> None:
        """As DELE and QUIT asked for."""
        for mail in mails:
            if mail in self.mails:
                self.on_expunge(mail)
                self.expunged.append(mail)
                self.mails.remove(mail)

    def change_uids(self, *mails: TrueMail, header: bytes = b"") -> None:
        """New software: other UIDLs, and perhaps a field on top of each header."""
        self._generation += 1
        for mail in mails or tuple(self.mails):
            mail.uid = self._uid(mail.serial)
            mail.renamed = True
            if header:
                mail.change(header + mail.octets)

    def reverse(self) -> None:
        self.mails.reverse()

    def show_again(self) -> None:
        """The switch "POP for all mail" is set anew: what RETR has hidden is listed again."""
        for mail in self.mails:
            mail.hidden = False

    def copies(self) -> Counter[int]:
        """Name → how many mails of this text there have ever been."""
        return Counter(mail.name for mail in self.ever)

    def named(self, name: int) -> list[TrueMail]:
        return [mail for mail in self.ever if mail.name == name]

    def _uid(self, serial: int) -> str:
        return f"{'uvwxyz'[self._generation % 6]}{self._generation}-{serial}"


def name_of(octets: bytes) -> int:
    """The name in a mail that a device has got; 0 where there is none."""
    found = _NAME.search(octets)
    return int(found[1]) if found else 0


# --- shapes --------------------------------------------------------------------------------------


def _stamp(serial: int) -> bytes:
    minute, second = divmod(serial, 60)
    return b"Received: by mx.example; Mon, 2 Nov 2026 09:%02d:%02d +0000\r\n" % (minute, second)


def unstamped(serial: int) -> bytes:
    """As programs leave it in a mailbox directly: no server has stamped it."""
    return (
        b"Message-ID: <%d@example.org>\r\nDate: Mon, 2 Nov 2026 09:00:00 +0000\r\n"
        b"From: ada@example.org\r\nSubject: number %d\r\n\r\ntrue mail %d.\r\n"
        % (serial, serial, serial)
    )


def plain(serial: int) -> bytes:
    return _stamp(serial) + unstamped(serial)


def _one_message_id(serial: int) -> bytes:
    return plain(serial).replace(b"<%d@example.org>" % serial, b"<all@example.org>")


def _without_received(serial: int) -> bytes:
    return unstamped(serial).replace(b"<%d@example.org>" % serial, b"<all@example.org>")


def _larger(serial: int, body: bytes) -> bytes:
    return plain(serial) + body


SHAPES: dict[str, Callable[[int], bytes]] = {
    "plain": plain,
    "unstamped": unstamped,
    "one Message-ID": _one_message_id,
    "one Message-ID, unstamped": _without_received,
    "anonymous": lambda n: b"Subject: hello\r\n\r\ntrue mail %d.\r\n" % n,
    "no header": lambda n: b"\r\ntrue mail %d.\r\n" % n,
    "bare LF": lambda n: plain(n).replace(b"\r\n", b"\n"),
    "bare LF in body": lambda n: _larger(n, b"one\ntwo\n\nthree\n"),
    "no last line end": lambda n: _larger(n, b"the end"),
    "NUL": lambda n: _larger(n, b"a\0b\r\n\0\r\n"),
    "8 bit": lambda n: _larger(n, bytes(range(128, 256)) + b"\r\n"),
    "long line": lambda n: _larger(n, b"0123456789" * 7000 + b"\r\n"),
    "dots": lambda n: _larger(n, b".\r\n..\r\n.x\r\n. \r\n.\r\n"),
    "dot line": lambda n: _larger(n, b"before\r\n.\r\nbehind\r\n" + b"more\r\n" * 200),
    "like replies": lambda n: _larger(n, b"+OK\r\n-ERR [IN-USE] no\r\n+OK 3 4\r\n"),
    "large": lambda n: _larger(n, (b"x" * 76 + b"\r\n") * 2500),
}
IDENTIFIED = frozenset(SHAPES) - {"anonymous", "no header"}
"""Shapes with a header that no other mail has."""
