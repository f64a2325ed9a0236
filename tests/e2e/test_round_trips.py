"""How often a sync waits for upstream: counted, not timed, on a line slow enough to tell.

On a fast one an answer may come before the next command that did not wait for it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bench.delayed_link import DelayedLink, Heard
from tests.e2e.dovecot import Dovecot, User
from tests.e2e.proxy import ProxyProcess
from tests.e2e.rig import Rig, small_mails

pytestmark = pytest.mark.e2e

MAILS = 50
DELAY = 0.05
AT_MOST = 5
"""Round trips after the login, QUIT's included."""


@pytest.fixture
def link(dovecot: Dovecot) -> Iterator[DelayedLink]:
    with DelayedLink(dovecot.host, dovecot.port, delay=DELAY) as made:
        yield made


def set_up(rig: Rig, link: DelayedLink) -> tuple[User, ProxyProcess]:
    """A proxy that has fetched everything there is."""
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *small_mails(MAILS, "far away"))
    proxy = rig.proxy(user, upstream={"host": link.host, "port": link.port})
    assert link.next().count("RETR") == MAILS
    return user, proxy


def assert_short(heard: Heard) -> None:
    assert heard.login > 0
    assert heard.count("RETR") == 0
    assert heard.count("QUIT") == 1
    assert heard.round_trips <= AT_MOST, heard.batches


def test_a_poll_of_an_unchanged_mailbox_takes_few_round_trips(rig: Rig, link: DelayedLink) -> None:
    user, proxy = set_up(rig, link)
    proxy.cli_json("account", "sync", user.name)
    assert_short(link.next())


def test_so_does_one_that_has_to_list_the_mailbox_again(rig: Rig, link: DelayedLink) -> None:
    """What is known of an unchanged mailbox is forgotten when the proxy stops."""
    _, proxy = set_up(rig, link)
    proxy.restart()
    heard = link.next()
    assert any("UIDL" in batch.commands for batch in heard.batches)
    assert_short(heard)
