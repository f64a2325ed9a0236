"""Device sessions over real sockets, on a maildrop in memory."""

from __future__ import annotations

import asyncio
import io
import socket
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from proxy.adapters.net import SocketNetwork
from proxy.domain.errors import BadLogin, StoreUnavailable
from proxy.domain.facts import Fact, LoggedIn, SessionEnded, SessionStarted
from proxy.domain.model import Message
from proxy.domain.policy import LimitsPolicy, Seconds, SessionPolicy
from proxy.domain.view import Listing, View
from proxy.services.device_session import TURN
from proxy.services.face import Face, PasswordProof, Proof, ScramChallenge, plaintext_allowed
from proxy.services.pop3_session import Pop3Session
from proxy.services.rights import Claim
from proxy.services.sessions import Sessions
from proxy.services.transfer import CHUNK
from proxy.wire.pop3 import NEVER, Expire

BIG = 30 * 1024 * 1024
TIMEOUT = 20


class Zeros(io.RawIOBase):
    """A big message that takes no memory, and counts how much of it was asked for."""

    def __init__(self, octets: int) -> None:
        self.left = octets

    def read(self, octets: int = -1) -> bytes:
        given = min(octets, self.left)
        self.left -= given
        return b"0" * given


class Headed(Zeros):
    """One that has a header."""

    def read(self, octets: int = -1) -> bytes:
        is_first = self.left == BIG
        given = super().read(octets)
        return b"A: b\r\n\r\n" + given[8:] if is_first else given


@dataclass
class Drop:
    """A maildrop that records its commits."""

    mails: list[bytes]
    account: str = "alice"
    device: str = "laptop"
    committed: list[tuple[set[int], set[int]]] = field(default_factory=list)
    commit_error: Exception | None = None
    big: Zeros | None = None
    short: bool = False
    expire: Expire = NEVER
    closed: int = 0

    def __post_init__(self) -> None:
        self.view = View(
            Listing(
                [
                    Message(n, f"uid{n}", b"", BIG if self.big else len(mail), dots=True)
                    for n, mail in enumerate(self.mails, 1)
                ]
            )
        )

    def open(self, message: Message) -> io.BytesIO | Zeros:
        if self.big is not None:
            return self.big
        if self.mails[message.id - 1] == b"damaged":
            raise StoreUnavailable
        mail = self.mails[message.id - 1]
        return io.BytesIO(mail[:-3] if self.short else mail)

    async def commit(self) -> None:
        if self.commit_error is not None:
            raise self.commit_error
        self.committed.append((self.view.retrieved_ids(), self.view.deleted_ids()))

    def close(self) -> None:
        self.closed += 1


@dataclass
class OneDoor:
    drop: Drop
    expire: Expire = NEVER
    announces_scram: bool = False
    peers: list[str] = field(default_factory=list)

    async def login(self, proof: Proof, peer: str, claim: Claim) -> Drop:
        await asyncio.sleep(0)
        self.peers.append(peer)
        if not isinstance(proof, PasswordProof) or proof.password != b"right":
            raise BadLogin
        return self.drop

    async def scram(self, username: str, peer: str) -> ScramChallenge:
        raise BadLogin


class Facts:
    def __init__(self) -> None:
        self.seen: list[Fact] = []
        self.session_over = asyncio.Event()

    def observe(self, fact: Fact) -> None:
        self.seen.append(fact)
        if isinstance(fact, SessionEnded):
            self.session_over.set()

    async def ended(self) -> SessionEnded:
        async with asyncio.timeout(TIMEOUT):
            await self.session_over.wait()
        (fact,) = [f for f in self.seen if not isinstance(f, (SessionStarted, LoggedIn))]
        assert isinstance(fact, SessionEnded)
        return fact


