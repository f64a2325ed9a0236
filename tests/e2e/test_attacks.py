"""Strangers that mean harm, against a real proxy: memory stays bounded, the others are served."""

from __future__ import annotations

import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.certificates import Certificates
from tests.e2e.devices import Login
from tests.e2e.dovecot import User
from tests.e2e.endless_upstream import BLOCK, BigMessage, serving
from tests.e2e.poplib_device import TIMEOUT, logged_in
from tests.e2e.proxy import ProxyProcess, Table
from tests.e2e.rig import Rig, login, small_mails
from tests.e2e.waiting import eventually

pytestmark = pytest.mark.e2e

MAY_GROW = 16 * 1024
"""KiB that an attack may cost."""


def open_connection(proxy: ProxyProcess, source: str = "127.0.0.1") -> socket.socket:
    host, _, port = proxy.addresses["pop3"][0].rpartition(":")
    return socket.create_connection((host, int(port)), TIMEOUT, (source, 0))


def log_in(raw: socket.socket, user: str, password: str) -> None:
    raw.sendall(f"USER {user}\r\nPASS {password}\r\n".encode())
    seen = b""
    while seen.count(b"\n") < 3:
        seen += raw.recv(1000)
    assert seen.count(b"+OK") == 3, seen


@pytest.fixture
def owner(rig: Rig) -> User:
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *small_mails(2, "kept"))
    return user


@pytest.fixture
def proxy(rig: Rig, owner: User) -> ProxyProcess:
    return rig.proxy(owner)


def reads(owner: User, proxy: ProxyProcess) -> None:
    with logged_in(proxy.endpoint(), login(owner, "laptop")) as session:
        assert len(session.sizes()) == 2
        session.quit()


@pytest.mark.parametrize("inside", [False, True], ids=["before the login", "after the login"])
def test_a_line_of_a_gigabyte_is_not_held(proxy: ProxyProcess, owner: User, inside: bool) -> None:
    reads(owner, proxy)
    before = proxy.peak_memory()
    with open_connection(proxy) as raw:
        if inside:
            log_in(raw, owner.name, owner.password)
        chunk = b"x" * 2**20
        with suppress(ConnectionError):
            for _ in range(1024):
                raw.sendall(chunk)
            raw.sendall(b"\r\nNOOP\r\n")
            assert inside, "it was read to its end"
            assert raw.recv(1000).startswith(b"-ERR line too long")
    assert proxy.peak_memory() - before < MAY_GROW
    reads(owner, proxy)


