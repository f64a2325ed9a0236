"""Running time counts what the proxy ran and nothing else; a clock that jumps is not believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.domain.policy import DAY, HOUR, MINUTE
from proxy.domain.timekeeping import (
    EARLIEST,
    FAR,
    JUMP,
    LONGEST,
    STEADY,
    Ledger,
    Reading,
    Timekeeping,
    looked,
    started,
    trusted,
)

NOW = EARLIEST + 300 * DAY
YEAR = 365 * DAY
KNOWN = trusted(Reading(NOW, 1000.0)).kept


class Life:
    """A proxy with a ledger that is written down now and then, crashes, and is started again."""

    def __init__(self) -> None:
        self.truth = self.awake = 0.0
        self.on_disk = 0.0
        self.ledger = Ledger(0.0)
        self.ledger.start(self._awake)

    def _awake(self) -> float:
        return self.awake

    def run(self, seconds: float) -> None:
        self.truth += seconds
        self.awake += seconds

    def write(self) -> None:
        self.on_disk = self.ledger.ran

    def crash(self, off: float, boot: bool) -> None:
        # A machine that boots begins to count anew; one that does not goes on.
        self.awake = off if boot else self.awake + off
        self.ledger = Ledger(self.on_disk)
        self.ledger.start(self._awake)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("run"), st.floats(0, 400 * DAY)),
        st.tuples(st.just("write"), st.just(0.0)),
        st.tuples(st.just("crash"), st.floats(0, 400 * DAY)),
        st.tuples(st.just("boot"), st.floats(0, 400 * DAY)),
    ),
    max_size=30,
)


@given(steps)
def test_the_ledger_never_has_more_than_truly_ran_and_never_falls_behind_the_disk(
    taken: list[tuple[str, float]],
) -> None:
    life = Life()
    for what, seconds in taken:
        if what == "run":
            life.run(seconds)
        elif what == "write":
            life.write()
        else:
            life.crash(seconds, boot=what == "boot")
        assert life.on_disk <= life.ledger.ran <= life.truth * (1 + 1e-12)


@given(st.floats(0, LONGEST))
def test_the_ledger_has_all_that_was_looked_at_often_enough(seconds: float) -> None:
    life = Life()
    life.run(seconds)
    assert life.ledger.ran == seconds


def test_a_ledger_stands_until_the_proxy_runs() -> None:
    assert Ledger(7.0).ran == 7.0


def test_a_ledger_does_not_believe_a_clock_that_jumps_either() -> None:
    life = Life()
    life.awake += YEAR
    assert life.ledger.ran == LONGEST
    life.awake -= 2 * YEAR
    assert life.ledger.ran == LONGEST


def later(
    kept: Timekeeping, passed: float, *, jump: float = 0.0, slept: float = 0.0
) -> Timekeeping:
    assert kept.last is not None
    reading = Reading(kept.last.now + passed + jump, kept.last.ran + passed - slept)
    return looked(kept, reading, passed, slept).kept


@given(st.lists(st.tuples(st.floats(0, DAY), st.floats(-JUMP * 0.99, JUMP * 0.99)), max_size=20))
def test_small_steps_are_no_trouble(passed: list[tuple[float, float]]) -> None:
    kept = KNOWN
    for seconds, step in passed:
        kept = later(kept, seconds, jump=step)
        assert not kept.in_doubt


@given(st.floats(0, DAY), st.floats(JUMP * 1.01, 100 * YEAR), st.booleans())
def test_a_jump_is_a_doubt_until_the_clock_was_steady_for_a_day(
    passed: float, jump: float, back: bool
) -> None:
    kept = later(KNOWN, passed, jump=-jump if back else jump)
    assert kept.doubt == "jumped"
    assert later(kept, STEADY - 1).in_doubt
    assert kept.last is not None
    settles = kept.last.now + STEADY + 1 >= EARLIEST
    assert later(kept, STEADY + 1).in_doubt is not settles


def test_a_day_counts_anew_from_each_jump_and_through_a_restart() -> None:
    kept = later(KNOWN, MINUTE, jump=YEAR)
    kept = later(kept, STEADY - HOUR)
    assert kept.last is not None
    kept = started(kept, kept.last).kept
    assert kept.in_doubt
    kept = later(kept, HOUR / 2, jump=2 * HOUR)
    assert later(kept, STEADY - 1).in_doubt
    assert not later(kept, STEADY + 1).in_doubt


def test_sleep_is_no_jump_but_for_a_season_is_one() -> None:
    assert not later(KNOWN, 20 * DAY, slept=20 * DAY).in_doubt
    assert later(KNOWN, FAR + 2, slept=FAR + 1).doubt == "jumped"


@pytest.mark.parametrize(
    ("off", "doubt"),
    [
        (0.0, ""),
        (FAR - 1, ""),
        (FAR + 1, "ahead"),
        (YEAR, "ahead"),
        (1 - JUMP, ""),
        (-JUMP - 1, "behind"),
        (-200 * DAY, "behind"),
        (-NOW, "too_early"),
    ],
)
def test_a_start_is_compared_with_what_was_known_last(off: float, doubt: str) -> None:
    assert started(KNOWN, Reading(NOW + off, 1000.0)).kept.doubt == doubt


def test_a_new_store_believes_what_can_be() -> None:
    assert not started(Timekeeping(), Reading(NOW, 0.0)).kept.in_doubt
    assert started(Timekeeping(), Reading(EARLIEST - 1, 0.0)).kept.doubt == "too_early"


def test_a_clock_that_cannot_be_right_is_never_believed_for_being_steady() -> None:
    kept = started(Timekeeping(), Reading(0.0, 0.0)).kept
    assert later(kept, 9 * STEADY).in_doubt


def test_the_likeliest_time_goes_on_from_what_was_known() -> None:
    ahead = later(KNOWN, MINUTE, jump=YEAR)
    assert ahead.last is not None
    assert ahead.best(ahead.last) == NOW + MINUTE
    for seconds in (HOUR, 2 * HOUR):
        ahead = later(ahead, seconds)
    assert ahead.last is not None
    assert ahead.best(ahead.last) == NOW + MINUTE + 3 * HOUR
    behind = started(KNOWN, Reading(NOW - YEAR, 1000.0)).kept
    assert behind.best(Reading(NOW - YEAR + 60, 1060.0)) == NOW + 60
    new = started(Timekeeping(), Reading(0.0, 0.0)).kept
    assert new.best(Reading(60.0, 60.0)) == EARLIEST


def test_a_season_off_is_taken_for_one_until_it_is_sure() -> None:
    kept = started(KNOWN, Reading(NOW + 100 * DAY, 1000.0)).kept
    assert kept.in_doubt
    assert kept.best(Reading(NOW + 100 * DAY, 1000.0)) == NOW + 100 * DAY


@pytest.mark.parametrize("jump", [YEAR, -200 * DAY, 2 * HOUR, 20 * DAY])
def test_it_is_known_since_when_a_clock_was_wrong_that_comes_back(jump: float) -> None:
    kept = later(later(KNOWN, MINUTE, jump=jump), HOUR)
    assert kept.last is not None
    back = looked(kept, Reading(kept.last.now + 10 - jump, kept.last.ran + 10), 10.0, 0.0)
    assert back.back_since == 1000.0
    assert back.kept.in_doubt, "it is not steady yet"
    assert looked(back.kept, Reading(NOW + 2 * HOUR, 9000.0), HOUR, 0.0).back_since is None


@pytest.mark.parametrize("jump", [YEAR, -200 * DAY])
def test_a_clock_may_come_back_in_another_life(jump: float) -> None:
    wrong = later(started(KNOWN, Reading(NOW + jump, 1000.0)).kept, HOUR)
    assert wrong.last is not None
    back = started(wrong, Reading(NOW + 2 * DAY, wrong.last.ran))
    assert back.back_since == 1000.0
    still = started(wrong, Reading(NOW + jump + 2 * DAY, wrong.last.ran))
    assert still.back_since is None


def test_the_first_clock_that_can_be_right_corrects_one_that_could_not() -> None:
    kept = later(started(Timekeeping(), Reading(0.0, 0.0)).kept, MINUTE)
    assert looked(kept, Reading(NOW, 70.0), 10.0, 0.0).back_since == 0.0


def test_a_clock_that_sleeps_while_in_doubt_does_not_come_back_for_that() -> None:
    kept = later(started(KNOWN, Reading(NOW + 100 * DAY, 1000.0)).kept, MINUTE)
    kept = later(later(kept, MINUTE, jump=-100 * DAY), 5 * HOUR, slept=5 * HOUR)
    assert kept.last is not None
    found = looked(kept, Reading(kept.last.now + 10, kept.last.ran + 10), 10.0, 0.0)
    assert found.back_since is None


@pytest.mark.parametrize("off", [370 * DAY, 4000 * DAY])
def test_a_clock_that_is_ahead_may_be_right_and_may_be_wrong(off: float) -> None:
    known = Timekeeping(last=Reading(NOW, 10.0), right=Reading(NOW, 10.0))
    kept = started(known, Reading(NOW + off, 10.0)).kept
    assert kept.between(Reading(NOW + off + 5, 15.0)) == (NOW + 5, NOW + off + 5)


def test_a_clock_that_is_behind_makes_it_no_earlier() -> None:
    known = Timekeeping(last=Reading(NOW, 10.0), right=Reading(NOW, 10.0))
    kept = started(known, Reading(9.0, 10.0)).kept
    assert kept.between(Reading(14.0, 15.0)) == (NOW + 5, NOW + 5)
