"""Two programs on one device are told from one that moves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.domain.policy import DAY, HOUR, MINUTE
from proxy.domain.sharing import PLACES, RETURNS, DeviceUse, place_of

START = 1_793_700_000.0
HOME, OFFICE = "198.51.100.7", "203.0.113.9"
PUBLIC = ("8.8.8.8", "9.9.9.9", "2001:db8:1::1", "2001:db8:2::1", "192.168.1.20", "local")
PEERS = st.sampled_from(PUBLIC)


def test_a_place_is_what_one_household_or_one_pool_of_addresses_has() -> None:
    assert place_of("8.8.8.8") == place_of("8.8.8.200")
    assert place_of("::ffff:8.8.8.8") == place_of("8.8.8.8")
    assert place_of("8.8.9.8") != place_of("8.8.8.8")
    assert place_of("192.168.1.20") != place_of("192.168.1.21")
    assert place_of("2001:db8::1") == place_of("2001:db8::2")
    assert place_of("2001:db8:0:1::1") != place_of("2001:db8::1")
    assert place_of("local") != place_of("127.0.0.1")


@given(st.integers(1, 30), st.integers(1, 30))
def test_two_programs_that_poll_in_turns_are_found_within_a_few_polls(a: int, b: int) -> None:
    use, now = DeviceUse(), START
    for poll in range(2 + RETURNS):
        use.logged_in((HOME, OFFICE)[poll % 2], now)
        now += (a, b)[poll % 2] * MINUTE
    assert use.shared_at is not None


@given(st.lists(st.tuples(PEERS, st.floats(HOUR + 1, 10 * DAY)), max_size=60))
def test_one_program_that_moves_as_people_do_is_none_of_it(moves: list[tuple[str, float]]) -> None:
    """However often it polls at a place; an hour or more at each."""
    use, now = DeviceUse(), START
    for peer, stay in moves:
        until = now + stay
        for _ in range(5):
            use.logged_in(peer, now)
            use.quit(peer, now, now + 2)
            now += stay / 6
        now = until
    assert use.shared_at is None


@given(st.lists(st.booleans(), max_size=80))
def test_a_machine_with_ipv4_and_ipv6_is_one(sixes: list[bool]) -> None:
    use, now = DeviceUse(), START
    for six in sixes:
        peer = "2001:db8:1::1" if six else HOME
        use.logged_in(peer, now)
        use.quit(peer, now - 1, now + 30)
        now += 10
    assert use.shared_at is None


def test_a_few_walks_out_of_the_wireless_network_and_back_say_nothing() -> None:
    use = DeviceUse()
    for walk in range(RETURNS - 1):
        now = START + walk * 2 * HOUR
        for peer, after in ((HOME, 0), (OFFICE, 10), (HOME, 20)):
            use.logged_in(peer, now + after * MINUTE)
    assert use.shared_at is None


def test_an_address_that_changes_once_says_nothing() -> None:
    use = DeviceUse()
    for poll in range(200):
        use.logged_in(HOME if poll < 100 else OFFICE, START + poll * MINUTE)
    assert use.shared_at is None


@given(st.floats(1, DAY), st.floats(1, DAY))
def test_a_session_that_goes_on_after_a_login_elsewhere_is_another_program_s(
    before: float, after: float
) -> None:
    use = DeviceUse()
    use.logged_in(HOME, START)
    use.logged_in(OFFICE, START + before)
    use.quit(HOME, START, START + before + after)
    assert use.shared_at == START + before + after


def test_sessions_one_after_the_other_and_one_that_was_left_behind_say_nothing() -> None:
    use = DeviceUse()
    use.logged_in(HOME, START)
    use.quit(HOME, START, START + 5)
    # Begun at home, and cut off there when the laptop was closed: no QUIT.
    use.logged_in(HOME, START + 60)
    use.logged_in(OFFICE, START + 300)
    use.quit(OFFICE, START + 299, START + 310)
    assert use.shared_at is None


def test_two_sessions_at_one_place_say_nothing() -> None:
    use = DeviceUse()
    for second in range(9):
        use.logged_in(HOME, START + second)
    use.quit(HOME, START, START + 60)
    assert use.shared_at is None


def test_signs_of_many_days_are_not_added_up() -> None:
    use = DeviceUse()
    for day in range(30):
        for peer, after in ((HOME, 0), (OFFICE, 10), (HOME, 20), (OFFICE, 30)):
            use.logged_in(peer, START + day * DAY + after * MINUTE)
    assert use.shared_at is None


@given(st.lists(st.tuples(st.ip_addresses(), st.floats(-1e6, 1e6)), max_size=200))
def test_what_is_remembered_is_bounded_whatever_comes_and_whatever_the_clock_does(
    logins: list[tuple[object, float]],
) -> None:
    use = DeviceUse()
    for peer, at in logins:
        use.logged_in(str(peer), START + at)
        use.quit(str(peer), START + at - 5, START + at)
    assert len(use._logins) <= PLACES
    assert len(use._returns) <= RETURNS
