"""When mail leaves the upstream: only when the policy says so, never before every device has it."""

from __future__ import annotations

import pytest

from tests.e2e.clients import Fetchmail
from tests.e2e.dovecot import User
from tests.e2e.poplib_device import PoplibDevice, logged_in
from tests.e2e.proxy import ProxyProcess, Table
from tests.e2e.rig import Rig, assert_same_mails, login, poll_together, small_mails
from tests.needs import need

pytestmark = pytest.mark.e2e

MAILS = 10


def set_up(rig: Rig, retention: Table) -> tuple[User, ProxyProcess, PoplibDevice, PoplibDevice]:
    """Two devices that are known to the proxy, and mail that neither has seen."""
    user = rig.dovecot.add_user()
    proxy = rig.proxy(user, account={"retention": retention})
    first, second = rig.device(proxy, user, "first"), rig.device(proxy, user, "second")
    poll_together(first, second)
    rig.dovecot.deliver(user, *small_mails(MAILS, "retained"))
    return user, proxy, first, second


def sync(proxy: ProxyProcess, user: User) -> None:
    proxy.cli_json("account", "sync", user.name)


def deles(rig: Rig) -> int:
    return rig.tap.record().count("DELE")


def shown_to(device: PoplibDevice) -> int:
    with logged_in(device.endpoint, device.login) as session:
        count: int = session.stat()[0]
        session.quit()
    return count


def test_delivered_empties_upstream_when_both_devices_have_each_message(rig: Rig) -> None:
    user, proxy, first, second = set_up(rig, {"upstream": "delivered"})
    first.poll()
    sync(proxy, user)
    assert rig.dovecot.count(user) == MAILS

    # Retrieved, but the session ends without QUIT: not delivered.
    with logged_in(second.endpoint, second.login) as session:
        for number in session.uids():
            session.body(f"RETR {number}")
    sync(proxy, user)
    assert rig.dovecot.count(user) == MAILS

    # All but one.
    with logged_in(second.endpoint, second.login) as session:
        for number in range(2, MAILS + 1):
            session.body(f"RETR {number}")
        session.quit()
    assert deles(rig) == 0
    sync(proxy, user)
    left = rig.dovecot.mails(user)
    assert left == small_mails(MAILS, "retained")[:1]

    second.poll()
    sync(proxy, user)
    assert rig.dovecot.count(user) == 0
    assert deles(rig) == MAILS
    assert_same_mails(second.mails(), first.mails())
    assert rig.tap.record().count("RETR") == MAILS


def test_delivered_counts_a_message_that_a_device_has_deleted_unread(rig: Rig) -> None:
    user, proxy, first, second = set_up(rig, {"upstream": "delivered"})
    first.poll()
    with logged_in(second.endpoint, second.login) as session:
        session.dele(1)
        session.quit()
    sync(proxy, user)
    assert rig.dovecot.count(user) == MAILS - 1


def test_delivered_counts_mail_that_a_program_fetches_with_top(rig: Rig) -> None:
    """fetchmail, told to keep mail, fetches it with TOP and a number of lines beyond any mail."""
    need("fetchmail")
    user = rig.dovecot.add_user()
    proxy = rig.proxy(user, account={"retention": {"upstream": "delivered"}})
    rig.dovecot.deliver(user, *small_mails(MAILS, "by TOP"))
    device = Fetchmail(rig.folder / "fetchmail", proxy.endpoint(), login(user, "only"))
    device.poll()
    assert len(device.mails()) == MAILS
    sync(proxy, user)
    assert rig.dovecot.count(user) == 0


def test_delivered_does_not_count_a_look_at_the_header(rig: Rig) -> None:
    user, proxy, first, second = set_up(rig, {"upstream": "delivered"})
    first.poll()
    with logged_in(second.endpoint, second.login) as session:
        for number in session.uids():
            session.body(f"TOP {number} 0")
        session.quit()
    sync(proxy, user)
    assert rig.dovecot.count(user) == MAILS


def test_keep_never_deletes_upstream(rig: Rig) -> None:
    user, proxy, first, second = set_up(rig, {"upstream": "keep"})
    first.delete = second.delete = True
    poll_together(first, second)
    sync(proxy, user)
    assert shown_to(first) == shown_to(second) == 0
    assert rig.dovecot.count(user) == MAILS
    assert deles(rig) == 0


def test_a_deletion_is_the_device_s_own(rig: Rig) -> None:
    user, proxy, first, second = set_up(rig, {"on_delete": "device"})
    first.delete = True
    first.poll()
    sync(proxy, user)
    assert shown_to(first) == 0
    second.poll()
    assert len(second.mails()) == MAILS
    assert rig.dovecot.count(user) == MAILS


def test_on_delete_everywhere_deletes_for_all_and_upstream(rig: Rig) -> None:
    user, proxy, first, second = set_up(rig, {"on_delete": "everywhere"})
    with logged_in(first.endpoint, first.login) as session:
        session.dele(1)
        session.dele(2)
        session.rset()
        session.dele(3)
        session.quit()
    assert shown_to(second) == MAILS - 1
    sync(proxy, user)
    kept = small_mails(MAILS, "retained")
    assert rig.dovecot.mails(user) == kept[:2] + kept[3:]


def test_a_deletion_without_quit_deletes_nothing(rig: Rig) -> None:
    user, proxy, first, _ = set_up(rig, {"on_delete": "everywhere"})
    with logged_in(first.endpoint, first.login) as session:
        session.dele(1)
    assert shown_to(first) == MAILS
    sync(proxy, user)
    assert rig.dovecot.count(user) == MAILS
    assert deles(rig) == 0
