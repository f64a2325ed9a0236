"""docs/sending.md for Thunderbird: the filter it describes knows copies of sent mail.

Headless it does not know its folders, so the filter marks as read what it would move.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.domain.notice import compose
from tests.e2e.rig import login, small_mails
from tests.e2e.sending import Sending, copy_of
from tests.e2e.thunderbird import Thunderbird

pytestmark = pytest.mark.e2e

HEADER = "X-POP3-Sync-Proxy"

MAIL = b"To: bob@example.org\r\nMessage-ID: <filed@example.org>\r\nSubject: filed\r\n\r\nText\r\n"


NOTICE = compose(
    subject="s", body="b\n", kind="notice", trouble="consent_needed", token="t", at=1.8e9
)


class FilteringThunderbird(Thunderbird):
    """With the condition that the document describes, as Thunderbird writes it."""

    def set_up(self) -> None:
        super().set_up()
        with (self._profile / "user.js").open("a") as prefs:
            prefs.write(f'user_pref("mailnews.customHeaders", "{HEADER}");\n')
        rules = (
            'version="9"\nlogging="yes"\nname="copies"\nenabled="yes"\ntype="17"\n'
            'action="Mark read"\n'
            f'condition="AND (\\"{HEADER}\\",contains,sent)"\n'
        )
        (self.store / "msgFilterRules.dat").write_text(rules)

    def filtered(self) -> int:
        """How many mails the filter was applied to, as its log says."""
        return (self.store / "filterlog.html").read_text().count("Applied filter")


@pytest.mark.usefixtures("thunderbird")
def test_the_filter_knows_copies_and_nothing_else(sending: Sending, tmp_path: Path) -> None:
    with sending.session() as session:
        session.sendmail("alice@example.org", ["bob@example.org"], MAIL)
    (other,) = small_mails(1, "other")
    others = [other, NOTICE]
    sending.rig.dovecot.deliver(sending.user, *others)
    device = FilteringThunderbird(
        tmp_path / "thunderbird", sending.proxy.endpoint("implicit"), login(sending.user, "phone")
    )
    device.poll()
    assert sorted(device.mails()) == sorted([copy_of(MAIL), *others])
    assert device.filtered() == 1
