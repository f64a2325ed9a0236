"""One quirk of real servers at a time: what devices get of what the upstream shows.

Each device gets each message once, whole, under a UIDL that stays; and one RETR is all it takes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proxy.domain.policy import RetentionPolicy
from tests.quirky.mailbox import IDENTIFIED, SHAPES
from tests.quirky.play import Play, play
from tests.quirky.quirks import LINES, SIZES, UIDS, Quirks

DELIVERED = RetentionPolicy(upstream="delivered")
IDENTIFIED_SHAPES = sorted(IDENTIFIED)


async def live_through(play: Play, *, shapes: list[str], rounds: int = 3) -> None:
    """Mail comes, devices read, mail leaves, time passes, the proxy is restarted."""
    play.mailbox.deliver(*shapes)
    await play.poll("a", "b")
    play.later(60)
    play.mailbox.deliver("plain", "unstamped")
    await play.poll()
    play.later(7200)
    await play.poll()
    play.mailbox.drop(*play.mailbox.mails[:1])
    play.mailbox.deliver("plain")
    await play.poll()
    await play.restart()
    play.mailbox.deliver("plain")
    await play.poll("a", "b", "c")
    await play.settle(rounds=rounds)


async def assert_once_each(folder: Path, quirks: Quirks, **sections: Any) -> None:
    """The whole story, and that the quirk did show in it."""
    async with play(folder, quirks, **sections) as played:
        await live_through(played, shapes=["plain", "unstamped", "one Message-ID", "large"])
        assert played.fetched_again() == {}
        shown = {f"{name}={value}" for name, value in quirks.distorted().items()}
        assert shown <= played.upstream.reached.keys(), "the quirk did not show"


def others(table: dict[str, Any], normal: str) -> list[str]:
    return [name for name in table if name != normal]


# --- listings ------------------------------------------------------------------------------------


async def test_a_server_without_quirks(tmp_path: Path) -> None:
    await assert_once_each(tmp_path, Quirks())


@pytest.mark.parametrize("stat", ["true", "as LIST"])
@pytest.mark.parametrize("sizes", others(SIZES, "right"))
async def test_sizes_that_are_not_true(tmp_path: Path, sizes: str, stat: str) -> None:
    await assert_once_each(tmp_path, Quirks(sizes=sizes, stat=stat))


@pytest.mark.parametrize("lines", others(LINES, "right"))
async def test_a_list_with_odd_lines(tmp_path: Path, lines: str) -> None:
    await assert_once_each(tmp_path, Quirks(list_lines=lines))


@pytest.mark.parametrize("lines", others(LINES, "right"))
async def test_a_uidl_with_odd_lines(tmp_path: Path, lines: str) -> None:
    await assert_once_each(tmp_path, Quirks(uidl_lines=lines))


@pytest.mark.parametrize("lines", others(LINES, "right"))
async def test_list_and_uidl_with_odd_lines(tmp_path: Path, lines: str) -> None:
    await assert_once_each(tmp_path, Quirks(list_lines=lines, uidl_lines=lines))


@pytest.mark.parametrize("uids", others(UIDS, "own"))
async def test_odd_uidls(tmp_path: Path, uids: str) -> None:
    await assert_once_each(tmp_path, Quirks(uids=uids))


@pytest.mark.parametrize("uidl", ["no", "not always"])
async def test_uidl_is_missing(tmp_path: Path, uidl: str) -> None:
    await assert_once_each(tmp_path, Quirks(uidl=uidl))


# --- messages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
async def test_each_shape_of_mail_arrives_as_it_is(tmp_path: Path, shape: str) -> None:
    async with play(tmp_path) as played:
        await live_through(played, shapes=[shape, "plain", shape])
        assert played.fetched_again() == {}


@pytest.mark.parametrize("pipelining", ["no", "right"])
async def test_all_shapes_in_one_session(tmp_path: Path, pipelining: str) -> None:
    async with play(tmp_path, Quirks(pipelining=pipelining)) as played:
        await live_through(played, shapes=[*SHAPES, "twin", "twin"])
        assert played.fetched_again() == {}


@pytest.mark.parametrize("top", ["whole", "no", "not all"])
async def test_top_does_not_matter_where_uidl_does_its_work(tmp_path: Path, top: str) -> None:
    async with play(tmp_path, Quirks(top=top)) as played:
        await live_through(played, shapes=["plain", "anonymous", "large"])
        assert played.fetched_again() == {}


@pytest.mark.parametrize("shape", IDENTIFIED_SHAPES)
async def test_top_that_sends_everything_tells_mails_apart(tmp_path: Path, shape: str) -> None:
    async with play(tmp_path, Quirks(uidl="no", top="whole")) as played:
        await live_through(played, shapes=[shape, "plain", shape])
        assert played.fetched_again() == {}


@pytest.mark.parametrize("top", ["right", "no", "not all"])
async def test_no_uidl_and_headers_that_tell_nothing(tmp_path: Path, top: str) -> None:
    """Only the octets tell these apart, so they are fetched for each listing; never shown twice."""
    async with play(tmp_path, Quirks(uidl="no", top=top)) as played:
        await live_through(played, shapes=["plain", *SHAPES, "twin"])


# --- capabilities --------------------------------------------------------------------------------


async def test_no_capa(tmp_path: Path) -> None:
    await assert_once_each(tmp_path, Quirks(capa="no"))


async def test_real_pipelining(tmp_path: Path) -> None:
    await assert_once_each(tmp_path, Quirks(pipelining="right"))


@pytest.mark.parametrize("pipelining", ["drops", "reorders", "closes"])
async def test_pipelining_that_is_a_lie(tmp_path: Path, pipelining: str) -> None:
    """What a broken session had brought may come again; nothing else may."""
    async with play(tmp_path, Quirks(pipelining=pipelining)) as played:
        played.patience = 0.3
        await live_through(played, shapes=["plain", "unstamped", "large", "plain", "plain"])
        assert played.upstream.reached[f"pipelining={pipelining}"]
        assert max(mail.whole for mail in played.mailbox.ever) <= 2


async def test_pipelining_that_is_a_lie_is_not_tried_again_soon(tmp_path: Path) -> None:
    async with play(tmp_path, Quirks(pipelining="drops")) as played:
        played.patience = 0.3
        for _ in range(4):
            played.mailbox.deliver("plain", "plain")
            await played.poll("a")
            played.later(3600)
        lies = played.upstream.reached["pipelining=drops"]
        played.mailbox.deliver("plain", "plain")
        await played.poll("a")
        assert not played.lacking()
        assert played.upstream.reached["pipelining=drops"] == lies <= 2


# --- portions, and what RETR does ----------------------------------------------------------------


@pytest.mark.parametrize("retention", [RetentionPolicy(), DELIVERED], ids=["keep", "delivered"])
@pytest.mark.parametrize("after_retr", ["hides", "deletes"])
@pytest.mark.parametrize("shows", [5, 1, None])
async def test_a_mailbox_shown_in_portions_that_retr_uses_up(
    tmp_path: Path, shows: int | None, after_retr: str, retention: RetentionPolicy
) -> None:
    quirks = Quirks(shows=shows, after_retr=after_retr)
    async with play(tmp_path, quirks, retention=retention) as played:
        await live_through(played, shapes=["plain"] * 17, rounds=25)
        assert played.fetched_again() == {}
        assert played.upstream.visible() == []


async def test_a_mailbox_of_which_only_the_first_are_ever_shown(tmp_path: Path) -> None:
    async with play(tmp_path, Quirks(shows=5), retention=DELIVERED) as played:
        played.mailbox.deliver(*["plain"] * 17)
        await played.poll("a", "b")
        for _ in range(8):
            played.later(3600)
            await played.poll("a", "b")
        assert played.devices["a"].names() == played.mailbox.copies()
        assert played.fetched_again() == {}
        assert len(played.mailbox.expunged) == 17


@pytest.mark.parametrize("after_retr", ["hides", "deletes"])
async def test_what_our_own_retr_took_away_stays_for_devices_whatever_follows_upstream(
    tmp_path: Path, after_retr: str
) -> None:
    retention = RetentionPolicy(follow_upstream_removals=True)
    quirks = Quirks(shows=3, after_retr=after_retr)
    async with play(tmp_path, quirks, retention=retention) as played:
        await live_through(played, shapes=["plain"] * 8)
        await played.settle()
        await played.poll("late")
        assert not played.lacking()


async def test_what_retr_hid_waits_for_every_device_though_the_mailbox_looks_empty(
    tmp_path: Path,
) -> None:
    retention = RetentionPolicy(follow_upstream_removals=True)
    async with play(tmp_path, Quirks(after_retr="hides"), retention=retention) as played:
        played.mailbox.deliver("plain", "plain")
        for _ in range(4):
            await played.poll("a")
            played.later(3600)
        await played.poll("b")
        assert not played.lacking()


async def test_what_was_hidden_is_listed_again(tmp_path: Path) -> None:
    async with play(tmp_path, Quirks(shows=5, after_retr="hides")) as played:
        await live_through(played, shapes=["plain"] * 12)
        played.mailbox.show_again()
        await played.settle()
        assert played.fetched_again() == {}


async def test_nothing_is_taken_away_by_retr_before_it_is_on_disk(tmp_path: Path) -> None:
    """QUIT is what makes these servers delete."""
    async with play(tmp_path, Quirks(after_retr="deletes")) as played:
        played.mailbox.deliver(*["plain"] * 40)
        await played.poll("a")
        assert played.mailbox.mails == []
        await played.restart()
        await played.poll("b")
        assert played.devices["b"].names() == played.mailbox.copies()
