"""When a server is no longer believed that it pipelines."""

from __future__ import annotations

from proxy.domain.pipelining import DISTRUST, PipelineTrust


def test_a_server_that_falls_silent_over_commands_sent_ahead_is_distrusted_for_a_while() -> None:
    trust = PipelineTrust()
    trust.failed(100.0, progress=True, ended=False)
    assert not trust.holds(100.0)
    assert trust.holds(100.0 + DISTRUST)


def test_one_broken_connection_is_taken_for_the_network_s_fault() -> None:
    trust = PipelineTrust()
    trust.failed(1.0, progress=False, ended=True)
    assert trust.holds(1.0)
    trust.failed(2.0, progress=False, ended=True)
    assert not trust.holds(2.0)


def test_connections_that_end_after_messages_came_are_no_sign() -> None:
    trust = PipelineTrust()
    for now in range(5):
        trust.failed(now, progress=True, ended=True)
    assert trust.holds(5)


def test_a_session_that_went_well_clears_the_record() -> None:
    trust = PipelineTrust()
    trust.failed(1.0, progress=False, ended=True)
    trust.went_well()
    trust.failed(2.0, progress=False, ended=True)
    assert trust.holds(2.0)
