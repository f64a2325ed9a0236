"""One client that hands in mail: what it may do, and what upstream says to it.

Each command goes upstream as it comes, and upstream's answer is the client's. Nothing is queued: a
mail is taken when upstream has taken it, and in no other case.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial

from proxy.domain.errors import ProxyError, StoreUnavailable
from proxy.domain.facts import Outcome, SentCopyMissing, SentCopyStored, SubmissionEnded
from proxy.interfaces.submission import GO_ON, Answer
from proxy.services import smtp_answers as answers
from proxy.services.face import Sender
from proxy.services.quota import check_fits
from proxy.services.reception import Received
from proxy.services.room import STEP, Claim
from proxy.services.smtp_parameters import Refused, rcpt_command
from proxy.services.submissions import Last, Submissions
from proxy.services.upstream_mail import UpstreamMail
from proxy.wire.sent_copy import copy_header


class Submission:
    """Commands are given one after the other."""

    def __init__(self, desk: Submissions, sender: Sender) -> None:
        self.accepted = 0
        """Mails that upstream has taken."""
        self._desk = desk
        self._sender = sender
        self._upstream = UpstreamMail(desk, sender)
        self._recipients: list[str] = []
        self._content: Received | None = None
        """Of the mail under way, from DATA on."""
        self.is_whole = False
        """Whether all of the content is here: what becomes of it, the client is to hear."""
        self._loop = asyncio.get_running_loop()
        desk.senders[sender.account.id] += 1

    @property
    def account(self) -> str:
        return self._sender.account.name

    @property
    def device(self) -> str:
        return self._sender.device_name

    # --- up to the content ----------------------------------------------------------------------

    async def mail(self, argument: str) -> Answer:
        """`argument`: what follows "MAIL FROM:"."""
        if self._upstream.begun:
            return answers.BAD_SEQUENCE
        began = self._loop.time()
        try:
            answer = await self._upstream.begin(argument)
        except Refused as refused:
            answer = refused.answer
        except ProxyError as error:
            answer = answers.unavailable(error)
        if not answer.positive:
            self._note_end(answer, 0, began)
        return answer

    async def rcpt(self, argument: str) -> Answer:
        """`argument`: what follows "RCPT TO:"."""
        if not self._upstream.begun:
            return answers.BAD_SEQUENCE
        if len(self._recipients) >= self._desk.limits.max_recipients:
            return answers.TOO_MANY_RECIPIENTS
        try:
            address, line = rcpt_command(argument, self._upstream.offers)
            answer = await self._upstream.add(line)
        except Refused as refused:
            return refused.answer
        except ProxyError as error:
            return answers.unavailable(error)
        if answer.positive:
            self._recipients.append(address)
        return answer

    async def data(self) -> Answer:
        """`GO_ON`: what comes now is the content."""
        if not self._upstream.begun:
            return answers.BAD_SEQUENCE
        if not self._recipients:
            return answers.NO_RECIPIENT
        began = self._loop.time()
        answer = answers.NO_ROOM
        claim = self._desk.room.claim(STEP)
        if claim is not None:
            try:
                answer = await self._upstream.data()
            except ProxyError as error:
                answer = answers.unavailable(error)
        if claim is not None and answer.code == GO_ON:
            self._content = self._new_content(claim)
        else:
            if claim is not None:
                claim.end()
            self._note_end(answer, 0, began)
            await self.reset()
        return answer

    def _new_content(self, claim: Claim) -> Received:
        header = partial(
            copy_header,
            device=self.device,
            recipients=tuple(self._recipients),
            keep_bcc=self._desk.server(self.account).keep_bcc,
        )
        seven_bit = "8BITMIME" not in self._upstream.offers
        writer, limits = self._desk.store.new_blob(), self._desk.limits
        return Received(writer, limits, header, claim, seven_bit=seven_bit)

    async def reset(self) -> None:
        """Forget the mail under way."""
        self._recipients = []
        await self._upstream.forget()

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
        self.is_whole = last
        try:
            return await self._take(content, data, last=last)
        finally:
            self.is_whole = False

    async def _take(self, content: Received, data: bytes, *, last: bool) -> Answer | None:
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
        await self.reset()
        return answer

    async def _pass_on(self, content: Received, data: bytes) -> None:
        if content.problem is None:
            try:
                content.problem = await self._upstream.write(data)
            except ProxyError as error:
                content.problem = answers.unavailable(error)
        if content.problem is not None:
            # It must not see the end of this mail.
            self.hang_up()

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
            return answers.NO_ROOM
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
        try:
            answer = await self._upstream.end()
        except ProxyError:
            self.hang_up()
            return answers.UNSURE
        if answer.positive:
            self._upstream.done()
        elif not answer.negative:
            self.hang_up()
            return answers.GARBLED_END
        return answer

    async def _keep_copy(self, content: Received, note: int) -> bool:
        """Whether the note is settled."""
        which = self._desk.server(self.account).sent_copies
        device = self._sender.device
        if which == "off":
            with suppress(StoreUnavailable):
                await self._desk.store.settle_sending(note)
            return True
        account = self._sender.account.id
        try:
            await check_fits(account, content.octets, self._desk.store, self._desk.room)
            await self._desk.store.add_own(
                account,
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

    # --- the end --------------------------------------------------------------------------------

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
                len(self._recipients),
                octets,
                self._loop.time() - began,
            )
        )

    def hang_up(self) -> None:
        """On upstream, whatever is on its way."""
        self._upstream.hang_up()

    async def close(self) -> None:
        """The client is gone, and no command is waiting for upstream. Called once."""
        self._desk.senders[self._sender.account.id] -= 1
        if self._content is not None:
            await self._content.close()
        self._upstream.close()
