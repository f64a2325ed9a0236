"""What Dovecot sends of each mail of the corpus: the yardstick of all tests, itself tested."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.certificates import Certificates, make_certificates
from tests.corpus import corpus, dots_first, large_mail, name_of, normalise
from tests.e2e.clients import PROGRAMS, Program
from tests.e2e.conftest import DirectMails
from tests.e2e.devices import Endpoint, Login, PollFailed, Security
from tests.e2e.dovecot import Dovecot
from tests.e2e.poplib_device import logged_in
from tests.e2e.rig import Rig, assert_same_mails, one_each, small_mails
from tests.needs import need

pytestmark = pytest.mark.e2e


def test_the_corpus_is_large_and_always_the_same() -> None:
    assert len(corpus()) > 200
    corpus_before = corpus()
    corpus.cache_clear()
    assert corpus() == corpus_before
    assert len(large_mail()) > 25 * 1024 * 1024
    assert any(count > 1 for count in Counter(corpus()).values())


@pytest.mark.parametrize("security", ["plain", "starttls", "implicit"])
def test_dovecot_sends_each_mail_normalised(
    dovecot: Dovecot, certificates: Certificates, security: Security
) -> None:
    user = dovecot.add_user()
    mails = [*corpus(), large_mail()] if security == "plain" else list(corpus())
    dovecot.deliver(user, *mails)
    port = dovecot.tls_port if security == "implicit" else dovecot.port
    endpoint = Endpoint("localhost", port, security, certificates.ca_file)
    with logged_in(endpoint, Login(user.name, user.password)) as session:
        for number, raw in enumerate(mails, 1):
            wanted = normalise(raw)
            # Compared apart from the assertion: a difference of megabytes takes minutes to show.
            same = session.body(f"RETR {number}") == wanted
            assert same, name_of(wanted)
        session.quit()


def test_dovecot_does_not_stuff_a_dot_that_comes_first(dovecot: Dovecot) -> None:
    """Why `dots_first` is no part of the corpus. If this fails, Dovecot is mended: put it in."""
    user = dovecot.add_user()
    odd = dots_first()[0]
    dovecot.deliver(user, odd)
    endpoint = Endpoint(dovecot.host, dovecot.port)
    with logged_in(endpoint, Login(user.name, user.password)) as session:
        assert session.body("RETR 1") == normalise(odd).removeprefix(b".")
        session.quit()


def test_the_tap_counts_what_crosses_it(rig: Rig) -> None:
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *corpus())
    endpoint = Endpoint(rig.tap.host, rig.tap.port)
    with logged_in(endpoint, Login(user.name, user.password)) as session:
        for number in session.uids():
            session.body(f"RETR {number}")
        session.quit()
    record = rig.tap.record()
    assert record.retrieved == one_each(corpus())
    assert (record.logins, record.quits, record.cut_short) == (1, 1, 0)
    assert not any(user.password in line for _, line in record.commands)


@pytest.mark.parametrize(
    ("program", "security"),
    [(program, security) for program in PROGRAMS for security in program.speaks],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_a_program_gets_the_same_of_dovecot_over_every_transport(
    dovecot: Dovecot,
    rig: Rig,
    direct_mails: DirectMails,
    program: type[Program],
    security: Security,
) -> None:
    need(program.name)
    user = dovecot.add_user()
    dovecot.deliver(user, *corpus())
    port = dovecot.tls_port if security == "implicit" else dovecot.port
    endpoint = Endpoint("localhost", port, security, rig.certificates.ca_file)
    device = program(rig.folder / "device", endpoint, Login(user.name, user.password))
    device.poll()
    assert len(device.mails()) == len(corpus())
    assert_same_mails(device.mails(), direct_mails(program)[0].elements())
    if program.exact:
        assert_same_mails(device.mails(), map(normalise, corpus()))
    device.poll()
    assert len(device.mails()) == len(corpus())


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_a_program_verifies_certificates(
    dovecot: Dovecot, rig: Rig, program: type[Program]
) -> None:
    """Or the tests over TLS would prove nothing."""
    need(program.name)
    user = dovecot.add_user()
    dovecot.deliver(user, *small_mails(1, "verified"))
    stranger = rig.folder / "stranger"
    stranger.mkdir()
    endpoint = Endpoint(
        "localhost", dovecot.tls_port, "implicit", make_certificates(stranger).ca_file
    )
    device = program(rig.folder / "device", endpoint, Login(user.name, user.password))
    with pytest.raises(PollFailed):
        device.poll()
    assert device.mails() == []
