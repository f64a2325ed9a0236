"""The server machine, command by command."""

from __future__ import annotations

import base64
from typing import get_args

import pytest

from proxy.domain.facts import Command
from proxy.wire import pop3_events as pop3
from proxy.wire.errors import LocalProtocolError
from proxy.wire.line_server import OUTPUT_LIMIT
from proxy.wire.pop3_server import _COMMANDS, OTHER, Offer, Pop3Server, State
from tests.wire.feeding import every_way
from tests.wire.http import HTTP_FIELDS, HTTP_LINES, NO_HTTP_LINES


def server(*, stls: bool = True, plaintext_login: bool = True) -> Pop3Server:
    return Pop3Server(Offer(stls=stls, plaintext_login=plaintext_login, implementation="proxy/1.2"))


def logged_in() -> Pop3Server:
    machine = server()
    machine.receive(b"USER a\r\nPASS b\r\n")
    assert machine.next_event() == pop3.PasswordLogin("a", b"b")
    machine.logged_in("welcome")
    machine.data_to_send()
    return machine


def say(machine: Pop3Server, line: bytes) -> bytes:
    """Send a line the machine answers itself."""
    machine.receive(line + b"\r\n")
    assert machine.next_event() is None
    return machine.data_to_send()


def capabilities(machine: Pop3Server) -> list[str]:
    first, *rest = say(machine, b"CAPA").decode().split("\r\n")
    assert first.startswith("+OK")
    assert rest[-2:] == [".", ""]
    return rest[:-2]


def test_user_and_pass_make_a_login() -> None:
    machine = server()
    machine.receive(b"USER alice@example.com+laptop\r\n")
    assert machine.next_event() is None
    assert machine.data_to_send().startswith(b"+OK")
    machine.receive(b"PASS two words \r\n")
    assert machine.next_event() == pop3.PasswordLogin("alice@example.com+laptop", b"two words ")


def test_commands_are_counted_whatever_comes_of_them() -> None:
    machine = logged_in()
    for line in (b"noop", b"NOOP", b"RETR x", b"USER a", b"XYZZY 1", b"apop a b", b""):
        say(machine, line)
    assert machine.commands == {b"USER": 2, b"PASS": 1, b"NOOP": 2, b"RETR": 1, OTHER: 3}


def test_every_command_has_a_name_in_metrics() -> None:
    assert {verb.decode() for verb in (*_COMMANDS, OTHER)} == set(get_args(Command))


def test_pass_without_user_is_refused() -> None:
    assert say(server(), b"PASS x").startswith(b"-ERR")


@pytest.mark.parametrize("refused", [b"USER \xff", b"USER " + b"b" * 10_000])
def test_a_refused_user_name_ends_the_one_before(refused: bytes) -> None:
    machine = server()
    say(machine, b"USER a")
    assert say(machine, refused).startswith(b"-ERR")
    assert say(machine, b"PASS x").startswith(b"-ERR")


def test_answers_that_nobody_fetches_stop_the_machine() -> None:
    machine = server()
    machine.receive(b"CAPA\r\n" * 5_000)
    answered = 0
    while machine.next_event() is None and machine.output_octets:
        assert machine.output_octets < 2 * OUTPUT_LIMIT
        answered += machine.data_to_send().count(b"+OK")
    assert answered == 5_000


def test_after_a_refused_password_user_is_needed_again() -> None:
    machine = server()
    machine.receive(b"USER a\r\nPASS wrong\r\n")
    machine.next_event()
    machine.err("no", "AUTH")
    assert machine.data_to_send().endswith(b"-ERR [AUTH] no\r\n")
    assert say(machine, b"PASS again").startswith(b"-ERR")
    assert machine.state is State.AUTHORIZATION


@pytest.mark.parametrize("name", [b"", b"\xff\xfe", b"a\x00b", b"a\x1bb", "a\u202eb".encode()])
def test_a_user_name_that_is_not_printable_text_is_refused(name: bytes) -> None:
    assert say(server(), b"USER " + name).startswith(b"-ERR")


PLAIN = base64.b64encode(b"\0alice\0se cret")


@pytest.mark.parametrize(
    "dialogue",
    [
        [b"AUTH PLAIN " + PLAIN],
        [b"auth plain", PLAIN],
        [b"AUTH LOGIN", base64.b64encode(b"alice"), base64.b64encode(b"se cret")],
        [b"AUTH LOGIN " + base64.b64encode(b"alice"), base64.b64encode(b"se cret")],
        [b"AUTH PLAIN " + base64.b64encode(b"alice\0alice\0se cret")],
    ],
)
def test_sasl_exchanges_make_a_login(dialogue: list[bytes]) -> None:
    """RFC 5034 §4."""
    machine = server()
    for line in dialogue[:-1]:
        assert say(machine, line).startswith(b"+ ")
    machine.receive(dialogue[-1] + b"\r\n")
    assert machine.next_event() == pop3.PasswordLogin("alice", b"se cret")


