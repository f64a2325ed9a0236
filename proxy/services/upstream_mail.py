"""The mails of one client on their way upstream, one after the other.

A session with the SMTP server that breaks before any content has gone is made anew, and told what
the one before had accepted: nothing is lost, and nobody need know.
"""

from __future__ import annotations

from collections.abc import Mapping

from proxy.domain.errors import UpstreamUnreachable
from proxy.interfaces.submission import GO_ON, Answer
from proxy.services.face import Sender
from proxy.services.smtp_answers import GARBLED, LOST
from proxy.services.smtp_parameters import mail_command
from proxy.services.submissions import Connection, Submissions

_DATA = b"DATA"


class UpstreamMail:
    """Commands raise what `Submissions.connect` does."""

    def __init__(self, desk: Submissions, sender: Sender) -> None:
        self._desk = desk
        self._sender = sender
        self._connection: Connection | None = None
        self._asking = False
        """Whether a command has no answer yet."""
        self._mail: bytes | None = None
        self._rcpts: list[bytes] = []
        """The commands that were accepted."""

    @property
    def offers(self) -> Mapping[str, str]:
        return self._connection.upstream.offers if self._connection else {}

    @property
    def begun(self) -> bool:
        """Whether a mail is under way."""
        return self._mail is not None

    # --- up to the content ----------------------------------------------------------------------

    async def begin(self, argument: str) -> Answer:
        """MAIL; `argument` is what follows "MAIL FROM:".

        Raises:
            Refused: it cannot be asked for.
        """
        if self._connection is None:
            self._connection = await self._desk.connect(self._sender)
        if self._connection.reused:
            try:
                answer = await self._ask_mail(self._connection, argument)
            except UpstreamUnreachable:
                pass
            else:
                if self._connection is not None:
                    return answer
            # It was kept for too long: a new one decides.
            self._connection = await self._desk.connect(self._sender, fresh=True)
        return await self._ask_mail(self._connection, argument)

    async def _ask_mail(self, connection: Connection, argument: str) -> Answer:
        limit = self._desk.limits.max_message_size
        line = mail_command(argument, connection.upstream.offers, limit)
        answer = await self._ask(line)
        if answer.positive:
            self._mail = line
        return answer

    async def add(self, line: bytes) -> Answer:
        """RCPT."""
        answer = await self._ask_again(line)
        if answer.positive:
            self._rcpts.append(line)
        return answer

    async def data(self) -> Answer:
        """`GO_ON`, or a refusal."""
        answer = await self._ask_again(_DATA)
        return GARBLED if answer.positive else answer

    async def _ask_again(self, line: bytes) -> Answer:
        """Once more, in a new session, if that it was asked in has broken since."""
        if self._connection is not None:
            try:
                return await self._ask(line)
            except UpstreamUnreachable:
                pass
        if not await self._repeat():
            self.hang_up()
            return LOST
        return await self._ask(line)

    async def _repeat(self) -> bool:
        """In a new session, what upstream has accepted so far; whether it does again."""
        assert self._mail is not None  # noqa: S101 - there is a mail under way
        self._connection = await self._desk.connect(self._sender, fresh=True)
        for line in (self._mail, *self._rcpts):
            if not (await self._ask(line)).positive:
                return False
        return True

    async def _ask(self, line: bytes) -> Answer:
        assert self._connection is not None  # noqa: S101 - callers see to it
        self._asking = True
        try:
            answer = await self._connection.command(line)
        except UpstreamUnreachable:
            self.hang_up()
            raise
        self._asking = False
        self._connection.reused = True
        if answer.code == 421:
            self.hang_up()
        elif not (answer.positive or answer.negative or (answer.code, line) == (GO_ON, _DATA)):
            self.hang_up()
            return GARBLED
        return answer

    # --- the content ----------------------------------------------------------------------------

    async def write(self, data: bytes) -> Answer | None:
        """A part of the content, stuffed; what upstream says instead of taking more of it.

        Raises:
            UpstreamUnreachable
        """
        if self._connection is None:
            return LOST
        early = await self._connection.write(data)
        return GARBLED if early is not None and not early.negative else early

    async def end(self) -> Answer:
        """The end of the content, right after `write`, and what upstream says to all of it.

        Raises:
            UpstreamUnreachable: it may have the mail.
        """
        assert self._connection is not None  # noqa: S101 - it has just been written to
        return await self._connection.end()

    # --- the end --------------------------------------------------------------------------------

    async def forget(self) -> None:
        """The mail under way."""
        begun, self._mail, self._rcpts = self.begun, None, []
        if begun and self._connection is not None:
            try:
                answer = await self._ask(b"RSET")
            except UpstreamUnreachable:
                return
            if not answer.positive:
                self.hang_up()

    def done(self) -> None:
        """The mail under way has been taken."""
        self._mail, self._rcpts = None, []

    def hang_up(self) -> None:
        """On upstream, whatever is on its way."""
        self._asking = False
        if self._connection is not None:
            self._connection.upstream.abort()
        self._connection = None

    def close(self) -> None:
        """The client is gone, and nothing is waiting for upstream."""
        connection = self._connection
        if connection is None:
            return
        if self._asking or self.begun:
            self.hang_up()
        else:
            self._connection = None
            self._desk.park(connection)
