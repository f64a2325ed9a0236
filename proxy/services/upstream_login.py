"""Logging in upstream: which ways there are, in which order, and what comes of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from proxy.domain.errors import (
    ProxyError,
    UpstreamBusy,
    UpstreamGarbled,
    UpstreamRefusedLogin,
    UpstreamUnreachable,
    UpstreamUnusable,
)
from proxy.domain.model import Credentials
from proxy.domain.policy import UpstreamServer
from proxy.services.face import plaintext_allowed
from proxy.services.secrets_said import secrets_of, without
from proxy.services.upstream import Overview
from proxy.services.upstream_memory import LoginMemory
from proxy.services.upstream_refusal import refusal
from proxy.wire import sasl
from proxy.wire.client_mechanisms import ClientMechanism, apop_digest, apop_timestamp, named
from proxy.wire.errors import RemoteProtocolError
from proxy.wire.pop3 import Reply
from proxy.wire.scram_client import Binding

STRONGEST_FIRST = (
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-1-PLUS",
    "SCRAM-SHA-256",
    "SCRAM-SHA-1",
    "CRAM-MD5",
    "PLAIN",
    "LOGIN",
    "USER",
)
IN_CLEAR = frozenset({"PLAIN", "LOGIN", "USER", "OAUTHBEARER", "XOAUTH2"})
"""What shows the password or the token to whoever listens."""
TOKEN = ("OAUTHBEARER", "XOAUTH2")

COMMAND_LIMIT = 255
"""Octets of a command that every server takes, its line end included (RFC 2449 §4)."""

STEPS = 5
"""Challenges of one exchange; no mechanism has more than three."""


def allowed(ways: Sequence[str], *, in_clear: bool) -> list[str]:
    """Those by which a password may go; `in_clear`: also as it is.

    Raises:
        UpstreamUnusable: by none, as it would have to go in clear text.
    """
    found = [way for way in ways if in_clear or way not in IN_CLEAR]
    if not found:
        raise UpstreamUnusable(
            "the password would go in clear text over the network: set tls to "
            '"implicit" or "starttls", or plaintext_login to "always" if you must'
        )
    return found


class AuthIsBroken(UpstreamUnreachable):
    """Upstream says +OK to AUTH, and that means nothing. It may yet be right by USER and PASS, in
    another session: in this one nobody knows what it waits for."""

    def __init__(self, way: str, text: str) -> None:
        super().__init__(f"{way}: {text}")
        self.way = way


class Channel(Protocol):
    """What a login needs of the session."""

    greeting_text: str
    capabilities: dict[str, list[str]]
    encrypted: bool
    binding: Binding | None
    mailbox: Overview | None

    @property
    def peer(self) -> str: ...

    @property
    def pipelines(self) -> bool: ...

    async def ask(self, *lines: bytes) -> list[Reply]:
        """Send commands with answers of one line; together, where the server pipelines."""

    async def step(self, line: bytes) -> Reply:
        """Send a line of a SASL exchange; the answer may be a challenge."""

    async def look(self, *, listing: bool) -> Reply:
        """The answer to STAT, which sets `mailbox` if it is one."""


class Attempts:
    """One login; `make` it once.

    Upstream's +OK counts when the exchange was over, the secret told, and STAT is answered as only
    a session that is logged in can answer it.
    """

    def __init__(
        self,
        channel: Channel,
        server: UpstreamServer,
        credentials: Credentials,
        memory: LoginMemory,
        nonce: str,
        *,
        auth: bool,
        listing: bool,
    ) -> None:
        """`nonce` is printable, and never used twice; not `auth`: by USER and PASS alone;
        `listing`: as in `UpstreamSession.look`."""
        self._channel = channel
        self._server = server
        self._username = credentials.username
        self._password = credentials.password
        self._is_token = credentials.is_token
        self._secrets = secrets_of(credentials)
        self._memory = memory
        self._nonce = nonce
        self._auth = auth
        self._listing = listing

    async def make(self) -> None:
        """Raises:
        UpstreamRefusedLogin, UpstreamBusy, UpstreamUnusable: upstream said no.
        UpstreamUnreachable: it said neither yes nor no.
        AuthIsBroken: the same, and USER and PASS are still to be tried.
        """
        if any(octet in self._username.encode() + self._password for octet in b"\r\n\0"):
            raise UpstreamRefusedLogin("POP3 cannot carry a password with CR, LF or NUL")
        ways = self._allowed(self._ways())
        refused: UpstreamRefusedLogin | None = None
        while ways:
            way, *ways = ways
            try:
                supported = await self._try(way)
            except UpstreamRefusedLogin as error:
                if refused is not None:
                    # It is the password after all.
                    self._memory.unsuited.clear()
                    raise refused from None
                if way in IN_CLEAR or way in self._memory.proven or self._server.auth != "auto":
                    raise
                if way.endswith("-PLUS"):
                    # A binding that does not hold is what a man in the middle looks like: no
                    # password for him.
                    raise
                refused = error
                self._memory.unsuited.add(way)
                ways = [later for later in ways if later in IN_CLEAR][:1]
            except (AuthIsBroken, UpstreamGarbled):
                raise
            except UpstreamUnreachable:
                # Many hang up on a refused login. The next session tries the next way.
                if refused is not None:
                    raise refused from None
                raise
            else:
                if supported:
                    await self._prove(way)
                    self._memory.proven.add(way)
                    return
        raise refused or UpstreamUnusable("upstream supports none of the ways to log in it offers")

    # --- which ways -----------------------------------------------------------------------------

    def _ways(self) -> list[str]:
        if not self._auth:
            return ["USER"]
        auth = self._server.auth
        offered = self._channel.capabilities.get("SASL", [])
        if auth != "auto":
            return [auth.upper()]
        if self._is_token:
            return [name for name in TOKEN if name in offered] or ["XOAUTH2"]
        # On TLS 1.3 servers want another binding than Python can tell, or a wrong one.
        binding = self._channel.binding
        binds = binding is not None and binding.name == "tls-unique"
        ways = [
            name
            for name in STRONGEST_FIRST
            if name in offered
            and name not in self._memory.unsuited
            and (binds or not name.endswith("-PLUS"))
        ]
        # RFC 2449 §6.2; a server without CAPA says nothing of it.
        if "USER" in self._channel.capabilities or not ways:
            ways.append("USER")
        return ways

    def _allowed(self, ways: Sequence[str]) -> list[str]:
        return allowed(ways, in_clear=self._in_clear)

    @property
    def _in_clear(self) -> bool:
        """Whether a password may go as it is."""
        channel, policy = self._channel, self._server.plaintext_login
        return channel.encrypted or plaintext_allowed(policy, channel.peer)

    # --- one way --------------------------------------------------------------------------------

    async def _try(self, way: str) -> bool:
        """Whether upstream supports it, and has let us in."""
        if way == "USER":
            return await self._user()
        if way == "APOP":
            return await self._apop()
        try:
            return await self._exchange(way, self._mechanism(way))
        except RemoteProtocolError as error:
            raise UpstreamUnreachable(f"{way}: {error}") from None

    async def _user(self) -> bool:
        commands = [b"USER " + self._username.encode(), b"PASS " + self._password]
        if self._channel.pipelines:
            user, last = await self._channel.ask(*commands)
        else:
            (user,) = await self._channel.ask(commands[0])
            last = (await self._channel.ask(commands[1]))[0] if user.ok else user
        if last.ok and not user.ok:
            raise UpstreamGarbled(f"PASS is taken, and USER is not: {self._clean(user)}")
        # The refusal of the name tells why, where there is one.
        self._check(last if user.ok else user)
        return True

    async def _apop(self) -> bool:
        timestamp = apop_timestamp(self._channel.greeting_text)
        if timestamp is None:
            raise UpstreamUnusable("upstream greets without a timestamp, so it has no APOP")
        digest = apop_digest(timestamp, self._password)
        (reply,) = await self._channel.ask(f"APOP {self._username} {digest}".encode())
        self._check(reply)
        return True

    def _mechanism(self, way: str) -> ClientMechanism:
        binding = self._channel.binding if way.endswith("-PLUS") else None
        if way.endswith("-PLUS") and binding is None:
            raise UpstreamUnusable(f"{way} needs TLS")
        return named(
            way,
            self._username,
            self._password,
            host=self._server.host,
            port=self._server.port,
            nonce=self._nonce,
            binding=binding,
        )

    async def _prove(self, way: str) -> None:
        """RFC 1939 §5: there is no STAT before the login.

        Raises:
            UpstreamBusy, UpstreamUnusable: not now.
            UpstreamUnreachable, AuthIsBroken: upstream has not let us in.
        """
        reply = await self._channel.look(listing=self._listing)
        if self._channel.mailbox is not None:
            return
        text = f"no answer to STAT after the login: {self._clean(reply)}"
        if not reply.ok:
            error = self._refusal(reply)
            if isinstance(error, UpstreamBusy | UpstreamUnusable):
                raise error
        if way in self._memory.proven:
            raise UpstreamUnreachable(text)
        raise self._broken(way, text)

    def _broken(self, way: str, text: str) -> UpstreamUnreachable:
        """What a +OK that means nothing leads to."""
        # Where the proof that this is the server was wanted, no password goes without it.
        final = way.endswith("-PLUS") or self._is_token or self._server.auth != "auto"
        if final or way == "USER" or not self._in_clear:
            return UpstreamUnreachable(f"{way}: {text}")
        return AuthIsBroken(way, text)

    async def _exchange(self, way: str, mechanism: ClientMechanism) -> bool:
        """RFC 5034 §4."""
        reply, response = await self._begin(way, mechanism.first)
        secret_sent = response is None and mechanism.first is not None and way in IN_CLEAR
        for _ in range(STEPS):
            if not reply.challenge:
                break
            challenge = self._decoded(reply.text)
            if response is not None:
                answer, response = response, None
                secret_sent = way in IN_CLEAR
            else:
                answer = mechanism.respond(challenge)
                secret_sent = True
            reply = await self._channel.step(sasl.encode(answer))
        if reply.challenge:
            raise RemoteProtocolError("an exchange without end")
        if reply.ok:
            if not secret_sent:
                raise self._broken(way, "upstream said +OK before it knew what by")
            mechanism.check_success()
            return True
        error = self._refusal(reply)
        if not secret_sent and not reply.code and isinstance(error, UpstreamRefusedLogin):
            # Upstream does not know the mechanism after all.
            return False
        raise error

    async def _begin(self, way: str, first: bytes | None) -> tuple[Reply, bytes | None]:
        """AUTH, with what the client says first where that saves a round trip; returns what is
        still to be said."""
        command = b"AUTH " + way.encode()
        whole = command + b" " + sasl.encode(first or b"")
        # Older servers know no initial response, and none knows a long one.
        modern = {"PIPELINING", "AUTH-RESP-CODE"} <= self._channel.capabilities.keys()
        if first and modern and len(whole) + 2 <= COMMAND_LIMIT:
            reply = await self._channel.step(whole)
            if reply.ok or reply.code:
                ignored = reply.challenge and not reply.text.strip()
                return reply, first if ignored else None
        return await self._channel.step(command), first

    @staticmethod
    def _decoded(text: str) -> bytes:
        try:
            return sasl.decode(text.strip().encode("ascii", "replace"))
        except sasl.SaslError:
            # The questions of LOGIN come in clear from some.
            return text.encode()

    def _check(self, reply: Reply) -> None:
        """Raises:
        UpstreamRefusedLogin, UpstreamBusy, UpstreamUnusable: the login is refused.
        """
        if not reply.ok:
            raise self._refusal(reply)

    def _refusal(self, reply: Reply) -> ProxyError:
        told = Reply(ok=False, text=self._clean(reply), code=reply.code)
        return refusal(told, otherwise=UpstreamRefusedLogin(told.text))

    def _clean(self, reply: Reply) -> str:
        return without(reply.text, self._secrets)
