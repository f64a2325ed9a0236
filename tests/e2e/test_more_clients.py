"""Libraries, fdm and mutt as devices: what they get, over every transport they know."""

from __future__ import annotations

import pytest

from tests.certificates import make_certificates
from tests.corpus import corpus, normalise
from tests.e2e.devices import Endpoint, Login, PollFailed, Security
from tests.e2e.more_clients import AnotherProgram, Fdm, Mutt, Node, Perl, Ruby, Unavailable
from tests.e2e.rig import (
    Rig,
    assert_only_what_is_new_comes,
    assert_same_mails,
    login,
    one_each,
    small_mails,
)
from tests.needs import cannot

pytestmark = pytest.mark.e2e

PROGRAMS: tuple[type[AnotherProgram], ...] = (Perl, Ruby, Node, Fdm, Mutt)
SAMPLE = corpus()[:84:2]
"""Every second of the mails that have a point of their own."""


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> None:
    """node-pop3 is installed, if it can be."""
    try:
        Node.install(tmp_path_factory.mktemp("node"))
    except Unavailable as reason:
        cannot(str(reason))


def need_all_of(program: type[AnotherProgram], request: pytest.FixtureRequest) -> None:
    if program is Node:
        request.getfixturevalue("node")
    try:
        program.look_for()
    except Unavailable as reason:
        cannot(str(reason))


def directly(rig: Rig, program: type[AnotherProgram]) -> list[bytes]:
    """What a program makes of the sample with no proxy between."""
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *SAMPLE)
    endpoint = Endpoint("localhost", rig.dovecot.port)
    device = program(rig.folder / "directly", endpoint, Login(user.name, user.password))
    device.poll()
    return device.mails()


@pytest.mark.parametrize(
    ("program", "security"),
    [(program, security) for program in PROGRAMS for security in program.speaks],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_a_program_gets_through_the_proxy_what_it_gets_directly_and_once(
    rig: Rig, request: pytest.FixtureRequest, program: type[AnotherProgram], security: Security
) -> None:
    need_all_of(program, request)
    wanted = directly(rig, program)
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *SAMPLE)
    proxy = rig.proxy(user)
    device = program(rig.folder / "device", proxy.endpoint(security), login(user, program.name))

    device.poll()
    assert_same_mails(device.mails(), wanted)
    assert len(wanted) == len(SAMPLE)
    if program.exact:
        assert_same_mails(wanted, map(normalise, SAMPLE))
    assert rig.tap.retrs() == one_each(SAMPLE)

    later = assert_only_what_is_new_comes(rig, user, device, SAMPLE)
    assert rig.dovecot.count(user) == len(SAMPLE) + len(later)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_a_program_verifies_certificates(
    rig: Rig, request: pytest.FixtureRequest, program: type[AnotherProgram]
) -> None:
    """Or the tests over TLS would prove nothing."""
    need_all_of(program, request)
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *small_mails(1, "verified"))
    stranger = rig.folder / "stranger"
    stranger.mkdir()
    proxy = rig.proxy(user)
    right = proxy.endpoint("implicit")
    wrong = Endpoint(right.host, right.port, "implicit", make_certificates(stranger).ca_file)
    device = program(rig.folder / "device", wrong, login(user, program.name))
    with pytest.raises(PollFailed):
        device.poll()
    assert device.mails() == []
