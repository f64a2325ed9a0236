"""Moving in: a program that used the upstream directly goes on through the proxy where it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.clients import Fetchmail, Getmail, Mpop, Program
from tests.e2e.devices import Endpoint, Login
from tests.e2e.dovecot import User
from tests.e2e.poplib_device import PoplibDevice, logged_in
from tests.e2e.proxy import ProxyProcess
from tests.e2e.rig import Rig, assert_same_mails, login, one_each, small_mails
from tests.e2e.thunderbird import Thunderbird
from tests.needs import need

pytestmark = pytest.mark.e2e

OLD = small_mails(7, "old")
MISSED = small_mails(2, "missed")
NEW = small_mails(3, "new")


def _fetchmail(program: Program) -> Path:
    return program.folder / "ids"


def _mpop(program: Program) -> Path:
    return program.folder / "uidls"


def _getmail(program: Program) -> Path:
    (state,) = program.folder.glob("oldmail-*")
    return state


def _thunderbird(program: Program) -> Path:
    return program.store / "popstate.dat"


Case = tuple[type[Program], Callable[[Program], Path], str]


@pytest.fixture(params=["fetchmail", "mpop", "getmail", "thunderbird"])
def case(request: pytest.FixtureRequest) -> Case:
    """A program, where it keeps its state, and what the proxy calls it."""
    need(request.param)
    if request.param == "thunderbird":
        request.getfixturevalue("thunderbird")
    cases: dict[str, Case] = {
        "fetchmail": (Fetchmail, _fetchmail, "fetchmail"),
        "mpop": (Mpop, _mpop, "mpop"),
        "getmail": (Getmail, _getmail, "getmail"),
        "thunderbird": (Thunderbird, _thunderbird, "Thunderbird"),
    }
    return cases[request.param]


def polled_directly(rig: Rig, user: User, kind: type[Program]) -> Program:
    """A program that has fetched what is upstream, with no proxy between."""
    endpoint = Endpoint("localhost", rig.dovecot.port)
    device = kind(rig.folder / "directly", endpoint, Login(user.name, user.password))
    device.poll()
    return device


def import_seen(proxy: ProxyProcess, user: User, file: Path) -> dict[str, Any]:
    row: dict[str, Any] = proxy.cli_json("device", "import-seen", user.name, "laptop", str(file))
    return row


@pytest.mark.parametrize("known", [False, True], ids=["before the first sync", "after it"])
@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_a_program_that_moves_in_gets_nothing_old_and_all_that_is_new(
    rig: Rig, case: Case, known: bool, running: bool
) -> None:
    kind, state, name = case
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *OLD)
    direct = polled_directly(rig, user, kind)
    assert len(direct.mails()) == len(OLD)
    # The proxy cannot sync by itself before it is told to.
    if not known:
        rig.tap.refuse()
    proxy = rig.proxy(user)
    other = rig.device(proxy, user, "desktop")
    if known:
        other.poll()
    rig.dovecot.deliver(user, *MISSED)
    if not running:
        proxy.stop()

    row = import_seen(proxy, user, state(direct))
    marked = (len(OLD), 0) if known else (0, len(OLD))
    assert (row["program"], row["uids"]) == (name, len(OLD))
    assert (row["known"], row["waiting"], row["ambiguous"]) == (*marked, 0)
    again = import_seen(proxy, user, state(direct))
    assert (again["known"], again["waiting"]) == marked
    assert (row["new_device"], again["new_device"]) == (True, False)

    if not running:
        proxy.start()
    rig.tap.accept()
    if not known:
        # The first one was refused, and no login tries again so soon.
        proxy.cli_json("account", "sync", user.name)
    # The same mailbox under another server name: the program has to know nothing.
    device = kind(rig.folder / "device", proxy.endpoint(), login(user, "laptop"))
    device.poll()
    assert [mail.count(b"Subject: missed") for mail in device.mails()] == [1] * len(MISSED)
    rig.dovecot.deliver(user, *NEW)
    device.poll()
    device.poll()
    assert sum(b"Subject: new" in mail for mail in device.mails()) == len(NEW)
    assert len(device.mails()) == len(MISSED) + len(NEW)

    other = rig.device(proxy, user, "desktop")
    other.poll()
    assert_same_mails(other.mails(), [*OLD, *MISSED, *NEW])
    assert rig.tap.retrs() == one_each([*OLD, *MISSED, *NEW])
    assert rig.dovecot.count(user) == len([*OLD, *MISSED, *NEW])


def test_the_first_device_of_a_pass_through_account_moves_in(rig: Rig) -> None:
    """Nobody has ever logged in to it, so that the proxy does not know it yet."""
    need("mpop")
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *OLD)
    direct = polled_directly(rig, user, Mpop)
    proxy = rig.proxy()
    assert import_seen(proxy, user, _mpop(direct))["waiting"] == len(OLD)
    rig.dovecot.deliver(user, *NEW)
    device = Mpop(rig.folder / "device", proxy.endpoint(), login(user, "laptop"))
    device.poll()
    assert_same_mails(device.mails(), NEW)


# --- what the file may be ------------------------------------------------------------------------


def quiet_proxy(rig: Rig, user: User) -> ProxyProcess:
    """One that has synced nothing yet, and does not by itself."""
    rig.tap.refuse()
    return rig.proxy(user)


def devices(proxy: ProxyProcess, user: User) -> list[str]:
    return [row["device"] for row in proxy.cli_json("account", "show", user.name)["devices"]]


def refused(proxy: ProxyProcess, *arguments: str) -> str:
    """What the command says; it must be a matter of wrong usage."""
    done = proxy.cli("device", "import-seen", *arguments)
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stderr


def test_of_several_mailboxes_the_account_s_own_is_taken(rig: Rig) -> None:
    user = rig.dovecot.add_user()
    proxy = quiet_proxy(rig, user)
    file = rig.folder / "ids"
    lines = [f"{user.name}@{rig.tap.host} {uid}\n" for uid in "abc"]
    file.write_text("somebody@pop.example.com d\n" + "".join(lines) + f"{user.name}@other e\n")
    row = import_seen(proxy, user, file)
    assert (row["host"], row["user"], row["waiting"]) == (rig.tap.host, user.name, 3)


def test_where_none_of_several_is_the_account_s_all_are_told_and_options_choose(rig: Rig) -> None:
    user = rig.dovecot.add_user()
    proxy = quiet_proxy(rig, user)
    file = rig.folder / "popstate.dat"
    file.write_text("*pop.example.com alice\nk 1 1\nk 2 1\n*pop.example.org alice\nk 3 1\n")
    told = refused(proxy, user.name, "laptop", str(file))
    assert "--host" in told
    assert "pop.example.com alice  2 UIDLs" in told
    assert "pop.example.org alice  1 UIDLs" in told
    assert "--host" in refused(proxy, user.name, "laptop", str(file), "--user", "nobody")
    assert "--host" in refused(proxy, user.name, "laptop", str(file), "--user", "alice")
    assert devices(proxy, user) == []
    chosen = ["--user", "alice", "--host", "POP.example.org"]
    row = proxy.cli_json("device", "import-seen", user.name, "laptop", str(file), *chosen)
    assert (row["host"], row["uids"]) == ("pop.example.org", 1)


def test_bad_files_are_refused_and_change_nothing(rig: Rig) -> None:
    user = rig.dovecot.add_user()
    proxy = quiet_proxy(rig, user)
    rubbish = rig.folder / "rubbish"
    rubbish.write_bytes(bytes(range(256)) * 100)
    assert "line 1 is no UIDL" in refused(proxy, user.name, "laptop", str(rubbish))
    huge = rig.folder / "huge"
    huge.touch()
    os.truncate(huge, 100 * 1024 * 1024)
    assert "larger than 32 MiB" in refused(proxy, user.name, "laptop", str(huge))
    assert "larger than 32 MiB" in refused(proxy, user.name, "laptop", "/dev/zero")
    empty = rig.folder / "empty"
    empty.touch()
    assert "no UIDL" in refused(proxy, user.name, "laptop", str(empty))
    unfetched = rig.folder / "unfetched"
    unfetched.write_text("*pop.example.com alice\nf 1 undefined\n")
    assert "no UIDL" in refused(proxy, user.name, "laptop", str(unfetched))
    empty.write_text("a\n")
    assert "no device name" in refused(proxy, user.name, "two words", str(empty))
    done = proxy.cli("device", "import-seen", user.name, "laptop", str(rig.folder / "missing"))
    assert done.returncode == 1
    assert "missing" in done.stderr
    assert devices(proxy, user) == []


def test_a_list_may_come_from_standard_input(rig: Rig) -> None:
    """As `curl pop3://… -X UIDL` prints it."""
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *OLD)
    proxy = rig.proxy(user)
    endpoint = Endpoint("localhost", rig.dovecot.port)
    with logged_in(endpoint, Login(user.name, user.password)) as session:
        answer = "".join(f"{n} {uid}\r\n" for n, uid in session.uids().items() if n <= 3)
    command = ["device", "import-seen", user.name, "laptop", "-"]
    done = subprocess.run(
        [sys.executable, "-m", "proxy", *command, "--config", str(proxy.config), "--json"],
        input=answer.encode(),
        capture_output=True,
        timeout=120,
        check=True,
    )
    row = json.loads(done.stdout)
    assert (row["program"], row["uids"]) == ("list", 3)
    device = rig.device(proxy, user, "laptop")
    device.poll()
    assert_same_mails(device.mails(), OLD[3:])


def test_a_hundred_thousand_uidls_pass_to_a_running_proxy(rig: Rig) -> None:
    user = rig.dovecot.add_user()
    proxy = quiet_proxy(rig, user)
    file = rig.folder / "ids"
    lines = [f"{user.name}@{rig.tap.host} {number:070d}\n" for number in range(100_000)]
    file.write_text("".join(lines))
    assert import_seen(proxy, user, file)["waiting"] == 100_000
    assert proxy.cli("device", "import-seen", user.name, "laptop", str(file)).stdout == (
        f"100000 UIDLs of fetched mail of {user.name} at {rig.tap.host}, from a file of "
        "fetchmail.\n"
        "  0 are known: laptop does not get those messages again.\n"
        "  100000 wait until the proxy has fetched the messages.\n"
        f"laptop is a device of {user.name}.\n"
    )


def test_what_moved_in_counts_as_delivered(rig: Rig) -> None:
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *OLD)
    direct = PoplibDevice(Endpoint("localhost", rig.dovecot.port), Login(user.name, user.password))
    direct.poll()
    file = rig.folder / "uids"
    file.write_text("".join(f"{uid}\n" for uid in direct.seen))
    proxy = rig.proxy(user, account={"retention": {"upstream": "delivered"}})
    desktop, laptop = rig.device(proxy, user, "desktop"), rig.device(proxy, user, "laptop")
    desktop.poll()
    import_seen(proxy, user, file)
    rig.dovecot.deliver(user, *MISSED)
    desktop.poll()
    proxy.cli_json("account", "sync", user.name)
    assert rig.dovecot.mails(user) == MISSED
    laptop.poll()
    assert_same_mails(laptop.mails(), MISSED)
    proxy.cli_json("account", "sync", user.name)
    assert rig.dovecot.count(user) == 0
