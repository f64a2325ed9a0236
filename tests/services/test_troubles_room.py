"""What people are told of mail that finds no room."""

from __future__ import annotations

from proxy.domain.facts import TroubleBegan, TroubleOver
from proxy.domain.model import Unfetched
from proxy.domain.room import ACCOUNT_FULL, NO_ROOM
from proxy.domain.survey import Space
from tests.services.test_troubles import Desk, desk

__all__ = ["desk"]

MIB, GIB = 1024**2, 1024**3

ROOMY = Space(2 * GIB, 20 * GIB, reserve=500 * MIB)


async def test_a_message_too_large_for_the_room_left_is_told_of_to_its_account_and_the_operator(
    desk: Desk,
) -> None:
    """Though there is more than the reserve, and other accounts get their mail."""
    desk.space = ROOMY
    await desk.account("bob")
    await desk.succeeds(Unfetched("big", 3 * GIB, NO_ROOM))
    assert await desk.subjects() == ["The mail proxy has no room for new mail"]
    assert await desk.subjects("bob") == []
    kinds = [(fact.account, fact.trouble) for fact in desk.home.facts.of(TroubleBegan)]
    assert kinds == [("", "store_low"), ("alice", "store_full")]
    await desk.later(60)
    assert len(desk.home.facts.of(TroubleBegan)) == 2
    await desk.succeeds()
    assert await desk.subjects() == []
    over = {fact.trouble for fact in desk.home.facts.of(TroubleOver)}
    assert over == {"store_low", "store_full"}


async def test_room_is_no_trouble_any_more_before_an_account_that_nobody_reads_has_been_synced(
    desk: Desk,
) -> None:
    desk.space = ROOMY
    await desk.succeeds(Unfetched("big", 3 * GIB, NO_ROOM))
    desk.space = Space(10 * GIB, 20 * GIB, reserve=500 * MIB)
    await desk.later(60)
    assert await desk.subjects() == []
    assert len(desk.home.facts.of(TroubleOver)) == 2


async def test_the_operator_hears_before_there_is_no_more_room(desk: Desk) -> None:
    desk.space = Space(39 * GIB, 1000 * GIB, reserve=20 * GIB)
    await desk.later(1)
    assert [fact.trouble for fact in desk.home.facts.of(TroubleBegan)] == ["store_low"]


async def test_an_account_that_has_reached_its_size_is_told_of_once(desk: Desk) -> None:
    waiting = [Unfetched(f"u{n}", 1000, ACCOUNT_FULL) for n in range(3)]
    await desk.account("bob")
    for _ in range(3):
        await desk.succeeds(*waiting)
    (mail,) = await desk.notices()
    assert mail["Subject"] == "The mail proxy keeps no more mail for alice"
    assert "max_account_size" in mail.get_content()
    assert await desk.subjects("bob") == []
    assert desk.home.facts.of(TroubleBegan) == [TroubleBegan("alice", "account_full", True)]
    await desk.succeeds()
    assert await desk.subjects() == []