@dataclass
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    facts: Facts
    sessions: Sessions[Pop3Session]

    async def line(self) -> bytes:
        async with asyncio.timeout(TIMEOUT):
            return await self.reader.readline()

    async def say(self, *lines: bytes) -> None:
        self.writer.write(b"".join(line + b"\r\n" for line in lines))
        await self.writer.drain()

    async def ask(self, line: bytes) -> bytes:
        await self.say(line)
        return await self.line()

    async def lines(self, line: bytes) -> list[bytes]:
        """The lines of a multi-line answer, without their ends and still stuffed."""
        assert (await self.ask(line)).startswith(b"+OK")
        found = []
        while (got := await self.line()) != b".\r\n":
            assert got.endswith(b"\r\n")
            found.append(got[:-2])
        return found

    async def rest(self) -> bytes:
        async with asyncio.timeout(TIMEOUT):
            return await self.reader.read()

    async def log_in(self) -> None:
        await self.line()
        await self.say(b"USER alice", b"PASS right")
        assert (await self.line()).startswith(b"+OK")
        assert (await self.line()).startswith(b"+OK")


@asynccontextmanager
async def connected(
    drop: Drop,
    policy: SessionPolicy | None = None,
    limits: LimitsPolicy | None = None,
    *,
    door: OneDoor | None = None,
) -> AsyncIterator[Client]:
    network = SocketNetwork(None)
    facts = Facts()
    limits = limits or LimitsPolicy()
    sessions: Sessions[Pop3Session] = Sessions(limits)
    face = Face(door or OneDoor(drop), network, facts, policy or SessionPolicy(), limits, "test/1")
    listener = await network.listen("127.0.0.1:0", lambda: Pop3Session(face, sessions, tls=False))
    host, _, port = listener.addresses[0].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=2**24)
    try:
        yield Client(reader, writer, facts, sessions)
    finally:
        writer.close()
        for session in list(sessions):
            session.shut_down()
        await listener.close()


async def test_a_whole_session_sent_ahead_is_answered_in_order_and_committed() -> None:
    drop = Drop([b"one\r\n", b".two\r\n"])
    async with connected(drop) as client:
        commands = b"USER a,PASS right,STAT,RETR 2,DELE 1,LIST,QUIT".split(b",")
        await client.say(*commands)
        answer = await client.rest()
        assert answer == (
            b"+OK pop3-sync-proxy ready\r\n+OK send PASS\r\n+OK 2 messages (11 octets)\r\n"
            b"+OK 2 11\r\n+OK 6 octets\r\n..two\r\n.\r\n+OK message 1 deleted\r\n"
            b"+OK 1 messages (6 octets)\r\n2 6\r\n.\r\n+OK bye\r\n"
        )
        ended = await client.facts.ended()
    assert drop.committed == [({2}, {1})]
    assert drop.closed == 1
    assert (ended.ended, ended.retrieved, ended.deleted) == ("quit", 1, 1)
    asked = ("USER", "PASS", "STAT", "RETR", "DELE", "LIST", "QUIT")
    assert ended.commands == dict.fromkeys(asked, 1)


async def test_how_long_a_login_takes_is_told_once_it_is_accepted() -> None:
    async with connected(Drop([])) as client:
        await client.say(b"USER a", b"PASS wrong", b"USER a", b"PASS right", b"QUIT")
        await client.rest()
        await client.facts.ended()
    (login,) = [fact for fact in client.facts.seen if isinstance(fact, LoggedIn)]
    assert 0 <= login.seconds < TIMEOUT


async def test_commands_before_a_half_close_are_answered() -> None:
    drop = Drop([b"one\r\n"])
    async with connected(drop) as client:
        await client.say(b"USER a", b"PASS right", b"RETR 1")
        client.writer.write_eof()
        assert (await client.rest()).endswith(b"+OK 5 octets\r\none\r\n.\r\n")
    assert drop.committed == []


@pytest.mark.parametrize("ending", ["close", "abort"])
async def test_a_session_that_ends_without_quit_commits_nothing(ending: str) -> None:
    """RFC 1939 §6."""
    drop = Drop([b"one\r\n"])
    async with connected(drop) as client:
        await client.log_in()
        assert (await client.ask(b"DELE 1")).startswith(b"+OK")
        if ending == "close":
            client.writer.close()
        else:
            client.writer.transport.abort()
        await client.facts.ended()
    assert drop.committed == []
    assert drop.closed == 1


async def test_a_silent_session_is_dropped_and_commits_nothing() -> None:
    """RFC 1939 §3."""
    drop = Drop([b"one\r\n"])
    async with connected(drop, SessionPolicy(autologout=Seconds(0.2))) as client:
        await client.log_in()
        await client.ask(b"DELE 1")
        assert await client.rest() == b""
        assert (await client.facts.ended()).ended == "timeout"
    assert drop.committed == []


