"""`account merge`, on a running and on a stopped proxy; and the commands that say it is wanted."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from shlex import quote

import pytest

from tests.e2e.devices import Login
from tests.e2e.dovecot import User
from tests.e2e.poplib_device import PoplibDevice, logged_in
from tests.e2e.proxy import ProxyProcess, Table
from tests.e2e.rig import Rig, small_mails
from tests.e2e.terminal import Terminal
from tests.e2e.test_init import environment

pytestmark = pytest.mark.e2e


def stray_of(user: User) -> str:
    return user.name.upper()


def device(proxy: ProxyProcess, user: User, login: str) -> PoplibDevice:
    return PoplibDevice(proxy.endpoint(), Login(login, user.password), delete=True)


def two_spellings(rig: Rig) -> tuple[User, ProxyProcess, list[PoplibDevice]]:
    """A proxy whose store an earlier version has left with two accounts for one mailbox.

    Two devices have had different mails of the five: one reads under either account.
    """
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *small_mails(3, "early"))
    proxy = rig.proxy(sections={"alerts": {"notices": False}})
    laptop = device(proxy, user, f"{user.name}+laptop")
    laptop.poll()
    proxy.stop()
    with closing(sqlite3.connect(proxy.folder / "data" / "catalogue.db")) as store, store:
        store.execute(
            "INSERT INTO account (name, salt_name, declared, created_at) VALUES (?1, ?1, 0, 0)",
            (stray_of(user),),
        )
    proxy.start()
    phone = device(proxy, user, f"{stray_of(user)}+phone")
    phone.poll()
    assert len(phone.mails()) == 3
    rig.dovecot.deliver(user, *small_mails(2, "late"))
    laptop.endpoint = proxy.endpoint()
    laptop.poll()
    assert len(laptop.mails()) == 5
    return user, proxy, [laptop, phone]


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_a_merge_brings_no_device_a_mail_twice_and_none_loses_one(
    rig: Rig, *, running: bool
) -> None:
    user, proxy, (laptop, phone) = two_spellings(rig)
    if not running:
        proxy.stop()
    names = (stray_of(user), user.name)

    looked = proxy.cli("account", "merge", *names)
    assert looked.returncode == 2
    assert "3 in the store, of which 3 are" in looked.stdout
    assert "phone" in looked.stdout
    assert "--yes" in looked.stderr
    assert len(proxy.cli_json("account", "list")) == 2

    for command in (("status",), ("account", "list"), ("check",)):
        assert f"account merge {quote(names[0])} {quote(names[1])}" in proxy.cli(*command).stdout

    row = proxy.cli_json("account", "merge", *names, "--yes")
    assert (row["devices"], row["messages"], row["same"]) == (["phone"], 3, 3)
    (account,) = proxy.cli_json("account", "list")
    assert (account["account"], account["devices"]) == (user.name, 2)
    assert "merge" not in proxy.cli("status").stdout

    if not running:
        proxy.start()
    before = rig.tap.record().count("RETR")
    for each in (laptop, phone):
        each.endpoint = proxy.endpoint()
        each.poll()
        assert len(each.mails()) == 5
        assert len(set(each.mails())) == 5
        with logged_in(proxy.endpoint(), each.login) as session:
            assert session.stat()[0] == 0, "what it has deleted comes again"
    assert rig.tap.record().count("RETR") == before


def test_two_names_that_a_provider_has_for_one_mailbox_are_noticed(rig: Rig) -> None:
    user = rig.dovecot.add_user()
    alias = rig.dovecot.add_alias(user)
    rig.dovecot.deliver(user, *small_mails(4, "early"))
    sections: dict[str, Table] = {
        "retention": {"upstream": "delivered"},
        "alerts": {"notices": False},
    }
    proxy = rig.proxy(sections=sections)
    laptop = device(proxy, user, f"{user.name}+laptop")
    phone = device(proxy, alias, f"{alias.name}+phone")
    laptop.poll()
    for each in (phone, laptop, phone):
        each.poll()
        assert len(each.mails()) == 4
    assert rig.dovecot.count(user) == 4, "what one of them may need was deleted"
    proxy.cli_json("account", "merge", alias.name, user.name, "--yes")
    laptop.poll()
    assert rig.dovecot.count(user) == 0
    assert len(laptop.mails()) == 4


def test_a_merge_is_refused_while_a_device_is_connected(rig: Rig) -> None:
    user, proxy, _ = two_spellings(rig)
    with logged_in(proxy.endpoint(), Login(f"{user.name}+laptop", user.password)):
        refused = proxy.cli("account", "merge", stray_of(user), user.name, "--yes")
        assert refused.returncode == 1
        assert "in use" in refused.stderr
    assert len(proxy.cli_json("account", "list")) == 2


def test_at_a_terminal_it_asks(rig: Rig) -> None:
    user, proxy, _ = two_spellings(rig)
    words = ["account", "merge", stray_of(user), user.name, "--config", str(proxy.config)]
    for answer, accounts in (("n", 2), ("y", 1)):
        command = [sys.executable, "-m", "proxy", *words]
        with Terminal(command, proxy.folder, environment()) as terminal:
            terminal.wait_for("Merge them?")
            terminal.type(answer)
            terminal.end()
        assert len(proxy.cli_json("account", "list")) == accounts


def test_names_that_make_no_sense_change_nothing(rig: Rig) -> None:
    user, proxy, _ = two_spellings(rig)
    for names, code, text in (
        ((user.name, user.name), 2, "one account already"),
        ((user.name, "nobody"), 1, "no account nobody"),
        (("nobody", user.name), 1, "no account nobody"),
    ):
        done = proxy.cli("account", "merge", *names, "--yes")
        assert (done.returncode, text in done.stderr) == (code, True), done.stderr
    assert len(proxy.cli_json("account", "list")) == 2
