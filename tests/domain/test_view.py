"""Views: RFC 1939 §5, the numbered list that does not change in a session."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.domain.errors import NoSuchMessage
from proxy.domain.model import Message
from proxy.domain.view import SLICE, Listing, View


def message(number: int, octets: int = 10) -> Message:
    return Message(id=1000 + number, uid=f"uid-{number}", digest=b"", octets=octets, dots=False)


def view(count: int) -> View:
    return View(Listing([message(n, octets=n * 10) for n in range(1, count + 1)]))


def whole(slices: Iterable[bytes]) -> bytes:
    return b"".join(slices)


def test_listings_are_numbered_from_one() -> None:
    assert whole(view(2).list_lines()) == b"1 10\r\n2 20\r\n"
    assert whole(view(2).uidl_lines()) == b"1 uid-1\r\n2 uid-2\r\n"
    assert whole(view(0).list_lines()) == b""


@pytest.mark.parametrize("number", [0, 3, -1])
def test_numbers_outside_the_view_do_not_exist(number: int) -> None:
    with pytest.raises(NoSuchMessage):
        view(2).message(number)


def test_a_deleted_message_is_invisible_everywhere_until_rset() -> None:
    session = view(3)
    session.mark_deleted(2)
    assert (session.count, session.octets) == (2, 40)
    assert whole(session.list_lines()) == b"1 10\r\n3 30\r\n"
    assert whole(session.uidl_lines()) == b"1 uid-1\r\n3 uid-3\r\n"
    with pytest.raises(NoSuchMessage):
        session.message(2)
    with pytest.raises(NoSuchMessage):
        session.mark_deleted(2)
    session.reset()
    assert (session.count, session.octets) == (3, 60)
    assert session.deleted_ids() == set()


def test_rset_does_not_forget_what_was_retrieved() -> None:
    session = view(2)
    session.mark_retrieved(1)
    session.reset()
    assert session.retrieved_ids() == {1001}


@given(
    st.integers(0, 20), st.lists(st.tuples(st.sampled_from(["dele", "rset"]), st.integers(0, 25)))
)
def test_numbers_and_totals_always_agree(count: int, actions: list[tuple[str, int]]) -> None:
    """The view against a dictionary that does the same by hand."""
    session = view(count)
    alive = {n: n * 10 for n in range(1, count + 1)}
    for action, number in actions:
        if action == "rset":
            session.reset()
            alive = {n: n * 10 for n in range(1, count + 1)}
        elif number in alive:
            session.mark_deleted(number)
            del alive[number]
        else:
            with pytest.raises(NoSuchMessage):
                session.mark_deleted(number)
        assert session.count == len(alive)
        assert session.octets == sum(alive.values())
        lines = whole(session.list_lines()).decode().split("\r\n")[:-1]
        assert lines == [f"{n} {octets}" for n, octets in sorted(alive.items())]
        assert session.deleted_ids() == {1000 + n for n in range(1, count + 1)} - {
            1000 + n for n in alive
        }


@given(st.integers(0, 3 * SLICE), st.sets(st.integers(1, 3 * SLICE), max_size=9), st.booleans())
def test_slices_make_up_the_whole_listing_without_what_is_deleted(
    count: int, deleted: set[int], uidl: bool
) -> None:
    session = view(count)
    for number in deleted & set(range(1, count + 1)):
        session.mark_deleted(number)
    slices = list(session.uidl_lines() if uidl else session.list_lines())
    expected = [
        f"{n} uid-{n}" if uidl else f"{n} {n * 10}" for n in range(1, count + 1) if n not in deleted
    ]
    assert whole(slices).decode().split("\r\n")[:-1] == expected
    assert all(lines.count(b"\n") <= SLICE for lines in slices)


def test_sessions_share_one_rendering_whatever_each_has_deleted() -> None:
    listing = Listing([message(n) for n in range(1, 2 * SLICE + 1)])
    first, second = View(listing), View(listing)
    first.mark_deleted(1)
    assert next(first.uidl_lines()) != next(second.uidl_lines())
    assert all(
        one is other
        for one, other in zip(second.uidl_lines(), View(listing).uidl_lines(), strict=True)
    )
