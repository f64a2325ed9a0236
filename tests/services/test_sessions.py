from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from proxy.domain.policy import LimitsPolicy
from proxy.services.sessions import Sessions


@dataclass(eq=False)
class Guest:
    asked_to_go: bool = field(default=False)

    def drain(self) -> None:
        pass

    def make_room(self) -> None:
        self.asked_to_go = True

    def shut_down(self) -> None:
        pass

    async def wait_closed(self) -> None:
        pass


def guests(count: int) -> Iterator[Guest]:
    return (Guest() for _ in range(count))


def test_when_all_places_are_taken_the_oldest_stranger_makes_room() -> None:
    sessions: Sessions[Guest] = Sessions(LimitsPolicy(max_connections=3))
    first, second, third, fourth = guests(4)
    for guest in (first, second, third):
        assert sessions.enter(guest)
    sessions.proved(first)
    assert sessions.enter(fourth)
    assert [g.asked_to_go for g in (first, second, third)] == [False, True, False]
    assert len(sessions) == 3


def test_who_has_logged_in_makes_room_for_nobody() -> None:
    sessions: Sessions[Guest] = Sessions(LimitsPolicy(max_connections=2))
    for guest in guests(2):
        sessions.enter(guest)
        sessions.proved(guest)
    assert not sessions.enter(Guest())


def test_one_address_has_only_so_many() -> None:
    sessions: Sessions[Guest] = Sessions(LimitsPolicy(max_connections_per_address=2))
    peers = ["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:0:1::1", "192.0.2.1"]
    let_in = []
    for peer in peers:
        guest = Guest()
        sessions.enter(guest)
        let_in.append(sessions.settle(guest, peer))
    assert let_in == [True, True, False, True, True]


def test_a_unix_socket_counts_for_no_address() -> None:
    sessions: Sessions[Guest] = Sessions(LimitsPolicy(max_connections_per_address=1))
    for guest in guests(5):
        sessions.enter(guest)
        assert sessions.settle(guest, "local")


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from("eslL")), max_size=80))
def test_every_place_is_given_back(steps: list[tuple[int, str]]) -> None:
    sessions: Sessions[Guest] = Sessions(
        LimitsPolicy(max_connections=4, max_connections_per_address=3)
    )
    people = list(guests(10))
    inside: set[Guest] = set()
    for number, step in steps:
        guest = people[number]
        if step == "e" and guest not in inside and sessions.enter(guest):
            inside.add(guest)
            if not sessions.settle(guest, f"192.0.2.{number % 2}"):
                sessions.leave(guest)
                inside.discard(guest)
        elif step == "l" and guest in inside:
            sessions.proved(guest)
        elif step == "L":
            sessions.leave(guest)
        inside = {guest for guest in people if guest in list(sessions)}
        assert len(sessions) <= 4
    for guest in people:
        sessions.leave(guest)
    assert len(sessions) == 0
    newcomers = list(guests(3))
    assert all(sessions.enter(g) and sessions.settle(g, "192.0.2.1") for g in newcomers)
