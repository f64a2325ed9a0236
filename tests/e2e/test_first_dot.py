"""Dovecot 2.3 does not stuff the first octet of a message; one that begins ".CRLF" ends there."""

from __future__ import annotations

import pytest

from tests.corpus import dots_first, normalise
from tests.e2e.rig import Rig, assert_same_mails, small_mails
from tests.e2e.waiting import eventually

pytestmark = pytest.mark.e2e


def test_a_mail_that_dovecot_cannot_send_right_holds_up_no_other(rig: Rig) -> None:
    user = rig.dovecot.add_user()
    before, after = small_mails(3, "before"), small_mails(3, "after")
    rig.dovecot.deliver(user, *before, dots_first()[2], *after)
    proxy = rig.proxy(user)
    device = rig.device(proxy, user, "laptop")

    def has_all() -> bool:
        # The first sync breaks at the odd mail; the next one, after a short back-off, leaves it.
        device.poll()
        return len(device.mails()) >= 6

    eventually(has_all, what="the mails around it", within=90, otherwise=proxy.log)
    assert_same_mails(device.mails(), map(normalise, before + after))
    later = small_mails(1, "later")
    rig.dovecot.deliver(user, *later)
    device.poll()
    assert_same_mails(device.mails(), map(normalise, before + after + later))
