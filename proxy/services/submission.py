"""One client that hands in mail: what it may do, and what upstream says to it.

Each command goes upstream as it comes, and upstream's answer is the client's. Nothing is queued: a
mail is taken when upstream has taken it, and in no other case.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from functools import partial

from proxy.domain.errors import (
    ConsentNeeded,
    Permanent,
    ProxyError,
    StoreUnavailable,
    UpstreamBusy,
    UpstreamRefusedLogin,
    UpstreamUnreachable,
)
from proxy.domain.facts import Outcome, SentCopyMissing, SentCopyStored, SubmissionEnded
from proxy.interfaces.submission import GO_ON, Answer
from proxy.services.face import Sender
from proxy.services.reception import NO_ROOM, Received
from proxy.services.smtp_parameters import Refused, mail_command, rcpt_command
from proxy.services.submissions import Connection, Last, Submissions
from proxy.wire.sent_copy import copy_header

DATA = b"DATA"

BAD_SEQUENCE = Answer(503, "5.5.1 not now")
LOST = Answer(451, "4.4.2 the connection to the SMTP server was lost; the mail was not sent")
UNSURE = Answer(
    451,
    "4.4.2 the connection to the SMTP server was lost before it answered: it may have taken the "
    "mail, so that sending it again may send it twice",
)
GARBLED = Answer(451, "4.5.0 the SMTP server gave an answer that makes no sense")
GARBLED_END = Answer(
    451,
    "4.5.0 the SMTP server gave an answer that makes no sense: it may have taken the mail, so that "
    "sending it again may send it twice",
)


class Submission:
    """Commands are given one after the other."""

    def __init__(self, desk: Submissions, sender: Sender) -> None:
        self.accepted = 0
        """Mails that upstream has taken."""
        self._desk = desk
        self._sender = sender
        self._connection: Connection | None = None
        self._asking = False
        """Whether a command of ours has no answer yet."""
        self._mail: bytes | None = None
        """The command, once upstream has accepted it."""
        self._rcpts: list[bytes] = []
        self._recipients: list[str] = []
        self._content: Received | None = None
        """Of the mail under way, from DATA on."""
        self._loop = asyncio.get_running_loop()

    @property
    def account(self) -> str:
        return self._sender.account.name

    @property
    def device(self) -> str:
        return self._sender.device_name

    @property
    def _offers(self) -> Mapping[str, str]:
        return self._connection.upstream.offers if self._connection else {}

    # --- one mail -------------------------------------------------------------------------------

    async def mail(self, argument: str) -> Answer:
        """`argument`: what follows "MAIL FROM:"."""
        if self._mail is not None:
            return BAD_SEQUENCE
        began = self._loop.time()
        answer = await self._begin(argument)
        if not answer.positive:
            self._note_end(answer, 0, began)
        return answer

    async def _begin(self, argument: str) -> Answer:
        reused = True
        try:
            while True:
                connection = self._connection
                if connection is None:
                    connection = await self._desk.connect(self._sender, fresh=not reused)
                    self._connection = connection
                line = mail_command(
                    argument, connection.upstream.offers, self._desk.limits.max_message_size
                )
                reused = reused and connection.reused
                try:
                    answer = await self._ask(line)
                except UpstreamUnreachable:
                    if not reused:
                        raise
                    answer = LOST
                if not reused or self._connection is not None:
                    break
                # It was kept for too long: a new one decides.
                reused = False
        except Refused as refused:
            return refused.answer
        except ProxyError as error:
            return _unavailable(error)
        if answer.positive:
            self._mail = line
        return answer

    async def rcpt(self, argument: str) -> Answer:
        """`argument`: what follows "RCPT TO:"."""
        if self._mail is None:
            return BAD_SEQUENCE
        if len(self._rcpts) >= self._desk.limits.max_recipients:
            return Answer(452, "4.5.3 too many recipients, send the mail to the others once more")
        try:
            address, line = rcpt_command(argument, self._offers)
            answer = await self._ask_in_mail(line)
        except Refused as refused:
            return refused.answer
        except ProxyError as error:
            return _unavailable(error)
        if answer.positive:
            self._rcpts.append(line)
            self._recipients.append(address)
        return answer

    async def data(self) -> Answer:
        """`GO_ON`: what comes now is the content."""
        if self._mail is None:
            return BAD_SEQUENCE
        if not self._rcpts:
            return Answer(554, "5.5.1 no recipient was accepted")
        began = self._loop.time()
        try:
            answer = await self._ask_in_mail(DATA)
        except ProxyError as error:
            answer = _unavailable(error)
        if answer.code == GO_ON:
            self._content = Received(
                self._desk.store.new_blob(),
                self._desk.limits,
                partial(
                    copy_header,
                    device=self.device,
                    recipients=tuple(self._recipients),
                    keep_bcc=self._desk.server(self.account).keep_bcc,
                ),
                seven_bit="8BITMIME" not in self._offers,
            )
            return answer
        answer = answer if answer.negative else GARBLED
        self._note_end(answer, 0, began)
        await self._forget_mail(dirty=True)
        return answer

    async def reset(self) -> None:
        """Forget the mail under way."""
        await self._forget_mail(dirty=self._mail is not None)

    # --- the content ----------------------------------------------------------------------------

    @property
    def takes_content(self) -> bool:
        return self._content is not None

    async def content(self, data: bytes, *, last: bool) -> Answer | None:
        """A part of the content, its dots unstuffed; to the last one, what upstream says to it all.

        Waits until upstream has taken what came before, so that a client is no faster than it, and
        does not wait for long at the end. Must be brought to its end whatever becomes of the
        client: what upstream takes is to have its copies.
        """
        content = self._content
        assert content is not None  # noqa: S101 - callers have been told to go on
        await self._pass_on(content, await content.feed(data, last=last))
        if not last:
            return None
        began = self._loop.time()
        try:
            answer = content.problem or await self._send_noted(content)
        finally:
            self._content = None
            await content.close()
        self._note_end(answer, content.octets, began)
        await self._forget_mail(dirty=not answer.positive)
        return answer

    async def _pass_on(self, content: Received, data: bytes) -> None:
        content.problem = content.problem or await self._write(data)
        if content.problem is not None:
            # It must not see the end of this mail.
            self.hang_up()

    async def _write(self, data: bytes) -> Answer | None:
        """What upstream says instead of taking more of the content."""
        if self._connection is None:
            return LOST
        try:
            early = await self._connection.write(data)
        except ProxyError as error:
            return _unavailable(error)
        return GARBLED if early is not None and not early.negative else early

    async def _send_noted(self, content: Received) -> Answer:
        """Send it, with a note in the store that tells after a crash which copy is missing."""
        store, sender = self._desk.store, self._sender
        try:
            note = await store.note_sending(
                sender.account.id,
                sender.device.id if sender.device else None,
                content.message_id,
                at=self._desk.clock.now(),
            )
        except StoreUnavailable:
            self.hang_up()
            return NO_ROOM
        answer = await self._send_end(content)
        if not (answer.positive and await self._keep_copy(content, note)):
            # A note that stays makes for a word too many in the log, at the next start.
            with suppress(StoreUnavailable):
                await store.forget_sending(note)
        return answer

    async def _send_end(self, content: Received) -> Answer:
        # It may have answered, or hung up, in the meantime.
        await self._pass_on(content, b"")
        if content.problem is not None:
            return content.problem
        connection = self._connection
        assert connection is not None  # noqa: S101 - it has just been written to
        self._asking = True
        try:
            answer = await connection.end()
        except ProxyError:
            self.hang_up()
            return UNSURE
        self._asking = False
        if not (answer.positive or answer.negative):
            self.hang_up()
            return GARBLED_END
        return answer

    async def _keep_copy(self, content: Received, note: int) -> bool:
        """Whether the note is settled."""
        which = self._desk.server(self.account).sent_copies
        device = self._sender.device
        if which == "off":
            with suppress(StoreUnavailable):
                await self._desk.store.settle_sending(note)
            return True
        try:
            await self._desk.store.add_own(
                self._sender.account.id,
                await content.copy(),
                but_not_for=device.id if device and which == "others" else None,
                sending=note,
                at=self._desk.clock.now(),
            )
        except Exception as error:
            # Whatever it is, the mail is sent, and the client must hear that.
            reason = f"{type(error).__name__}: {error}"
            self._desk.observer.observe(
                SentCopyMissing(self.account, self.device, reason, content.message_id)
            )
            return False
        self._desk.observer.observe(SentCopyStored(self.account, self.device))
        return True

    # --- upstream -------------------------------------------------------------------------------

    async def _ask(self, line: bytes) -> Answer:
        assert self._connection is not None  # noqa: S101 - callers see to it
        self._asking = True
        try:
            answer = await self._connection.command(line)
        except UpstreamUnreachable:
            self.hang_up()
            raise
        self._asking = False
        if answer.code == 421:
            self.hang_up()
        elif not (answer.positive or answer.negative or (answer.code, line) == (GO_ON, DATA)):
            self.hang_up()
            return GARBLED
        return answer

    async def _ask_in_mail(self, line: bytes) -> Answer:
        """A command after MAIL. A session that has broken since is made anew: nothing is lost as
        long as no content has gone."""
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

    def _note_end(self, answer: Answer, octets: int, began: float) -> None:
        """Of the mail under way, by this answer; `began`: when there was no more to wait for."""
        outcome: Outcome = "failed"
        if answer.positive:
            outcome = "accepted"
            self.accepted += 1
        elif answer.code >= 500:
            outcome = "refused"
        text = f"{answer.code} {answer.text}"
        self._desk.last[self.account] = Last(self._desk.clock.now(), outcome, text)
        self._desk.observer.observe(
            SubmissionEnded(
                self.account,
                self.device,
                outcome,
                text,
                len(self._rcpts),
                octets,
                self._loop.time() - began,
            )
        )

    async def _forget_mail(self, *, dirty: bool) -> None:
        """`dirty`: upstream still has it under way."""
        self._mail = None
        self._rcpts, self._recipients = [], []
        if self._connection is None:
            return
        self._connection.reused = True
        if dirty:
            try:
                answer = await self._ask(b"RSET")
            except UpstreamUnreachable:
                return
            if not answer.positive:
                self.hang_up()

    def hang_up(self) -> None:
        """On upstream, whatever is on its way."""
        self._asking = False
        if self._connection is not None:
            self._connection.upstream.abort()
        self._connection = None

    # --- the end --------------------------------------------------------------------------------

    async def close(self) -> None:
        """The client is gone, and no command is waiting for upstream."""
        if self._content is not None:
            await self._content.close()
        connection = self._connection
        if connection is None:
            return
        if self._asking or self._mail is not None:
            self.hang_up()
        else:
            self._connection = None
            self._desk.park(connection)


def _unavailable(error: ProxyError) -> Answer:
    """Why upstream cannot be asked now."""
    if isinstance(error, UpstreamRefusedLogin):
        return Answer(554, f"5.7.8 the SMTP server does not let this account in: {error}")
    if isinstance(error, ConsentNeeded):
        return Answer(554, "5.7.8 the account needs a person: see the proxy's log")
    if isinstance(error, Permanent):
        return Answer(554, f"5.3.5 the SMTP server cannot be used: {error}")
    if isinstance(error, StoreUnavailable):
        return Answer(451, "4.3.0 the mail cannot be read back, try again later")
    if isinstance(error, UpstreamBusy):
        return Answer(451, f"4.7.0 the SMTP server is busy, try again later: {error}")
    return Answer(451, f"4.4.1 the SMTP server does not answer, try again later: {error}")
