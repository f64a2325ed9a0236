"""SIGKILL at many instants: during syncs, at an octet drawn at random, and during sessions."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest

from proxy.services.fetch import BATCH_MESSAGES
from proxy.services.upstream import WINDOW_COMMANDS
from tests.e2e.dovecot import User
from tests.e2e.overheard import digest
from tests.e2e.poplib_device import PoplibDevice, Session, connect, hang_up, logged_in
from tests.e2e.proxy import ProxyProcess
from tests.e2e.rig import (
    Rig,
    assert_same_mails,
    login,
    one_each,
    poll_together,
    poll_whatever_comes,
    small_mails,
)
from tests.e2e.waiting import eventually

pytestmark = pytest.mark.e2e

SYNC_KILLS = 25
LOST_AT_MOST = WINDOW_COMMANDS + 2 * BATCH_MESSAGES
"""Complete messages that a kill may cost: what was asked for ahead, a batch that is being written,
and the next one."""
LONG = 3000
"""Messages of one sync, so many that they tell a bounded loss from an unbounded one."""
NEVER = 10**12
SESSION_KILLS = 12
"""For each of the two kinds of mark."""


def bring_back(proxy: ProxyProcess, *devices: PoplibDevice) -> None:
    """Make sure it is dead, start it, and tell the devices its new port."""
    proxy.kill()
    proxy.start()
    for device in devices:
        device.endpoint = proxy.endpoint()


@pytest.mark.timeout(240)
def test_kills_during_syncs_lose_nothing_and_double_nothing(rig: Rig) -> None:
    luck = random.Random(25)
    user = rig.dovecot.add_user()
    proxy = rig.proxy(user)
    devices = [rig.device(proxy, user, name) for name in ("laptop", "desktop")]
    delivered: list[bytes] = []
    in_danger: Counter[str] = Counter()
    hit = 0
    for turn in range(SYNC_KILLS):
        seen = {digest(mail) for device in devices for mail in device.mails()}
        count, octets = luck.choice(((luck.randint(1, 200), 200), (luck.randint(1, 30), 20_000)))
        fresh = small_mails(count, f"turn {turn}", octets=octets)
        # Somewhere in what upstream is about to send, the talk before the first RETR included.
        rig.tap.at_octet(luck.randrange(1000 + sum(map(len, fresh))), proxy.kill_now)
        rig.dovecot.deliver(user, *fresh)
        delivered += fresh
        poll_whatever_comes(*devices)
        hit += not proxy.running
        in_danger.update({digest(mail) for mail in delivered} - seen)
        rig.tap.at_octet(NEVER, proxy.kill_now)
        bring_back(proxy, *devices)
        if luck.random() < 0.5:
            poll_together(*devices)
    poll_together(*devices)

    assert hit > SYNC_KILLS // 2
    for device in devices:
        assert_same_mails(device.mails(), delivered)
    assert devices[0].by_uid == devices[1].by_uid
    retrs = rig.tap.retrs()
    assert retrs.keys() == one_each(delivered).keys()
    # Seen by a device before the kill: durable, and never fetched again.
    assert not {name: n for name, n in retrs.items() if n > 1 + in_danger[name]}


@pytest.mark.timeout(240)
def test_what_a_kill_costs_is_bounded_however_much_mail_there_is(rig: Rig) -> None:
    user = rig.dovecot.add_user()
    proxy = rig.proxy(user)
    mails = small_mails(LONG, "long", octets=200)
    rig.dovecot.deliver(user, *mails)
    rig.tap.at_octet(sum(map(len, mails)) * 9 // 10, proxy.kill_now)
    device = rig.device(proxy, user, "laptop")
    poll_whatever_comes(device)
    eventually(lambda: not proxy.running, what="the kill")
    before = rig.tap.retrs().total()
    assert before > LONG // 2
    rig.tap.at_octet(NEVER, proxy.kill_now)
    bring_back(proxy, device)
    device.poll()
    assert_same_mails(device.mails(), mails)
    assert rig.tap.retrs().total() - LONG <= LOST_AT_MOST


STAGES = ("marked", "within a message", "QUIT sent", "QUIT answered")


def stages(luck: random.Random) -> Iterator[str]:
    """Each kind often enough, in an order drawn at random."""
    drawn = list(STAGES) * (SESSION_KILLS // len(STAGES))
    luck.shuffle(drawn)
    yield from drawn


def die_in_session(proxy: ProxyProcess, session: Session, stage: str) -> None:
    """Kill the proxy at this stage."""
    if stage == "within a message":
        send(session, b"RETR 1\r\n")
        session.sock.recv(100)
    elif stage == "QUIT sent":
        send(session, b"QUIT\r\n")
    elif stage == "QUIT answered":
        session.quit()
    proxy.kill()


def send(session: Session, line: bytes) -> None:
    session.sock.sendall(line)


def uids_shown(proxy: ProxyProcess, user: User, device: str) -> set[str]:
    with logged_in(proxy.endpoint(), login(user, device)) as session:
        uids = set(session.uids().values())
        session.quit()
    return uids


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", ["deleted", "retrieved"])
def test_marks_live_exactly_as_long_as_quit_says(rig: Rig, kind: str) -> None:
    """Deleted, with the view `all`; retrieved, with `undelivered`: gone if QUIT was answered, all
    there if it was not sent, and all or nothing if nobody knows."""
    luck = random.Random(kind)
    user = rig.dovecot.add_user()
    mails = small_mails(80, kind)
    rig.dovecot.deliver(user, *mails)
    view = "all" if kind == "deleted" else "undelivered"
    proxy = rig.proxy(user, account={"devices": {"view": view}})
    bystander = rig.device(proxy, user, "bystander")
    before = uids_shown(proxy, user, "laptop")
    assert len(before) == len(mails)
    for stage in stages(luck):
        numbers = luck.sample(range(2, len(before) + 1), 3)
        session = connect(proxy.endpoint())
        watching = connect(proxy.endpoint())
        try:
            session.user(login(user, "laptop").user)
            session.pass_(user.password)
            # Another session of the account, cut off by the same kill.
            watching.user(login(user, "watcher").user)
            watching.pass_(user.password)
            uids = session.uids()
            assert set(uids.values()) == before
            marked = {uids[number] for number in numbers}
            mark_all(session, kind, numbers)
            die_in_session(proxy, session, stage)
        finally:
            hang_up(session)
            hang_up(watching)
        bring_back(proxy, bystander)
        after = uids_shown(proxy, user, "laptop")
        wanted = {
            "QUIT sent": (before, before - marked),
            "QUIT answered": (before - marked,),
        }.get(stage, (before,))
        assert after in wanted, f"{stage}: {len(before - after)} gone, {len(marked)} marked"
        before = after
    bystander.poll()
    assert_same_mails(bystander.mails(), mails)
    assert rig.tap.retrs() == one_each(mails)


def mark_all(session: Session, kind: str, numbers: list[int]) -> None:
    for number in numbers:
        if kind == "deleted":
            session.dele(number)
        else:
            session.body(f"RETR {number}")


def test_what_was_confirmed_before_a_kill_is_delivered_after_it(rig: Rig) -> None:
    """`delivered` retention across kills: upstream is emptied by what QUIT had committed."""
    user = rig.dovecot.add_user()
    proxy = rig.proxy(user, account={"retention": {"upstream": "delivered"}})
    first, second = rig.device(proxy, user, "first"), rig.device(proxy, user, "second")
    poll_together(first, second)
    mails = small_mails(10, "confirmed")
    rig.dovecot.deliver(user, *mails)
    first.poll()
    with logged_in(second.endpoint, second.login) as session:
        for number in session.uids():
            session.body(f"RETR {number}")
        proxy.kill()
    bring_back(proxy, first, second)
    proxy.cli_json("account", "sync", user.name)
    assert rig.dovecot.count(user) == len(mails)
    second.poll()
    bring_back(proxy, first, second)
    proxy.cli_json("account", "sync", user.name)
    assert rig.dovecot.count(user) == 0


def test_two_proxies_do_not_share_a_data_directory(rig: Rig) -> None:
    user = rig.dovecot.add_user()
    proxy = rig.proxy(user)
    assert proxy.cli("serve").returncode == 1
    assert uids_shown(proxy, user, "laptop") == set()
