"""A mailbox that lists little or nothing for a while: trouble, or a provider that moves.

What comes back afterwards is what was there before, whatever it is called then; and nothing follows
from the spell before it has lasted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from proxy.domain.doubt import BELIEVED_AFTER, COMES_BACK_WITHIN, FEW, LISTINGS, MANY
from proxy.domain.facts import ListingDoubted, SyncFailed
from proxy.domain.model import Upstream
from proxy.domain.policy import RetentionPolicy
from tests.quirky.play import Play, play
from tests.quirky.quirks import Quirks

TOLD_BY_HEADER = ["plain", "one Message-ID", "bare LF", "large", "plain", "plain"]
ON_TOP = b"Received: by new.example; Tue, 3 Nov 2026 11:00:00 +0000\r\nX-Moved: yes\r\n"
FOLLOWS = RetentionPolicy(follow_upstream_removals=True)
DELIVERED = RetentionPolicy(upstream="delivered")

SHORT = [60.0] * 2
BELIEVED = [BELIEVED_AFTER] * LISTINGS
LONG = [*BELIEVED, COMES_BACK_WITHIN * 0.8]
"""Seconds before each poll of a spell."""
every_spell = pytest.mark.parametrize(
    "spell", [[60.0], SHORT, BELIEVED, LONG], ids=["one", "short", "believed", "long"]
)


async def begin(play: Play, *shapes: str) -> None:
    """Devices have read it all, and upstream has shown that it keeps what was retrieved."""
    play.mailbox.deliver(*shapes or TOLD_BY_HEADER)
    await play.poll("a", "b")
    play.later(7200)
    await play.poll()


async def live_through(play: Play, spell: list[float]) -> None:
    for pause in spell:
        play.later(pause)
        await play.poll()


async def listings(play: Play, pauses: list[float]) -> None:
    """One after each pause, while no device reads."""
    for pause in pauses:
        play.later(pause)
        await play.look("a")


async def end(play: Play) -> None:
    """All is there, once on each device, also on one that comes late."""
    play.mailbox.bring_back()
    play.mailbox.deliver("plain")
    await play.settle(rounds=4)
    await play.poll("late")
    for device in play.devices.values():
        assert device.names() == play.mailbox.copies()


async def upstream_of(play: Play) -> list[Upstream]:
    account = await play.home.store.account("alice")
    assert account is not None
    return [known.upstream for known in await play.home.store.known(account.id)]


# --- what comes back -----------------------------------------------------------------------------


async def _all(play: Play) -> None:
    play.mailbox.bring_back()


async def _under_the_old_ids(play: Play) -> None:
    play.mailbox.bring_back(new_uids=False)


async def _reversed(play: Play) -> None:
    play.mailbox.bring_back()
    play.mailbox.reverse()


async def _behind_new_mail(play: Play) -> None:
    play.mailbox.deliver("plain", "unstamped")
    await play.poll()
    play.mailbox.bring_back()
    play.mailbox.deliver("plain")


async def _in_portions(play: Play) -> None:
    while play.mailbox.away:
        play.mailbox.bring_back(2)
        play.mailbox.deliver("plain")
        play.later(3600)
        await play.poll()


async def _in_slow_portions(play: Play) -> None:
    while play.mailbox.away:
        play.mailbox.bring_back(2)
        await live_through(play, BELIEVED)


async def _after_a_restart(play: Play) -> None:
    await play.restart()
    play.mailbox.bring_back()


async def _renamed_twice(play: Play) -> None:
    play.mailbox.bring_back(3)
    await play.poll()
    play.mailbox.set_aside()
    await play.restart()
    await live_through(play, BELIEVED)
    play.mailbox.bring_back()


async def _cut_once(play: Play) -> None:
    play.mailbox.bring_back()
    play.upstream.quirks.cut_in = "TOP #3"
    await play.poll()
    await play.restart()
    play.upstream.quirks.calm()


async def _but_for_one(play: Play) -> None:
    play.mailbox.bring_back()
    play.mailbox.drop(play.mailbox.mails[0])


Return = Callable[[Play], Awaitable[None]]
RETURNS: list[Return] = [
    _all,
    _under_the_old_ids,
    _reversed,
    _behind_new_mail,
    _in_portions,
    _in_slow_portions,
    _after_a_restart,
    _renamed_twice,
    _cut_once,
    _but_for_one,
]
every_return = pytest.mark.parametrize("back", RETURNS, ids=[r.__name__ for r in RETURNS])


@every_spell
@every_return
async def test_mail_that_comes_back_is_known(
    tmp_path: Path, spell: list[float], back: Return
) -> None:
    async with play(tmp_path) as played:
        await begin(played)
        played.mailbox.set_aside()
        await live_through(played, spell)
        await back(played)
        await end(played)
        assert played.fetched_again() == {}


@every_spell
@pytest.mark.parametrize("left", [1, 4, 8])
async def test_nine_in_ten_that_come_back_are_known(
    tmp_path: Path, spell: list[float], left: int
) -> None:
    async with play(tmp_path) as played:
        await begin(played, *["plain"] * 20)
        played.mailbox.set_aside(*played.mailbox.mails[left:])
        await live_through(played, spell)
        await end(played)
        assert played.fetched_again() == {}


@every_spell
async def test_many_of_more_that_come_back_are_known(tmp_path: Path, spell: list[float]) -> None:
    """Most mail stays, so that those are believed to have left at once."""
    async with play(tmp_path) as played:
        await begin(played, *["plain"] * 3 * MANY)
        played.mailbox.set_aside(*played.mailbox.mails[:MANY])
        await live_through(played, spell)
        await end(played)
        assert played.fetched_again() == {}


@every_spell
@pytest.mark.parametrize("count", [1, 2, 3])
async def test_a_small_mailbox_that_comes_back_is_known(
    tmp_path: Path, spell: list[float], count: int
) -> None:
    async with play(tmp_path) as played:
        await begin(played, *["plain"] * count)
        played.mailbox.set_aside()
        await live_through(played, spell)
        await end(played)
        assert played.fetched_again() == {}


@pytest.mark.parametrize("pauses", [SHORT, BELIEVED], ids=["short", "believed"])
async def test_a_spell_right_after_the_first_sync(tmp_path: Path, pauses: list[float]) -> None:
    """It looks like RETR that takes mail away."""
    async with play(tmp_path) as played:
        played.mailbox.deliver(*TOLD_BY_HEADER)
        await played.poll("a")
        played.mailbox.set_aside()
        await live_through(played, pauses)
        await end(played)
        assert played.fetched_again() == {}


@every_spell
async def test_mail_that_comes_back_with_another_header_is_known(
    tmp_path: Path, spell: list[float]
) -> None:
    """Only the content tells then, so that one more RETR each is what it takes, and no more when
    its UIDLs change once more."""
    async with play(tmp_path) as played:
        await begin(played, "plain", "unstamped", "one Message-ID", "large", "plain", "plain")
        played.mailbox.set_aside()
        await live_through(played, spell)
        played.mailbox.bring_back(3, header=ON_TOP)
        await played.poll()
        played.mailbox.bring_back(header=ON_TOP)
        await end(played)
        played.mailbox.set_aside(*played.mailbox.mails[:5])
        await live_through(played, spell)
        await end(played)
        assert max(mail.whole for mail in played.mailbox.ever) <= 2


@every_spell
@pytest.mark.parametrize("top", ["right", "no"])
async def test_mail_without_a_telling_header_and_twins_come_back(
    tmp_path: Path, spell: list[float], top: str
) -> None:
    shapes = ["plain", "twin", "twin", "anonymous", "twin", "no header", "unstamped", "twin"]
    async with play(tmp_path, Quirks(top=top)) as played:
        await begin(played, *shapes)
        played.mailbox.set_aside()
        await live_through(played, spell)
        played.mailbox.bring_back(4)
        await played.poll()
        await end(played)
        assert max(mail.whole for mail in played.mailbox.ever) <= 2


@pytest.mark.parametrize(
    "lie",
    [
        Quirks(stat="zero"),
        Quirks(list_lines="none"),
        Quirks(uidl_lines="none"),
        Quirks(list_lines="none", uidl_lines="none"),
        Quirks(list_lines="first tenth", uidl_lines="first tenth"),
        Quirks(list_lines="first tenth"),
        Quirks(uidl_lines="first tenth"),
        Quirks(stat="zero", list_lines="none", uidl_lines="none"),
        Quirks(stat="zero", list_lines="none"),
        Quirks(uidl="no"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("spell", [SHORT, BELIEVED], ids=["short", "believed"])
async def test_a_listing_that_is_not_true(tmp_path: Path, lie: Quirks, spell: list[float]) -> None:
    async with play(tmp_path, retention=FOLLOWS) as played:
        await begin(played, *["plain"] * 12)
        for name, value in lie.distorted().items():
            setattr(played.upstream.quirks, name, value)
        await live_through(played, spell)
        for name in lie.distorted():
            setattr(played.upstream.quirks, name, getattr(Quirks(), name))
        played.mailbox.change_uids()
        await end(played)
        assert played.fetched_again() == {}


async def test_a_message_that_would_not_come_down_is_known_later(tmp_path: Path) -> None:
    """While it is not known what it is, what is missing is not believed to have left."""
    async with play(tmp_path) as played:
        await begin(played, "plain", "plain", "plain", "unstamped", "anonymous")
        played.mailbox.change_uids(played.mailbox.mails[-1])
        played.upstream.quirks.refuses_retr = 5
        await live_through(played, BELIEVED)
        played.upstream.quirks.refuses_retr = None
        await end(played)


async def test_what_was_known_again_by_its_header_stays_known_when_the_sync_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only some headers are asked for once more."""
    monkeypatch.setattr("proxy.services.sync.SIGHTINGS", 10)
    async with play(tmp_path) as played:
        await begin(played, *["plain"] * 50)
        played.mailbox.set_aside()
        await listings(played, BELIEVED)
        played.mailbox.bring_back()
        played.upstream.quirks.cut_in = "TOP #36"
        await listings(played, [3600.0])
        played.upstream.quirks.calm()
        before = played.upstream.count("TOP")
        await listings(played, [3600.0])
        assert played.upstream.count("TOP") - before <= 50 - 35 + 10
        await end(played)


