"""`message …`, `export` and `device mark-delivered`, on a running and on a stopped proxy."""

from __future__ import annotations

import mailbox
from contextlib import closing
from pathlib import Path

import pytest

from tests.corpus import normalise
from tests.e2e.dovecot import User
from tests.e2e.proxy import ProxyProcess
from tests.e2e.rig import Rig, small_mails

pytestmark = pytest.mark.e2e

either = pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])

AWKWARD = (
    b"From sender at the top of the header\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
    b"From: Alice <alice@example.com>\r\nMessage-ID: <awkward@example.com>\r\n\r\n"
    b"From here on\r\n.a dot\r\n\xff\x00 octets\r\n"
)


def set_up(rig: Rig, *mails: bytes) -> tuple[User, ProxyProcess]:
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *mails)
    proxy = rig.proxy(user)
    rig.device(proxy, user, "laptop").poll()
    rig.device(proxy, user, "desktop", delete=True).poll()
    return user, proxy


def leave(proxy: ProxyProcess, *, running: bool) -> None:
    if not running:
        proxy.stop()


def come_back(proxy: ProxyProcess) -> None:
    if not proxy.running:
        proxy.start()


def uids(proxy: ProxyProcess, user: User) -> list[str]:
    return [row["uid"] for row in proxy.cli_json("message", "list", user.name)]


@either
def test_a_message_is_traced_by_its_id_or_its_subject_or_its_uidl(
    rig: Rig, *, running: bool
) -> None:
    user, proxy = set_up(rig, *small_mails(3, "other"), AWKWARD)
    leave(proxy, running=running)
    uid = uids(proxy, user)[3]
    for words in ("awkward@example.com", "grüße", "ALICE@", uid):
        (row,) = proxy.cli_json("message", "trace", user.name, words)
        assert row["uid"] == uid
    assert row["upstream"] == "present"
    assert row["fetched_at"]
    states = {one["device"]: one["state"] for one in row["deliveries"]}
    assert states == {"laptop": "retrieved", "desktop": "deleted"}
    shown = proxy.cli("message", "trace", user.name, "grüße").stdout
    assert "Subject: Grüße" in shown
    assert "desktop" in shown
    missing = proxy.cli("message", "trace", user.name, "no such words")
    assert missing.returncode == 1
    assert "no message" in missing.stderr


@either
def test_a_resent_message_comes_once_more_to_that_device_alone(rig: Rig, *, running: bool) -> None:
    user, proxy = set_up(rig, *small_mails(2, "resent"))
    laptop, desktop = (rig.device(proxy, user, name) for name in ("laptop", "desktop"))
    laptop.poll()
    leave(proxy, running=running)
    uid = uids(proxy, user)[0]
    row = proxy.cli_json("message", "resend", user.name, uid, "laptop")
    assert row["uid"] != uid
    assert proxy.cli("message", "resend", user.name, uid, "nothing").returncode == 1
    come_back(proxy)
    for device in (laptop, desktop):
        device.endpoint = proxy.endpoint()
        device.poll()
    assert laptop.by_uid[row["uid"]] == laptop.by_uid[uid]
    assert len(laptop.mails()) == 3
    assert desktop.mails() == []
    assert rig.tap.record().count("RETR") == 2
    (copy,) = proxy.cli_json("message", "trace", user.name, row["uid"])
    assert copy["upstream"] == "never"
    assert [one["device"] for one in copy["deliveries"]] == ["laptop"]


@either
def test_a_message_is_exported_octet_for_octet(rig: Rig, tmp_path: Path, *, running: bool) -> None:
    user, proxy = set_up(rig, AWKWARD)
    leave(proxy, running=running)
    (uid,) = uids(proxy, user)
    target = tmp_path / "mail.eml"
    assert proxy.cli("message", "export", user.name, uid, "-o", str(target)).returncode == 0
    assert target.read_bytes() == normalise(AWKWARD)
    assert target.stat().st_mode & 0o777 == 0o600
    (link := tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for taken in (target, link):
        refused = proxy.cli("message", "export", user.name, uid, "-o", str(taken))
        assert refused.returncode == 1
        assert "exists already" in refused.stderr
    assert not (tmp_path / "nowhere").exists()


@either
def test_an_account_is_exported_to_mailboxes_that_other_programs_read(
    rig: Rig, tmp_path: Path, *, running: bool
) -> None:
    mails = [*small_mails(5, "exported"), AWKWARD]
    user, proxy = set_up(rig, *mails)
    leave(proxy, running=running)
    mbox, maildir = tmp_path / "mail.mbox", tmp_path / "Maildir"
    assert proxy.cli("export", user.name, "--mbox", str(mbox)).returncode == 0
    assert proxy.cli("export", user.name, "--maildir", str(maildir)).returncode == 0
    in_maildir = {path.read_bytes() for path in (maildir / "new").iterdir()}
    written = [mbox, maildir, *maildir.rglob("*")]
    assert all(path.stat().st_mode & 0o077 == 0 for path in written)
    assert in_maildir == {normalise(mail).replace(b"\r\n", b"\n") for mail in mails}
    with closing(mailbox.mbox(mbox, create=False)) as box:
        ids = [message["Message-ID"] for message in box]
    assert ids[:-1] == [f"<exported.{index}@example.com>" for index in range(5)]
    assert len(ids) == 6

    again = proxy.cli("export", user.name, "--mbox", str(mbox))
    assert again.returncode == 1
    assert "exists" in again.stderr
    assert proxy.cli("export", user.name).returncode == 2


@either
def test_messages_marked_as_delivered_are_not_shown_and_hold_nothing_back(
    rig: Rig, *, running: bool
) -> None:
    user, proxy = set_up(rig, *small_mails(3, "marked"))
    proxy.cli_json("device", "add", user.name, "phone")
    leave(proxy, running=running)
    first, second, _ = uids(proxy, user)
    one = proxy.cli_json("device", "mark-delivered", user.name, "phone", first, second)
    assert one["messages"] == 2
    unknown = proxy.cli("device", "mark-delivered", user.name, "phone", "nothing")
    assert unknown.returncode == 1
    come_back(proxy)
    phone = rig.device(proxy, user, "phone")
    phone.poll()
    assert len(phone.mails()) == 1
    leave(proxy, running=running)
    assert proxy.cli_json("device", "mark-delivered", user.name, "laptop")["messages"] == 3
    come_back(proxy)
    laptop = rig.device(proxy, user, "laptop")
    laptop.poll()
    assert laptop.mails() == []
    other = rig.device(proxy, user, "another")
    other.poll()
    assert len(other.mails()) == 3
    assert proxy.cli("device", "reset", user.name, "laptop").returncode == 0
    laptop.poll()
    assert len(laptop.mails()) == 3
