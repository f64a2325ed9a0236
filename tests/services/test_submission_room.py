"""Mail that is handed in while there is no room for its copy."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.domain.facts import SentCopyMissing
from proxy.domain.policy import Octets, StorePolicy
from proxy.domain.survey import Space
from proxy.services import room
from proxy.services.room import Room
from tests.smtp_house import MAIL, plain, smtp_house

MIB = 1024**2
RESERVE = 100 * MIB

LOGIN = plain()


@pytest.fixture(autouse=True)
def looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LOOK_EVERY", 0.0)


def room_of(free: list[int], account: int = 0) -> Room:
    """Above the reserve; the last one counts."""
    policy = StorePolicy(Octets(RESERVE), Octets(account))
    return Room(lambda: Space(RESERVE + free[-1], 10**12), policy)


async def test_without_room_nothing_is_sent_and_with_room_again_it_is(tmp_path: Path) -> None:
    free = [100]
    async with smtp_house(tmp_path, room=room_of(free)) as house, house.talk(LOGIN) as talk:
        assert await talk.send() == "452 4.3.1 the mail cannot be stored now, try again later"
        assert house.upstream.mails == []
        free.append(10 * MIB)
        assert (await talk.send()).startswith("250 ")
        assert house.upstream.mails == [MAIL + b".\r\n"]
        assert len(await house.copies("phone")) == 1
        assert not house.house.core.submissions.room._claims


async def test_a_mail_that_turns_out_larger_than_the_room_is_not_sent(tmp_path: Path) -> None:
    mail = MAIL + b"x" * 70 + b"\r\n"
    mail += (b"y" * 70 + b"\r\n") * (5 * MIB // 72)
    async with smtp_house(tmp_path, room=room_of([2 * MIB])) as house, house.talk(LOGIN) as talk:
        assert (await talk.send(mail)).startswith("452 4.3.1 ")
        assert house.upstream.mails == []
        assert await house.copies("phone") == []
        assert not house.house.core.submissions.room._claims
        assert not list((tmp_path / "blobs" / "tmp").iterdir())
        assert (await talk.send()).startswith("250 ")


async def test_an_account_that_is_full_sends_and_keeps_no_copy(tmp_path: Path) -> None:
    """An ordinary mail program could send, too."""
    full = room_of([10**10], account=100)
    async with smtp_house(tmp_path, room=full) as house, house.talk(LOGIN) as talk:
        assert (await talk.send()).startswith("250 ")
        assert (await talk.send()).startswith("250 ")
        assert len(await house.copies("phone")) == 1
        (missing,) = house.facts.of(SentCopyMissing)
        assert "store.max_account_size" in missing.reason