async def test_unknown_mail_is_looked_at_for_so_long_and_no_longer(tmp_path: Path) -> None:
    async with play(tmp_path) as played:
        await begin(played)
        played.mailbox.set_aside()
        await live_through(played, BELIEVED)
        before = played.upstream.count("TOP")
        played.mailbox.deliver("plain")
        await live_through(played, [60.0])
        assert played.upstream.count("TOP") == before + 1
        played.later(COMES_BACK_WITHIN)
        played.mailbox.deliver("plain")
        await live_through(played, [60.0])
        assert played.upstream.count("TOP") == before + 1


# --- what follows from it ------------------------------------------------------------------------


@pytest.mark.parametrize("stays", [0, 1])
async def test_a_spell_hides_nothing_before_it_has_lasted(tmp_path: Path, stays: int) -> None:
    """Not by many listings in a short time, nor by two that are far apart."""
    async with play(tmp_path, retention=FOLLOWS) as played:
        await begin(played, *["plain"] * 10)
        mails = list(played.mailbox.mails)
        played.mailbox.set_aside(*mails[stays:])
        await listings(played, [60.0] * 10)
        assert set(await upstream_of(played)) == {Upstream.PRESENT}
        assert len(played.home.facts.of(ListingDoubted)) == 1
        assert len(await played.home.uids("alice+late")) == 10
        played.mailbox.bring_back(new_uids=False)
        await listings(played, [BELIEVED_AFTER])
        played.mailbox.set_aside(*mails[stays:])
        await listings(played, [60.0, 2 * BELIEVED_AFTER])
        assert set(await upstream_of(played)) == {Upstream.PRESENT}


