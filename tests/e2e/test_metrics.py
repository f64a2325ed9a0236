"""What a Prometheus sees of a running proxy."""

from __future__ import annotations

import hashlib
import signal
import socket
import subprocess
import time
from contextlib import ExitStack
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.devices import PollFailed
from tests.e2e.dovecot import User
from tests.e2e.poplib_device import PoplibDevice, logged_in
from tests.e2e.proxy import ProxyProcess
from tests.e2e.rig import Rig, small_mails
from tests.e2e.waiting import eventually
from tests.needs import need

pytestmark = pytest.mark.e2e

MAILS = 3


def page_of(proxy: ProxyProcess) -> str:
    with urlopen(f"http://{proxy.addresses['http'][0]}/metrics", timeout=30) as answer:
        text: str = answer.read().decode()
    return text


def values(page: str, name: str) -> dict[tuple[str, ...], float]:
    """The series of a metric by the values of their labels, in the order of the labels' names."""
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == f"pop3_sync_{name}"
    }


def label_of(proxy: ProxyProcess, user: User) -> str:
    label: str = proxy.cli_json("account", "show", user.name)["metrics_label"]
    return label


def look_in(device: PoplibDevice) -> None:
    """Log in and out, and take nothing."""
    with logged_in(device.endpoint, device.login) as session:
        session.quit()


def a_day_s_work(rig: Rig, proxy: ProxyProcess, user: User) -> None:
    """One device gets all mail, another one only looks, and a third has a wrong password."""
    rig.device(proxy, user, "laptop").poll()
    look_in(rig.device(proxy, user, "desktop"))
    stranger = rig.device(proxy, User(user.name, "wrong"), "laptop")
    with pytest.raises(PollFailed):
        stranger.poll()
    # The facts of a session come after its last answer.
    eventually(
        lambda: sum(values(page_of(proxy), "sessions_total").values()) == 3, what="the sessions"
    )


def test_promtool_finds_no_fault_in_the_page(rig: Rig) -> None:
    promtool = need("promtool")
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *small_mails(MAILS, "checked"))
    proxy = rig.proxy(user)
    a_day_s_work(rig, proxy, user)
    checked = subprocess.run(
        [promtool, "check", "metrics"],
        input=page_of(proxy),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_the_page_tells_what_devices_did_and_hides_who(rig: Rig) -> None:
    user = rig.dovecot.add_user()
    mails = small_mails(MAILS, "counted")
    rig.dovecot.deliver(user, *mails)
    proxy = rig.proxy(user)
    a_day_s_work(rig, proxy, user)
    page = page_of(proxy)
    account = label_of(proxy, user)
    assert user.name not in page
    assert values(page, "logins_total") == {
        ("accepted",): 2,
        ("credentials",): 1,
        ("device",): 0,
        ("refused_lately",): 0,
        ("too_many_failures",): 0,
        ("too_many_upstream",): 0,
        ("unavailable",): 0,
    }
    commands = values(page, "commands_total")
    assert (commands["RETR",], commands["USER",], commands["DELE",]) == (MAILS, 3, 0)
    assert values(page, "login_duration_seconds_count") == {(): 2}
    assert values(page, "messages_retrieved_total") == {(): MAILS}
    assert values(page, "messages_fetched_total") == {(account,): MAILS}
    assert values(page, "fetched_bytes_total") == {(account,): sum(map(len, mails))}
    assert values(page, "fetch_duration_seconds_count") == {(): MAILS}
    assert values(page, "syncs_total")[account, "failed"] == 0
    assert values(page, "upstream_login_duration_seconds_count")[()] >= 1
    assert values(page, "sessions_open") == {("logged_in",): 0, ("stranger",): 0}
    assert 0 < values(page, "store_free_bytes")[()] <= values(page, "store_size_bytes")[()]


def test_a_restart_knows_the_state_of_accounts_and_devices(rig: Rig) -> None:
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *small_mails(MAILS, "kept"))
    proxy = rig.proxy(user)
    a_day_s_work(rig, proxy, user)
    rig.tap.refuse()
    proxy.restart()
    account = label_of(proxy, user)

    def surveyed() -> bool:
        return bool(values(page_of(proxy), "backlog_messages"))

    eventually(surveyed, what="the first survey")
    page = page_of(proxy)
    assert values(page, "backlog_messages") == {(account, "laptop"): 0, (account, "desktop"): MAILS}
    assert values(page, "store_messages") == {(account,): MAILS}
    assert values(page, "upstream_messages") == {(account,): MAILS}
    for name in ("last_sync_success_timestamp_seconds", "device_last_seen_timestamp_seconds"):
        for at in values(page, name).values():
            assert time.time() - 600 < at <= time.time()


