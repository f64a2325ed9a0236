"""A small POP3 server over a mailbox in memory: the upstream of the demo and of the simulation.

It shares the machine and the session of the device face, and nothing else of the proxy.
"""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import dataclass, field

from proxy.domain.errors import BadLogin
from proxy.domain.facts import Fact
from proxy.domain.model import Message
from proxy.domain.policy import LimitsPolicy, SessionPolicy
from proxy.domain.view import Listing, View
from proxy.interfaces.world import Network
from proxy.services.face import Face, PasswordProof, Proof, ScramChallenge
from proxy.services.pop3_session import Pop3Session
from proxy.services.rights import Claim
from proxy.services.sessions import Sessions
from proxy.wire.pop3 import NEVER


@dataclass(slots=True)
class Mailbox:
    """One user's mail, and a record of what was asked of it."""

    username: str
    password: bytes = field(repr=False)
    mails: dict[str, bytes] = field(default_factory=dict)
    """UIDL → octets, in order of arrival."""
    logins: int = 0
    retrieved: Counter[str] = field(default_factory=Counter)
    """How often RETR (or TOP) was asked for each UIDL."""
    _arrived: int = 0

    def deliver(self, octets: bytes) -> str:
        """Put a mail in; every line ends in CRLF. Returns its UIDL."""
        self._arrived += 1
        uid = f"{self.username}-{self._arrived:05}"
        self.mails[uid] = octets
        return uid

    def open(self, uid: str) -> io.BytesIO:
        """The octets of a mail that RETR or TOP asks for."""
        self.retrieved[uid] += 1
        return io.BytesIO(self.mails.get(uid, b""))

    def delete(self, uid: str) -> None:
        """A session that marked this mail has ended with QUIT."""
        self.mails.pop(uid, None)


class MailboxServer:
    """Sessions on a mailbox. Every login sees the mail that is there at that moment."""

    expire = NEVER
    announces_scram = False

    def __init__(self, mailbox: Mailbox, network: Network) -> None:
        self.mailbox = mailbox
        limits = LimitsPolicy()
        self._sessions: Sessions[Pop3Session] = Sessions(limits)
        policy = SessionPolicy(plaintext_login="always")
        self._face = Face(self, network, _Silence(), policy, limits, "demo-mailbox")

    def session(self) -> Pop3Session:
        """A protocol for one accepted connection."""
        return Pop3Session(self._face, self._sessions, tls=False)

    async def login(self, proof: Proof, peer: str, claim: Claim) -> MailboxMaildrop:
        if proof != PasswordProof(self.mailbox.username, self.mailbox.password):
            raise BadLogin("wrong password")
        self.mailbox.logins += 1
        return MailboxMaildrop(self.mailbox)

    async def scram(self, username: str, peer: str) -> ScramChallenge:
        raise BadLogin("no SCRAM here")


class MailboxMaildrop:
    device = ""
    expire = NEVER

    def __init__(self, mailbox: Mailbox) -> None:
        self.account = mailbox.username
        self._mailbox = mailbox
        self._uids = list(mailbox.mails)
        self.view = View(
            Listing(
                [
                    # Stuffing is never wrong, so nobody looks whether there are dots.
                    Message(number, uid, b"", len(mailbox.mails[uid]), dots=True)
                    for number, uid in enumerate(self._uids)
                ]
            )
        )

    def open(self, message: Message) -> io.BytesIO:
        return self._mailbox.open(message.uid)

    async def commit(self) -> None:
        for number in self.view.deleted_ids():
            self._mailbox.delete(self._uids[number])

    def close(self) -> None:
        pass


class _Silence:
    def observe(self, fact: Fact) -> None:
        pass
