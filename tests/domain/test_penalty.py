from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.domain.penalty import FORGIVEN_AFTER, FREE, KEYS, Budgets, Penalties


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
    budgets = Budgets(2, 100.0)
    for now in (0.0, 10.0):
        assert budgets.wait("a", now) == 0.0
        budgets.spend("a", now)
    assert budgets.wait("a", 20.0) == 80.0
    assert budgets.wait("b", 20.0) == 0.0
    assert budgets.wait("a", 100.0) == 0.0


def test_a_refunded_try_does_not_count() -> None:
    budgets = Budgets(1, 100.0)
    budgets.spend("a", 0.0)
    budgets.refund("a")
    assert budgets.wait("a", 0.0) == 0.0
