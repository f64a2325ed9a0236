"""Mail programs as they come, over every transport, with the whole corpus."""

from __future__ import annotations

import pytest

from tests.corpus import corpus, large_mail, normalise
from tests.e2e.clients import PROGRAMS, Program
from tests.e2e.conftest import DirectMails
from tests.e2e.devices import Security
from tests.e2e.rig import Rig, assert_same_mails, login, one_each, poll_together
from tests.needs import need

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize(
    ("program", "security"),
    [(program, security) for program in PROGRAMS for security in program.speaks],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_a_program_gets_through_the_proxy_what_it_gets_directly_and_once(
    rig: Rig, direct_mails: DirectMails, program: type[Program], security: Security
) -> None:
    need(program.name)
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *corpus())
    proxy = rig.proxy(user)
    device = program(rig.folder / "device", proxy.endpoint(security), login(user, program.name))
    direct, direct_large = direct_mails(program)

    device.poll()
    assert_same_mails(device.mails(), direct.elements())
    if program.exact:
        assert_same_mails(device.mails(), map(normalise, corpus()))
    assert rig.tap.retrs() == one_each(corpus())

    device.poll()
    assert len(device.mails()) == len(corpus())

    # 25 MB once for a program are enough.
    if security != "plain":
        return
    rig.dovecot.deliver(user, large_mail())
    device.poll()
    assert_same_mails(device.mails(), (direct + direct_large).elements())
    assert rig.tap.retrs() == one_each([*corpus(), large_mail()])


def test_different_programs_are_devices_of_one_account(rig: Rig, direct_mails: DirectMails) -> None:
    for program in PROGRAMS:
        need(program.name)
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *corpus())
    proxy = rig.proxy(user)
    devices = [
        program(rig.folder / program.name, proxy.endpoint(), login(user, program.name))
        for program in PROGRAMS
    ]
    poll_together(*devices)
    for device in devices:
        assert_same_mails(device.mails(), direct_mails(type(device))[0].elements())
    assert rig.tap.retrs() == one_each(corpus())