async def test_a_commit_that_fails_is_told() -> None:
    drop = Drop([b"one\r\n"], commit_error=StoreUnavailable("disk full"))
    async with connected(drop) as client:
        await client.log_in()
        assert (await client.ask(b"QUIT")).startswith(b"-ERR [SYS/TEMP]")
        assert (await client.facts.ended()).ended == "error"


async def test_a_refused_login_says_so_and_another_may_follow() -> None:
    """RFC 3206 §4."""
    async with connected(Drop([])) as client:
        await client.line()
        await client.say(b"USER alice", b"PASS wrong")
        await client.line()
        assert (await client.line()).startswith(b"-ERR [AUTH]")
        await client.say(b"USER alice", b"PASS right")
        await client.line()
        assert (await client.line()).startswith(b"+OK")


async def test_a_blob_that_cannot_be_opened_is_a_temporary_error() -> None:
    async with connected(Drop([b"damaged", b"two\r\n"])) as client:
        await client.log_in()
        assert (await client.ask(b"RETR 1")).startswith(b"-ERR [SYS/TEMP]")
        assert (await client.ask(b"RETR 2")).startswith(b"+OK")


async def test_a_blob_that_ends_early_never_looks_whole() -> None:
    async with connected(Drop([b"a message\r\n"], short=True)) as client:
        await client.log_in()
        await client.say(b"RETR 1")
        assert b"\r\n.\r\n" not in await client.rest()
        assert (await client.facts.ended()).ended == "error"


async def test_others_get_their_turn_while_what_top_does_not_show_is_compared() -> None:
    big = Headed(BIG)
    async with connected(Drop([b""], big=big)) as client:
        await client.log_in()
        left = [BIG]

        def look() -> None:
            left.append(big.left)
            if big.left:
                asyncio.get_running_loop().call_soon(look)

        look()
        assert await client.lines(b"TOP 1 0") == [b"A: b", b""]
    assert max(before - after for before, after in pairwise(left)) <= TURN + CHUNK


@pytest.mark.parametrize("command", [b"LIST 9", b"UIDL 0", b"RETR 2", b"TOP 2 0", b"DELE 2"])
async def test_messages_that_are_not_there_are_refused(command: bytes) -> None:
    async with connected(Drop([b"one\r\n"])) as client:
        await client.log_in()
        assert (await client.ask(command)).startswith(b"-ERR")
        assert await client.ask(b"STAT") == b"+OK 1 5\r\n"


async def test_top_gives_header_and_lines() -> None:
    async with connected(Drop([b"A: b\r\n\r\n.1\r\n2\r\n"])) as client:
        await client.log_in()
        await client.say(b"TOP 1 1", b"QUIT")
        assert await client.rest() == (b"+OK top follows\r\nA: b\r\n\r\n..1\r\n.\r\n+OK bye\r\n")


async def test_a_device_that_does_not_read_is_not_read_ahead_for() -> None:
    """Memory is bounded: the blob is read on only as the device takes it."""
    big = Zeros(BIG)
    drop = Drop([b"big"], big=big)
    async with connected(drop) as client:
        await client.log_in()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.say(b"RETR 1", b"QUIT")
        # Other work of the loop gets its turn, over and over, and the blob is not read to its end.
        for _ in range(2000):
            await asyncio.sleep(0)
        (session,) = client.sessions
        assert big.left > BIG // 2
        assert session._transport.get_write_buffer_size() < 1024 * 1024
        assert drop.committed == []
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        received = await client.rest()
        assert len(received) > BIG
        assert received.endswith(b".\r\n+OK bye\r\n")
    assert drop.committed == [({1}, set())]


