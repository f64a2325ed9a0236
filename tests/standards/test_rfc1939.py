"""RFC 1939, POP3: each requirement on a server, over a real connection."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from proxy.domain.errors import StoreUnavailable
from proxy.domain.policy import MINUTE, SessionPolicy
from tests.config.reading import HOST, problems
from tests.services.test_pop3_session import Drop, connected

MAILS = [b"A: 1\r\n\r\nfirst\r\n", b"A: 2\r\n\r\n.dot\r\n..\r\nend\r\n", b"A: 3\r\n\r\n"]

EVERY_COMMAND = [
    b"CAPA",
    b"STAT",
    b"LIST 1",
    b"LIST 99",
    b"UIDL 1",
    b"NOOP",
    b"DELE 1",
    b"RSET",
    b"USER x",
    b"LANG",
    b"RETR 0",
    b"TOP 1",
    b"XYZZY " + b"x" * 400,
]


async def test_keywords_are_read_in_any_case() -> None:
    """RFC 1939 §3."""
    async with connected(Drop(MAILS)) as client:
        await client.log_in()
        assert await client.ask(b"sTaT") == await client.ask(b"STAT")


async def test_a_status_line_is_short_and_ends_in_crlf() -> None:
    """RFC 1939 §3."""
    async with connected(Drop(MAILS)) as client:
        await client.log_in()
        for command in EVERY_COMMAND:
            answer = await client.ask(command)
            assert re.fullmatch(rb"(\+OK|-ERR)( [\x20-\x7e]*)?\r\n", answer), command
            assert len(answer) <= 512
            if command in (b"CAPA", b"LANG"):
                while await client.line() != b".\r\n":
                    pass


async def test_lines_that_begin_with_a_dot_are_stuffed_and_one_dot_ends_the_answer() -> None:
    """RFC 1939 §3."""
    async with connected(Drop(MAILS)) as client:
        await client.log_in()
        assert await client.lines(b"RETR 2") == [b"A: 2", b"", b"..dot", b"...", b"end"]


@pytest.mark.parametrize(
    "command", [b"XYZZY", b"", b"RETR", b"RETR x", b"RETR -1", b"LIST 1 2", b"TOP 1", b"DELE 1 1"]
)
async def test_what_is_unknown_or_malformed_is_refused_and_the_session_goes_on(
    command: bytes,
) -> None:
    """RFC 1939 §3."""
    async with connected(Drop(MAILS)) as client:
        await client.log_in()
        assert (await client.ask(command)).startswith(b"-ERR")
        assert await client.ask(b"STAT") == b"+OK 3 46\r\n"


async def test_a_command_in_the_wrong_state_is_refused() -> None:
    """RFC 1939 §3."""
    async with connected(Drop(MAILS)) as client:
        await client.line()
        for command in (b"STAT", b"LIST", b"RETR 1", b"DELE 1", b"NOOP", b"RSET", b"UIDL"):
            assert (await client.ask(command)).startswith(b"-ERR")
        await client.say(b"USER alice", b"PASS right")
        await client.line()
        await client.line()
        for command in (b"USER alice", b"PASS right", b"AUTH PLAIN"):
            assert (await client.ask(command)).startswith(b"-ERR")


def test_autologout_is_not_to_be_set_under_ten_minutes(tmp_path: Path) -> None:
    """RFC 1939 §3."""
    assert SessionPolicy().autologout >= 10 * MINUTE
    (problem,) = problems(tmp_path / "proxy.toml", HOST + '[pop3]\nautologout = "9m"\n')
    assert problem == 'pop3.autologout: "9m" is less than 10m, the least that RFC 1939 allows'


async def test_the_server_greets_with_ok() -> None:
    """RFC 1939 §4."""
    async with connected(Drop(MAILS)) as client:
        assert (await client.line()).startswith(b"+OK ")


async def test_quit_before_the_login_ends_the_session_and_changes_nothing() -> None:
    """RFC 1939 §4."""
    drop = Drop(MAILS)
    async with connected(drop) as client:
        await client.line()
        assert (await client.ask(b"QUIT")).startswith(b"+OK")
        assert await client.rest() == b""
    assert drop.committed == []


async def test_messages_are_numbered_from_one_and_keep_their_numbers() -> None:
    """RFC 1939 §4."""
    async with connected(Drop(MAILS)) as client:
        await client.log_in()
        await client.ask(b"DELE 2")
        assert await client.lines(b"LIST") == [b"1 15", b"3 8"]
        assert (await client.ask(b"LIST 3")) == b"+OK 3 8\r\n"


async def test_stat_gives_count_and_octets_without_what_is_marked() -> None:
    """RFC 1939 §5, STAT."""
    async with connected(Drop(MAILS)) as client:
        await client.log_in()
        assert await client.ask(b"STAT") == b"+OK 3 46\r\n"
        await client.ask(b"DELE 2")
        assert await client.ask(b"STAT") == b"+OK 2 23\r\n"


async def test_list_gives_each_message_s_octets_or_one_s() -> None:
    """RFC 1939 §5, LIST."""
    async with connected(Drop(MAILS)) as client:
        await client.log_in()
        assert await client.lines(b"LIST") == [b"1 15", b"2 23", b"3 8"]
        assert await client.ask(b"LIST 2") == b"+OK 2 23\r\n"
        assert (await client.ask(b"LIST 4")).startswith(b"-ERR")
        await client.ask(b"DELE 2")
        assert (await client.ask(b"LIST 2")).startswith(b"-ERR")


async def test_list_of_an_empty_maildrop_is_an_empty_answer() -> None:
    """RFC 1939 §5, LIST."""
    async with connected(Drop([])) as client:
        await client.log_in()
        assert await client.lines(b"LIST") == []


async def test_retr_gives_the_message_or_says_that_there_is_none() -> None:
    """RFC 1939 §5, RETR."""
    async with connected(Drop(MAILS)) as client:
        await client.log_in()
        assert await client.lines(b"RETR 1") == [b"A: 1", b"", b"first"]
        assert (await client.ask(b"RETR 0")).startswith(b"-ERR")
        assert (await client.ask(b"RETR 4")).startswith(b"-ERR")
        await client.ask(b"DELE 1")
        assert (await client.ask(b"RETR 1")).startswith(b"-ERR")


async def test_dele_marks_once_and_hides_from_every_command() -> None:
    """RFC 1939 §5, DELE."""
    async with connected(Drop(MAILS)) as client:
        await client.log_in()
        assert (await client.ask(b"DELE 1")).startswith(b"+OK")
        for command in (b"DELE 1", b"LIST 1", b"UIDL 1", b"RETR 1", b"TOP 1 0"):
            assert (await client.ask(command)).startswith(b"-ERR")
        assert await client.lines(b"UIDL") == [b"2 uid2", b"3 uid3"]


async def test_noop_does_nothing() -> None:
    """RFC 1939 §5, NOOP."""
    async with connected(Drop(MAILS)) as client:
        await client.log_in()
        assert (await client.ask(b"NOOP")).startswith(b"+OK")


async def test_rset_unmarks_everything() -> None:
    """RFC 1939 §5, RSET."""
    drop = Drop(MAILS)
    async with connected(drop) as client:
        await client.log_in()
        await client.ask(b"DELE 1")
        await client.ask(b"DELE 2")
        assert (await client.ask(b"RSET")).startswith(b"+OK")
        assert await client.ask(b"STAT") == b"+OK 3 46\r\n"
        await client.ask(b"QUIT")
    assert drop.committed == [(set(), set())]


async def test_quit_removes_what_is_marked_and_ends_the_session() -> None:
    """RFC 1939 §6."""
    drop = Drop(MAILS)
    async with connected(drop) as client:
        await client.log_in()
        await client.ask(b"DELE 3")
        assert (await client.ask(b"QUIT")).startswith(b"+OK")
        assert await client.rest() == b""
    assert drop.committed == [(set(), {3})]


async def test_quit_that_cannot_remove_says_so() -> None:
    """RFC 1939 §6."""
    async with connected(Drop(MAILS, commit_error=StoreUnavailable("full"))) as client:
        await client.log_in()
        await client.ask(b"DELE 3")
        assert (await client.ask(b"QUIT")).startswith(b"-ERR")


async def test_a_session_that_ends_without_quit_removes_nothing() -> None:
    """RFC 1939 §6."""
    drop = Drop(MAILS)
    async with connected(drop) as client:
        await client.log_in()
        await client.ask(b"DELE 3")
        client.writer.close()
        await client.facts.ended()
    assert drop.committed == []


async def test_top_gives_the_header_the_empty_line_and_so_many_lines() -> None:
    """RFC 1939 §7, TOP."""
    async with connected(Drop(MAILS)) as client:
        await client.log_in()
        assert await client.lines(b"TOP 2 0") == [b"A: 2", b""]
        assert await client.lines(b"TOP 2 1") == [b"A: 2", b"", b"..dot"]
        assert await client.lines(b"TOP 2 99") == await client.lines(b"RETR 2")
        for command in (b"TOP 2", b"TOP 2 -1", b"TOP 9 1", b"TOP x 1"):
            assert (await client.ask(command)).startswith(b"-ERR")


async def test_uidl_gives_each_message_s_id_or_one_s() -> None:
    """RFC 1939 §7, UIDL."""
    async with connected(Drop(MAILS)) as client:
        await client.log_in()
        assert await client.lines(b"UIDL") == [b"1 uid1", b"2 uid2", b"3 uid3"]
        assert await client.ask(b"UIDL 3") == b"+OK 3 uid3\r\n"
        assert (await client.ask(b"UIDL 4")).startswith(b"-ERR")


async def test_user_says_ok_whether_or_not_there_is_such_a_mailbox() -> None:
    """RFC 1939 §7, USER."""
    async with connected(Drop(MAILS)) as client:
        await client.line()
        assert await client.ask(b"USER nobody") == await client.ask(b"USER alice")


async def test_pass_is_taken_after_user_alone_and_another_login_may_follow_a_refused_one() -> None:
    """RFC 1939 §7, PASS."""
    async with connected(Drop(MAILS)) as client:
        await client.line()
        assert (await client.ask(b"PASS right")).startswith(b"-ERR")
        await client.ask(b"USER alice")
        assert (await client.ask(b"PASS wrong")).startswith(b"-ERR")
        assert (await client.ask(b"PASS right")).startswith(b"-ERR")
        await client.ask(b"USER alice")
        assert (await client.ask(b"PASS right")).startswith(b"+OK")


async def test_apop_is_neither_announced_nor_taken() -> None:
    """RFC 1939 §7, APOP: a greeting with a timestamp would announce it."""
    async with connected(Drop(MAILS)) as client:
        assert b"<" not in await client.line()
        assert (await client.ask(b"APOP alice " + b"0" * 32)).startswith(b"-ERR")


async def test_list_and_stat_count_the_octets_that_retr_sends_stuffing_apart() -> None:
    """RFC 1939 §11."""
    async with connected(Drop(MAILS)) as client:
        await client.log_in()
        sizes = [int(line.split()[1]) for line in await client.lines(b"LIST")]
        for number, size in enumerate(sizes, 1):
            lines = await client.lines(b"RETR %d" % number)
            unstuffed = [line[1:] if line.startswith(b".") else line for line in lines]
            assert sum(len(line) + 2 for line in unstuffed) == size
