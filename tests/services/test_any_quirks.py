"""Any quirks together, and any story: the promises hold after each step, and all ends well.

QUIRK_EXAMPLES=1000 tries that many stories, other ones each time; a failure prints the story.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections import Counter
from pathlib import Path

import uvloop
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from proxy.domain.policy import RetentionPolicy
from tests.quirky.mailbox import SHAPES, TrueMail
from tests.quirky.play import LITTLE_PATIENCE, Play, play
from tests.quirky.quirks import Quirks
from tests.quirky.story import LASTING, PASSING, ChangeIds, Return, Step, Trouble, quirks, stories

EXAMPLES = int(os.environ.get("QUIRK_EXAMPLES", "0"))

RETENTIONS = [
    RetentionPolicy(),
    RetentionPolicy(upstream="delivered"),
    RetentionPolicy(follow_upstream_removals=True),
]

UIDS_THAT_STAY = ("own", "too long", "with spaces", "not ASCII")
COMPLETE = ("right", "doubled", "last first", "number 0", "two spaces", "space last")
STAMPED = frozenset(SHAPES) - {"unstamped", "one Message-ID, unstamped", "anonymous", "no header"}


def test_the_promises_hold_whatever_the_upstream_is_like() -> None:
    reached: Counter[str] = Counter()

    @settings(
        max_examples=EXAMPLES or 60,
        deadline=None,
        derandomize=not EXAMPLES,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(quirks(), stories(), st.sampled_from(RETENTIONS))
    def live(server: Quirks, story: list[Step], retention: RetentionPolicy) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            met = runner.run(live_through(server, story, retention))
        reached.update(met.keys())
        for name in met:
            event(name)

    live()
    every = LASTING.keys() | PASSING.keys()
    shown = {name.partition("=")[0] for name in reached} & every
    assert 2 * len(shown) > len(every), f"quirks that never showed: {every - shown}"


async def live_through(
    server: Quirks, story: list[Step], retention: RetentionPolicy
) -> Counter[str]:
    with tempfile.TemporaryDirectory() as folder:
        async with play(Path(folder), server, retention=retention) as played:
            if _is_silent(server, story):
                played.patience = LITTLE_PATIENCE
            for step in story:
                await step.happen(played)
                played.check()
            played.mailbox.bring_back()
            await played.settle(rounds=13 + len(played.mailbox.mails))
            _check_fetches(played, story)
            await _check_calm(played)
            return played.upstream.reached


def _is_silent(server: Quirks, story: list[Step]) -> bool:
    silence = ("silent_in", "greeting")
    return server.pipelining == "drops" or any(
        isinstance(step, Trouble) and step.field in silence for step in story
    )


def _check_fetches(played: Play, story: list[Step]) -> None:
    """Promise 1, where anything but the octets can decide whether a message is a known one."""
    if played.upstream.quirks.pipelining not in ("no", "right"):
        # What came behind an answer that made no sense has to come again.
        return
    if any(isinstance(step, ChangeIds | Return) and step.header for step in story):
        return
    again = [mail.serial for mail in played.mailbox.ever if mail.whole > 1 and _told(played, mail)]
    assert not again, f"fetched more than once: {again}"


async def _check_calm(played: Play) -> None:
    """With nothing new, a sync fetches nothing that is told by UIDL or header."""
    before = {mail: mail.whole for mail in played.mailbox.ever}
    for _ in range(2):
        played.later(2 * 86400)
        await played.poll()
    again = [m.serial for m in before if m.whole > before[m] and _told(played, m)]
    assert not again, f"fetched once more with nothing new: {again}"


def _told(played: Play, mail: TrueMail) -> bool:
    """Whether upstream shows without RETR which message this is.

    Not so with TOP refused, or where no server has stamped the mail, and no UIDL that stays.
    """
    server = played.upstream.quirks
    by_uid = (
        server.uids in UIDS_THAT_STAY
        and server.uidl == "yes"
        and server.uidl_lines in COMPLETE
        and not mail.renamed
    )
    by_header = server.top in ("right", "whole") and mail.shape in STAMPED
    return by_header or (by_uid and server.sizes == "right")
