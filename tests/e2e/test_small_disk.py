"""A disk that is full, end to end: strangers' mailboxes cannot take what everybody needs."""

from __future__ import annotations

import poplib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.e2e.dovecot import User
from tests.e2e.poplib_device import TIMEOUT
from tests.e2e.proxy import ProxyProcess
from tests.e2e.rig import SYNC, Rig, assert_same_mails, one_each, small_mails
from tests.e2e.small_disk import MIB, SmallDisk
from tests.e2e.waiting import eventually

pytestmark = pytest.mark.e2e

DISK = 96
RESERVE = 16 * MIB
"""Of a disk as small as that."""

SLACK = MIB
"""What the catalogue of this test takes of the reserve, which is there for that."""

MAILS, OCTETS = 12, 5 * MIB
"""Of each stranger: together half as much again as the disk holds."""


@pytest.fixture
def disk(rig: Rig) -> Iterator[SmallDisk]:
    disk = SmallDisk(rig.folder / "disk", DISK)
    yield disk
    for proxy in rig.proxies:
        proxy.kill()
    disk.close()


def proxy_on(rig: Rig, disk: SmallDisk, *, notices: bool) -> ProxyProcess:
    """For any mailbox of the server."""
    server = {"host": rig.tap.host, "port": rig.tap.port, "tls": "none"}
    sections = {"sync": SYNC, "upstream": server, "alerts": {"notices": notices}}
    proxy = ProxyProcess(rig.folder / "proxy", rig.certificates, sections)
    (proxy.folder / "data").symlink_to(disk.folder)
    rig.proxies.append(proxy)
    proxy.start()
    return proxy


def session(proxy: ProxyProcess, user: User, device: str) -> poplib.POP3:
    host, _, port = proxy.addresses["pop3"][0].rpartition(":")
    made = poplib.POP3(host, int(port), timeout=TIMEOUT)
    made.user(f"{user.name}+{device}")
    made.pass_(user.password)
    return made


def look_in(proxy: ProxyProcess, user: User, device: str = "pc") -> int:
    """Messages that a device sees."""
    made = session(proxy, user, device)
    count = made.stat()[0]
    made.quit()
    return count


def troubles(proxy: ProxyProcess) -> set[tuple[str, str]]:
    return {(each["account"], each["kind"]) for each in proxy.cli_json("status")["troubles"]}


def is_ready(proxy: ProxyProcess) -> bool:
    try:
        with urlopen(f"http://{proxy.addresses['http'][0]}/readyz", timeout=30) as answer:
            return bool(answer.status == 200)
    except HTTPError:
        return False


def all_here(proxy: ProxyProcess, user: User) -> bool:
    look_in(proxy, user)
    return bool(proxy.cli_json("account", "show", user.name)["unfetched"] == [])


def test_strangers_cannot_fill_the_disk(rig: Rig, disk: SmallDisk) -> None:
    alice, *strangers = (rig.dovecot.add_user() for _ in range(3))
    proxy = proxy_on(rig, disk, notices=True)
    first = small_mails(3, "alice")
    rig.dovecot.deliver(alice, *first)
    laptop = rig.device(proxy, alice, "laptop", delete=True)
    laptop.poll()
    theirs = {
        user.name: small_mails(MAILS, user.name.partition("@")[0], octets=OCTETS)
        for user in strangers
    }
    for user in strangers:
        rig.dovecot.deliver(user, *theirs[user.name])

    with disk.watched() as least, ThreadPoolExecutor(2) as threads:
        fetching = [threads.submit(look_in, proxy, user) for user in strangers]
        polls = 0
        while not all(one.done() for one in fetching):
            # Each is a session with DELE whose QUIT has to be on disk.
            look_in(proxy, alice, f"pc{polls % 5}")
            laptop.poll()
            polls += 1
        seen = [one.result() for one in fetching]
        assert polls
        assert 0 < sum(seen) < 2 * MAILS

        # The disk is as full as mail gets it. What is stored is served, QUIT commits.
        new = session(proxy, alice, "new")
        assert new.stat()[0] == len(first)
        new.retr(1)
        new.dele(1)
        assert new.quit().startswith(b"+OK")
        assert look_in(proxy, alice, "new") == len(first) - 1
        for user in strangers:
            look_in(proxy, user)
        assert is_ready(proxy)
        full = {(user.name, "store_full") for user in strangers} | {("", "store_low")}
        eventually(lambda: full <= troubles(proxy), what="the troubles", otherwise=proxy.log)
    assert least[0] >= RESERVE - SLACK, f"{least[0] / MIB:.1f} MiB were free"
    # Nobody's upstream is to blame, and what waits is told.
    for user in strangers:
        row = proxy.cli_json("account", "show", user.name)
        assert row["failure"] == ""
        assert row["retry_in"] == 0
        assert {"store.reserve" in one["why"] for one in row["unfetched"]} == {True}

    # With room again the rest comes by itself, and none of it for a second time.
    disk.resize(400)
    for user in strangers:
        device = rig.device(proxy, user, "pc")
        eventually(partial(all_here, proxy, user), what="all mail", otherwise=proxy.log)
        device.poll()
        got = [mail for mail in device.mails() if b"X-POP3-Sync-Proxy" not in mail]
        assert_same_mails(got, theirs[user.name])
    wanted = one_each(first)
    for mails in theirs.values():
        wanted += one_each(mails)
    assert rig.tap.retrs() == wanted
    eventually(
        lambda: "store_full" not in {kind for _, kind in troubles(proxy)},
        what="the end of the troubles",
        otherwise=proxy.log,
    )
    # It starts on what it kept, too.
    proxy.restart()
    assert look_in(proxy, alice, "new") == len(first) - 1


def test_a_proxy_that_begins_on_a_full_disk_serves_what_there_is(rig: Rig, disk: SmallDisk) -> None:
    alice = rig.dovecot.add_user()
    proxy = proxy_on(rig, disk, notices=False)
    rig.dovecot.deliver(alice, *small_mails(3, "alice"))
    assert look_in(proxy, alice) == 3
    proxy.stop()
    with (disk.folder / "somebody's").open("wb") as file:
        file.write(b"\0" * (disk.free - RESERVE // 2))
    proxy.start()
    rig.dovecot.deliver(alice, *small_mails(2, "later"))
    made = session(proxy, alice, "new")
    assert made.stat()[0] == 3
    made.dele(1)
    assert made.quit().startswith(b"+OK")
    assert look_in(proxy, alice, "new") == 2
    Path(file.name).unlink()
    eventually(lambda: look_in(proxy, alice) == 5, what="later mail", otherwise=proxy.log)
