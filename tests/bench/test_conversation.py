"""Round trips are counted by what waited for what, however the octets are cut."""

from __future__ import annotations

from tests.bench.conversation import Conversation


def logged_in() -> Conversation:
    conversation = Conversation()
    conversation.answered(b"+OK ready\r\n")
    conversation.sent(b"USER a\r\n", 0.0)
    conversation.answered(b"+OK\r\n")
    conversation.sent(b"PASS b\r\n", 0.0)
    conversation.answered(b"+OK\r\n")
    return conversation


def commands(conversation: Conversation) -> list[list[str]]:
    return [batch.commands for batch in conversation.batches[conversation.login :]]


def test_each_command_that_waits_is_a_round_trip() -> None:
    conversation = logged_in()
    for command in (b"STAT", b"NOOP", b"QUIT"):
        conversation.sent(command + b"\r\n", 0.0)
        conversation.answered(b"+OK 0 0\r\n")
    assert commands(conversation) == [["STAT"], ["NOOP"], ["QUIT"]]
    assert conversation.round_trips == 3


def test_commands_that_do_not_wait_share_one() -> None:
    conversation = logged_in()
    conversation.sent(b"STAT\r\nLI", 0.0)
    conversation.sent(b"ST\r\n", 0.0)
    conversation.sent(b"UIDL\r\n", 0.0)
    conversation.answered(b"+OK 0 0\r\n+OK\r\n.\r\n+OK\r\n.\r\n")
    conversation.sent(b"QUIT\r\n", 0.0)
    assert commands(conversation) == [["STAT", "LIST", "UIDL"], ["QUIT"]]


def test_a_command_sent_before_the_body_has_ended_has_waited_for_its_beginning() -> None:
    conversation = logged_in()
    conversation.sent(b"LIST\r\n", 0.0)
    conversation.answered(b"+OK\r\n1 100\r\n")
    conversation.sent(b"UIDL\r\n", 0.0)
    assert commands(conversation) == [["LIST"], ["UIDL"]]


def test_a_window_of_commands_waits_once_for_each_window() -> None:
    conversation = logged_in()
    conversation.sent(b"".join(b"RETR %d\r\n" % number for number in range(1, 11)), 0.0)
    for number in range(11, 101):
        conversation.answered(b"+OK\r\na message\r\n.\r\n")
        conversation.sent(b"RETR %d\r\n" % number, 0.0)
    assert conversation.round_trips == 10


def test_nothing_in_a_body_is_taken_for_an_answer() -> None:
    conversation = logged_in()
    conversation.sent(b"RETR 1\r\nRETR 2\r\nRETR 3\r\nNOOP\r\n", 0.0)
    answers = b"+OK\r\n+OK\r\n..\r\n-ERR\r\n.\r\n+OK\r\n.\r\n-ERR no such message\r\n"
    for octet in answers:
        conversation.answered(bytes([octet]))
    conversation.sent(b"STAT\r\n", 0.0)
    conversation.answered(b"+OK no operation\r\n")
    conversation.sent(b"QUIT\r\n", 0.0)
    # The answer to NOOP, which came last, is no deeper than the one that STAT waited for.
    assert commands(conversation) == [["RETR 1", "RETR 2", "RETR 3", "NOOP"], ["STAT", "QUIT"]]


def test_a_login_in_two_steps_takes_two_and_is_not_shown() -> None:
    conversation = Conversation()
    conversation.answered(b"+OK ready\r\n")
    conversation.sent(b"AUTH PLAIN\r\n", 0.0)
    conversation.answered(b"+ \r\n")
    conversation.sent(b"c2VjcmV0\r\n", 0.1)
    conversation.answered(b"+OK\r\n")
    assert [batch.commands for batch in conversation.batches] == [["AUTH"], ["(response)"]]
    assert conversation.login == 2
    assert conversation.round_trips == 0


def test_a_login_in_one_step_takes_one() -> None:
    conversation = Conversation()
    conversation.answered(b"+OK ready\r\n")
    conversation.sent(b"AUTH PLAIN c2VjcmV0\r\nSTAT\r\n", 0.0)
    conversation.answered(b"+OK\r\n+OK 0 0\r\n")
    assert [batch.commands for batch in conversation.batches] == [["AUTH", "STAT"]]
    assert conversation.login == 1


def test_a_response_that_does_not_wait_for_the_challenge_is_not_shown() -> None:
    conversation = Conversation()
    conversation.answered(b"+OK ready\r\n")
    conversation.sent(b"AUTH PLAIN\r\nc2VjcmV0\r\n", 0.0)
    conversation.answered(b"+ \r\n+OK\r\n")
    conversation.sent(b"STAT\r\n", 0.0)
    assert [batch.commands for batch in conversation.batches] == [["AUTH", "(response)"], ["STAT"]]
    assert conversation.login == 1


def test_after_a_refused_mechanism_commands_are_commands() -> None:
    conversation = Conversation()
    conversation.answered(b"+OK ready\r\n")
    conversation.sent(b"AUTH PLAIN\r\n", 0.0)
    conversation.answered(b"-ERR no\r\n")
    conversation.sent(b"USER a\r\n", 0.0)
    conversation.answered(b"+OK\r\n")
    conversation.sent(b"PASS b\r\n", 0.0)
    conversation.answered(b"+OK\r\n")
    assert [batch.commands for batch in conversation.batches] == [["AUTH"], ["USER a"], ["PASS"]]
    assert conversation.login == 3
