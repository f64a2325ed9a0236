"""When a login upstream counts: the secret was told, the exchange was over, and STAT is answered.

The server of these tests checks nothing: it says what a script wants.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path
from unittest.mock import Mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.domain.errors import (
    BadLogin,
    NotJudged,
    ProxyError,
    UpstreamBusy,
    UpstreamGarbled,
    UpstreamRefusedLogin,
    UpstreamUnreachable,
)
from proxy.domain.model import Credentials
from proxy.domain.policy import LimitsPolicy, Seconds, UpstreamServer
from proxy.services.conversation import Conversation
from proxy.services.stream import Stream
from proxy.services.upstream_dial import open_session
from proxy.services.upstream_memory import ServerMemory, UpstreamMemory
from proxy.services.upstream_trial import try_upstream
from proxy.wire.scram import ScramServer, scram_keys
from tests.rude_upstream import RudeUpstream, mail
from tests.services.house import QuickPasswords, SetClock, house, policy_for, world_of

WORLD = world_of(Path("/nowhere"), SetClock(), QuickPasswords())
GREETING = b"+OK ready <1896.697170952@example.org>\r\n"
CHALLENGE = b"<42@example.org>"
STAT = "+OK 2 100"

MECHANISMS = (
    "user",
    "apop",
    "plain",
    "login",
    "cram-md5",
    "scram-sha-256",
    "xoauth2",
    "oauthbearer",
    "auto",
)
HANG_UP = ""
RIGHT = "as it should be"
ANSWERS = (
    RIGHT,
    HANG_UP,
    "+OK",
    "+OK text",
    STAT,
    "+ ",
    "+ " + base64.b64encode(CHALLENGE).decode(),
    "-ERR",
    "-ERR [AUTH] no",
    "-ERR [IN-USE] locked",
    "garbage",
    "+OK\r\n+OK",
    "-ERR\r\n+OK",
    f"{STAT}\r\n+OK",
)


def b64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


PLAIN = b64(b"\0alice\0secret")


class Scripted:
    """Answers each line by the script, and hangs up behind its end; notes what was said."""

    def __init__(self, script: Iterable[str]) -> None:
        self._script = deque(script)
        self.sessions: list[list[tuple[str, str]]] = []
        """Lines and what answered them, without CAPA."""
        self._scram: ScramServer | None = None

    def __call__(self, lines: list[str]) -> bytes | None:
        if len(lines) == 1:
            self.sessions.append([])
        said = self._script.popleft() if self._script else HANG_UP
        if lines[-1] == "QUIT":
            said = "+OK"
        answer = self._right(lines) if said == RIGHT else said
        self.sessions[-1].append((lines[-1], answer))
        return None if answer == HANG_UP else answer.encode() + b"\r\n"

    def _right(self, lines: list[str]) -> str:
        """What a server says that lets everybody in."""
        auths = [n for n, line in enumerate(lines) if line.startswith("AUTH ")]
        if lines[-1] == "STAT":
            return STAT
        if not auths or lines[-1].split(" ")[0] in ("USER", "PASS", "APOP"):
            return "+OK"
        _, mechanism, *initial = lines[auths[-1]].split(" ")
        said = initial + lines[auths[-1] + 1 :]
        if mechanism.startswith("SCRAM"):
            return self._scram_answer(said)
        challenges = {"LOGIN": [b"Username:", b"Password:"], "CRAM-MD5": [CHALLENGE]}
        left = challenges.get(mechanism, [b""])[len(said) :]
        return f"+ {b64(left[0])}" if left else "+OK"

    def _scram_answer(self, said: list[str]) -> str:
        try:
            last = base64.b64decode(said[-1]) if said else b""
            match len(said):
                case 0:
                    return "+ "
                case 1:
                    self._scram = ScramServer(plus=False, plus_announced=False, end_point=None)
                    self._scram.first(last)
                    first = self._scram.challenge(nonce="n" * 20, salt=b"salt", iterations=4096)
                    return f"+ {b64(first)}"
                case 2:
                    assert self._scram is not None
                    _, proof = self._scram.final(last, [scram_keys(b"secret", b"salt", 4096)])
                    return f"+ {b64(proof)}"
        except Exception:
            return "-ERR"
        return "+OK"


def is_complete(session: Sequence[tuple[str, str]]) -> bool:
    """Whether the last of these lines ends an exchange that tells the secret."""
    lines = [line for line, _ in session]
    last, before = lines[-1], session[-2] if len(session) > 1 else ("", "")
    if last == "PASS secret":
        return before[0] == "USER alice" and before[1].startswith("+OK")
    if last.startswith("APOP"):
        digest = hashlib.md5(b"<1896.697170952@example.org>secret").hexdigest()
        return last == f"APOP alice {digest}"
    auths = [n for n, line in enumerate(lines) if line.startswith("AUTH ")]
    if not auths:
        return False
    _, mechanism, *initial = lines[auths[-1]].split(" ")
    said = [*initial, *lines[auths[-1] + 1 :]]
    told = said[-1] if said else None
    match mechanism:
        case "PLAIN":
            return told == PLAIN
        case "LOGIN":
            return said[-2:] == [b64(b"alice"), b64(b"secret")]
        case "CRAM-MD5":
            challenge = base64.b64decode(before[1][2:])
            digest = hmac.new(b"secret", challenge, "md5").hexdigest()
            return told == b64(f"alice {digest}".encode())
        case "XOAUTH2":
            return told == b64(b"user=alice\1auth=Bearer secret\1\1")
        case "OAUTHBEARER":
            return b"auth=Bearer secret" in base64.b64decode(told or "")
    # SCRAM: behind the server's own proof, which answers the client's.
    return told == "" and base64.b64decode(before[1][2:]).startswith(b"v=")


def lets_in(session: Sequence[tuple[str, str]]) -> bool:
    """The rule, from what was said: by whom and in which words does not matter."""
    upto = list(takewhile(lambda said: said[0] != "STAT", session))
    if len(upto) == len(session) or not upto:
        return False
    stat, answer = session[len(upto)][1], upto[-1][1]
    in_step = not any("\n" in said for _, said in session[: len(upto) + 1])
    return (
        in_step
        and re.fullmatch(r"\+OK [0-9]+ [0-9]+", stat) is not None
        and answer.startswith("+OK")
        and is_complete(upto)
    )


async def attempt(
    mechanism: str, script: Iterable[str], *capabilities: str
) -> tuple[Scripted, UpstreamMemory, ProxyError | None]:
    scripted = Scripted(script)
    memory = UpstreamMemory()
    sasl = "SASL PLAIN" if mechanism == "auto" else "SASL"
    rude = RudeUpstream(
        greeting=GREETING, capabilities=["USER", sasl, *capabilities], scripted=scripted
    )
    is_token = mechanism in ("xoauth2", "oauthbearer")
    async with rude.listening():
        server = UpstreamServer("127.0.0.1", rude.port, "none", auth=mechanism)  # type: ignore[arg-type]
        credentials = Credentials("alice", b"secret", is_token=is_token)
        try:
            session = await open_session(WORLD, server, credentials, memory)
        except ProxyError as error:
            return scripted, memory, error
        session.abort()
        return scripted, memory, None


scripts = st.lists(st.one_of(st.just(RIGHT), st.sampled_from(ANSWERS)), max_size=10)
ways = st.sampled_from(MECHANISMS)


@settings(max_examples=500, deadline=None)
@given(mechanism=ways, script=scripts)
@example(mechanism="auto", script=["+OK", STAT])
@example(mechanism="auto", script=["+OK", RIGHT, RIGHT, RIGHT])
@example(mechanism="oauthbearer", script=["+ ", "+ ", "+OK", RIGHT])
@example(mechanism="login", script=[RIGHT, "+OK", RIGHT])
@example(mechanism="scram-sha-256", script=[RIGHT, RIGHT, "+OK", RIGHT])
@example(mechanism="user", script=[RIGHT, "+ ", RIGHT])
def test_a_login_counts_when_it_was_whole_and_stat_is_answered_and_never_else(
    mechanism: str, script: list[str]
) -> None:
    said, memory, error = asyncio.run(attempt(mechanism, script))
    sessions = said.sessions
    assert (error is None) == bool(sessions and lets_in(sessions[-1]))
    assert not any(lets_in(session) for session in sessions[:-1])
    assert bool(memory.login.proven) == (error is None)
    if isinstance(error, UpstreamRefusedLogin):
        refusals = [a for s in sessions for line, a in s if line != "STAT" and a[:4] == "-ERR"]
        assert refusals
    assert len(sessions) <= 2


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_every_mechanism_can_be_gone_through(mechanism: str) -> None:
    said, _, error = asyncio.run(attempt(mechanism, [RIGHT] * 9))
    assert error is None
    assert len(said.sessions) == 1


@settings(max_examples=150, deadline=None)
@given(mechanism=ways, script=scripts)
def test_nor_where_commands_are_sent_ahead(mechanism: str, script: list[str]) -> None:
    """With initial responses, too. Whose answer an extra line is taken for is chance here."""
    said, _, error = asyncio.run(attempt(mechanism, script, "PIPELINING", "AUTH-RESP-CODE"))
    unclear = any("\n" in answer for session in said.sessions for _, answer in session)
    if not unclear:
        assert (error is None) == bool(said.sessions and lets_in(said.sessions[-1]))
    elif error is None:
        lines = [line for line, _ in said.sessions[-1]]
        assert is_complete(said.sessions[-1][: lines.index("STAT")])


# --- one by one ----------------------------------------------------------------------------------


def saying(**answers: bytes) -> RudeUpstream:
    """One that does as it should but for the answers to these commands."""
    told = {verb.replace("_", " "): answer for verb, answer in answers.items()}
    return RudeUpstream([("u1", mail("1"))], capabilities=["USER", "SASL PLAIN"], refusals=told)


async def log_in(
    rude: RudeUpstream, password: bytes = b"secret", memory: UpstreamMemory | None = None
) -> None:
    server = UpstreamServer("127.0.0.1", rude.port, "none")
    session = await open_session(WORLD, server, Credentials("alice", password), memory)
    session.abort()


async def test_where_auth_means_nothing_user_and_pass_are_tried_and_remembered() -> None:
    memory = UpstreamMemory()
    async with saying(AUTH=b"+OK\r\n").listening() as rude:
        await log_in(rude, memory=memory)
        await log_in(rude, memory=memory)
        assert [c for c in rude.commands if c != "CAPA"] == [
            "AUTH",
            *("USER alice", "PASS", "STAT") * 2,
        ]


async def test_a_wrong_password_is_refused_there_by_pass() -> None:
    async with saying(AUTH=b"+OK\r\n").listening() as rude:
        memory = UpstreamMemory()
        with pytest.raises(UpstreamRefusedLogin):
            await log_in(rude, b"wrong", memory)
        assert memory == UpstreamMemory(memory.server, shown=True)


@pytest.mark.parametrize(
    ("stat", "error"),
    [
        (b"-ERR not logged in\r\n", UpstreamUnreachable),
        (b"-ERR [AUTH] who are you\r\n", UpstreamUnreachable),
        (b"-ERR [IN-USE] locked\r\n", UpstreamBusy),
        (b"-ERR [SYS/TEMP] not now\r\n", UpstreamBusy),
        (b"+OK 1 mail\r\n", UpstreamUnreachable),
        (b"+ \r\n", UpstreamUnreachable),
    ],
)
async def test_what_another_answer_to_stat_means(stat: bytes, error: type[ProxyError]) -> None:
    async with saying(STAT=stat).listening() as rude:
        with pytest.raises(error):
            await log_in(rude)


async def test_what_the_answer_to_stat_repeats_of_the_password_is_left_out() -> None:
    async with saying(STAT=b"-ERR bad password secret\r\n").listening() as rude:
        with pytest.raises(UpstreamUnreachable, match=r"bad password \*\*\*"):
            await log_in(rude)


@pytest.mark.parametrize(
    ("answers", "pipelining"),
    [
        ({"USER": b"-ERR\r\n", "PASS": b"+OK\r\n"}, True),
        ({"USER": b"+OK\r\n+OK\r\n", "PASS": b"-ERR\r\n"}, True),
        ({"USER": b"+OK\r\n+OK\r\n", "PASS": b"-ERR\r\n"}, False),
        ({"PASS": b"+OK\r\n+OK\r\n"}, True),
        ({"PASS": b"+OK\r\n+O", "STAT": b"K 1 100\r\n"}, False),
        ({"PASS": b"+ \r\n"}, False),
        ({"USER": b"+OK\r\nhello\r\n"}, False),
    ],
)
async def test_answers_out_of_step_are_no_verdict(
    answers: dict[str, bytes], pipelining: bool
) -> None:
    async with saying(**answers).listening() as rude:
        rude.capabilities = ["USER", "PIPELINING"] if pipelining else ["USER"]
        with pytest.raises(UpstreamUnreachable):
            await log_in(rude)


async def test_what_comes_late_behind_an_answer_is_not_taken_for_the_next_one() -> None:
    stream, transport = Stream(1.0), Mock(spec=asyncio.Transport, is_closing=lambda: False)
    stream.connection_made(transport)
    talk = Conversation(stream, ServerMemory())
    stream.data_received(b"+OK in\r\n")
    assert (await talk.reply()).ok
    stream.data_received(b"+OK 1 100\r\n")
    with pytest.raises(UpstreamGarbled, match="nobody asked for"):
        await talk.ask(b"STAT")
    transport.write.assert_not_called()


@pytest.mark.parametrize("greeting", [b"+OK a\r\n+OK b\r\n", b"+OK a\r\n+O", b"+ \r\n"])
async def test_a_greeting_of_more_than_a_line_is_no_greeting(greeting: bytes) -> None:
    rude = saying()
    rude.greeting = greeting
    async with rude.listening():
        with pytest.raises(UpstreamUnreachable):
            await log_in(rude)
        assert not {"AUTH", "PASS"} & set(rude.commands)


async def test_a_check_is_as_strict() -> None:
    async with saying(AUTH=b"+OK\r\n", PASS=b"+OK\r\n", STAT=b"-ERR\r\n").listening() as rude:
        server = UpstreamServer("127.0.0.1", rude.port, "none")
        trial = await try_upstream(WORLD, server, Credentials("alice", b"wrong"))
        assert isinstance(trial.error, UpstreamUnreachable)


# --- what it is worth ----------------------------------------------------------------------------

FEW = LimitsPolicy(login_delay=Seconds(0), upstream_refusals=5)


async def test_nobody_reads_stored_mail_on_the_strength_of_a_stray_ok(tmp_path: Path) -> None:
    rude = saying()
    async with rude.listening(), house(tmp_path, policy_for(rude.port)) as home:
        assert await home.uids("alice+laptop") == ["u1"]
        owner = await home.store.account("alice")
        rude.refusals["AUTH"] = b"+OK\r\n"
        with pytest.raises(BadLogin):
            await home.login("alice+thief", b"whatever")
        # Here even USER and PASS are answered with +OK whatever they say, and STAT is not.
        rude.refusals |= {"PASS": b"+OK\r\n", "STAT": b"-ERR log in first\r\n"}
        with pytest.raises(NotJudged):
            await home.login("alice+thief", b"another")
        left = await home.store.account("alice")
        assert owner is not None
        assert left is not None
        assert left.verifier == owner.verifier
        assert [device.name for device in await home.store.devices(owner.id)] == ["laptop"]
        assert await home.uids("alice+laptop") == ["u1"]


async def test_a_name_of_which_nothing_is_proved_leaves_no_trace(tmp_path: Path) -> None:
    rude = saying(AUTH=b"+OK\r\n", PASS=b"+OK\r\n", STAT=b"-ERR log in first\r\n")
    async with rude.listening(), house(tmp_path, policy_for(rude.port)) as home:
        with pytest.raises(NotJudged):
            await home.login("alice", b"whatever")
        assert await home.store.account("alice") is None


async def test_a_login_that_tries_two_ways_upstream_counts_once(tmp_path: Path) -> None:
    rude = saying(AUTH=b"+OK\r\n")
    async with rude.listening(), house(tmp_path, policy_for(rude.port), limits=FEW) as home:
        # What strangers may use up of five.
        for number in range(3):
            with pytest.raises(BadLogin):
                await home.login("alice", b"wrong%d" % number)
        assert rude.commands.count("PASS") == rude.commands.count("AUTH") == 3
        with pytest.raises(NotJudged):
            await home.login("alice", b"another")
        assert rude.commands.count("PASS") == 3