def test_five_thousand_half_open_connections_lock_nobody_out(
    proxy: ProxyProcess, owner: User
) -> None:
    """From fifty addresses; the limits are the defaults."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8000)), hard))
    reads(owner, proxy)
    before = proxy.peak_memory()
    with ExitStack() as stack:
        for number in range(5000):
            source = f"127.0.1.{number % 50 + 1}"
            stack.enter_context(open_connection(proxy, source))
        reads(owner, proxy)
        assert proxy.peak_memory() - before < 2 * MAY_GROW
    reads(owner, proxy)


def test_a_flood_from_one_address_leaves_the_others_alone(proxy: ProxyProcess, owner: User) -> None:
    with ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(open_connection(proxy, "127.0.1.1"))
        eventually(lambda: "too_many_from_address" in proxy.log(), what="the limit")
        reads(owner, proxy)


@contextmanager
def big_message_proxy(folder: Path, certificates: Certificates) -> Iterator[ProxyProcess]:
    """A proxy that has fetched a message of 100 MB."""
    message = BigMessage(100_000_000 // len(BLOCK))
    with serving(message) as port:
        upstream: Table = {"host": "127.0.0.1", "port": port, "tls": "none"}
        account: Table = {"name": "alice", "password": "secret", "upstream": upstream}
        sync: Table = {"interval": "1h", "max_age": "1h"}
        proxy = ProxyProcess(folder / "proxy", certificates, {"sync": sync}, [account])
        proxy.start()
        try:
            proxy.cli_json("account", "sync", "alice")
            yield proxy
        finally:
            proxy.kill()


def test_a_reader_of_one_octet_at_a_time_costs_nothing_but_its_connection(
    tmp_path: Path, certificates: Certificates
) -> None:
    """While it takes octet by octet of a message of 100 MB, another device takes it whole."""
    with big_message_proxy(tmp_path, certificates) as proxy:
        before = proxy.peak_memory()
        with open_connection(proxy) as slow:
            log_in(slow, "alice+slow", "secret")
            slow.sendall(b"RETR 1\r\n")
            done = threading.Event()
            taken = 0

            def take() -> None:
                nonlocal taken
                while not done.wait(1.0):
                    taken += len(slow.recv(1))

            reader = threading.Thread(target=take)
            reader.start()
            try:
                with logged_in(proxy.endpoint(), Login("alice+quick", "secret")) as session:
                    octets = sum(map(len, session.stream("RETR 1")))
                    assert octets > 99_000_000
                    session.quit()
            finally:
                done.set()
                reader.join()
            assert taken < 100
        assert proxy.peak_memory() - before < MAY_GROW


NAMES = [
    "../../etc/passwd",
    "alice/../bob",
    "..",
    "a" * 900,
    "alice%00bob",
    "'; DROP TABLE account; --",
    "jörg@exämple.com",
    "👾@example.com",
    "ａｌｉｃｅ@example.com",
    "alice event=login_refused peer=192.0.2.66",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_strange_name_is_a_name_and_nothing_more(rig: Rig, name: str) -> None:
    """Pass-through: upstream is asked, refuses, and nothing is left behind."""
    user = rig.dovecot.add_user()
    upstream = {"host": rig.tap.host, "port": rig.tap.port, "tls": "none"}
    sections: dict[str, Table] = {"upstream": upstream, "limits": {"login_delay": "0s"}}
    proxy = rig.proxy(user, sections=sections)
    files = {path for path in rig.folder.rglob("*") if path.is_dir()}
    with open_connection(proxy) as raw:
        raw.sendall(f"USER {name}\r\nPASS x\r\nQUIT\r\n".encode())
        answer = b""
        while chunk := raw.recv(1000):
            answer += chunk
    assert b"-ERR" in answer
    assert b"Traceback" not in answer
    rows = proxy.cli_json("account", "list")
    assert [row["account"] for row in rows] == [user.name]
    assert {path for path in rig.folder.rglob("*") if path.is_dir()} == files


@pytest.mark.parametrize("name", [b"a\0b", b"a\rb", b"a\x1b[2Jb", b"\xff\xfe", "a\u202eb".encode()])
def test_a_name_with_control_characters_is_refused_and_forges_no_line(
    proxy: ProxyProcess, name: bytes
) -> None:
    with open_connection(proxy) as raw:
        raw.sendall(b"USER " + name + b"\r\nQUIT\r\n")
        answer = b""
        while chunk := raw.recv(1000):
            answer += chunk
    assert answer.split(b"\r\n")[1].startswith(b"-ERR")
    eventually(lambda: "event=session_ended" in proxy.log(), what="the session's line")
    for line in proxy.log().splitlines():
        assert line.startswith("timestamp="), line


SMUGGLED = [
    b"first\n.\nsecond",
    b"first\r.\rsecond",
    b"first\r\n.\nsecond",
    b"first\n.\r\nsecond",
    b"first\r.\r\nsecond",
    b"first\r\n.\r\r\nsecond",
    b"first\0\r\n.\0\r\nsecond",
    b".\n\r\n..\r\n.\r",
]


def test_no_message_ends_before_its_end(rig: Rig) -> None:
    """Lines of one dot, with every line end that some program might take for one."""
    user = rig.dovecot.add_user()
    mails = [
        b"Message-ID: <%d@smuggler>\r\nSubject: x\r\n\r\n" % number + body + b"\r\n"
        for number, body in enumerate(SMUGGLED)
    ]
    rig.dovecot.deliver(user, *mails)
    proxy = rig.proxy(user)
    with logged_in(proxy.endpoint(), login(user, "laptop")) as session:
        sizes = session.sizes()
        assert len(sizes) == len(mails)
        for number, size in sizes.items():
            body = session.body(f"RETR {number}")
            assert len(body) == size
            assert b"second" in body or b".." in body
            # Where any program that takes LF or CR alone for a line end would stop reading.
            wire = body.replace(b"\r\n.", b"\r\n..")
            assert b"\n.\n" not in wire
            assert b"\n.\r\n" not in wire
        session.quit()
