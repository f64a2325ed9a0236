"""Real POP3 servers as upstreams, each through a full cycle: fetch, poll, delete, crash."""

from __future__ import annotations

import poplib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.certificates import Certificates
from tests.e2e.dovecot import Dovecot, DovecotUnusable, User
from tests.e2e.poplib_device import PoplibDevice
from tests.e2e.proxy import ProxyProcess, Table
from tests.e2e.rig import SYNC, login, poll_together, small_mails
from tests.e2e.servers.courier import Courier
from tests.e2e.servers.cyrus import Cyrus
from tests.e2e.servers.inetd import Mailutils, Popa3d
from tests.e2e.tap import Tap
from tests.e2e.waiting import eventually
from tests.needs import cannot

pytestmark = pytest.mark.e2e

HEADER = b"From: a@example.com\r\nMessage-ID: <%d@servers>\r\nSubject: %d\r\n\r\n"
BODIES = [
    b"An ordinary line.\r\n",
    b".\r\n..\r\n.hidden\r\nand a last one.\r\n",
    b"x" * 900 + b"\r\n",
    b"",
    "Grüße in UTF-8\r\n".encode(),
    b"a line among many\r\n" * 17_000,
    b"From here on\r\n>From there\r\n",
    b"\r\n\r\nblank lines around\r\n\r\n",
]


class Upstream(Protocol):
    """What all of these servers have in common."""

    host: str
    port: int

    def add_user(self) -> User: ...
    def deliver(self, user: User, *mails: bytes) -> None: ...
    def count(self, user: User) -> int: ...
    def close(self) -> None: ...


SERVERS: dict[str, Callable[[Certificates], Upstream]] = {
    "dovecot": Dovecot,
    "courier": lambda _: Courier(),
    "cyrus": lambda _: Cyrus(),
    "mailutils": lambda _: Mailutils(),
    "popa3d": lambda _: Popa3d(),
}


@pytest.fixture(scope="module", params=SERVERS)
def upstream(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[Upstream]:
    try:
        server = SERVERS[request.param](certificates)
    except DovecotUnusable as error:
        cannot(str(error))
        raise
    yield server
    server.close()


class Stage:
    def __init__(self, folder: Path, certificates: Certificates, upstream: Upstream) -> None:
        self.upstream = upstream
        self.user = upstream.add_user()
        self.tap = Tap(upstream.host, upstream.port)
        self._folder = folder
        self._certificates = certificates
        self.proxy: ProxyProcess

    def start(self, retention: Table | None = None) -> None:
        server = {"host": self.tap.host, "port": self.tap.port, "tls": "none"}
        account = {
            "name": self.user.name,
            "password": self.user.password,
            "upstream": server,
            "retention": retention or {},
        }
        self.proxy = ProxyProcess(self._folder / "p", self._certificates, {"sync": SYNC}, [account])
        self.proxy.start()

    def close(self) -> None:
        self.proxy.kill()
        self.tap.close()

    def device(self, name: str) -> PoplibDevice:
        return PoplibDevice(self.proxy.endpoint(), login(self.user, name))

    def retrs(self) -> int:
        return self.tap.record().count("RETR")

    def sync(self) -> None:
        """Now, whatever LOGIN-DELAY upstream announces (Courier: 10 seconds)."""
        done = self.proxy.cli("account", "sync", self.user.name)
        assert done.returncode == 0, done.stderr + self.proxy.log()

    def direct(self) -> Counter[bytes]:
        """What upstream shows to a program that asks it directly, once nobody else does."""
        found: Counter[bytes] = Counter()

        def ask() -> bool:
            session = poplib.POP3(self.upstream.host, self.upstream.port, timeout=30)
            try:
                session.user(self.user.name)
                session.pass_(self.user.password)
                for number in range(1, session.stat()[0] + 1):
                    found[b"".join(line + b"\r\n" for line in session.retr(number)[1])] += 1
                session.quit()
            except poplib.error_proto:
                return False
            finally:
                session.close()
            return True

        eventually(ask, what="upstream to let a second program in")
        return found


@pytest.fixture
def stage(tmp_path: Path, certificates: Certificates, upstream: Upstream) -> Iterator[Stage]:
    made = Stage(tmp_path, certificates, upstream)
    yield made
    made.close()


def test_each_mail_is_fetched_once_and_comes_as_upstream_has_it(stage: Stage) -> None:
    mails = [HEADER % (n, n) + body for n, body in enumerate(BODIES)]
    stage.upstream.deliver(stage.user, *mails)
    stage.start()
    devices = [stage.device(name) for name in ("desktop", "laptop", "tablet")]
    poll_together(*devices)
    assert stage.retrs() == len(mails)
    had = [Counter(device.mails()) for device in devices]
    assert had[0] == had[1] == had[2]
    assert had[0].total() == len(mails)
    assert _as_delivered(had[0]) == _as_delivered(stage.direct())

    poll_together(*devices)
    assert stage.retrs() == len(mails)
    stage.upstream.deliver(stage.user, *small_mails(2, "later"))
    stage.sync()
    poll_together(*devices)
    assert stage.retrs() == len(mails) + 2
    for device in devices:
        assert len(device.mails()) == len(mails) + 2


def _as_delivered(mails: Counter[bytes]) -> Counter[bytes]:
    """Without what mailutils changes when it rewrites an mbox: fields of its own in the header, and
    the number of empty lines at the end."""
    written = re.compile(rb"^(?:X-UIDL|X-UID|X-IMAPbase|Status): .*\r\n", re.M)
    found: Counter[bytes] = Counter()
    for mail, count in mails.items():
        found[written.sub(b"", mail).rstrip(b"\r\n")] += count
    return found


def test_upstream_is_emptied_when_every_device_has_its_mail(stage: Stage) -> None:
    stage.start({"upstream": "delivered"})
    first, second = stage.device("first"), stage.device("second")
    poll_together(first, second)
    stage.upstream.deliver(stage.user, *small_mails(5, "retained"))
    stage.sync()
    first.poll()
    stage.sync()
    assert stage.upstream.count(stage.user) == 5
    second.poll()
    stage.sync()
    assert stage.upstream.count(stage.user) == 0
    assert len(first.mails()) == len(second.mails()) == 5
    assert stage.retrs() == 5


def test_after_a_crash_no_device_gets_anything_twice(stage: Stage) -> None:
    stage.upstream.deliver(stage.user, *small_mails(10, "before"))
    stage.start()
    device = stage.device("laptop")
    device.poll()
    stage.proxy.kill()
    stage.upstream.deliver(stage.user, *small_mails(3, "behind"))
    stage.proxy.start()
    stage.sync()
    device.endpoint = stage.proxy.endpoint()
    device.poll()
    device.poll()
    assert len(device.mails()) == 13
    assert stage.retrs() == 13