@pytest.mark.parametrize(
    "dialogue",
    [
        [b"AUTH PLAIN", b"*"],
        [b"AUTH PLAIN", b"not base64!"],
        [b"AUTH PLAIN ="],
        [b"AUTH PLAIN " + base64.b64encode(b"no nul")],
        [b"AUTH PLAIN " + base64.b64encode(b"other\0alice\0x")],
        [b"AUTH GSSAPI"],
        [b"AUTH PLAIN one two"],
        [b"AUTH LOGIN", b"x" * 20000],
    ],
)
def test_a_sasl_exchange_gone_wrong_leaves_the_machine_where_it_was(dialogue: list[bytes]) -> None:
    machine = server()
    for line in dialogue:
        answer = say(machine, line)
    assert answer.startswith(b"-ERR")
    assert say(machine, b"USER a").startswith(b"+OK")


def test_auth_alone_lists_the_mechanisms() -> None:
    assert say(server(), b"AUTH") == b"+OK mechanisms follow\r\nPLAIN\r\nLOGIN\r\n.\r\n"


def test_capabilities_differ_before_and_after_the_login() -> None:
    """RFC 2449 §5 and §6.9: no version before the login."""
    before = capabilities(server())
    assert {"USER", "STLS", "SASL PLAIN LOGIN", "PIPELINING", "UIDL", "TOP"} <= set(before)
    assert "IMPLEMENTATION proxy" in before
    after = capabilities(logged_in())
    assert "IMPLEMENTATION proxy/1.2" in after
    assert not {"USER", "STLS", "SASL PLAIN LOGIN"} & set(after)


def test_without_tls_no_login_is_offered_or_taken_where_clear_text_is_forbidden() -> None:
    machine = server(plaintext_login=False)
    assert not {"USER", "SASL PLAIN LOGIN"} & set(capabilities(machine))
    assert b"STLS" in say(machine, b"USER a")
    assert say(machine, b"AUTH PLAIN " + PLAIN).startswith(b"-ERR")
    machine.receive(b"STLS\r\n")
    assert machine.next_event() == pop3.StartTls()
    machine.start_tls()
    machine.tls_started()
    assert "USER" in capabilities(machine)


def test_what_was_sent_in_clear_behind_stls_is_thrown_away_and_user_forgotten() -> None:
    """RFC 2595 §4."""
    machine = server()
    machine.receive(b"USER mallory\r\nSTLS\r\nUSER mallory\r\nPASS x\r\nDELE 1\r\n")
    assert machine.next_event() == pop3.StartTls()
    machine.start_tls()
    assert machine.next_event() is None
    machine.tls_started()
    machine.data_to_send()
    assert machine.next_event() is None
    assert say(machine, b"PASS x").startswith(b"-ERR")
    assert say(machine, b"STLS").startswith(b"-ERR")


def test_stls_without_a_certificate_is_refused() -> None:
    machine = server(stls=False)
    assert "STLS" not in capabilities(machine)
    assert say(machine, b"STLS").startswith(b"-ERR")


@pytest.mark.parametrize(
    "command", [b"STAT", b"LIST", b"UIDL", b"RETR 1", b"TOP 1 0", b"DELE 1", b"RSET", b"NOOP"]
)
def test_transaction_commands_are_refused_before_the_login(command: bytes) -> None:
    assert say(server(), command).startswith(b"-ERR")


@pytest.mark.parametrize("command", [b"USER a", b"PASS a", b"AUTH PLAIN", b"STLS"])
def test_login_commands_are_refused_after_the_login(command: bytes) -> None:
    assert say(logged_in(), command).startswith(b"-ERR")


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (b"STAT", pop3.Stat()),
        (b"stat ", pop3.Stat()),
        (b"LIST", pop3.List(None)),
        (b"LIST 2", pop3.List(2)),
        (b"UIDL", pop3.Uidl(None)),
        (b"uidl 0002", pop3.Uidl(2)),
        (b"RETR 3", pop3.Retr(3)),
        (b"TOP 1 10", pop3.Top(1, 10)),
        (b"DELE 4", pop3.Dele(4)),
        (b"RSET", pop3.Rset()),
        (b"QUIT", pop3.Quit(update=True)),
    ],
)
def test_transaction_commands_become_events(line: bytes, event: pop3.Event) -> None:
    machine = logged_in()
    machine.receive(line + b"\r\n")
    assert machine.next_event() == event


