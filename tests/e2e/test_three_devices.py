"""The main promise: three devices, each message once on each, fetched once from upstream."""

from __future__ import annotations

import pytest

from tests.corpus import corpus, large_mail, normalise
from tests.e2e.rig import Rig, assert_same_mails, one_each, poll_together, small_mails

pytestmark = pytest.mark.e2e


def test_three_devices_get_each_message_once_and_upstream_gives_it_once(rig: Rig) -> None:
    user = rig.dovecot.add_user()
    mails = [*corpus(), large_mail()]
    rig.dovecot.deliver(user, *mails)
    proxy = rig.proxy(user)
    devices = [rig.device(proxy, user, name) for name in ("laptop", "desktop", "phone")]

    # That LIST's octets are RETR's is checked by the device, for every message.
    poll_together(*devices)
    for device in devices:
        assert_same_mails(device.mails(), map(normalise, mails))
    assert devices[0].by_uid.keys() == devices[1].by_uid.keys() == devices[2].by_uid.keys()
    assert rig.tap.retrs() == one_each(mails)

    asked = rig.tap.record().count("RETR")
    poll_together(*devices)
    assert rig.tap.record().count("RETR") == asked
    for device in devices:
        assert len(device.mails()) == len(mails)

    later = small_mails(3, "later")
    rig.dovecot.deliver(user, *later)
    poll_together(*devices)
    for device in devices:
        assert_same_mails(device.mails(), map(normalise, [*mails, *later]))
    assert rig.tap.retrs() == one_each([*mails, *later])
    assert rig.dovecot.count(user) == len(mails) + len(later)


def test_a_message_keeps_its_uidl_over_a_restart(rig: Rig) -> None:
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *small_mails(20, "kept"))
    proxy = rig.proxy(user)
    first = rig.device(proxy, user, "first")
    first.poll()
    proxy.restart()
    second = rig.device(proxy, user, "second")
    second.poll()
    assert second.by_uid == first.by_uid
    assert rig.tap.record().count("RETR") == 20


def test_sessions_of_one_device_do_not_lock_each_other_out(rig: Rig) -> None:
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *small_mails(20, "shared"))
    proxy = rig.proxy(user)
    sessions = [rig.device(proxy, user, "laptop") for _ in range(4)]
    poll_together(*sessions)
    for session in sessions:
        assert len(session.mails()) == 20
    assert rig.tap.record().count("RETR") == 20
