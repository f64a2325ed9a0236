"""Upstreams that refuse, fall silent, hang up or go on without end.

Devices read what is stored meanwhile, nothing is lost or doubled, and one bad message does not hold
up the others.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from proxy.domain.facts import SyncFailed
from proxy.domain.policy import RetentionPolicy, Seconds, SyncPolicy
from tests.quirky.play import LITTLE_PATIENCE, Play, play
from tests.quirky.quirks import Quirks

DELIVERED = RetentionPolicy(upstream="delivered")
SMALL = SyncPolicy(
    interval=Seconds(86400),
    max_age=Seconds(0),
    login_wait=Seconds(3),
    max_message_size=256 * 1024,  # type: ignore[arg-type]
)
EVERYWHERE = ["greeting", "CAPA", "USER", "PASS", "STAT", "LIST", "UIDL", "RETR #3", "QUIT"]
PLACES = [
    *((where, 0) for where in [*EVERYWHERE, "RETR"]),
    *((where, lines) for where in ("LIST", "UIDL", "RETR", "RETR #3") for lines in (1, 3)),
    ("PASS", 1),
    ("QUIT", 1),
]
"""Commands, and how many lines of their answer still go out."""
SOON = 20.0
"""Seconds in which devices are served in any case; a busy machine is slow."""
pipelining_or_not = pytest.mark.parametrize("pipelining", ["no", "right"])


async def go_through(play: Play, fault: Quirks) -> None:
    """Some mail is stored, more comes, then the upstream is in trouble, then it is not."""
    play.patience = LITTLE_PATIENCE
    play.mailbox.deliver("plain", "plain")
    await play.poll("a")
    play.mailbox.deliver("plain", "large", "plain")
    for name, value in fault.distorted().items():
        setattr(play.upstream.quirks, name, value)
    async with asyncio.timeout(SOON):
        await play.poll("a", "b")
    assert play.devices["b"].names().keys() >= {1, 2}
    play.later(3600)
    async with asyncio.timeout(SOON):
        await play.poll("b", "c")
    await play.restart()
    await play.settle(rounds=4)


# --- silence and hang-ups ------------------------------------------------------------------------


@pipelining_or_not
@pytest.mark.parametrize(("where", "lines"), PLACES)
async def test_an_upstream_that_falls_silent(
    tmp_path: Path, where: str, lines: int, pipelining: str
) -> None:
    async with play(tmp_path, Quirks(pipelining=pipelining)) as played:
        await go_through(played, Quirks(silent_in=where, after_lines=lines))
        assert played.fetched_again() == {}


@pipelining_or_not
@pytest.mark.parametrize(("where", "lines"), PLACES)
async def test_an_upstream_that_hangs_up(
    tmp_path: Path, where: str, lines: int, pipelining: str
) -> None:
    async with play(tmp_path, Quirks(pipelining=pipelining)) as played:
        await go_through(played, Quirks(cut_in=where, after_lines=lines))
        assert played.fetched_again() == {}


@pipelining_or_not
@pytest.mark.parametrize("messages", [1, 3])
async def test_an_upstream_that_hangs_up_after_so_many_messages(
    tmp_path: Path, messages: int, pipelining: str
) -> None:
    async with play(tmp_path, Quirks(closes_after=messages, pipelining=pipelining)) as played:
        played.mailbox.deliver(*["plain"] * 25)
        for _ in range(12):
            await played.poll("a")
            played.later(3600)
        assert not played.lacking()
        assert played.fetched_again() == {}


@pipelining_or_not
@pytest.mark.parametrize("fault", ["cut_in", "silent_in"])
async def test_one_message_that_breaks_every_session_holds_up_no_other(
    tmp_path: Path, fault: str, pipelining: str
) -> None:
    async with play(tmp_path, Quirks(pipelining=pipelining)) as played:
        played.patience = LITTLE_PATIENCE
        setattr(played.upstream.quirks, fault, "RETR #2")
        played.mailbox.deliver("plain", "plain", "plain", "plain")
        for _ in range(12):
            await played.poll("a")
            played.later(3600)
        assert played.lacking() == {"a": [2]}
        await played.settle()


@pytest.mark.parametrize("ending", ["glued", "bare LF"])
@pipelining_or_not
async def test_a_message_whose_end_cannot_be_seen_holds_up_no_other(
    tmp_path: Path, ending: str, pipelining: str
) -> None:
    """And it must not take the message behind it for a part of itself."""
    async with play(tmp_path, Quirks(ending=ending, pipelining=pipelining)) as played:
        played.patience = LITTLE_PATIENCE
        played.mailbox.deliver("plain", "no last line end", "bare LF", "plain", "plain")
        for _ in range(12):
            await played.poll("a")
            played.later(3600)
        assert played.devices["a"].names().keys() >= {1, 4, 5}


@pytest.mark.parametrize("sizes", ["right", "bare LF counted", "half", "zero"])
@pipelining_or_not
async def test_a_line_of_one_dot_that_is_not_stuffed_holds_up_no_other(
    tmp_path: Path, sizes: str, pipelining: str
) -> None:
    """What came of that message is no message, and must not be shown as one."""
    quirks = Quirks(stuffing="none", sizes=sizes, pipelining=pipelining)
    async with play(tmp_path, quirks) as played:
        played.patience = LITTLE_PATIENCE
        played.mailbox.deliver("plain", "dot line", "plain", "plain")
        for _ in range(12):
            await played.poll("a")
            played.later(3600)
        assert played.devices["a"].names().keys() >= {1, 3, 4}


# --- the end of a session ------------------------------------------------------------------------


@pipelining_or_not
@pytest.mark.parametrize("how", ["closes", "refuses", "refuses but deletes"])
async def test_quit_that_is_not_answered_well(tmp_path: Path, how: str, pipelining: str) -> None:
    quirks = Quirks(quit=how, pipelining=pipelining)
    async with play(tmp_path, quirks, retention=DELIVERED) as played:
        played.mailbox.deliver("plain", "plain", "plain")
        await played.poll("a", "b")
        for _ in range(4):
            played.later(3600)
            await played.poll()
        played.mailbox.deliver("plain")
        await played.settle()
        assert played.fetched_again() == {}
        assert played.mailbox.mails == []


@pytest.mark.parametrize("after_retr", ["hides", "deletes"])
async def test_quit_answered_by_closing_after_retr_that_uses_up(
    tmp_path: Path, after_retr: str
) -> None:
    async with play(tmp_path, Quirks(quit="closes", after_retr=after_retr, shows=2)) as played:
        played.mailbox.deliver(*["plain"] * 5)
        await played.poll("a", "b")
        await played.settle()
        assert played.fetched_again() == {}


# --- refused logins ------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 4])
@pytest.mark.parametrize(
    "refusal",
    [
        "-ERR [IN-USE] locked by another session",
        "-ERR [SYS/TEMP] come back later",
        "-ERR [SYS/PERM] no such mailbox",
        "-ERR [AUTH] wrong password",
        "-ERR [LOGIN-DELAY] not yet",
        "-ERR mailbox locked, try again later",
        "-ERR no",
        "-ERR",
    ],
)
async def test_a_refused_login(tmp_path: Path, refusal: str, times: int) -> None:
    async with play(tmp_path) as played:
        await go_through(played, Quirks(refusal=refusal))
        played.upstream.quirks.refused_logins = played.upstream.logins + times
        played.upstream.quirks.refusal = refusal
        played.mailbox.deliver("plain")
        for _ in range(times + 2):
            await played.poll()
            played.later(2 * 3600)
        assert played.upstream.reached[f"refused_logins={played.upstream.quirks.refused_logins}"]
        assert not played.lacking()
        assert played.fetched_again() == {}


@pytest.mark.parametrize("greeting", ["-ERR [SYS/TEMP] closed", "-ERR too many connections", ""])
async def test_a_greeting_that_is_none(tmp_path: Path, greeting: str) -> None:
    async with play(tmp_path) as played:
        await go_through(played, Quirks(greeting=greeting))
        assert played.fetched_again() == {}


@pytest.mark.parametrize("minutes", [1, 5, 10, 30])
@pytest.mark.parametrize(
    "refusal",
    [
        "-ERR [LOGIN-DELAY] too soon",
        "-ERR minimum time between mail checks violation, try again in {} minutes",
        "-ERR login too frequently",
        "-ERR you may check for mail only once every {} min.",
    ],
)
async def test_logins_no_closer_than_upstream_allows(
    tmp_path: Path, refusal: str, minutes: int
) -> None:
    """It is learnt once and for all; devices ask once a minute."""
    quirks = Quirks(login_every=60.0 * minutes, login_refusal=refusal.format(minutes))
    async with play(tmp_path, quirks) as played:
        for minute in range(240):
            if minute % 20 == 0:
                played.mailbox.deliver("plain")
            await played.poll("a")
            played.later(60)
        refused = played.upstream.refused
        assert refused <= 8
        await played.restart()
        for _ in range(60):
            await played.poll("a")
            played.later(60)
        assert played.upstream.refused <= refused + 1, "a restart forgets it"
        assert not played.lacking()
        assert played.fetched_again() == {}
        assert played.upstream.logins >= 300 / minutes / 2.5, "waits much longer than it must"


# --- upstreams that go on and on -----------------------------------------------------------------


@pipelining_or_not
@pytest.mark.parametrize("line", [False, True])
@pytest.mark.parametrize("where", EVERYWHERE)
async def test_an_answer_without_end(
    tmp_path: Path, where: str, line: bool, pipelining: str
) -> None:
    async with play(tmp_path, Quirks(pipelining=pipelining), sync=SMALL) as played:
        await go_through(played, Quirks(endless=where, endless_line=line))
        assert played.upstream.reached[f"endless={where}"]


@pipelining_or_not
async def test_a_message_without_end_holds_up_no_other(tmp_path: Path, pipelining: str) -> None:
    quirks = Quirks(endless="RETR #2", pipelining=pipelining)
    async with play(tmp_path, quirks, sync=SMALL) as played:
        played.mailbox.deliver("plain", "plain", "plain", "plain")
        for _ in range(6):
            await played.poll("a")
            played.later(3600)
        assert played.devices["a"].names().keys() == {1, 3, 4}
        assert played.fetched_again() == {}


@pipelining_or_not
@pytest.mark.parametrize("where", EVERYWHERE)
async def test_an_answer_that_nobody_asked_for(tmp_path: Path, where: str, pipelining: str) -> None:
    async with play(tmp_path, Quirks(pipelining=pipelining)) as played:
        await go_through(played, Quirks(unasked=where))


@pytest.mark.parametrize("behind", [b"+OK and more\r\n", b"+OK", b"\x16\x03\x03"])
async def test_octets_behind_the_answer_to_stls(tmp_path: Path, behind: bytes) -> None:
    """An attacker may put them there in clear, for the proxy to take as said under TLS."""
    async with play(tmp_path, Quirks(stls=b"+OK begin\r\n" + behind), tls="starttls") as played:
        played.mailbox.deliver("plain")
        async with asyncio.timeout(SOON):
            await played.poll("a")
        assert played.upstream.commands == ["STLS"], "nothing may be said in clear"
        assert played.home.facts.of(SyncFailed)


async def test_no_stls_where_it_is_asked_for(tmp_path: Path) -> None:
    async with play(tmp_path, tls="starttls") as played:
        played.mailbox.deliver("plain")
        await played.poll("a")
        assert played.upstream.count("USER", "PASS", "AUTH") == 0