@pytest.mark.parametrize(
    "line",
    [
        b"STAT 1",
        b"LIST x",
        b"LIST -1",
        b"LIST 1 2",
        b"RETR",
        b"RETR 1 2",
        b"RETR 1.5",
        b"RETR +1",
        b"RETR 99999999999999999999",
        "RETR ١".encode(),
        b"TOP 1",
        b"TOP 1 -1",
        b"DELE",
        b"RSET 1",
        b"QUIT now",
        b"XYZZY",
        b"",
    ],
)
def test_malformed_commands_are_refused_and_change_nothing(line: bytes) -> None:
    machine = logged_in()
    assert say(machine, line).startswith(b"-ERR")
    assert machine.state is State.TRANSACTION


def test_pipelined_commands_wait_for_the_answer_before_them() -> None:
    """RFC 2449 §6.6."""
    stream = b"USER a\r\nPASS b\r\nSTAT\r\nNOOP\r\nRETR 1\r\nQUIT\r\n"
    for pieces in every_way(stream):
        machine = server()
        events = []
        for piece in pieces:
            machine.receive(piece)
            while (event := machine.next_event()) is not None:
                assert machine.next_event() is None
                events.append(event)
                if isinstance(event, pop3.PasswordLogin):
                    machine.logged_in("hello")
                else:
                    machine.ok()
        assert events == [
            pop3.PasswordLogin("a", b"b"),
            pop3.Stat(),
            pop3.Retr(1),
            pop3.Quit(update=True),
        ]
        assert machine.data_to_send() == (
            b"+OK send PASS\r\n+OK hello\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n"
        )


def test_quit_before_the_login_commits_nothing() -> None:
    machine = server()
    machine.receive(b"QUIT\r\n")
    assert machine.next_event() == pop3.Quit(update=False)


def test_a_peer_that_speaks_something_else_is_given_up() -> None:
    machine = server()
    machine.receive(b"HELO there\r\n" * 20)
    assert machine.next_event() == pop3.TooManyErrors()


@pytest.mark.parametrize("line", HTTP_LINES)
@pytest.mark.parametrize("in_front", [b"", b"NOOP\r\n", b"USER alice\r\n"])
def test_a_line_of_http_is_an_event_and_nothing_behind_it_is_looked_at(
    line: bytes, in_front: bytes
) -> None:
    for machine in (server(), logged_in()):
        machine.receive(in_front + line + b"\r\nUSER a\r\nPASS b\r\nSTAT\r\nQUIT\r\n")
        assert machine.next_event() == pop3.HttpBegun()
        assert machine.next_event() is None
        machine.data_to_send()
        machine.err("goodbye")
        assert machine.data_to_send() == b"-ERR goodbye\r\n"


@pytest.mark.parametrize("line", HTTP_FIELDS)
@pytest.mark.parametrize("in_front", [b"", b"POST /" + b"a" * 10_000 + b" HTTP/1.1\r\n"])
def test_a_request_line_that_is_too_long_is_known_by_the_field_behind_it(
    line: bytes, in_front: bytes
) -> None:
    machine = server()
    machine.receive(in_front + line + b"\r\nUSER a\r\nPASS b\r\n")
    assert machine.next_event() == pop3.HttpBegun()
    machine = logged_in()
    machine.receive(in_front + line + b"\r\nDELE 1\r\nQUIT\r\n")
    assert machine.next_event() == pop3.HttpBegun()


@pytest.mark.parametrize("line", NO_HTTP_LINES)
def test_other_unknown_commands_are_refused_and_the_session_goes_on(line: bytes) -> None:
    machine = server()
    machine.receive(line + b"\r\nQUIT\r\n")
    assert machine.next_event() == pop3.Quit(update=False)


def test_a_body_in_parts_stays_owed_until_its_end() -> None:
    machine = logged_in()
    machine.receive(b"RETR 1\r\nNOOP\r\n")
    assert machine.next_event() == pop3.Retr(1)
    machine.body_start("6 octets")
    machine.body_part(b"abcd\r\n")
    assert machine.next_event() is None
    machine.body_end()
    assert machine.next_event() is None
    assert machine.data_to_send() == b"+OK 6 octets\r\nabcd\r\n.\r\n+OK\r\n"


def test_answering_what_nobody_asked_is_our_bug() -> None:
    with pytest.raises(LocalProtocolError):
        server().ok()


def test_a_login_does_not_show_its_password_when_printed() -> None:
    assert "secret" not in repr(pop3.PasswordLogin("a", b"secret"))