def test_names_of_accounts_are_shown_where_that_is_switched_on(rig: Rig) -> None:
    user = rig.dovecot.add_user()
    proxy = rig.proxy(user, sections={"http": {"account_names_in_metrics": True}})
    look_in(rig.device(proxy, user, "laptop"))
    assert values(page_of(proxy), "syncs_total")[user.name, "ok"] >= 1
    assert label_of(proxy, user) == user.name


def test_a_label_is_the_store_s_own_and_stays(rig: Rig) -> None:
    """Who knows names cannot tell which of them are here."""
    user = rig.dovecot.add_user()
    proxy = rig.proxy(user)
    look_in(rig.device(proxy, user, "laptop"))
    label = label_of(proxy, user)
    assert hashlib.sha256(user.name.encode()).hexdigest()[:8] not in page_of(proxy)
    assert values(page_of(proxy), "syncs_total")[label, "ok"] >= 1
    proxy.restart()
    assert label_of(proxy, user) == label
    assert values(page_of(proxy), "syncs_total")[label, "ok"] >= 0
    other = rig.proxy(user)
    assert label_of(other, user) != label
    proxy.stop()
    assert label_of(proxy, user) == label
    (row,) = proxy.cli_json("status")["accounts"]
    assert row["metrics_label"] == label


def answer_to(proxy: ProxyProcess, path: str, host: str) -> int:
    """The status."""
    address = proxy.addresses["http"][0]
    try:
        with urlopen(Request(f"http://{address}{path}", headers={"Host": host}), timeout=30) as it:
            return int(it.status)
    except HTTPError as error:
        return error.code


def test_only_names_of_ours_are_answered(rig: Rig) -> None:
    user = rig.dovecot.add_user()
    proxy = rig.proxy(user, sections={"http": {"hosts": ["proxy.example.com"]}})
    for path in ("/metrics", "/readyz"):
        assert answer_to(proxy, path, "proxy.example.com:9110") == 200
        assert answer_to(proxy, path, "localhost") == 200
        assert answer_to(proxy, path, "attacker.example") == 421
    proxy.config.write_text(proxy.config.read_text().replace("proxy.example.com", "new.example"))
    proxy.send(signal.SIGHUP)
    eventually(
        lambda: answer_to(proxy, "/metrics", "new.example") == 200,
        what="the new name",
        otherwise=proxy.log,
    )
    assert answer_to(proxy, "/metrics", "proxy.example.com") == 421


def test_questions_whether_it_is_ready_do_not_wear_out_the_disk(rig: Rig) -> None:
    user = rig.dovecot.add_user()
    proxy = rig.proxy(user)
    look_in(rig.device(proxy, user, "laptop"))
    address = proxy.addresses["http"][0]
    log = proxy.folder / "data" / "catalogue.db-wal"
    written = set()
    for _ in range(300):
        with urlopen(f"http://{address}/readyz", timeout=30) as answer:
            assert answer.status == 200
        written.add(log.stat().st_mtime_ns)
    assert len(written) <= 5


def test_half_requests_leave_mail_devices_their_connections(rig: Rig) -> None:
    user = rig.dovecot.add_user()
    proxy = rig.proxy(user)
    host, _, port = proxy.addresses["http"][0].rpartition(":")
    with ExitStack() as stack:
        for _ in range(500):
            half = stack.enter_context(socket.create_connection((host, int(port)), 30))
            half.sendall(b"GET /metr")
        eventually(lambda: proxy.open_files() < 150, what="the oldest to be cut")
        look_in(rig.device(proxy, user, "laptop"))
        assert values(page_of(proxy), "sessions_total")


def test_a_session_is_counted_while_it_is_open(rig: Rig) -> None:
    user = rig.dovecot.add_user()
    proxy = rig.proxy(user)
    device = rig.device(proxy, user, "laptop")
    with logged_in(device.endpoint, device.login):
        assert values(page_of(proxy), "sessions_open") == {("logged_in",): 1, ("stranger",): 0}


def test_labels_stay_as_they_are_until_a_restart(rig: Rig) -> None:
    """Halves of a series under two names would be of no use to anybody."""
    user = rig.dovecot.add_user()
    proxy = rig.proxy(user, sections={"http": {"account_names_in_metrics": False}})
    hashed = label_of(proxy, user)
    text = proxy.config.read_text()
    named = "account_names_in_metrics = "
    proxy.config.write_text(text.replace(f"{named}false", f"{named}true"))
    later = "keys=http.account_names_in_metrics"
    for _ in range(2):
        proxy.log_file.write_text("")
        proxy.send(signal.SIGHUP)
        eventually(lambda: later in proxy.log(), what="the warning", otherwise=proxy.log)
    assert label_of(proxy, user) == hashed
    assert user.name not in page_of(proxy)
    proxy.restart()
    assert label_of(proxy, user) == user.name
