"""All ids changed at once, or some: providers move mailboxes to other software.

Devices must not notice: no mail comes twice, and none is fetched again if its header tells it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.domain.policy import RetentionPolicy
from tests.quirky.mailbox import Mailbox
from tests.quirky.play import Play, play
from tests.quirky.quirks import Quirks

TOLD_BY_HEADER = ["plain", "unstamped", "one Message-ID", "bare LF", "large", "plain"]

ON_TOP = b"Received: by new.example; Tue, 3 Nov 2026 11:00:00 +0000\r\nX-Moved: yes\r\n"


def _all(mailbox: Mailbox) -> None:
    mailbox.change_uids()


def _reversed(mailbox: Mailbox) -> None:
    mailbox.change_uids()
    mailbox.reverse()


def _half_gone(mailbox: Mailbox) -> None:
    mailbox.change_uids()
    mailbox.drop(*mailbox.mails[::2])


def _with_new_mail(mailbox: Mailbox) -> None:
    mailbox.change_uids()
    mailbox.deliver("plain", "unstamped")


def _everything(mailbox: Mailbox) -> None:
    _reversed(mailbox)
    _half_gone(mailbox)
    _with_new_mail(mailbox)


def _first_two(mailbox: Mailbox) -> None:
    mailbox.change_uids(*mailbox.mails[:2])


def _last_one(mailbox: Mailbox) -> None:
    mailbox.change_uids(mailbox.mails[-1])


def _one_and_a_new_one(mailbox: Mailbox) -> None:
    mailbox.change_uids(mailbox.mails[0])
    mailbox.deliver("plain")


def _every_second_and_much_new_mail(mailbox: Mailbox) -> None:
    mailbox.change_uids(*mailbox.mails[::2])
    mailbox.deliver(*["plain"] * 20)


Change = Callable[[Mailbox], None]
CHANGES: list[Change] = [
    _all,
    _reversed,
    _half_gone,
    _with_new_mail,
    _everything,
    _first_two,
    _last_one,
    _one_and_a_new_one,
    _every_second_and_much_new_mail,
]
every_change = pytest.mark.parametrize("change", CHANGES, ids=[c.__name__ for c in CHANGES])


async def go_through(play: Play, change: Change, *, shapes: list[str], cut: str = "") -> None:
    """Devices read before and after; a late one comes as well."""
    play.mailbox.deliver(*shapes)
    await play.poll("a", "b")
    play.later(7200)
    await play.poll()
    change(play.mailbox)
    play.upstream.quirks.cut_in = cut
    for _ in range(3):
        play.later(60)
        await play.poll()
    await play.settle(rounds=3)
    await play.poll("late")
    await play.restart()
    play.mailbox.deliver("plain")
    await play.settle(rounds=3)


@every_change
async def test_changed_ids(tmp_path: Path, change: Change) -> None:
    async with play(tmp_path) as played:
        await go_through(played, change, shapes=TOLD_BY_HEADER)
        assert played.fetched_again() == {}


@pytest.mark.parametrize("sizes", ["half", "threefold", "zero", "all alike", "too many by 1000"])
@every_change
async def test_changed_ids_and_sizes(tmp_path: Path, change: Change, sizes: str) -> None:
    async with play(tmp_path) as played:

        def both(mailbox: Mailbox) -> None:
            change(mailbox)
            played.upstream.quirks.sizes = sizes

        await go_through(played, both, shapes=["plain", "one Message-ID", "large", "plain"])
        assert played.fetched_again() == {}


@every_change
async def test_changed_ids_and_fields_on_top_of_every_header(
    tmp_path: Path, change: Change
) -> None:
    """Only the content tells then, so that one more RETR each is what it takes."""
    async with play(tmp_path) as played:

        def both(mailbox: Mailbox) -> None:
            for mail in mailbox.mails:
                mail.change(ON_TOP + mail.octets)
            change(mailbox)

        await go_through(played, both, shapes=["plain", "one Message-ID", "large", "plain"])
        assert max(mail.whole for mail in played.mailbox.ever) <= 2


@every_change
async def test_changed_ids_where_top_is_refused(tmp_path: Path, change: Change) -> None:
    async with play(tmp_path, Quirks(top="no")) as played:
        await go_through(played, change, shapes=[*TOLD_BY_HEADER, "anonymous", "no header"])
        assert max(mail.whole for mail in played.mailbox.ever) <= 2


@every_change
async def test_changed_ids_of_mails_whose_header_tells_nothing(
    tmp_path: Path, change: Change
) -> None:
    async with play(tmp_path) as played:
        await go_through(played, change, shapes=["anonymous", "no header", "plain", "anonymous"])
        assert max(mail.whole for mail in played.mailbox.ever) <= 2


@every_change
async def test_changed_ids_of_twins(tmp_path: Path, change: Change) -> None:
    async with play(tmp_path) as played:
        await go_through(played, change, shapes=["plain", "twin", "twin", "anonymous", "twin"])


@pytest.mark.parametrize("where", ["UIDL", "TOP", "TOP #3", "RETR", "RETR #3", "QUIT"])
@pytest.mark.parametrize("pipelining", ["no", "right"])
@every_change
async def test_changed_ids_and_the_sync_is_cut(
    tmp_path: Path, change: Change, where: str, pipelining: str
) -> None:
    async with play(tmp_path, Quirks(pipelining=pipelining)) as played:
        await go_through(played, change, shapes=TOLD_BY_HEADER, cut=where)
        assert played.fetched_again() == {}


@every_change
async def test_changed_ids_and_fields_on_top_and_the_sync_is_cut(
    tmp_path: Path, change: Change
) -> None:
    async with play(tmp_path) as played:

        def both(mailbox: Mailbox) -> None:
            for mail in mailbox.mails:
                mail.change(ON_TOP + mail.octets)
            change(mailbox)

        await go_through(played, both, shapes=["plain", "large", "plain"], cut="RETR #2")


@every_change
async def test_changed_ids_delete_nothing_that_is_waited_for(
    tmp_path: Path, change: Change
) -> None:
    """A device that has not read yet holds mail back under its new id as well."""
    async with play(tmp_path, retention=RetentionPolicy(upstream="delivered")) as played:
        played.mailbox.deliver(*TOLD_BY_HEADER)
        await played.look("waiting")
        await played.poll("a")
        change(played.mailbox)
        for _ in range(3):
            played.later(3600)
            await played.poll("a")
        assert played.mailbox.expunged == []
        await played.poll("waiting")
        await played.settle()
        assert played.mailbox.mails == []


@every_change
async def test_changed_ids_hide_nothing_where_removals_are_followed(
    tmp_path: Path, change: Change
) -> None:
    """What is still upstream under another id has not been removed."""
    retention = RetentionPolicy(follow_upstream_removals=True)
    async with play(tmp_path, retention=retention) as played:
        played.mailbox.deliver(*TOLD_BY_HEADER)
        await played.poll("a")
        change(played.mailbox)
        for _ in range(3):
            played.later(3600)
            await played.poll("a")
        await played.poll("late")
        still_there = {mail.name for mail in played.mailbox.mails}
        assert still_there <= played.devices["late"].names().keys()


async def test_ids_change_again_and_again(tmp_path: Path) -> None:
    async with play(tmp_path) as played:
        for change in CHANGES:
            await go_through(played, change, shapes=TOLD_BY_HEADER)
        assert played.fetched_again() == {}


async def test_old_ids_come_back(tmp_path: Path) -> None:
    """The provider takes the move back."""
    async with play(tmp_path) as played:
        old = {mail: mail.uid for mail in played.mailbox.deliver(*TOLD_BY_HEADER)}
        await played.poll("a")
        played.mailbox.change_uids()
        played.later(60)
        await played.poll("a", "b")
        for mail, uid in old.items():
            mail.uid = uid
        played.mailbox.deliver("plain")
        played.later(60)
        await played.poll("a", "b")
        await played.settle()
        assert played.fetched_again() == {}


async def test_old_ids_are_given_to_other_mails(tmp_path: Path) -> None:
    """The new software counts from one as the old one did."""
    async with play(tmp_path, Quirks(uids="the number")) as played:
        await go_through(played, _everything, shapes=TOLD_BY_HEADER)
        assert played.fetched_again() == {}