async def test_what_is_not_back_with_the_rest_is_hidden_no_sooner(tmp_path: Path) -> None:
    async with play(tmp_path, retention=FOLLOWS) as played:
        await begin(played)
        played.mailbox.set_aside()
        await listings(played, [60.0])
        played.mailbox.bring_back(len(TOLD_BY_HEADER) - 1)
        await listings(played, [60.0] * 3)
        assert set(await upstream_of(played)) == {Upstream.PRESENT}
        await listings(played, [BELIEVED_AFTER])
        assert Counter(await upstream_of(played))[Upstream.GONE] == 1
        await end(played)


async def test_a_large_mailbox_that_a_person_has_cleared_is_believed(tmp_path: Path) -> None:
    async with play(tmp_path, retention=FOLLOWS) as played:
        await begin(played)
        played.mailbox.drop(*played.mailbox.mails)
        await listings(played, [60.0, 3600.0, BELIEVED_AFTER])
        assert set(await upstream_of(played)) == {Upstream.GONE}
        assert await played.home.uids("alice+late") == []


async def test_restarts_neither_shorten_nor_lengthen_a_spell(tmp_path: Path) -> None:
    async with play(tmp_path, retention=FOLLOWS) as played:
        await begin(played)
        played.mailbox.drop(*played.mailbox.mails)
        for _ in range(5):
            await listings(played, [BELIEVED_AFTER / 5])
            assert set(await upstream_of(played)) == {Upstream.PRESENT}
            await played.restart()
        await listings(played, [BELIEVED_AFTER / 5])
        assert set(await upstream_of(played)) == {Upstream.GONE}


