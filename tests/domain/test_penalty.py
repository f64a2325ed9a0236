from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.domain.penalty import (
    FORGIVEN_AFTER,
    FREE,
    KEYS,
    Budgets,
    Penalties,
    account_allowance,
    host_allowance,
)


def fail(penalties: Penalties, times: int, now: float = 0.0, key: str = "a") -> None:
    for _ in range(times):
        penalties.failed(key, now)


def test_the_first_failures_cost_nothing() -> None:
    penalties = Penalties(2.0, 60.0)
    fail(penalties, FREE)
    assert penalties.wait("a", 0.0) == 0.0


def test_each_further_failure_doubles_the_delay_up_to_the_longest() -> None:
    penalties = Penalties(2.0, 60.0)
    fail(penalties, FREE)
    waits = []
    now = 0.0
    for _ in range(7):
        fail(penalties, 1, now)
        waits.append(penalties.wait("a", now))
        now += waits[-1]
    assert waits == [2, 4, 8, 16, 32, 60, 60]


def test_tries_that_wait_already_make_the_next_one_wait_longer() -> None:
    penalties = Penalties(2.0, 60.0)
    fail(penalties, FREE + 1)
    penalties.take_turn("a", 0.0)
    assert penalties.wait("a", 0.0) == 4.0


def test_one_key_s_failures_are_not_another_s() -> None:
    penalties = Penalties(2.0, 60.0)
    fail(penalties, 10)
    assert penalties.wait("b", 0.0) == 0.0


def test_failures_fade() -> None:
    penalties = Penalties(2.0, 60.0)
    fail(penalties, FREE + 1)
    later = FORGIVEN_AFTER * 2
    fail(penalties, 1, later)
    assert penalties.wait("a", later) == 0.0


@given(st.lists(st.tuples(st.sampled_from(["fail", "turn"]), st.floats(0, 1000)), max_size=60))
def test_what_a_failure_costs_is_bounded(steps: list[tuple[str, float]]) -> None:
    penalties = Penalties(2.0, 60.0)
    now, turns = 0.0, 0
    for step, pause in steps:
        now += pause
        if step == "fail":
            penalties.failed("a", now)
        else:
            penalties.take_turn("a", now)
            turns += 1
        assert 0.0 <= penalties.wait("a", now) <= 60.0 * (turns + 1)


def test_a_flood_of_keys_is_forgotten_oldest_first() -> None:
    penalties = Penalties(2.0, 60.0)
    for number in range(KEYS + 10):
        fail(penalties, FREE + 1, key=str(number))
    assert penalties.wait("0", 0.0) == 0.0
    assert penalties.wait(str(KEYS), 0.0) > 0


def test_a_budget_allows_so_many_tries_in_a_window() -> None:
    budgets = Budgets(100.0)
    for now in (0.0, 10.0):
        assert budgets.wait("a", 2, now) == 0.0
        budgets.spend("a", now)
    assert budgets.wait("a", 2, 20.0) == 80.0
    assert budgets.wait("a", 1, 20.0) == 90.0
    assert budgets.wait("a", 3, 20.0) == 0.0
    assert budgets.wait("b", 2, 20.0) == 0.0
    assert budgets.wait("a", 2, 100.0) == 0.0


def test_a_try_that_turns_out_right_does_not_count() -> None:
    budgets = Budgets(100.0)
    budgets.take("a")
    assert not budgets.has_room("a", 1, 0.0)
    assert budgets.wait("a", 1, 0.0) == 0.0, "nobody is refused for what is under way"
    budgets.settle("a", 0.0, counts=False)
    assert budgets.is_idle("a", 0.0)


STEP = st.tuples(st.sampled_from(["try", "right", "wrong"]), st.floats(0, 60))


@given(st.lists(STEP, max_size=80), st.integers(1, 6))
def test_in_no_window_are_there_more_wrong_tries_than_allowed(
    steps: list[tuple[str, float]], limit: int
) -> None:
    budgets = Budgets(100.0)
    now, under_way = 0.0, 0
    wrong: list[float] = []
    for step, pause in steps:
        now += pause
        if step == "try" and budgets.has_room("a", limit, now):
            assert budgets.wait("a", limit, now) == 0.0
            budgets.take("a")
            under_way += 1
        elif step != "try" and under_way:
            under_way -= 1
            budgets.settle("a", now, counts=step == "wrong")
            wrong += [now] * (step == "wrong")
        assert sum(at + 100.0 > now for at in wrong) <= limit


@given(st.integers(1, 50), st.booleans(), st.booleans())
def test_something_of_an_account_s_budget_is_kept_for_who_has_proved_to_be_it(
    limit: int, known_place: bool, first_try: bool
) -> None:
    allowed = account_allowance(limit, known_place=known_place, first_try=first_try)
    best = account_allowance(limit, known_place=True, first_try=True)
    assert 1 <= allowed <= best == limit
    if limit > 2 and not (known_place and first_try):
        assert allowed < limit


@given(st.integers(1, 50))
def test_who_knows_nothing_of_a_host_s_accounts_has_the_smallest_part_of_its_budget(
    limit: int,
) -> None:
    parts = [
        host_allowance(limit, known_place=known, exists=exists, unheard=unheard)
        for known, exists, unheard in [
            (False, False, False),
            (False, False, True),
            (False, True, False),
            (True, True, False),
        ]
    ]
    assert parts == sorted(parts)
    assert parts[0] >= 1
    assert parts[-1] == limit
