"""What strangers can make of the proxy's own mail: nothing but a line of its text."""

from __future__ import annotations

import re
import shlex
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.domain import device_texts
from proxy.domain import trouble_texts as texts
from proxy.domain.alert_texts import alert
from proxy.domain.directory import DeclaredAccount
from proxy.domain.facts import UidlsChanged
from proxy.domain.model import Account, Credentials, Unfetched
from proxy.domain.notice import NOBODY, compose
from proxy.domain.plain_text import one_line
from proxy.domain.policy import AccountPolicy, UpstreamServer
from proxy.domain.survey import Space
from proxy.domain.timekeeping import Timekeeping
from proxy.domain.trouble import Trouble, TroubleKind
from proxy.domain.trouble_texts import Telling

HEADERS = [
    "Date",
    "Message-ID",
    "From",
    "To",
    "Subject",
    "Auto-Submitted",
    "X-POP3-Sync-Proxy",
    "X-POP3-Sync-Proxy-Trouble",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
]

hostile = st.one_of(
    st.text(max_size=400),
    st.lists(
        st.sampled_from(
            [
                *("\r\n", "\n", "\r", "\0", "\u2028", "\u202e", "\ud800", "\x1b[2J", " "),
                *("=?utf-8?q?=0d=0aBcc:_x?=", "=??Q?=0D=0A", "=?", "?=", "Bcc: x@y", ".\r\n"),
                *("<", ">", "@", ",", ";", "'", '"', "é", "a" * 80),
            ]
        ),
        max_size=30,
    ).map("".join),
)


def account_of(name: str, failure: str = "no", *unfetched: Unfetched) -> Account:
    return Account(1, name, True, None, 0, 1.7e9, 1.8e9, failure, "X", 0, False, 0, unfetched)


def declared_of(name: str, server: UpstreamServer, *, stored: bool = False) -> DeclaredAccount:
    policy = AccountPolicy(upstream=server)
    return DeclaredAccount(name, Credentials(name, b"hunter2 hunter2"), policy, stored)


def tellings(name: str, said: str, uid: str) -> dict[TroubleKind, Telling]:
    message = Unfetched(uid, 2**31, "larger than max_message_size, 9 octets")
    account, space = account_of(name, said, message), Space(10, 100)
    server = UpstreamServer("pop.example.com")
    declared = declared_of(name, server)
    return {
        "password_refused": texts.password_refused(account, declared),
        "consent_needed": texts.consent_needed(account, declared),
        "no_sync": texts.no_sync(account, server),
        "too_large": texts.too_large(account, [message], 2**30),
        "uidls_changed": texts.uidls_changed(account, UidlsChanged(name, 7, 1)),
        "shared_device": device_texts.shared_device(account, ["default", "laptop"], "+"),
        "clock_jump": texts.clock_jump(Timekeeping(doubt="jumped"), 1.8e9),
        "same_mailbox": texts.same_mailbox(account, name, (name, uid)),
        "store_low": texts.store_low(space),
        "store_full": texts.store_full(account, space),
        "account_full": texts.account_full(account),
        "lost_mail": texts.lost_mail(account, [uid, "17"]),
        "orphans": texts.orphans(7),
    }


def mail_of(telling: Telling, kind: str, name: str) -> bytes:
    return compose(
        subject=telling.subject,
        body=telling.body,
        kind="notice",
        trouble=kind,
        token="abc",
        at=1.8e9,
        to=[name],
    )


def assert_well_formed(raw: bytes) -> EmailMessage:
    assert raw.isascii()
    assert b"\0" not in raw
    assert re.search(rb"(?<!\r)\n|\r(?!\n)", raw) is None
    assert max(len(line) for line in raw.split(b"\r\n")) <= 998
    mail = message_from_bytes(raw, policy=default)
    assert isinstance(mail, EmailMessage)
    trouble = "X-POP3-Sync-Proxy-Trouble"
    assert mail.keys() == [name for name in HEADERS if name != trouble or trouble in mail]
    assert mail.defects == []
    assert not mail.is_multipart()
    assert mail.get_content_type() == "text/plain"
    return mail


@given(hostile, hostile, hostile)
def test_nothing_of_a_stranger_s_becomes_a_header_or_a_control_character(
    name: str, said: str, uid: str
) -> None:
    told = tellings(name, said, uid)
    assert told.keys() == set(get_args(TroubleKind))
    for kind, telling in told.items():
        mail = assert_well_formed(mail_of(telling, kind, name))
        assert mail["From"] == NOBODY
        assert mail["X-POP3-Sync-Proxy-Trouble"] == kind
        # What files copies of sent mail looks for "sent".
        assert "sent" not in mail["X-POP3-Sync-Proxy"]
        assert len(mail["Subject"]) <= 200
        assert mail["Subject"].isprintable()
        lines = mail.get_content().splitlines()
        assert all(line.isprintable() for line in lines)


