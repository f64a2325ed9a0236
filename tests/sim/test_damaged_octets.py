"""A device whose mail is damaged in the store gets all other mail, and that one once mended."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from proxy.demo.upstream import Mailbox, MailboxServer
from proxy.domain.directory import DeclaredAccount, Directory
from proxy.domain.errors import StoreUnavailable
from proxy.domain.facts import BlobDamaged, Fact, SessionEnded
from proxy.domain.model import Credentials
from proxy.domain.policy import (
    AccountPolicy,
    LimitsPolicy,
    Seconds,
    SessionPolicy,
    SyncPolicy,
    UpstreamServer,
)
from proxy.services.core import Core
from proxy.services.face import PasswordProof
from tests.sim.disk import SimDisk
from tests.sim.world import SimWorld, simulate

ALICE = Credentials("alice", b"secret")
SMALL = b"Message-ID: <1@x>\r\n\r\n.body\r\nlast line\r\n"
BIG = b"Message-ID: <2@x>\r\n\r\n" + b".a line of quite ordinary text\r\n" * 10_000
OTHER = b"Message-ID: <3@x>\r\n\r\nother\r\n"
END = b"\r\n.\r\n"


class Ahead(asyncio.Protocol):
    """Says all it has to say at once, and takes what comes until the other end hangs up."""

    def __init__(self, says: bytes) -> None:
        self._says = says
        self.heard = b""
        self.over = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._says)

    def data_received(self, data: bytes) -> None:
        self.heard += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.over.set()


class House:
    """A proxy that has fetched some mails; nothing syncs but what a test asks for."""

    def __init__(self, sim: SimWorld, folder: Path) -> None:
        self.sim = sim
        self.mailbox = Mailbox("alice", b"secret")
        self.facts: list[Fact] = []
        self._folder = folder

    def observe(self, fact: Fact) -> None:
        self.facts.append(fact)

    async def open(self, *mails: bytes) -> None:
        for mail in mails:
            self.mailbox.deliver(mail)
        upstream = self.sim.host("upstream").network
        await upstream.listen("0.0.0.0:110", MailboxServer(self.mailbox, upstream).session)
        policy = AccountPolicy(
            UpstreamServer("upstream", 110, "none", plaintext_login="always"),
            SyncPolicy(max_age=Seconds(1e6)),
        )
        declared = DeclaredAccount("alice", ALICE, policy)
        directory = Directory([declared], policy, pass_through=False)
        host = self.sim.host("proxy")
        self.store = await SimDisk(self._folder, self.sim.random("disk")).open(host.process)
        session = SessionPolicy(plaintext_login="always")
        self.core = Core(host.world, self.store, self, directory, session, LimitsPolicy())
        await host.run(self.begin())

    async def begin(self) -> None:
        await self.sync()
        network = self.sim.host("proxy").network
        await network.listen("0.0.0.0:110", lambda: self.core.session(tls=False))

    async def sync(self) -> None:
        await self.core.syncs.start("alice", ALICE).finished

    async def poll(self, device: str, *commands: str) -> bytes:
        """All that a session hears behind its login."""
        lines = (f"USER alice+{device}", "PASS secret", *commands, "QUIT")
        says = "".join(f"{line}\r\n" for line in lines).encode()
        network = self.sim.host(device).network
        _, session = await network.connect("proxy", 110, lambda: Ahead(says), None)
        assert isinstance(session, Ahead)
        await session.over.wait()
        return session.heard.split(b"\r\n", 3)[-1]

    async def uids(self, device: str) -> list[bytes]:
        listing = (await self.poll(device, "UIDL")).partition(b"\r\n")[2].partition(b".\r\n")[0]
        return [line.split()[1] for line in listing.splitlines()]

    def damage(self, mail: bytes, offset: int) -> None:
        (path,) = self._folder.rglob(hashlib.sha256(mail).hexdigest())
        octets = bytearray(path.read_bytes())
        octets[offset] ^= 1
        path.write_bytes(octets)


def sent(mail: bytes) -> bytes:
    return b"+OK %d octets\r\n" % len(mail) + mail.replace(b"\r\n.", b"\r\n..") + b".\r\n"


@pytest.mark.parametrize("offset", [0, len(SMALL) // 2, -1])
@pytest.mark.parametrize("command", ["RETR 1", "TOP 1 0"])
def test_a_small_message_is_refused_before_its_first_octet_and_all_others_come(
    tmp_path: Path, offset: int, command: str
) -> None:
    async def story(sim: SimWorld) -> None:
        house = House(sim, tmp_path)
        await house.open(SMALL, OTHER)
        before = await house.uids("laptop")
        house.damage(SMALL, offset)
        refused, _, rest = (await house.poll("laptop", command, "RETR 2")).partition(b"\r\n")
        assert refused.startswith(b"-ERR [SYS/TEMP]")
        assert rest == sent(OTHER) + b"+OK bye\r\n"
        # From now on it holds up nobody, on whatever device.
        for device in ("laptop", "desktop"):
            assert await house.uids(device) == before[1:]
        assert await house.poll("desktop", "RETR 1") == sent(OTHER) + b"+OK bye\r\n"
        await house.sync()
        # The laptop has the other one; it knows it by its UIDL.
        assert await house.uids("laptop") == before
        assert await house.poll("laptop", "RETR 1") == sent(SMALL) + b"+OK bye\r\n"

    simulate(1, story)


@pytest.mark.parametrize("offset", [0, len(BIG) // 2, -1])
@pytest.mark.parametrize("command", ["RETR 1", "TOP 1 0", "TOP 1 5000"])
def test_a_big_message_is_broken_off_before_its_end_and_counts_for_nothing(
    tmp_path: Path, offset: int, command: str
) -> None:
    async def story(sim: SimWorld) -> None:
        house = House(sim, tmp_path)
        await house.open(BIG, OTHER)
        before = await house.uids("laptop")
        house.damage(BIG, offset)
        heard = await house.poll("laptop", command, "RETR 2")
        assert heard == b"" or heard.startswith(b"+OK ")
        assert END not in heard
        assert [f.ended for f in house.facts if isinstance(f, SessionEnded)][-1] == "error"
        assert len([fact for fact in house.facts if isinstance(fact, BlobDamaged)]) == 1
        assert await house.uids("laptop") == before[1:]
        await house.sync()
        assert await house.uids("laptop") == before
        assert await house.poll("laptop", "RETR 1", "RETR 2") == (
            sent(BIG) + sent(OTHER) + b"+OK bye\r\n"
        )

    simulate(1, story)


def test_pipelined_answers_keep_their_order_around_a_damaged_message(tmp_path: Path) -> None:
    async def story(sim: SimWorld) -> None:
        house = House(sim, tmp_path)
        await house.open(OTHER, SMALL, BIG)
        house.damage(SMALL, -1)
        heard = await house.poll("laptop", "RETR 1", "RETR 2", "STAT", "RETR 3", "LIST 2")
        first, behind = heard[: len(sent(OTHER))], heard[len(sent(OTHER)) :]
        assert first == sent(OTHER)
        refused, _, rest = behind.partition(b"\r\n")
        assert refused.startswith(b"-ERR [SYS/TEMP]")
        # An open session's view stays what it was.
        octets = sum(map(len, (OTHER, SMALL, BIG)))
        assert rest == b"+OK 3 %d\r\n" % octets + sent(BIG) + b"+OK 2 %d\r\n+OK bye\r\n" % len(
            SMALL
        )

    simulate(1, story)


def test_a_message_that_is_mended_can_be_had_in_a_session_that_was_refused_it(
    tmp_path: Path,
) -> None:
    async def story(sim: SimWorld) -> None:
        house = House(sim, tmp_path)
        await house.open(SMALL)
        house.damage(SMALL, 0)
        maildrop = await house.core.logins.login(
            PasswordProof("alice+laptop", b"secret"), "192.0.2.1"
        )
        message = maildrop.view.message(1)
        reader = maildrop.open(message)
        with pytest.raises(StoreUnavailable):
            reader.read(1000)
        reader.close()
        await house.sync()
        reader = maildrop.open(message)
        assert reader.read(1000) == SMALL
        reader.close()
        maildrop.close()

    simulate(1, story)


def test_what_upstream_has_no_more_is_left_out_for_good_and_harms_nobody(tmp_path: Path) -> None:
    async def story(sim: SimWorld) -> None:
        house = House(sim, tmp_path)
        await house.open(SMALL, OTHER, BIG)
        one, *others = await house.uids("laptop")
        house.mailbox.delete(one.decode())
        await house.sync()
        house.damage(SMALL, -1)
        assert (await house.poll("laptop", "RETR 1")).startswith(b"-ERR")
        for _ in range(3):
            await house.sync()
            for device in ("laptop", "desktop"):
                assert await house.uids(device) == others
        # Somebody puts it right.
        house.damage(SMALL, -1)
        await house.store.is_intact(hashlib.sha256(SMALL).digest())
        assert await house.uids("laptop") == [one, *others]

    simulate(1, story)
