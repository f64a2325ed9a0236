"""The proxy's own way to the upstream: encrypted, and verified."""

from __future__ import annotations

import pytest

from tests.corpus import corpus, normalise
from tests.e2e.devices import PollFailed
from tests.e2e.dovecot import Dovecot
from tests.e2e.proxy import Table
from tests.e2e.rig import SYNC, Rig, assert_same_mails, small_mails

pytestmark = pytest.mark.e2e


def upstream(dovecot: Dovecot, tls: str) -> Table:
    port = dovecot.tls_port if tls == "implicit" else dovecot.port
    return {"host": "localhost", "port": port, "tls": tls}


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
def test_mail_comes_over_tls_that_the_ca_file_vouches_for(rig: Rig, tls: str) -> None:
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *corpus())
    server = {**upstream(rig.dovecot, tls), "ca_file": str(rig.certificates.ca_file)}
    proxy = rig.proxy(user, upstream=server)
    device = rig.device(proxy, user, "laptop", security="starttls")
    device.poll()
    assert_same_mails(device.mails(), map(normalise, corpus()))


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
def test_a_certificate_that_nobody_vouches_for_is_refused(rig: Rig, tls: str) -> None:
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *small_mails(1, "unseen"))
    rig.dovecot.clear_log()
    proxy = rig.proxy(user, upstream=upstream(rig.dovecot, tls))
    done = proxy.cli("account", "sync", user.name)
    assert done.returncode == 1
    assert "certificate" in (done.stdout + done.stderr).lower()
    # The account's own password still opens what is stored: nothing.
    device = rig.device(proxy, user, "laptop")
    device.poll()
    assert device.mails() == []
    assert f"Login: user=<{user.name}>" not in rig.dovecot.log()


def test_a_pass_through_login_is_not_sent_to_a_server_nobody_vouches_for(rig: Rig) -> None:
    user = rig.dovecot.add_user()
    rig.dovecot.clear_log()
    proxy = rig.proxy(sections={"sync": SYNC}, upstream=upstream(rig.dovecot, "implicit"))
    with pytest.raises(PollFailed):
        rig.device(proxy, user, "laptop").poll()
    assert f"user=<{user.name}>" not in rig.dovecot.log()
