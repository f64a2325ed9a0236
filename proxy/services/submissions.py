"""What all clients that hand in mail share: upstream sessions, and what became of the last mail."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

from proxy.domain.directory import Directory
from proxy.domain.errors import StoreUnavailable, UpstreamRefusedLogin, UpstreamUnusable
from proxy.domain.facts import Outcome, SentCopyMissing
from proxy.domain.model import Credentials
from proxy.domain.policy import SmtpServer, SubmissionLimits
from proxy.interfaces.observer import Observer
from proxy.interfaces.store import Store
from proxy.interfaces.submission import Answer, SmtpDialer, UpstreamSmtp
from proxy.interfaces.world import World
from proxy.services.account_login import AccountLogin
from proxy.services.credentials import new_nonce
from proxy.services.face import Sender, SendersDoor
from proxy.services.room import Room
from proxy.services.secrets_said import secrets_of, without
from proxy.services.smtp_login import log_in, sending_as

IDLE = 30.0
"""Seconds that a session is kept for the next mail of the same account."""
POOL = 20
"""Sessions that are kept at most."""
REFUSED = 300.0
"""Seconds in which a password that upstream has refused is not tried again: programs repeat it by
themselves, and providers lock accounts after some ten."""

CUT_SHORT = "the proxy ended while the mail was on its way, so that it may have been sent"

Key = tuple[str, SmtpServer, bytes | None]
"""Account, server, and the password if it is the client's."""


@dataclass(slots=True)
class Connection:
    """A session that is logged in."""

    upstream: UpstreamSmtp
    key: Key
    secrets: tuple[str, ...] = field(repr=False)
    reused: bool = False

    async def command(self, line: bytes) -> Answer:
        return self._clean(await self.upstream.command(line))

    async def write(self, data: bytes) -> Answer | None:
        answer = await self.upstream.write(data)
        return answer and self._clean(answer)

    async def end(self) -> Answer:
        return self._clean(await self.upstream.end())

    def _clean(self, answer: Answer) -> Answer:
        """Fit to be shown to the client."""
        return Answer(answer.code, without(answer.text, self.secrets))


@dataclass(frozen=True, slots=True)
class Last:
    """What became of an account's last mail since the process began."""

    at: float
    outcome: Outcome
    answer: str


class Submissions:
    def __init__(
        self,
        world: World,
        store: Store,
        observer: Observer,
        directory: Directory,
        door: SendersDoor,
        login: AccountLogin,
        dialer: SmtpDialer | None,
        limits: SubmissionLimits,
        room: Room,
    ) -> None:
        self.room = room
        self.store = store
        self.observer = observer
        self.clock = world.clock
        self.door = door
        self.limits = limits
        """For sessions to come."""
        self.last: dict[str, Last] = {}
        self.senders: Counter[int] = Counter()
        """Sessions that are open, by the ids of their accounts."""
        self._world = world
        self._directory = directory
        self._login = login
        self._dialer = dialer
        self._idle: dict[Key, tuple[Connection, asyncio.TimerHandle]] = {}
        self._refused: dict[Key, float] = {}
        self._ending: set[asyncio.Task[None]] = set()

    async def tell_unfinished(self) -> None:
        """At the start: which mails were on their way when the process before this one ended."""
        # A store that cannot be written to is no reason not to start: what is in it can be read.
        # What it still has a note of is told of at the next start.
        with suppress(StoreUnavailable):
            for left in await self.store.sendings():
                if self.server(left.account).sent_copies != "off":
                    self.observer.observe(
                        SentCopyMissing(left.account, left.device, CUT_SHORT, left.message_id)
                    )
                await self.store.forget_sending(left.id)

    def server(self, account: str) -> SmtpServer:
        return self._directory.policy(account).smtp

    async def connect(self, sender: Sender, *, fresh: bool = False) -> Connection:
        """A session that is logged in; not `fresh`: one that may have broken unnoticed.

        Raises:
            UpstreamRefusedLogin: also when it was refused a little while ago.
            ConsentNeeded, VaultLocked, UpstreamUnusable, UpstreamUnreachable, UpstreamBusy.
        """
        name = sender.account.name
        server = self.server(name)
        if self._dialer is None or not server.host:
            raise UpstreamUnusable("no SMTP server is configured for this account")
        key = name, server, sender.password
        idle = self._idle.pop(key, None)
        if idle is not None:
            connection, timer = idle
            timer.cancel()
            if not fresh:
                return connection
            connection.upstream.abort()
        now = asyncio.get_running_loop().time()
        if self._refused.get(key, now) > now:
            raise UpstreamRefusedLogin("the SMTP server has just refused the login")
        try:
            connection = await self._connect(sender, server, key)
        except UpstreamRefusedLogin:
            self._refused[key] = now + REFUSED
            raise
        self._refused.pop(key, None)
        return connection

    async def _connect(self, sender: Sender, server: SmtpServer, key: Key) -> Connection:
        declared = self._directory.declared(sender.account.name)
        if declared is None:
            if sender.password is None:
                raise UpstreamRefusedLogin(
                    "only the password of the mailbox itself lets mail be sent from this account: "
                    "the SMTP server wants it, and the proxy does not know it"
                )
            credentials = Credentials(sender.account.name, sender.password)
            return await self._open(server, key, credentials)

        async def attempt(credentials: Credentials) -> Connection:
            return await self._open(server, key, sending_as(server, credentials))

        upstream, credentials = declared.policy.upstream, declared.credentials
        return await self._login.log_in(declared.name, upstream, credentials, attempt)

    async def _open(self, server: SmtpServer, key: Key, credentials: Credentials) -> Connection:
        assert self._dialer is not None  # noqa: S101 - or nobody would come so far
        upstream = await self._dialer.open(server)
        try:
            await log_in(upstream, server, credentials, new_nonce(self._world.entropy))
        except BaseException:
            upstream.abort()
            raise
        return Connection(upstream, key, secrets_of(credentials))

    def park(self, connection: Connection) -> None:
        """Keep a session between two mails for a while."""
        if connection.key in self._idle or len(self._idle) >= POOL:
            self._end(connection)
            return
        connection.reused = True
        timer = asyncio.get_running_loop().call_later(IDLE, self._drop, connection.key)
        self._idle[connection.key] = connection, timer

    def _drop(self, key: Key) -> None:
        connection, timer = self._idle.pop(key)
        timer.cancel()
        self._end(connection)

    def _end(self, connection: Connection) -> None:
        task = asyncio.get_running_loop().create_task(connection.upstream.quit())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def forget(self, account: str) -> None:
        """The account is gone."""
        self.last.pop(account, None)
        for key in [key for key in self._idle if key[0] == account]:
            self._drop(key)
        for key in [key for key in self._refused if key[0] == account]:
            del self._refused[key]

    async def close(self) -> None:
        """End the sessions that nobody uses."""
        for key in list(self._idle):
            self._drop(key)
        await asyncio.gather(*self._ending)
