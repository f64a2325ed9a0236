"""The proxy's neighbours in the simulation: the mailbox upstream, and devices that poll.

Both check what they see as they go; whatever breaks a promise raises there and then.
"""

from __future__ import annotations

import io
import random
from contextlib import aclosing
from dataclasses import dataclass, field

from proxy.demo.upstream import Mailbox, MailboxMaildrop, MailboxServer
from proxy.domain.errors import ProxyError
from proxy.domain.model import Credentials, Message
from proxy.domain.plan import Entry
from proxy.domain.policy import UpstreamServer
from proxy.interfaces.world import Network
from proxy.services.face import Proof
from proxy.services.rights import Claim
from proxy.services.upstream import Began, Ended, UpstreamSession
from proxy.services.upstream_dial import open_session
from proxy.wire.pop3_client import Part
from tests.sim.disk import SimDisk
from tests.sim.world import Host

ACCOUNT = "alice"
PASSWORD = b"secret"
PORT = 110


class PromiseBroken(AssertionError):
    """A promise of DESIGN section 3 does not hold."""


def make_mail(number: int, luck: random.Random) -> bytes:
    """A mail with lines that begin with dots, of any size from nothing up."""
    lines = [b".", b"..", b".x", b"", b"text", b"x" * luck.choice([1, 70, 3000])]
    body = b"\r\n".join(luck.choice(lines) for _ in range(luck.choice([0, 1, 5, 40])))
    return b"Message-ID: <%d@sim>\r\n\r\n" % number + body + b"\r\n"


@dataclass
class World:
    """What is true, however the proxy sees it."""

    mails: dict[str, bytes] = field(default_factory=dict)
    """Every mail that ever arrived upstream."""
    devices: list[ModelDevice] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """Promises broken where an exception would not reach the test."""


class WatchedMailbox(Mailbox):
    """Upstream's mailbox: minds what is deleted too soon."""

    def __init__(self, world: World) -> None:
        super().__init__(ACCOUNT, PASSWORD)
        self._world = world

    def deliver(self, octets: bytes) -> str:
        uid = super().deliver(octets)
        self._world.mails[uid] = octets
        return uid

    def delete(self, uid: str) -> None:
        for device in self._world.devices:
            if uid not in device.has:
                self._world.broken.append(f"2: {uid} is deleted, {device.name} has not got it")
        super().delete(uid)


class WatchedServer(MailboxServer):
    def __init__(self, mailbox: Mailbox, network: Network, world: World, disk: SimDisk) -> None:
        super().__init__(mailbox, network)
        self._world = world
        self._disk = disk

    async def login(self, proof: Proof, peer: str, claim: Claim) -> WatchedMaildrop:
        await super().login(proof, peer, claim)
        return WatchedMaildrop(self.mailbox, self._world, self._disk)


class WatchedMaildrop(MailboxMaildrop):
    """Minds what is asked for although it is stored.

    It counts when the session goes on to QUIT: commands of a proxy that has died, or has given the
    connection up, may still be on their way when the next one has long been served.
    """

    def __init__(self, mailbox: Mailbox, world: World, disk: SimDisk) -> None:
        super().__init__(mailbox)
        self._world = world
        self._disk = disk
        self._stored: dict[int, str] = {}

    def open(self, message: Message) -> io.BytesIO:
        if message.uid in self._disk.stored_uids():
            self._stored[message.id] = message.uid
        return super().open(message)

    async def commit(self) -> None:
        # TOP is only a look.
        twice = self.view.retrieved_ids() & self._stored.keys()
        self._world.broken += [f"1: {self._stored[id_]} is fetched though stored" for id_ in twice]
        await super().commit()


class ModelDevice:
    """A mail program that remembers UIDLs on its disk, as Thunderbird does."""

    def __init__(self, host: Host, world: World, luck: random.Random) -> None:
        self.host = host
        self.name = host.name
        self.has: dict[str, bytes] = {}
        """UIDL → octets of every message that came down whole, in whatever session."""
        self.deleted: set[str] = set()
        """Deleted in a session whose QUIT was answered with +OK."""
        self.confirmed: set[str] = set()
        """Retrieved in a session whose QUIT was answered with +OK; others do not count."""
        self.polls = 0
        self._maybe_deleted: set[str] = set()
        self._world = world
        self._luck = luck

    async def poll(self, *, whole: bool = False) -> bool:
        """One session; whether it went through to QUIT. With `whole` it does nothing odd."""
        server = UpstreamServer("proxy", PORT, "none", plaintext_login="always")
        login = Credentials(f"{ACCOUNT}+{self.name}", PASSWORD)
        try:
            session = await open_session(self.host.world, server, login)
        except ProxyError:
            return False
        try:
            return await self._session(session, whole)
        except ProxyError:
            return False
        finally:
            session.abort()

    async def _session(self, session: UpstreamSession, whole: bool) -> bool:
        assert session.mailbox is not None
        entries = (await session.listing(session.mailbox.count)).entries
        self._check(entries)
        new = [entry for entry in entries if entry.uid not in self.has]
        await self._retrieve(session, new)
        marked: set[str] = set()
        if not whole and self._luck.random() < 0.3:
            marked = {e.uid for e in entries if self._luck.random() < 0.2 and e.uid in self.has}
            await session.delete([e.number for e in entries if e.uid in marked])
        if not whole and self._luck.random() < 0.1:
            return False
        self._maybe_deleted |= marked
        if not await session.quit():
            self._maybe_deleted -= marked
            return False
        self.deleted |= marked
        self.confirmed |= {entry.uid for entry in new}
        self.polls += 1
        return True

    def _check(self, entries: list[Entry]) -> None:
        uids = [entry.uid for entry in entries]
        if len(set(uids)) != len(uids):
            raise PromiseBroken(f"3: a UIDL stands twice: {uids}")
        if strangers := set(uids) - self._world.mails.keys():
            raise PromiseBroken(f"3: {strangers} is not upstream's own UIDL")
        if back := self.deleted & set(uids):
            raise PromiseBroken(f"6: {back} was deleted by {self.name} and is back")
        if lost := self.has.keys() - set(uids) - self.deleted - self._maybe_deleted:
            raise PromiseBroken(f"4: {lost} left the view of {self.name} by another's doing")

    async def _retrieve(self, session: UpstreamSession, entries: list[Entry]) -> None:
        octets = b""
        async with aclosing(session.retrieve(entries)) as transfers:
            async for transfer in transfers:
                if isinstance(transfer, Began):
                    octets = b""
                elif isinstance(transfer, Part):
                    octets += transfer.data
                elif isinstance(transfer, Ended):
                    self._keep(transfer.entry, octets)

    def _keep(self, entry: Entry, octets: bytes) -> None:
        if octets != self._world.mails[entry.uid]:
            raise PromiseBroken(f"2: {entry.uid} came to {self.name} with other octets")
        if len(octets) != entry.octets:
            raise PromiseBroken(f"5: LIST said {entry.octets}, RETR gave {len(octets)}")
        self.has[entry.uid] = octets
