"""Who gets in, as which account and device, and what happens while upstream is down."""

from __future__ import annotations

import poplib

import pytest

from tests.e2e.devices import Login
from tests.e2e.dovecot import User
from tests.e2e.poplib_device import PoplibDevice, logged_in
from tests.e2e.proxy import ProxyProcess
from tests.e2e.rig import Rig, login, small_mails

pytestmark = pytest.mark.e2e


def count_for(proxy: ProxyProcess, who: Login) -> int:
    """Messages this login is shown.

    Raises:
        poplib.error_proto: it is refused.
    """
    with logged_in(proxy.endpoint(), who) as session:
        count: int = session.stat()[0]
        session.quit()
    return count


def devices_of(proxy: ProxyProcess, user: User) -> str:
    done = proxy.cli("device", "list", user.name)
    assert done.returncode == 0, done.stderr
    return done.stdout


def user_with_mail(rig: Rig) -> User:
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *small_mails(3, "mail"))
    return user


def test_a_login_nobody_declared_is_tried_upstream(rig: Rig) -> None:
    user, proxy = user_with_mail(rig), rig.proxy()
    devices = [
        PoplibDevice(proxy.endpoint(), who)
        for who in (Login(user.name, user.password), login(user, "laptop"), login(user, "phone"))
    ]
    for device in devices:
        device.poll()
        assert len(device.mails()) == 3
    listed = devices_of(proxy, user)
    assert all(name in listed for name in ("default", "laptop", "phone"))
    assert rig.tap.record().count("RETR") == 3


def test_device_names_are_compared_without_case(rig: Rig) -> None:
    user = user_with_mail(rig)
    proxy = rig.proxy(user)
    device = rig.device(proxy, user, "Laptop", delete=True)
    device.poll()
    assert count_for(proxy, login(user, "LAPTOP")) == 0


@pytest.mark.parametrize("declared", [True, False])
def test_a_wrong_password_is_refused_before_and_after_the_right_one(
    rig: Rig, *, declared: bool
) -> None:
    user = user_with_mail(rig)
    proxy = rig.proxy(*[user] if declared else [])
    wrong = Login(f"{user.name}+laptop", "wrong")
    for _ in range(2):
        with pytest.raises(poplib.error_proto, match=r"\[AUTH\]"):
            count_for(proxy, wrong)
        assert count_for(proxy, login(user, "laptop")) == 3


def test_a_name_unknown_upstream_leaves_no_account(rig: Rig) -> None:
    proxy = rig.proxy()
    with pytest.raises(poplib.error_proto, match=r"\[AUTH\]"):
        count_for(proxy, Login("nobody+laptop", "secret"))
    assert "nobody" not in proxy.cli("account", "list").stdout


def test_pass_through_can_be_off(rig: Rig) -> None:
    user = user_with_mail(rig)
    proxy = rig.proxy(sections={"accounts": {"pass_through": False}})
    with pytest.raises(poplib.error_proto, match=r"\[AUTH\]"):
        count_for(proxy, login(user, "laptop"))
    assert rig.tap.record().logins == 0


@pytest.mark.parametrize("declared", [True, False])
def test_the_right_password_gets_in_while_upstream_is_down(rig: Rig, *, declared: bool) -> None:
    user = user_with_mail(rig)
    proxy = rig.proxy(*[user] if declared else [])
    assert count_for(proxy, login(user, "laptop")) == 3
    rig.tap.refuse()
    # The second time with nothing remembered in memory.
    for _ in range(2):
        assert count_for(proxy, login(user, "laptop")) == 3
        assert count_for(proxy, login(user, "phone")) == 3
        with pytest.raises(poplib.error_proto):
            count_for(proxy, Login(user.name, "wrong"))
        proxy.restart()


def test_a_password_that_upstream_has_come_to_refuse_gets_in_no_more(rig: Rig) -> None:
    user, proxy = user_with_mail(rig), rig.proxy()
    assert count_for(proxy, login(user, "laptop")) == 3
    changed = rig.dovecot.change_password(user, "another secret")
    with pytest.raises(poplib.error_proto, match=r"\[AUTH\]"):
        count_for(proxy, login(user, "laptop"))
    rig.tap.refuse()
    with pytest.raises(poplib.error_proto):
        count_for(proxy, login(user, "laptop"))
    rig.tap.accept()
    proxy.restart()
    assert count_for(proxy, login(changed, "laptop")) == 3


def test_an_app_password_names_its_device(rig: Rig) -> None:
    user = user_with_mail(rig)
    proxy = rig.proxy(user)
    secret = proxy.cli_json("device", "add", user.name, "tablet")["app_password"]
    device = PoplibDevice(proxy.endpoint(), Login(user.name, secret), delete=True)
    device.poll()
    assert len(device.mails()) == 3
    assert count_for(proxy, Login(f"{user.name}+tablet", secret)) == 0
    with pytest.raises(poplib.error_proto, match=r"\[AUTH\]"):
        count_for(proxy, Login(f"{user.name}+laptop", secret))
    assert secret not in proxy.log()
    stored = b"".join(p.read_bytes() for p in proxy.folder.rglob("*") if p.is_file())
    assert secret.encode() not in stored
    assert "default" not in devices_of(proxy, user)


def test_an_app_password_ends_with_its_device(rig: Rig) -> None:
    user = user_with_mail(rig)
    proxy = rig.proxy(user)
    secret = proxy.cli_json("device", "add", user.name, "tablet")["app_password"]
    assert count_for(proxy, Login(user.name, secret)) == 3
    assert proxy.cli("device", "remove", user.name, "tablet").returncode == 0
    with pytest.raises(poplib.error_proto, match=r"\[AUTH\]"):
        count_for(proxy, Login(user.name, secret))


def test_closed_enrolment_lets_in_only_devices_that_were_added(rig: Rig) -> None:
    user = user_with_mail(rig)
    proxy = rig.proxy(user, account={"devices": {"enrol": "closed"}})
    with pytest.raises(poplib.error_proto, match=r"\[AUTH\]"):
        count_for(proxy, login(user, "laptop"))
    proxy.cli_json("device", "add", user.name, "laptop")
    assert count_for(proxy, login(user, "laptop")) == 3
    with pytest.raises(poplib.error_proto, match=r"\[AUTH\]"):
        count_for(proxy, Login(user.name, user.password))
