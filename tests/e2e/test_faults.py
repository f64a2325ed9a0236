"""Upstream in trouble: devices are served what is stored, and the next sync repairs the rest."""

from __future__ import annotations

import time

import pytest

from tests.corpus import corpus, normalise
from tests.e2e.dovecot import User
from tests.e2e.overheard import digest
from tests.e2e.proxy import ProxyProcess
from tests.e2e.rig import Rig, assert_same_mails, one_each, poll_together, small_mails
from tests.e2e.waiting import eventually

pytestmark = pytest.mark.e2e

STALL_WAIT = 1.0
"""Seconds a login waits for a sync where upstream stalls."""
SERVED_WITHIN = 5.0
"""Seconds beyond that in which a device must have been served; a busy machine is slow."""


def sync(proxy: ProxyProcess, user: User) -> int:
    """Sync now, back-off or not; returns the exit code."""
    return proxy.cli("account", "sync", user.name).returncode


def set_up(rig: Rig, stored: list[bytes], *, login_wait: str = "60s") -> tuple[User, ProxyProcess]:
    """A proxy that has these mails already."""
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *stored)
    proxy = rig.proxy(user, sections={"sync": {"login_wait": login_wait}})
    # The first sync after the start comes by itself; with it done, nothing else disturbs.
    eventually(lambda: rig.tap.record().quits > 0, what="the first sync")
    assert sync(proxy, user) == 0
    return user, proxy


@pytest.mark.timeout(180)
def test_connections_cut_at_random_octets_lose_and_double_nothing(rig: Rig) -> None:
    mails = [mail for mail in corpus() if len(mail) < 50_000]
    user, proxy = set_up(rig, [])
    first, second = rig.device(proxy, user, "first"), rig.device(proxy, user, "second")
    rig.dovecot.deliver(user, *mails)
    rig.tap.trouble.cut_mean = sum(map(len, mails)) / 8
    wanted = one_each(mails)
    attempts = 0
    while rig.tap.retrs() != wanted:
        attempts += 1
        assert attempts < 80, "no progress"
        sync(proxy, user)
        # What is complete is kept, and what is kept is not fetched again.
        assert rig.tap.retrs() <= wanted
        if attempts % 4 == 0:
            poll_together(first, second)
    assert attempts > 3
    assert rig.tap.record().cut_short > 0
    rig.tap.calm()
    assert sync(proxy, user) == 0
    poll_together(first, second)
    for device in (first, second):
        assert_same_mails(device.mails(), map(normalise, mails))
    assert rig.tap.retrs() == wanted


def test_a_message_that_upstream_will_not_give_out_holds_up_no_other(rig: Rig) -> None:
    user, proxy = set_up(rig, [])
    mails = small_mails(8, "refused")
    rig.dovecot.deliver(user, *mails)
    device = rig.device(proxy, user, "laptop")
    rig.tap.trouble.refuse_retr = frozenset({1, 4, 8})
    device.poll()
    assert_same_mails(device.mails(), mails[1:3] + mails[4:7])
    assert digest(mails[0]) not in rig.tap.retrs()
    rig.tap.calm()
    sync(proxy, user)
    device.poll()
    assert_same_mails(device.mails(), mails)
    assert rig.tap.retrs() == one_each(mails)


@pytest.mark.parametrize("after", [0, 300, 2000, 20_000])
def test_a_device_is_served_while_upstream_stalls(rig: Rig, after: int) -> None:
    stored, late = small_mails(5, "stored"), small_mails(5, "late", octets=8000)
    user, proxy = set_up(rig, stored, login_wait=f"{STALL_WAIT:.0f}s")
    rig.tap.trouble.stall_after = after
    rig.dovecot.deliver(user, *late)
    device = rig.device(proxy, user, "laptop")
    # The first login waits, and a second one while the same sync still hangs waits no longer.
    for _ in range(2):
        started = time.monotonic()
        device.poll()
        assert time.monotonic() - started < STALL_WAIT + SERVED_WITHIN
        assert_same_mails(device.mails(), stored)
    rig.tap.calm()
    assert repaired(proxy, user)
    device.poll()
    assert_same_mails(device.mails(), [*stored, *late])
    assert rig.tap.retrs() == one_each([*stored, *late])


def repaired(proxy: ProxyProcess, user: User) -> bool:
    """The sync that hung may still be ending when the next is asked for."""
    return sync(proxy, user) == 0 or sync(proxy, user) == 0


@pytest.mark.parametrize(
    "reply", ["-ERR [SYS/TEMP] busy", "-ERR [AUTH] no", "-ERR [IN-USE] locked", "-ERR no"]
)
def test_a_device_is_served_while_upstream_refuses_logins(rig: Rig, reply: str) -> None:
    stored, late = small_mails(5, "stored"), small_mails(5, "late")
    user, proxy = set_up(rig, stored)
    rig.tap.trouble.login_reply = reply.encode()
    rig.dovecot.deliver(user, *late)
    device = rig.device(proxy, user, "laptop")
    for _ in range(2):
        device.poll()
        assert_same_mails(device.mails(), stored)
    assert sync(proxy, user) == 1
    rig.tap.calm()
    assert sync(proxy, user) == 0
    device.poll()
    assert_same_mails(device.mails(), [*stored, *late])
    assert rig.tap.retrs() == one_each([*stored, *late])


def test_logins_are_not_repeated_at_every_poll_while_upstream_refuses(rig: Rig) -> None:
    """Providers lock an account after a few refusals."""
    user, proxy = set_up(rig, small_mails(1, "stored"))
    rig.tap.trouble.login_reply = b"-ERR [AUTH] no"
    before = rig.tap.record()
    device = rig.device(proxy, user, "laptop")
    for _ in range(10):
        device.poll()
    after = rig.tap.record()
    tried = sum(after.count(verb) - before.count(verb) for verb in ("PASS", "AUTH"))
    assert tried <= 1


def test_a_device_is_served_while_upstream_is_gone(rig: Rig) -> None:
    stored, late = small_mails(5, "stored"), small_mails(5, "late")
    user, proxy = set_up(rig, stored)
    rig.tap.refuse()
    rig.dovecot.deliver(user, *late)
    device = rig.device(proxy, user, "laptop")
    device.poll()
    assert_same_mails(device.mails(), stored)
    proxy.restart()
    other = rig.device(proxy, user, "other")
    other.poll()
    assert_same_mails(other.mails(), stored)

    rig.tap.accept()
    assert repaired(proxy, user)
    device.endpoint = proxy.endpoint()
    poll_together(device, other)
    for each in (device, other):
        assert_same_mails(each.mails(), [*stored, *late])
    assert rig.tap.retrs() == one_each([*stored, *late])


def test_mail_that_upstream_loses_stays_with_devices_that_lack_it(rig: Rig) -> None:
    stored = small_mails(5, "stored")
    user, proxy = set_up(rig, stored)
    rig.dovecot.remove_all(user)
    late = small_mails(2, "late")
    rig.dovecot.deliver(user, *late)
    for name in ("first", "second"):
        device = rig.device(proxy, user, name)
        device.poll()
        assert_same_mails(device.mails(), [*stored, *late])