@given(hostile, hostile)
def test_the_same_holds_for_the_notice_of_a_new_device(name: str, peer: str) -> None:
    telling = device_texts.new_device(account_of(name), "laptop", peer, at=1.8e9, count=50, most=50)
    mail = assert_well_formed(mail_of(telling, "new_device", name))
    assert all(line.isprintable() for line in mail.get_content().splitlines())
    assert "as many as it may have" in " ".join(mail.get_content().split())


@given(hostile, st.sampled_from("+/%é"))
def test_the_answer_to_who_names_no_device_is_one_short_line(name: str, separator: str) -> None:
    for by_login in (True, False):
        text = device_texts.not_named(name, separator, by_login=by_login)
        assert text.isprintable()
        assert len(text.encode()) < 400
        assert "lock" in text, "fetchmail would not show it"


@given(hostile, hostile)
def test_the_same_holds_for_mail_to_the_operator(name: str, said: str) -> None:
    troubles = [
        Trouble(n, 1, kind, 1.7e9, telling.subject, telling.body, (), None, None, None, None)
        for n, (kind, telling) in enumerate(tellings(name, said, said).items())
    ]
    for began in (troubles, troubles[:1]):
        telling = alert(began, [])
        raw = compose(
            subject=telling.subject,
            body=telling.body,
            kind="alert",
            token="abc",
            at=1.8e9,
            sender="proxy@example.com",
            to=["ops@example.com"],
        )
        mail = assert_well_formed(raw)
        assert (mail["From"], mail["To"]) == (
            "pop3-sync-proxy <proxy@example.com>",
            "ops@example.com",
        )


@given(hostile, hostile, hostile, hostile)
def test_compose_itself_lets_nothing_through(
    subject: str, body: str, kind: str, address: str
) -> None:
    raw = compose(
        subject=subject, body=body, kind=kind, token="abc", at=0, sender=address, to=[address]
    )
    assert_well_formed(raw)


@given(hostile)
def test_a_name_in_a_command_is_one_word_for_the_shell(name: str) -> None:
    body = texts.no_sync(account_of(name), UpstreamServer("pop.example.com")).body
    (line,) = [each for each in body.splitlines() if each.startswith("    ")]
    words = shlex.split(line)
    assert words[:3] == ["pop3-sync-proxy", "account", "sync"]
    assert words[3:] == [one_line(name, texts.NAME)]


@pytest.mark.parametrize(
    ("server", "stored", "command"),
    [
        (UpstreamServer("h", oauth_client_id="id"), False, "account authorize"),
        (UpstreamServer("h"), True, "account set-password"),
        (UpstreamServer("h"), False, "account sync"),
    ],
)
def test_the_command_is_the_one_that_helps(
    server: UpstreamServer, stored: bool, command: str
) -> None:
    name = "alice@example.com"
    declared = declared_of(name, server, stored=stored)
    for telling in (
        texts.password_refused(account_of(name), declared),
        texts.consent_needed(account_of(name), declared),
    ):
        assert f"    pop3-sync-proxy {command} {name}\n" in telling.body
        assert "hunter2" not in telling.body


def test_a_notice_goes_to_the_account_where_that_is_an_address() -> None:
    telling = tellings("a@b.example", "no", "u")["no_sync"]
    assert assert_well_formed(mail_of(telling, "x", "a@b.example"))["To"] == "a@b.example"
    assert assert_well_formed(mail_of(telling, "x", "a@b.c, d@e.f"))["To"] == "recipients:;"


def test_many_recipients_are_one_to() -> None:
    people = [f"{'p' * 60}{n}@example.com" for n in range(50)]
    raw = compose(subject="s", body="b\n", kind="alert", token="abc", at=0, to=people)
    assert [each.addr_spec for each in assert_well_formed(raw)["To"].addresses] == people


def test_text_beyond_ascii_stays_readable() -> None:
    telling = texts.no_sync(account_of("jörg", "geht nicht: ü"), UpstreamServer("h"))
    mail = assert_well_formed(mail_of(telling, "no_sync", "jörg"))
    assert mail["Subject"] == "No new mail for jörg for a day"
    assert "geht nicht: ü" in mail.get_content()


@given(hostile, st.integers(2, 60))
def test_one_line_is_printable_and_short(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert line.isprintable()
    assert len(line) <= limit
