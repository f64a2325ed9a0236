"""Devices and their names, as mail programs and the people before them see it."""

from __future__ import annotations

import poplib
import smtplib
import socket
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

import pytest

from proxy.domain.model import is_own_uid
from tests.e2e.clients import Curl, Fetchmail, Mpop, Program
from tests.e2e.devices import Login, PollFailed
from tests.e2e.dovecot import User
from tests.e2e.poplib_device import PoplibDevice, Session, hang_up, logged_in
from tests.e2e.proxy import ProxyProcess
from tests.e2e.rig import Rig, login, small_mails
from tests.e2e.waiting import eventually
from tests.needs import need

pytestmark = pytest.mark.e2e

TIMEOUT = 30.0


def user_with_mail(rig: Rig) -> User:
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *small_mails(2, "mail"))
    return user


def notices(device: PoplibDevice) -> list[EmailMessage]:
    device.poll()
    return [
        message_from_bytes(mail, policy=default)
        for uid, mail in device.by_uid.items()
        if is_own_uid(uid)
    ]


def cure(user: User) -> str:
    return f"log in as {user.name}+laptop"


@pytest.mark.parametrize("program", [Fetchmail, Mpop, Curl], ids=lambda program: program.name)
def test_a_program_without_a_device_s_name_shows_what_to_write(
    rig: Rig, program: type[Program]
) -> None:
    """By the word of each program itself, as it talks to its user without being asked for more."""
    need(program.name)
    user = user_with_mail(rig)
    proxy = rig.proxy(user, sections={"devices": {"unnamed": "refuse"}})
    unnamed = program(rig.folder / "a", proxy.endpoint(), Login(user.name, user.password))
    with pytest.raises(PollFailed) as failed:
        unnamed.poll()
    # curl tells nothing but that the login was denied.
    assert program is Curl or cure(user) in " ".join(str(failed.value).split())
    named = program(rig.folder / "b", proxy.endpoint(), login(user, "laptop"))
    named.poll()
    assert len(named.mails()) == 2


def test_the_refusal_is_at_once_and_no_guess_by_pop3_and_by_smtp(rig: Rig) -> None:
    user = user_with_mail(rig)
    server = {"listen": ["127.0.0.1:0"], "host": "127.0.0.1", "port": 1, "tls": "none"}
    proxy = rig.proxy(sections={"devices": {"unnamed": "refuse"}, "smtp": server})
    unnamed = Login(user.name, user.password)
    for _ in range(10):
        with (
            pytest.raises(poplib.error_proto, match=r"\[AUTH\] name this device") as refused,
            logged_in(proxy.endpoint(), unnamed),
        ):
            pass
        assert cure(user) in str(refused.value)
    at = proxy.smtp_endpoint()
    with smtplib.SMTP(at.host, at.port, timeout=TIMEOUT) as session:
        with pytest.raises(smtplib.SMTPAuthenticationError) as denied:
            session.login(user.name, user.password)
        assert denied.value.smtp_code == 535
        assert cure(user).encode() in denied.value.smtp_error
        session.login(f"{user.name}+laptop", user.password)
    assert "login_refused" not in proxy.log()
    assert proxy.log().count("device_refused") >= 11
    with pytest.raises(poplib.error_proto, match=r"\[AUTH\] login refused"):
        logged_in(proxy.endpoint(), Login(user.name, "wrong")).__enter__()


def test_a_new_device_is_told_to_the_others_once_though_the_proxy_is_killed(rig: Rig) -> None:
    user = user_with_mail(rig)
    proxy = rig.proxy(user, sections={"alerts": {"notices": True}})
    desktop = rig.device(proxy, user, "desktop")
    assert notices(desktop) == []
    lpatop = rig.device(proxy, user, "lpatop")
    lpatop.poll()
    proxy.kill()
    proxy.start()
    desktop.endpoint = lpatop.endpoint = proxy.endpoint()
    for _ in range(2):
        (notice,) = notices(desktop)
        assert notice["Subject"] == f"New device lpatop of {user.name}"
        words = " ".join(notice.get_content().split())
        assert "from 127.0.0.1" in words
        assert f"pop3-sync-proxy device remove {user.name} lpatop" in words
    assert notices(lpatop) == []
    assert len(lpatop.mails()) == 2
    assert proxy.cli("device", "remove", user.name, "lpatop").returncode == 0
    assert len(notices(desktop)) == 1


class From(Session):
    """A session from another address of this machine."""

    source = "127.0.0.1"

    def _create_socket(self, timeout: float) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout, (self.source, 0))


class Elsewhere(From):
    source = "127.0.0.2"


def begun(kind: type[From], proxy: ProxyProcess, who: Login) -> From:
    at = proxy.endpoint()
    session = kind(at.host, at.port, timeout=TIMEOUT)
    session.user(who.user)
    session.pass_(who.password)
    return session


def test_two_sessions_of_one_device_from_two_places_are_a_trouble(rig: Rig) -> None:
    user = user_with_mail(rig)
    proxy = rig.proxy(user, sections={"alerts": {"notices": True}})
    device = rig.device(proxy, user, "laptop")
    device.poll()
    here = begun(From, proxy, login(user, "laptop"))
    there = begun(Elsewhere, proxy, login(user, "laptop"))
    try:
        here.quit()
        there.quit()
    finally:
        hang_up(here)
        hang_up(there)

    def is_told() -> bool:
        troubles = proxy.cli_json("status")["troubles"]
        return [(each["account"], each["kind"]) for each in troubles] == [
            (user.name, "shared_device")
        ]

    eventually(is_told, what="the trouble in status", otherwise=proxy.log)
    (notice,) = notices(device)
    assert f"share the device laptop of {user.name}" in str(notice["Subject"])


def test_who_may_not_come_is_not_asked_about_upstream(rig: Rig) -> None:
    user, other = user_with_mail(rig), user_with_mail(rig)
    proxy = rig.proxy(sections={"accounts": {"allow": [user.name.upper()]}})
    with pytest.raises(poplib.error_proto, match=r"\[AUTH\] login refused"):
        logged_in(proxy.endpoint(), login(other, "laptop")).__enter__()
    assert rig.tap.record().logins == 0
    device = rig.device(proxy, user, "laptop")
    device.poll()
    assert len(device.mails()) == 2
    checked = proxy.cli("check")
    assert f"open to {user.name.upper()}" in checked.stdout, checked.stdout + checked.stderr
