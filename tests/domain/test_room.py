"""What is kept free on a disk."""

from __future__ import annotations

import pytest

from proxy.domain.policy import Octets, StorePolicy
from proxy.domain.room import for_mail, with_reserve
from proxy.domain.survey import Space

MIB, GIB = 1024**2, 1024**3


@pytest.mark.parametrize(
    ("size", "set_to", "reserve"),
    [
        (1000 * GIB, 0, 500 * MIB),
        (2000 * MIB, 0, 100 * MIB),
        (96 * MIB, 0, 16 * MIB),
        (2000 * MIB, 1, 1),
        (2000 * MIB, 700 * MIB, 700 * MIB),
    ],
)
def test_a_share_of_the_disk_is_kept_free_unless_another_is_set(
    size: int, set_to: int, reserve: int
) -> None:
    space = with_reserve(Space(size, size), StorePolicy(Octets(set_to)))
    assert space.reserve == reserve
    assert for_mail(space) == size - reserve


@pytest.mark.parametrize(("files", "room"), [(None, 50), (1000, 50), (999, 0), (0, 0)])
def test_without_files_there_is_no_room(files: int | None, room: int) -> None:
    assert for_mail(Space(150, 1000, files, 100)) == room


def test_a_reserve_that_is_gone_is_no_room() -> None:
    assert for_mail(Space(30, 1000, 5, 100)) == -70
