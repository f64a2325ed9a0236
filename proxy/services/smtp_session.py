"""One client that hands in mail: joins the SMTP machine to a connection and to its `Submission`.

Every answer to a mail is upstream's, so each command takes a task until that has come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import ClassVar

from proxy.domain.errors import BadDevice, BadLogin, ProxyError, StoreUnavailable
from proxy.domain.facts import Ending, SmtpSessionEnded
from proxy.interfaces.submission import GO_ON, Answer
from proxy.services.device_session import STOPPING, DeviceSession
from proxy.services.face import Face, plaintext_allowed
from proxy.services.sessions import Sessions
from proxy.services.submission import Submission
from proxy.services.submissions import Submissions
from proxy.wire import smtp_events as smtp
from proxy.wire.pop3_events import (
    CertificateLogin,
    HttpBegun,
    LoginEvent,
    PasswordLogin,
    ScramLogin,
    ScramStart,
    StartTls,
    TooManyErrors,
)
from proxy.wire.smtp_replies import reply_octets
from proxy.wire.smtp_server import SmtpOffer, SmtpServer


class SmtpSession(DeviceSession):
    speaks = "smtp"
    told: ClassVar[Mapping[Ending, str]] = {
        **DeviceSession.told,
        "timeout": "silent for too long",
        "shutdown": STOPPING,
    }
    _machine: SmtpServer

    def __init__(
        self, face: Face, sessions: Sessions[SmtpSession], desk: Submissions, *, tls: bool
    ) -> None:
        """`tls`: the connection begins with a TLS handshake."""
        super().__init__(face, sessions, tls=tls)
        self._desk = desk
        self._submission: Submission | None = None
        """None: nobody has logged in."""
        self._over = asyncio.Event()

    def _machine_for(self, peer: str) -> SmtpServer:
        face = self._face
        return SmtpServer(
            SmtpOffer(
                starttls=face.network.offers_tls,
                plaintext_login=plaintext_allowed(face.policy.plaintext_login, peer),
                max_message_size=self._desk.limits.max_message_size,
                scram=face.door.announces_scram,
                max_errors=face.limits.max_bad_commands,
                line_limit=face.limits.max_line,
            )
        )

    @property
    def _logged_in(self) -> bool:
        return self._submission is not None

    @property
    def _under_way(self) -> bool:
        return self._task is not None or (
            self._submission is not None and self._submission.takes_content
        )

    @property
    def _past_stopping(self) -> bool:
        return self._submission is not None and self._submission.is_whole

    # --- answers --------------------------------------------------------------------------------

    def _step(self) -> bool:
        event = self._machine.next_event()
        if event is not None:
            self._answer(event)
        return event is not None

    def _answer(self, event: smtp.Event) -> None:
        match event:
            case smtp.Hello():
                self._start(self._hello())
            case StartTls():
                self._machine.start_tls()
                self._upgrade()
            case PasswordLogin() | ScramLogin() | CertificateLogin():
                self._start(self._login(event))
            case ScramStart():
                self._start(self._scram(event))
            case smtp.Reset():
                self._start(self._reset())
            case smtp.Quit():
                self._machine.reply(221, "2.0.0 bye")
                self._end_politely("quit")
            case TooManyErrors():
                self._machine.reply(421, "4.7.0 too many bad commands, goodbye")
                self._end_politely("bad_commands")
            case HttpBegun():
                self._machine.reply(554, "5.5.2 this is SMTP and not HTTP, goodbye")
                self._end_politely("http")
            case _:
                assert self._submission is not None  # noqa: S101 - the machine has seen a login
                self._start(self._hand_in(self._submission, event))

    async def _hello(self) -> None:
        if self._submission is not None:
            await self._submission.reset()
        self._machine.hello()

    async def _reset(self) -> None:
        if self._submission is not None:
            await self._submission.reset()
        self._machine.reply(250, "2.0.0 forgotten")

    async def _hand_in(
        self, submission: Submission, event: smtp.Mail | smtp.Rcpt | smtp.Data | smtp.Content
    ) -> None:
        match event:
            case smtp.Mail(argument):
                self._say(await submission.mail(argument))
            case smtp.Rcpt(argument):
                self._say(await submission.rcpt(argument))
            case smtp.Data():
                answer = await submission.data()
                if answer.code == GO_ON:
                    self._machine.start_content()
                else:
                    self._say(answer)
            case smtp.Content(data, last):
                verdict = await submission.content(data, last=last)
                if verdict is not None:
                    self._say(verdict)
                else:
                    self._machine.take_more()

    def _say(self, answer: Answer) -> None:
        self._machine.reply(answer.code, answer.text)
        if answer.code == 421:
            self._end_politely("error")

    async def _login(self, event: LoginEvent) -> None:
        came = self._loop.time()
        proof = self._steps.proof(event, self._tls)
        try:
            sender = await self._desk.door.sender(proof, self._peer, self._new_claim())
        except ProxyError as error:
            self._turned_away(error)
            return
        self._submission = Submission(self._desk, sender)
        self._machine.welcome("2.7.0 welcome")
        self._has_logged_in(sender.account.name, sender.device_name, self._loop.time() - came)

    def _refuse_login(self, error: ProxyError) -> None:
        if isinstance(error, BadLogin):
            self._machine.reply(535, "5.7.8 login refused: check user name and password")
        elif isinstance(error, BadDevice):
            self._machine.reply(535, f"5.7.8 {error}")
        elif isinstance(error, StoreUnavailable):
            self._machine.reply(454, "4.3.0 the mail store is not available, try again later")
        else:
            self._machine.reply(454, "4.7.0 the login cannot be judged now, wait and try again")
        if self._refused_too_often():
            self._refuse("refused_logins", "too many refused logins, goodbye")

    # --- the end --------------------------------------------------------------------------------

    def _refusal(self, ended: Ending, text: str) -> bytes:
        status = {"shutdown": "4.3.2", "timeout": "4.4.2", "login_timeout": "4.4.2"}
        return reply_octets(421, f"{status.get(ended, '4.7.0')} {text}")

    def _part(self, ended: Ending) -> None:
        """A mail whose content is not whole is none."""
        if self._submission is not None and not self._past_stopping:
            self._submission.hang_up()
        super()._part(ended)

    def shut_down(self) -> None:
        """Hang up, upstream as well, whatever is on its way."""
        if self._submission is not None:
            self._submission.hang_up()
        super().shut_down()

    async def wait_closed(self) -> None:
        """Also until nothing is on its way upstream."""
        await self._over.wait()

    def _finish(self) -> None:
        self._task = self._loop.create_task(self._clean_up(), context=self._context)

    async def _clean_up(self) -> None:
        submission = self._submission
        try:
            if submission is not None:
                await submission.close()
        finally:
            self._sessions.leave(self)
            self._release_claim()
            self._over.set()
        self._observe(
            SmtpSessionEnded(
                peer=self._peer,
                account=submission.account if submission else "",
                device=submission.device if submission else "",
                tls=self._tls_version,
                ended=self._ended,
                accepted=submission.accepted if submission else 0,
                octets_in=self._octets_in,
                octets_out=self._octets_out,
                seconds=self._loop.time() - self._started,
            )
        )
