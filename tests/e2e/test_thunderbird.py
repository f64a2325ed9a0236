"""Thunderbird as a device, over every transport."""

from __future__ import annotations

import pytest

from tests.certificates import make_certificates
from tests.corpus import corpus
from tests.e2e.devices import Endpoint, Login, PollFailed, Security
from tests.e2e.rig import (
    Rig,
    assert_only_what_is_new_comes,
    assert_same_mails,
    login,
    one_each,
    small_mails,
)
from tests.e2e.thunderbird import Thunderbird

pytestmark = pytest.mark.e2e

SAMPLE = corpus()[:84:2]


@pytest.mark.parametrize("security", ["plain", "starttls", "implicit"])
def test_it_gets_through_the_proxy_what_it_gets_directly_and_once(
    rig: Rig, thunderbird: type[Thunderbird], security: Security
) -> None:
    stranger = rig.dovecot.add_user()
    rig.dovecot.deliver(stranger, *SAMPLE)
    endpoint = Endpoint("localhost", rig.dovecot.port)
    direct = thunderbird(rig.folder / "directly", endpoint, Login(stranger.name, stranger.password))
    direct.poll()
    assert len(direct.mails()) == len(SAMPLE)

    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *SAMPLE)
    proxy = rig.proxy(user)
    device = thunderbird(rig.folder / "device", proxy.endpoint(security), login(user, "laptop"))
    device.poll()
    assert_same_mails(device.mails(), direct.mails())
    assert rig.tap.retrs() == one_each(SAMPLE)
    assert len(device.remembered()) == len(SAMPLE)

    assert_only_what_is_new_comes(rig, user, device, SAMPLE)


def test_it_verifies_certificates(rig: Rig, thunderbird: type[Thunderbird]) -> None:
    """Or the tests over TLS would prove nothing."""
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *small_mails(1, "verified"))
    folder = rig.folder / "stranger"
    folder.mkdir()
    right = rig.proxy(user).endpoint("implicit")
    wrong = Endpoint(right.host, right.port, "implicit", make_certificates(folder).ca_file)
    device = thunderbird(rig.folder / "device", wrong, login(user, "laptop"))
    with pytest.raises(PollFailed, match="failed"):
        device.poll()
    assert device.mails() == []
