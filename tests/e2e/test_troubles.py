"""Word when something is wrong: on every device by POP3, to the operator by SMTP."""

from __future__ import annotations

from collections.abc import Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

import pytest

from proxy.domain.model import is_own_uid
from tests.certificates import Certificates
from tests.e2e.dovecot import User
from tests.e2e.poplib_device import PoplibDevice
from tests.e2e.proxy import ProxyProcess, Table
from tests.e2e.rig import Rig, small_mails
from tests.e2e.waiting import eventually
from tests.smtp_sink import PASSWORD, USER, Sink, sink

pytestmark = pytest.mark.e2e


@pytest.fixture
def post(certificates: Certificates) -> Iterator[Sink]:
    with sink(certificates) as server:
        yield server


NOTICES: Table = {"notices": True}
SMALL_ONLY: dict[str, Table] = {"sync": {"max_message_size": "2KiB"}}


def alerts(rig: Rig, post: Sink) -> Table:
    return {
        **NOTICES,
        "to": ["ops@example.com"],
        "sender": "proxy@example.com",
        "host": "localhost",
        "port": post.port,
        "ca_file": str(rig.certificates.ca_file),
        "username": USER,
        "password": PASSWORD,
    }


def notices(device: PoplibDevice) -> list[EmailMessage]:
    """Of troubles; that there is a new device is none."""
    parsed = [message_from_bytes(raw, policy=default) for raw in device.mails()]
    return [
        mail
        for mail in parsed
        if "X-POP3-Sync-Proxy" in mail and mail["X-POP3-Sync-Proxy-Trouble"] != "new_device"
    ]


def got_a_notice(device: PoplibDevice) -> bool:
    device.poll()
    return bool(notices(device))


def sync_fails(proxy: ProxyProcess, user: User) -> None:
    done = proxy.cli("account", "sync", user.name)
    assert done.returncode == 1, done.stdout


def open_troubles(proxy: ProxyProcess) -> int:
    log = proxy.log()
    return log.count("event=trouble_began") - log.count("event=trouble_over")


def test_a_refused_password_is_told_once_to_each_device_and_to_the_operator(
    rig: Rig, post: Sink
) -> None:
    alice, bob = rig.dovecot.add_user(), rig.dovecot.add_user()
    mails = small_mails(2, "mine")
    for user in (alice, bob):
        rig.dovecot.deliver(user, *mails)
    proxy = rig.proxy(alice, bob, sections={"alerts": alerts(rig, post)})
    laptop, tablet = rig.device(proxy, alice, "laptop"), rig.device(proxy, alice, "tablet")
    other = rig.device(proxy, bob, "laptop")
    # The syncs in the background are over: no later one is to fail by the way.
    synced = f"event=sync_finished account={alice.name} "
    eventually(lambda: synced in proxy.log(), what="the first sync", otherwise=proxy.log)
    for device in (laptop, tablet, other):
        device.poll()
        assert len(device.mails()) == 2

    changed = rig.dovecot.change_password(alice, "another one")
    sync_fails(proxy, alice)
    laptop.poll()
    assert notices(laptop) == []
    sync_fails(proxy, alice)
    eventually(lambda: got_a_notice(laptop), what="the notice", otherwise=proxy.log)
    (notice,) = notices(laptop)
    assert notice["Subject"] == f"The mail provider refuses the password of {alice.name}"
    assert f"pop3-sync-proxy account sync {alice.name}\r\n" in notice.get_content()
    assert alice.password not in notice.get_content()
    eventually(lambda: len(post.mails) == 1, what="the alert", otherwise=proxy.log)
    assert post.mails[0]["To"] == "ops@example.com"
    assert post.mails[0]["Subject"] == f"[pop3-sync-proxy] {notice['Subject']}"

    assert [row["kind"] for row in proxy.cli_json("status")["troubles"]] == ["password_refused"]
    assert f": {notice['Subject']}\n" in proxy.cli("status").stdout

    # A restart of the roughest kind, and more refusals: nobody hears of it again.
    proxy.kill()
    proxy.start()
    for device in (laptop, tablet, other):
        device.endpoint = proxy.endpoint()
    sync_fails(proxy, alice)
    sync_fails(proxy, alice)
    for device in (laptop, other):
        device.poll()
    assert len(notices(laptop)) == 1
    assert notices(other) == []
    assert len(post.mails) == 1

    # The tablet has not fetched the notice by the time all is well again.
    rig.dovecot.change_password(changed, alice.password)
    assert proxy.cli("account", "sync", alice.name).returncode == 0
    eventually(lambda: open_troubles(proxy) == 0, what="the end", otherwise=proxy.log)
    assert proxy.cli_json("status")["troubles"] == []
    tablet.poll()
    assert notices(tablet) == []
    assert len(tablet.mails()) == 2
    eventually(lambda: len(post.mails) == 2, what="the recovery", otherwise=proxy.log)
    assert post.mails[1]["Subject"] == f"[pop3-sync-proxy] Over: {notice['Subject']}"


def test_check_logs_in_where_alerts_go_and_sends_nothing(rig: Rig, post: Sink) -> None:
    user = rig.dovecot.add_user()
    proxy = rig.proxy(user, sections={"alerts": alerts(rig, post)})
    done = proxy.cli("check")
    assert done.returncode == 0, done.stdout
    line = f"alerts at localhost:{post.port}: login accepted; nothing was sent"
    assert line in done.stdout.splitlines()
    assert post.envelopes == []
    text = proxy.config.read_text().replace(PASSWORD, "wrong")
    proxy.config.write_text(text)
    done = proxy.cli("check")
    assert done.returncode == 1
    assert f"alerts at localhost:{post.port}: localhost:{post.port}: 535 " in done.stdout


def test_a_message_that_is_too_large_is_told_of_and_others_come(rig: Rig) -> None:
    user = rig.dovecot.add_user()
    (large,) = small_mails(1, "large", octets=5000)
    small = small_mails(2, "small")
    rig.dovecot.deliver(user, *small, large)
    proxy = rig.proxy(user, sections={**SMALL_ONLY, "alerts": NOTICES})
    device = rig.device(proxy, user, "laptop")
    eventually(lambda: got_a_notice(device), what="the notice", otherwise=proxy.log)
    (notice,) = notices(device)
    assert notice["Subject"] == f"A message is too large to be fetched for {user.name}"
    assert len(device.mails()) == 3
    rig.dovecot.remove_all(user)
    tablet = rig.device(proxy, user, "tablet")
    eventually(lambda: open_troubles(proxy) == 1, what="the beginning", otherwise=proxy.log)
    tablet.poll()
    eventually(lambda: open_troubles(proxy) == 0, what="the end", otherwise=proxy.log)
    late = rig.device(proxy, user, "late")
    late.poll()
    assert notices(late) == []
    assert len(late.mails()) == 2


def test_notices_are_recognisable_by_uidl_and_can_be_switched_off(rig: Rig) -> None:
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *small_mails(1, "large", octets=5000))
    told = rig.device(rig.proxy(user, sections={**SMALL_ONLY, "alerts": NOTICES}), user, "laptop")
    eventually(lambda: got_a_notice(told), what="the notice")
    assert all(is_own_uid(uid) for uid in told.seen)
    quiet = rig.proxy(user, sections={**SMALL_ONLY, "alerts": {"notices": False}})
    device = rig.device(quiet, user, "laptop")
    device.poll()
    eventually(lambda: open_troubles(quiet) == 1, what="the beginning", otherwise=quiet.log)
    device.poll()
    assert device.mails() == []