async def test_a_few_mails_that_a_person_has_deleted_are_believed_the_second_time(
    tmp_path: Path,
) -> None:
    async with play(tmp_path, retention=FOLLOWS) as played:
        await begin(played, *["plain"] * (FEW - 1))
        played.mailbox.drop(*played.mailbox.mails)
        await listings(played, [60.0])
        assert set(await upstream_of(played)) == {Upstream.PRESENT}
        await played.restart()
        await listings(played, [60.0])
        assert set(await upstream_of(played)) == {Upstream.GONE}


async def test_what_has_come_back_ends_a_spell(tmp_path: Path) -> None:
    """The next one begins anew."""
    async with play(tmp_path, retention=FOLLOWS) as played:
        await begin(played)
        for _ in range(4):
            played.mailbox.set_aside()
            await listings(played, [BELIEVED_AFTER, 60.0])
            played.mailbox.bring_back()
            await listings(played, [60.0])
        assert set(await upstream_of(played)) == {Upstream.PRESENT}


@pytest.mark.parametrize("stays", [1, 4])
async def test_nothing_is_deleted_on_the_strength_of_a_doubted_listing(
    tmp_path: Path, stays: int
) -> None:
    """Not even what is in it, however long it is doubted; then what is due goes."""
    async with play(tmp_path, retention=DELIVERED) as played:
        played.mailbox.deliver(*["plain"] * 10)
        await played.look("b")
        await played.poll("a")
        await listings(played, [7200.0])
        played.mailbox.set_aside(*played.mailbox.mails[stays:])
        await played.poll("b")
        await listings(played, [60.0, BELIEVED_AFTER - 120.0])
        await played.restart()
        await listings(played, [30.0])
        assert played.upstream.count("DELE") == 0
        await listings(played, [BELIEVED_AFTER, 60.0])
        assert len(played.mailbox.expunged) == stays
        await end(played)


async def test_what_the_proxy_has_deleted_itself_is_no_spell(tmp_path: Path) -> None:
    async with play(tmp_path, retention=DELIVERED) as played:
        await begin(played)
        await listings(played, [60.0] * 3)
        assert len(played.mailbox.expunged) == len(TOLD_BY_HEADER)
        assert not played.home.facts.of(ListingDoubted)
        before = played.upstream.count("TOP")
        played.mailbox.deliver("plain")
        await listings(played, [60.0])
        assert played.upstream.count("TOP") == before


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("pipelining", ["no", "right"])
@pytest.mark.parametrize("refusal", ["-ERR no messages", "-ERR", "-ERR empty mailbox"])
async def test_a_refused_listing_of_an_empty_mailbox_is_an_empty_one(
    tmp_path: Path, refusal: str, pipelining: str
) -> None:
    async with play(tmp_path, Quirks(no_mail=refusal, pipelining=pipelining)) as played:
        await played.poll("a")
        await begin(played)
        played.mailbox.drop(*played.mailbox.mails)
        await listings(played, BELIEVED)
        assert not played.home.facts.of(SyncFailed)
        assert set(await upstream_of(played)) == {Upstream.GONE}
        played.mailbox.deliver("plain")
        await played.settle(rounds=1)


@pytest.mark.parametrize("refusal", ["-ERR [SYS/TEMP] no", "-ERR mailbox is locked, try later"])
async def test_a_listing_refused_for_now_is_none(tmp_path: Path, refusal: str) -> None:
    async with play(tmp_path, Quirks(no_mail=refusal), retention=FOLLOWS) as played:
        await begin(played)
        played.mailbox.set_aside()
        await listings(played, BELIEVED)
        assert played.home.facts.of(SyncFailed)
        assert set(await upstream_of(played)) == {Upstream.PRESENT}
        await end(played)


async def test_a_refused_listing_of_mail_that_is_there_is_a_failure(tmp_path: Path) -> None:
    async with play(tmp_path, retention=FOLLOWS) as played:
        await begin(played)
        played.upstream.quirks.refuses_list = True
        await listings(played, BELIEVED)
        assert played.home.facts.of(SyncFailed)
        assert set(await upstream_of(played)) == {Upstream.PRESENT}