@pytest.mark.parametrize("verb", [b"UIDL", b"LIST"])
async def test_sessions_that_do_not_read_a_long_listing_hold_a_slice_of_it_each(
    verb: bytes,
) -> None:
    many, may_hold = 60, 256 * 1024
    drop = Drop([])
    drop.view = View(
        Listing([Message(n, f"{n:070}", b"", 10**9, dots=False) for n in range(100_000)])
    )
    expected = b"".join(drop.view.uidl_lines() if verb == b"UIDL" else drop.view.list_lines())
    assert len(expected) > 6 * may_hold
    limits = LimitsPolicy(max_connections_per_address=many + 1)
    async with connected(drop, limits=limits) as client, lazy_readers(client, many) as lazy:
        tracemalloc.start()
        try:
            for reader in lazy:
                reader.sendall(b"USER alice\r\nPASS right\r\n" + b"%s\r\n" % verb * 3)
            for _ in range(2000):
                await asyncio.sleep(0)
            held = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        waiting = [s for s in client.sessions if s._transport.get_write_buffer_size()]
        assert len(waiting) == many
        assert held < many * may_hold
        await client.log_in()
        await client.say(verb, b"QUIT")
        assert (await client.rest()).endswith(expected + b".\r\n+OK bye\r\n")


@asynccontextmanager
async def lazy_readers(client: Client, many: int) -> AsyncIterator[list[socket.socket]]:
    """More connections to the same server, whose answers nobody reads, and the kernel takes only
    a little of."""
    readers = [socket.socket() for _ in range(many)]
    try:
        for reader in readers:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect(client.writer.get_extra_info("peername"))
        for _ in range(500):
            await asyncio.sleep(0)
        assert len(client.sessions) == many + 1
        for session in client.sessions:
            near = session._transport.get_extra_info("socket")
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        yield readers
    finally:
        for reader in readers:
            reader.close()


async def test_commands_behind_a_listing_wait_for_its_end_and_see_its_marks() -> None:
    drop = Drop([b"x"] * 20_000)
    async with connected(drop) as client:
        await client.log_in()
        await client.say(b"DELE 7", b"UIDL", b"DELE 8", b"LIST", b"STAT", b"QUIT")
        answer = await client.rest()
    uidl = b"".join(b"%d uid%d\r\n" % (n, n) for n in range(1, 20_001) if n != 7)
    listed = b"".join(b"%d 1\r\n" % n for n in range(1, 20_001) if n not in (7, 8))
    assert answer == (
        b"+OK message 7 deleted\r\n+OK unique-id listing follows\r\n" + uidl + b".\r\n"
        b"+OK message 8 deleted\r\n+OK 19998 messages (19998 octets)\r\n" + listed + b".\r\n"
        b"+OK 19998 19998\r\n+OK bye\r\n"
    )


async def test_quit_sent_ahead_commits_only_what_the_device_could_take() -> None:
    drop = Drop([b"big"], big=Zeros(BIG))
    async with connected(drop) as client:
        await client.log_in()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.say(b"RETR 1", b"QUIT")
        for _ in range(200):
            await asyncio.sleep(0)
        client.writer.transport.abort()
        await client.facts.ended()
    assert drop.committed == []


async def test_a_flood_of_commands_is_not_held_in_memory() -> None:
    async with connected(Drop([b"one\r\n"])) as client:
        await client.log_in()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        flood = b"LIST\r\n" * 200_000
        client.writer.write(flood)
        for _ in range(500):
            await asyncio.sleep(0)
        (session,) = client.sessions
        assert session._machine.waiting_octets < 1024 * 1024
        assert session._transport.get_write_buffer_size() < 1024 * 1024


async def test_a_peer_that_speaks_something_else_is_hung_up_on() -> None:
    async with connected(Drop([])) as client:
        client.writer.write(b"HELO there\r\n" * 100)
        try:
            answer = await client.rest()
        except ConnectionError:
            return
        assert answer.count(b"-ERR") < 30
        assert (await client.facts.ended()).ended == "bad_commands"


@pytest.mark.parametrize(
    ("policy", "peer", "allowed"),
    [
        ("never", "127.0.0.1", False),
        ("loopback", "127.0.0.1", True),
        ("loopback", "::1", True),
        ("loopback", "::ffff:127.0.0.1", True),
        ("loopback", "192.0.2.1", False),
        ("loopback", "fe80::1%eth0", False),
        ("loopback", "local", True),
        ("always", "192.0.2.1", True),
    ],
)
def test_where_logins_in_clear_text_are_allowed_from(policy: str, peer: str, allowed: bool) -> None:
    assert plaintext_allowed(policy, peer) is allowed  # type: ignore[arg-type]
