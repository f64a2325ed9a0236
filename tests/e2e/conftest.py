"""What end-to-end tests share: one Dovecot a session, a stage a test, logs of what failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from tests.certificates import Certificates, make_certificates
from tests.corpus import corpus, large_mail
from tests.e2e.clients import Program
from tests.e2e.devices import Endpoint, Login
from tests.e2e.dovecot import Dovecot, DovecotUnusable
from tests.e2e.exim import Exim, EximUnusable
from tests.e2e.more_clients import Unavailable
from tests.e2e.rig import Rig
from tests.e2e.sending import Sending
from tests.e2e.smtp_tap import SmtpTap
from tests.e2e.thunderbird import Thunderbird
from tests.needs import cannot

DirectMails = Callable[[type[Program]], tuple[Counter[bytes], Counter[bytes]]]


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def dovecot(certificates: Certificates) -> Iterator[Dovecot]:
    try:
        server = Dovecot(certificates)
    except DovecotUnusable as error:
        cannot(str(error))
        raise
    with server:
        yield server


@pytest.fixture(scope="session")
def exim(certificates: Certificates) -> Iterator[Exim]:
    try:
        server = Exim(certificates)
    except EximUnusable as error:
        cannot(str(error))
        raise
    with server:
        yield server


@pytest.fixture
def sending(rig: Rig, exim: Exim) -> Sending:
    return Sending(rig, exim)


@pytest.fixture
def smtp_tap(exim: Exim) -> Iterator[SmtpTap]:
    with SmtpTap("127.0.0.1", exim.port) as tap:
        yield tap


@pytest.fixture
def tapped(rig: Rig, exim: Exim, smtp_tap: SmtpTap) -> Sending:
    """With the tap before Exim."""
    return Sending(rig, exim, tls="none", host="127.0.0.1", port=smtp_tap.port)


@pytest.fixture(scope="session")
def thunderbird(tmp_path_factory: pytest.TempPathFactory) -> type[Thunderbird]:
    try:
        Thunderbird.install(tmp_path_factory.mktemp("thunderbird"))
    except Unavailable as reason:
        cannot(str(reason))
    return Thunderbird


@pytest.fixture
def rig(tmp_path: Path, certificates: Certificates, dovecot: Dovecot) -> Iterator[Rig]:
    stage = Rig(tmp_path, certificates, dovecot)
    yield stage
    stage.close()


@pytest.fixture(scope="session")
def direct_mails(dovecot: Dovecot, tmp_path_factory: pytest.TempPathFactory) -> DirectMails:
    """What a program makes of the corpus, and of the large mail, with no proxy between."""
    known: dict[type[Program], tuple[Counter[bytes], Counter[bytes]]] = {}

    def find(program: type[Program]) -> tuple[Counter[bytes], Counter[bytes]]:
        if program not in known:
            user = dovecot.add_user()
            device = program(
                tmp_path_factory.mktemp("direct") / program.name,
                Endpoint("localhost", dovecot.port),
                Login(user.name, user.password),
            )
            dovecot.deliver(user, *corpus())
            device.poll()
            mails = Counter(device.mails())
            dovecot.deliver(user, large_mail())
            device.poll()
            known[program] = mails, Counter(device.mails()) - mails
        return known[program]

    return find


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    stage = getattr(item, "funcargs", {}).get("rig")
    if report.failed and isinstance(stage, Rig):
        report.sections += [(f"log of {proxy.folder.name}", proxy.log()) for proxy in stage.proxies]
    return report
