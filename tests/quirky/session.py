"""One session of a quirky upstream."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from tests.quirky.mailbox import TrueMail
from tests.quirky.quirks import LINES, SIZES, SPELLS, UIDS

if TYPE_CHECKING:
    from tests.quirky.upstream import QuirkyUpstream

LINGER = 5.0
"""Seconds in which the other side has to take what was sent before the connection closed."""

_UNKNOWN = b"-ERR unknown command\r\n"


class Over(Exception):
    """The session ends here: the connection is closed."""


class Session:
    def __init__(
        self,
        upstream: QuirkyUpstream,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._upstream = upstream
        self._quirks = upstream.quirks
        self._reader = reader
        self._writer = writer
        self._number = upstream.connections
        self._pending = b""
        self._shown: list[TrueMail] | None = None
        """None before the login."""
        self._marked: list[TrueMail] = []
        self._retrieved: list[TrueMail] = []

    async def run(self) -> None:
        try:
            with suppress(Over):
                await self._greet()
                while lines := await self._next_lines():
                    for line in lines:
                        await self._obey(line)
            await self._close()
        finally:
            # A plain close would wait until the other side has read all.
            self._writer.transport.abort()

    async def _close(self) -> None:
        """So that all that was sent arrives: a close with input unread would reset."""
        self._writer.write_eof()
        async with asyncio.timeout(LINGER):
            while await self._reader.read(65536):
                pass

    async def _next_lines(self) -> list[str]:
        """Commands that have come together; none when the other side has closed."""
        while b"\n" not in self._pending:
            data = await self._reader.read(65536)
            if not data:
                return []
            self._pending += data
        whole, _, self._pending = self._pending.rpartition(b"\n")
        lines = [line.rstrip("\r") for line in whole.decode("latin-1").split("\n")]
        how = self._quirks.pipelining
        if len(lines) > 1 and how != "no":
            self._reach("pipelining")
            if how == "drops":
                self._pending = b""
                return lines[:1]
            if how == "closes":
                raise Over
            if how == "reorders" and self._shown is not None:
                return lines[::-1]
        return lines

    # --- answers --------------------------------------------------------------------------------

    async def _greet(self) -> None:
        if not self._quirks.greeting:
            self._reach("greeting")
            await self._be_silent()
        await self._answer(["greeting"], f"{self._quirks.greeting}\r\n".encode())

    async def _obey(self, line: str) -> None:
        verb, *words = line.split(" ")
        verb = verb.upper()
        self._upstream.commands.append(verb if verb == "PASS" else line)
        handler = getattr(self, f"_{verb.lower()}", None)
        if handler is None or (self._shown is None and verb not in BEFORE_LOGIN):
            await self._answer([verb], _UNKNOWN)
            return
        mail = self._requested(words)
        names = [verb] if mail is None else [verb, f"{verb} #{mail.serial}"]
        await self._answer(names, handler(words))
        if verb == "RETR" and mail is not None:
            self._note_whole(mail)
        if verb == "QUIT":
            raise Over

    def _note_whole(self, mail: TrueMail) -> None:
        mail.whole += 1
        self._retrieved.append(mail)
        if len(self._retrieved) == self._quirks.closes_after:
            self._reach("closes_after")
            raise Over

    async def _answer(self, names: list[str], answer: bytes) -> None:
        """`names`: by which the quirks may mean this command."""
        quirks = self._quirks
        if quirks.endless in names:
            self._reach("endless")
            await self._talk_without_end(answer)
        for name, then in (("silent_in", self._be_silent), ("cut_in", self._be_gone)):
            if getattr(quirks, name) in names:
                self._reach(name)
                lines = answer.splitlines(keepends=True)
                # In the middle of a line, where there is one more.
                rest = b"".join(lines[quirks.after_lines :])
                await self._send(b"".join(lines[: quirks.after_lines]) + rest[:3])
                await then()
        await self._send(answer)
        if quirks.unasked in names:
            self._reach("unasked")
            await self._send(b"+OK and another thing\r\n")

    async def _talk_without_end(self, answer: bytes) -> None:
        status, _, _ = answer.partition(b"\n")
        many = status.startswith(b"+OK") and answer.count(b"\n") > 1
        await self._send(status + b"\n" if many else b"+OK ")
        number = 1
        while True:
            lines = b"".join(b"%d 1000\r\n" % n for n in range(number, number + 1000))
            await self._send(b"x" * 8192 if self._quirks.endless_line else lines)
            number += 1000

    async def _send(self, octets: bytes) -> None:
        self._writer.write(octets)
        await self._writer.drain()

    async def _be_silent(self) -> None:
        while await self._reader.read(65536):
            pass
        raise Over

    async def _be_gone(self) -> None:
        raise Over

    def _reach(self, field: str, *, indeed: bool = True) -> None:
        if indeed:
            self._upstream.reached[f"{field}={getattr(self._quirks, field)}"] += 1

    # --- before the login -----------------------------------------------------------------------

    def _capa(self, _: list[str]) -> bytes:
        if self._quirks.capa == "no":
            self._reach("capa")
            return _UNKNOWN
        lines = ["TOP", "UIDL", "USER"]
        if self._quirks.pipelining != "no":
            lines.append("PIPELINING")
        if self._quirks.stls:
            lines.append("STLS")
        return _many_lines(lines)

    def _stls(self, _: list[str]) -> bytes:
        self._reach("stls", indeed=bool(self._quirks.stls))
        return self._quirks.stls or _UNKNOWN

    def _user(self, _: list[str]) -> bytes:
        return b"+OK\r\n"

    def _pass(self, words: list[str]) -> bytes:
        upstream, quirks = self._upstream, self._quirks
        upstream.logins += 1
        refusal = "" if words == ["secret"] else "-ERR wrong"
        if upstream.logins <= quirks.refused_logins:
            self._reach("refused_logins")
            refusal = quirks.refusal
        past = None if upstream.last_login is None else upstream.now - upstream.last_login
        if past is not None and past < quirks.login_every:
            self._reach("login_every")
            refusal = quirks.login_refusal
        if refusal:
            upstream.refused += 1
            return f"{refusal}\r\n".encode()
        upstream.last_login = upstream.now
        self._shown = upstream.visible()
        self._reach("shows", indeed=self._hidden_behind_others())
        return b"+OK in\r\n"

    def _hidden_behind_others(self) -> bool:
        waiting = sum(not mail.hidden for mail in self._upstream.mailbox.mails)
        return len(self._mails) < waiting

    # --- what is there --------------------------------------------------------------------------

    @property
    def _mails(self) -> list[TrueMail]:
        return self._shown or []

    def _requested(self, words: list[str]) -> TrueMail | None:
        """None: there is no such message."""
        number = int(words[0]) if words and words[0].isdecimal() else 0
        return self._mails[number - 1] if 1 <= number <= len(self._mails) else None

    def _size(self, mail: TrueMail, number: int) -> str:
        told = SIZES[self._quirks.sizes](mail.octets, number, self._number)
        self._reach("sizes", indeed=told != str(len(mail.octets)))
        return told

    def _stat(self, _: list[str]) -> bytes:
        octets = sum(len(mail.octets) for mail in self._mails)
        if self._quirks.stat == "zero":
            self._reach("stat", indeed=bool(self._mails))
            return b"+OK 0 0\r\n"
        if self._quirks.stat == "as LIST":
            told = [self._size(mail, n) for n, mail in enumerate(self._mails, 1)]
            listed = sum(int(size) for size in told if size.lstrip("-").isdecimal())
            self._reach("stat", indeed=listed != octets)
            octets = listed
        return b"+OK %d %d\r\n" % (len(self._mails), octets)

    def _list(self, _: list[str]) -> bytes:
        if self._quirks.refuses_list:
            self._reach("refuses_list")
            return b"-ERR no messages\r\n"
        sizes = [f"{n} {self._size(mail, n)}" for n, mail in enumerate(self._mails, 1)]
        if not sizes and self._quirks.no_mail != "right":
            return self._refuse_no_mail()
        lines = (LINES | SPELLS)[self._quirks.list_lines](sizes)
        self._reach("list_lines", indeed=lines != sizes)
        return _many_lines(lines)

    def _uidl(self, words: list[str]) -> bytes:
        has_none = self._quirks.uidl == "not always" and self._number % 3 == 0
        if self._quirks.uidl == "no" or has_none:
            self._reach("uidl")
            return _UNKNOWN
        told = [
            f"{n} {UIDS[self._quirks.uids](mail, n, self._number)}"
            for n, mail in enumerate(self._mails, 1)
        ]
        true = [f"{n} {mail.uid}" for n, mail in enumerate(self._mails, 1)]
        self._reach("uids", indeed=told != true)
        if words:
            number = int(words[0])
            if self._requested(words) is None:
                return b"-ERR no such message\r\n"
            return f"+OK {told[number - 1]}\r\n".encode()
        if not told and self._quirks.no_mail != "right":
            return self._refuse_no_mail()
        lines = (LINES | SPELLS)[self._quirks.uidl_lines](told)
        self._reach("uidl_lines", indeed=lines != told)
        return _many_lines(lines)

    def _refuse_no_mail(self) -> bytes:
        self._reach("no_mail")
        return self._quirks.no_mail.encode() + b"\r\n"

    # --- messages -------------------------------------------------------------------------------

    def _retr(self, words: list[str]) -> bytes:
        mail = self._requested(words)
        if mail is None:
            return b"-ERR no such message\r\n"
        if mail.serial == self._quirks.refuses_retr:
            self._reach("refuses_retr")
            return b"-ERR not now\r\n"
        return b"+OK\r\n" + self._whole(mail)

    def _whole(self, mail: TrueMail) -> bytes:
        octets, quirks = mail.octets, self._quirks
        if quirks.stuffing == "none":
            self._reach("stuffing", indeed=b"\r\n." in octets)
            return octets + b".\r\n"
        glued = quirks.ending == "glued" and not octets.endswith(b"\n")
        bare = octets.endswith(b"\n") and not octets.endswith(b"\r\n")
        if glued or (bare and quirks.ending == "bare LF"):
            self._reach("ending")
            return octets + b".\r\n"
        return _body(octets)

    def _top(self, words: list[str]) -> bytes:
        mail = self._requested(words)
        how = self._quirks.top
        self._reach("top", indeed=how != "right")
        if mail is None or how == "no" or (how == "not all" and mail.serial % 2):
            return b"-ERR not here\r\n"
        if how == "whole":
            return b"+OK\r\n" + self._whole(mail)
        head = re.match(rb"(?s).*?\r?\n\r?\n|\r?\n|.*", mail.octets)
        assert head is not None
        return b"+OK\r\n" + _body(head[0])

    def _dele(self, words: list[str]) -> bytes:
        mail = self._requested(words)
        if mail is None:
            return b"-ERR no such message\r\n"
        self._marked.append(mail)
        return b"+OK\r\n"

    def _noop(self, _: list[str]) -> bytes:
        return b"+OK\r\n"

    def _quit(self, _: list[str]) -> bytes:
        how = self._quirks.quit
        if how in ("refuses", "refuses but deletes") and self._marked:
            self._reach("quit")
            if how == "refuses":
                return b"-ERR some messages not removed\r\n"
        self._upstream.mailbox.expunge(self._marked)
        if self._retrieved and self._quirks.after_retr != "keeps":
            self._reach("after_retr")
            if self._quirks.after_retr == "deletes":
                self._upstream.mailbox.take(*self._retrieved)
            for mail in self._retrieved:
                mail.hidden = True
        if how == "closes":
            self._reach("quit")
            return b""
        refused = how == "refuses but deletes" and self._marked
        return b"-ERR some messages not removed\r\n" if refused else b"+OK bye\r\n"


BEFORE_LOGIN = ("CAPA", "STLS", "USER", "PASS", "QUIT", "NOOP")


def _many_lines(lines: list[str]) -> bytes:
    return ("+OK\r\n" + "".join(f"{line}\r\n" for line in lines) + ".\r\n").encode()


def _body(octets: bytes) -> bytes:
    """Dot-stuffed, with a CRLF before the end; a bare LF elsewhere goes out as it is."""
    if not octets.endswith(b"\r\n"):
        octets = octets.removesuffix(b"\n") + b"\r\n"
    return re.sub(rb"(\A|\r\n)\.", rb"\1..", octets) + b".\r\n"
