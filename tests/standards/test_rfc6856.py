"""RFC 6856, UTF-8 and languages."""

from __future__ import annotations

import pytest

from proxy.wire import pop3_events as pop3
from tests.wire.test_pop3_server import capabilities, logged_in, say, server


def test_utf8_and_lang_are_announced() -> None:
    """RFC 6856 §2, §3."""
    for machine in (server(), logged_in()):
        assert {"UTF8 USER", "LANG"} <= set(capabilities(machine))


def test_utf8_is_for_the_authorization_state_alone() -> None:
    """RFC 6856 §2.1."""
    assert say(server(), b"UTF8").startswith(b"+OK")
    assert say(server(), b"UTF8 x").startswith(b"-ERR")
    assert say(logged_in(), b"UTF8").startswith(b"-ERR")


def test_names_and_passwords_may_be_utf8() -> None:
    """RFC 6856 §2.2, the argument USER."""
    machine = server()
    say(machine, b"UTF8")
    assert say(machine, "USER jörg@example.com".encode()).startswith(b"+OK")
    machine.receive("PASS schön\r\n".encode())
    assert machine.next_event() == pop3.PasswordLogin("jörg@example.com", "schön".encode())


def test_stls_is_refused_after_utf8() -> None:
    """RFC 6856 §2.1."""
    machine = server()
    say(machine, b"UTF8")
    assert say(machine, b"STLS").startswith(b"-ERR")


def test_lang_alone_lists_the_languages() -> None:
    """RFC 6856 §3."""
    answer = say(server(), b"LANG")
    assert answer.startswith(b"+OK")
    assert b"\r\nen English\r\n" in answer
    assert answer.endswith(b"\r\n.\r\n")


@pytest.mark.parametrize(
    ("wanted", "tag"),
    [
        (b"en", b"en"),
        (b"EN-gb", b"en"),
        (b"*", b"en"),
        (b"i-default",) * 2,
        (b"i-default-x", b"i-default"),
    ],
)
def test_lang_answers_with_the_tag_that_holds_now(wanted: bytes, tag: bytes) -> None:
    """RFC 6856 §3."""
    for machine in (server(), logged_in()):
        assert say(machine, b"LANG " + wanted).startswith(b"+OK " + tag + b" ")


@pytest.mark.parametrize("wanted", [b"de", b"tlh", b"e", b"en de", b"\xff"])
def test_a_language_that_is_not_there_is_refused(wanted: bytes) -> None:
    """RFC 6856 §3."""
    assert say(server(), b"LANG " + wanted).startswith(b"-ERR")
