"""A reload and a stop in the middle of what devices do."""

from __future__ import annotations

import hashlib
import poplib
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import urlopen

import pytest

from tests.corpus import normalise
from tests.e2e.dovecot import User, free_ports
from tests.e2e.poplib_device import Session, connect, logged_in
from tests.e2e.proxy import ProxyProcess
from tests.e2e.rig import Rig, login, small_mails
from tests.e2e.waiting import eventually

pytestmark = pytest.mark.e2e

LARGE = 100 * 1024 * 1024
LINE = b"0123456789abcdef" * 4 + b"\r\n"


@pytest.fixture(scope="module")
def large() -> bytes:
    return b"Subject: large\r\n\r\n" + LINE * (LARGE // len(LINE))


def set_up(rig: Rig, *mails: bytes) -> tuple[User, ProxyProcess]:
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *mails)
    proxy = rig.proxy(user)
    assert proxy.cli("account", "sync", user.name).returncode == 0
    return user, proxy


@contextmanager
def in_the_middle(session: Session, digest: hashlib._Hash) -> Iterator[None]:
    """RETR of the one message; the body of the `with` runs after a small part of it."""
    stream = session.stream("RETR 1")
    for _ in range(1000):
        digest.update(next(stream))
    yield
    for line in stream:
        digest.update(line)


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=30).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_reload_in_the_middle_of_100_mb_moves_listeners_and_drops_nobody(
    rig: Rig, large: bytes
) -> None:
    user, proxy = set_up(rig, large)
    before = proxy.endpoint().port
    digest = hashlib.sha256()
    after, http = free_ports(2)
    with logged_in(proxy.endpoint(), login(user, "laptop")) as session:
        with in_the_middle(session, digest):
            text = proxy.config.read_text()
            text = text.replace('listen = ["127.0.0.1:0"]', f'listen = ["127.0.0.1:{after}"]')
            text = text.replace('listen = "127.0.0.1:0"', f'listen = "127.0.0.1:{http}"')
            proxy.config.write_text(f'{text}\n[log]\nlevel = "debug"\n')
            proxy.send(signal.SIGHUP)
            eventually(lambda: not refuses(after), what="the new listener")
            eventually(lambda: refuses(before), what="the old one to be closed")
            eventually(lambda: not refuses(http), what="the new one for metrics")
            with urlopen(f"http://127.0.0.1:{http}/readyz", timeout=30) as answer:
                assert answer.status == 200
        assert session.quit().startswith(b"+OK")
    assert digest.hexdigest() == hashlib.sha256(normalise(large)).hexdigest()

    def tells_more() -> bool:
        """A session that begins is a line of that level."""
        return not refuses(after) and "level=debug" in proxy.log()

    eventually(tells_more, what="the new level of the log")
    (account,) = proxy.cli_json("status")["accounts"]
    assert [(d["device"], d["waiting"]) for d in account["devices"]] == [("laptop", 0)]


def test_a_stop_in_the_middle_of_100_mb_lets_the_session_end(rig: Rig, large: bytes) -> None:
    user, proxy = set_up(rig, large)
    digest = hashlib.sha256()
    port = proxy.endpoint().port
    with logged_in(proxy.endpoint(), login(user, "laptop")) as session:
        with in_the_middle(session, digest):
            proxy.send(signal.SIGTERM)
            eventually(lambda: refuses(port), what="the listener to be closed")
            assert proxy.running
        assert session.quit().startswith(b"+OK")
    proxy.stop()
    assert digest.hexdigest() == hashlib.sha256(normalise(large)).hexdigest()
    (account,) = proxy.cli_json("status")["accounts"]
    assert [(d["device"], d["waiting"]) for d in account["devices"]] == [("laptop", 0)]


def test_a_second_sigterm_waits_for_nobody(rig: Rig, large: bytes) -> None:
    user, proxy = set_up(rig, large)
    port = proxy.endpoint().port
    with logged_in(proxy.endpoint(), login(user, "laptop")) as session:
        stream = session.stream("RETR 1")
        next(stream)
        proxy.send(signal.SIGTERM)
        eventually(lambda: refuses(port), what="the listener to be closed")
        proxy.stop()
        with pytest.raises((OSError, poplib.error_proto)):
            b"".join(stream)
    (account,) = proxy.cli_json("status")["accounts"]
    assert [d["waiting"] for d in account["devices"]] == [1]


def test_who_has_not_logged_in_is_told_that_the_service_stops(rig: Rig) -> None:
    _, proxy = set_up(rig, *small_mails(1, "told"))
    stranger = connect(proxy.endpoint())
    proxy.send(signal.SIGTERM)
    assert stranger.file.readline().startswith(b"-ERR [SYS/TEMP] the service is stopping")
    proxy.stop()
    stranger.close()


def test_a_reload_to_an_address_that_is_taken_changes_nothing(rig: Rig) -> None:
    user, proxy = set_up(rig, *small_mails(2, "stays"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        text = proxy.config.read_text()
        port = taken.getsockname()[1]
        text = text.replace('listen = "127.0.0.1:0"', f'listen = "127.0.0.1:{port}"')
        proxy.config.write_text(text.replace(user.password, "another"))
        proxy.send(signal.SIGHUP)
        eventually(lambda: "reload refused" in proxy.log(), what="the refusal")
    device = rig.device(proxy, user, "laptop")
    device.poll()
    assert len(device.mails()) == 2


def test_limits_of_a_reload_hold_for_the_next_connection(rig: Rig) -> None:
    user, proxy = set_up(rig, *small_mails(1, "limited"))
    with logged_in(proxy.endpoint(), login(user, "laptop")):
        text = proxy.config.read_text()
        proxy.config.write_text(f"{text}\n[limits]\nmax_connections_per_address = 1\n")
        proxy.send(signal.SIGHUP)
        eventually(lambda: "configuration reloaded" in proxy.log(), what="the reload")
        port = proxy.endpoint().port
        with socket.create_connection(("127.0.0.1", port)) as one_more:
            assert b"too many connections" in one_more.recv(1000)


def test_what_needs_a_restart_is_said(rig: Rig) -> None:
    user = rig.dovecot.add_user()
    # With a certificate of its own, which lies in the data directory.
    proxy = rig.proxy(user, sections={"pop3": {"certificate": "", "private_key": ""}})
    text = proxy.config.read_text()
    proxy.config.write_text(text.replace('data_dir = "data"', 'data_dir = "elsewhere"'))
    proxy.send(signal.SIGHUP)
    eventually(lambda: "at the next start" in proxy.log(), what="the warning")
    assert not (proxy.folder / "elsewhere").exists()
