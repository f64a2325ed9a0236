"""Real POP3 servers as upstreams, each through a full cycle: fetch, poll, delete, crash."""

from __future__ import annotations

import poplib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tests.certificates import Certificates
from tests.e2e.devices import Endpoint, Login
from tests.e2e.dovecot import Dovecot, DovecotUnusable
from tests.e2e.overheard import digest
from tests.e2e.poplib_device import PoplibDevice, logged_in
from tests.e2e.proxy import ProxyProcess, Table
from tests.e2e.rig import SYNC, login, poll_together, small_mails
from tests.e2e.servers import OTHERS
from tests.e2e.servers.server import Upstream
from tests.e2e.tap import Tap
from tests.e2e.waiting import eventually
from tests.needs import cannot

pytestmark = pytest.mark.e2e

MAILS = [
    b"From: a@example.com\r\nMessage-ID: <%d@servers>\r\nSubject: %d\r\n\r\n" % (n, n) + body
    for n, body in enumerate(
        [
            b"An ordinary line.\r\n",
            b".\r\n..\r\n.hidden\r\nand a last one.\r\n",
            b"x" * 5000 + b"\r\n" + b"." * 5000 + b"\r\nand a short one\r\n",
            b"",
            "Grüße in UTF-8, und \xff\r\n".encode() + b"gr\xfc\xdfe in latin-1\r\n",
            b"a line among many\r\n" * 16_000,
            b"From here on\r\n>From there\r\n",
            b"\r\n\r\nblank lines around\r\n\r\n",
        ]
    )
]
SERVERS: dict[str, Callable[[Certificates], Upstream]] = {
    "dovecot": Dovecot,
    **{server.name: server for server in OTHERS},
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
    """An upstream with one user, the tap in front of it, a proxy behind it."""

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

    def deliver(self, *mails: bytes) -> None:
        self.upstream.deliver(self.user, *mails)

    def count(self) -> int:
        return self.upstream.count(self.user)

    def asked(self) -> int:
        """RETRs, complete or not."""
        return self.tap.record().count("RETR")

    def sync(self) -> None:
        """Now, whatever LOGIN-DELAY upstream announces (Courier: 10 seconds)."""
        assert self.syncs(), self.proxy.log() + self.upstream.log()

    def syncs(self) -> bool:
        return self.proxy.cli("account", "sync", self.user.name).returncode == 0

    def direct(self) -> list[bytes]:
        """What upstream sends to a program that asks it directly, once nobody else does."""
        endpoint = Endpoint(self.upstream.host, self.upstream.port)
        found: list[bytes] = []

        def ask() -> bool:
            try:
                with logged_in(endpoint, Login(self.user.name, self.user.password)) as session:
                    numbers = range(1, session.stat()[0] + 1)
                    found.extend([session.body(f"RETR {number}") for number in numbers])
                    session.quit()
            except poplib.error_proto:
                return False
            return True

        eventually(ask, what="upstream to let a second program in", otherwise=self.upstream.log)
        return found

    def assert_same(self, devices: Iterable[PoplibDevice], mails: Iterable[bytes]) -> None:
        """Each of these mails once on each device, in octets that upstream sent."""
        wanted = Counter(mails)
        sent = self.tap.retrs().keys()
        for device in devices:
            got = Counter(device.mails())
            assert [mail for mail in got if digest(mail) not in sent] == []
            if getattr(self.upstream, "rewrites", False):
                got, wanted = _unwritten(got), _unwritten(wanted)
            assert got == wanted


def _unwritten(mails: Counter[bytes]) -> Counter[bytes]:
    """Without what mailutils adds when it rewrites an mbox: fields in the header, and an empty line
    to a mail with no body. And without a body that has a line which an mbox quotes: now and then it
    leaves that out."""
    fields = re.compile(rb"^(?:X-UIDL|X-UID|X-IMAPbase|Status): .*\r\n", re.M)
    quoted = re.compile(rb"\r\n\r\n(?=From ).*", re.S)
    plain = (quoted.sub(b"", fields.sub(b"", mail)) for mail in mails.elements())
    return Counter(mail.rstrip(b"\r\n") for mail in plain)


@pytest.fixture
def stage(tmp_path: Path, certificates: Certificates, upstream: Upstream) -> Iterator[Stage]:
    made = Stage(tmp_path, certificates, upstream)
    yield made
    made.close()


def test_each_mail_is_fetched_once_and_comes_as_upstream_sends_it(stage: Stage) -> None:
    stage.deliver(*MAILS)
    stage.start()
    devices = [stage.device(name) for name in ("desktop", "laptop", "tablet")]
    poll_together(*devices)
    for device in devices:
        # Every octet that crossed the wire, and nothing that crossed it twice.
        assert stage.tap.retrs() == Counter(map(digest, device.mails()))
    assert len(devices[0].mails()) == len(MAILS)
    stage.assert_same(devices, stage.direct())


def test_a_poll_fetches_what_is_new_and_nothing_else(stage: Stage) -> None:
    stage.deliver(*MAILS)
    stage.start()
    devices = [stage.device(name) for name in ("laptop", "tablet")]
    poll_together(*devices)
    for _ in range(2):
        stage.sync()
        poll_together(*devices)
    assert stage.asked() == len(MAILS)

    stage.deliver(*small_mails(2, "later"))
    stage.sync()
    poll_together(*devices)
    assert stage.asked() == len(MAILS) + 2
    stage.assert_same(devices, stage.direct())


def test_upstream_is_emptied_when_every_device_has_its_mail(stage: Stage) -> None:
    stage.start({"upstream": "delivered"})
    first, second = stage.device("first"), stage.device("second")
    poll_together(first, second)
    stage.deliver(*MAILS)
    stage.sync()
    first.poll()
    stage.sync()
    assert stage.count() == len(MAILS)
    sent = stage.direct()
    second.poll()
    assert stage.count() == len(MAILS)
    stage.sync()
    assert stage.count() == 0
    stage.assert_same((first, second), sent)
    assert stage.asked() == len(MAILS)


def test_kills_in_the_middle_of_fetching_double_nothing_on_a_device(stage: Stage) -> None:
    stage.start()
    devices = [stage.device(name) for name in ("laptop", "tablet")]
    poll_together(*devices)
    for turn, part in enumerate((0.02, 0.3, 0.95)):
        mails = [mail.replace(b"ID: <", b"ID: <%d." % turn) for mail in MAILS]
        octets = int(part * sum(map(len, mails)))
        stage.tap.at_octet(octets, stage.proxy.kill_now)
        stage.deliver(*mails)
        stage.proxy.cli("account", "sync", stage.user.name)
        eventually(lambda: not stage.proxy.running, what="the kill", otherwise=stage.proxy.log)
        stage.proxy.kill()
        stage.proxy.start()
        for device in devices:
            device.endpoint = stage.proxy.endpoint()
        # One device gets what there is so far, the other one all at the end.
        devices[0].poll()
    eventually(stage.syncs, what="upstream to let the proxy in", otherwise=stage.proxy.log)
    poll_together(*devices)
    assert len(devices[0].mails()) == 3 * len(MAILS)
    stage.assert_same(devices, stage.direct())


def test_mails_that_differ_in_the_body_alone_all_arrive(stage: Stage) -> None:
    """popa3d and solid-pop3d make the UIDL from the header, so that such mails share one."""
    head = b"From: a@example.com\r\nMessage-ID: <twins@servers>\r\nSubject: twins\r\n\r\n"
    stage.start({"upstream": "delivered"})
    first, second = stage.device("first"), stage.device("second")
    poll_together(first, second)
    for bodies in ((b"one\r\n", b"two\r\n"), (b"owt\r\n", b"three\r\n")):
        stage.deliver(*(head + body for body in bodies))
        stage.sync()
        first.poll()
    assert stage.count() == 4
    sent = stage.direct()
    second.poll()
    stage.sync()
    assert stage.count() == 0

    # One more, when upstream has none of the others left.
    stage.deliver(head + b"eno\r\n")
    stage.sync()
    sent += stage.direct()
    poll_together(first, second)
    stage.assert_same((first, second), sent)
    stage.sync()
    assert stage.count() == 0
