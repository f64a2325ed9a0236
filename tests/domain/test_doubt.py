"""When what is missing is believed to have left, and what that leaves to be looked for.

Any history of a mailbox: spells, moves to other software, arrivals, for hours or weeks.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from proxy.domain.doubt import BELIEVED_AFTER, COMES_BACK_WITHIN, FEW, LISTINGS, MANY, Spell, judge
from proxy.domain.fingerprint import Fingerprint
from proxy.domain.model import Upstream
from proxy.domain.plan import Plan
from proxy.domain.policy import DAY, HOUR
from tests.domain.test_reconcile import Mail, Memory


def judged(
    before: Spell | None, missing: int, *, odd: bool = True, ran: float = 0.0
) -> Spell | None:
    return judge(before, missing, odd=odd, by_retr=False, for_good=False, ran=ran).spell


def test_a_spell_is_believed_when_it_has_lasted_long_and_over_several_listings() -> None:
    spell = judged(None, FEW, ran=1000.0)
    assert spell == Spell(1000.0, 1, FEW)
    for listings in range(2, 20):
        assert (spell := judged(spell, FEW, ran=2000.0)) == Spell(1000.0, listings, FEW)
    assert judged(spell, FEW, ran=1000.0 + BELIEVED_AFTER) is None
    assert (
        judged(Spell(1000.0, LISTINGS - 2, FEW), FEW, ran=1000.0 + 9 * BELIEVED_AFTER) is not None
    )


def test_a_few_messages_are_believed_to_have_left_at_the_second_listing() -> None:
    spell = judged(None, FEW - 1)
    assert spell is not None
    assert judged(spell, FEW - 1) is None


def test_what_an_ordinary_listing_lacks_has_left() -> None:
    assert judged(None, 100, odd=False) is None


def test_a_spell_goes_on_while_anything_is_missing_and_ends_when_nothing_is() -> None:
    assert judged(Spell(0.0, 1, 9), 1, odd=False) == Spell(0.0, 2, 9)
    assert judged(Spell(0.0, 1, 9), 0) is None


def test_time_that_goes_back_ends_no_spell() -> None:
    assert judged(Spell(1e9, 10, 9), FEW, ran=0.0) == Spell(1e9, 11, 9)


@pytest.mark.parametrize(
    ("before", "missing", "odd", "for_good", "expected"),
    [
        (None, 1, False, False, None),
        (None, MANY - 1, False, False, None),
        (None, MANY, False, False, 7.0),
        (None, 1, True, False, 7.0),
        (Spell(0.0, 1, 9), 1, False, False, 7.0),
        (None, MANY, True, True, None),
    ],
)
def test_what_may_come_back(
    before: Spell | None, missing: int, odd: bool, for_good: bool, expected: float | None
) -> None:
    found = judge(before, missing, odd=odd, by_retr=for_good, for_good=for_good, ran=7.0)
    assert found.left_at == expected


# --- any history ---------------------------------------------------------------------------------


class Mailbox:
    """What is upstream, what is away, and what the proxy makes of it."""

    def __init__(self) -> None:
        self.memory = _Memory()
        self.there: list[Mail] = []
        self.away: list[Mail] = []
        self.ever: list[Mail] = []
        self._names = 0

    def named(self, mail: Mail) -> Mail:
        self._names += 1
        return replace(mail, uid=f"u{self._names}")

    def copies(self) -> Counter[bytes]:
        return Counter(_content(mail.octets) for mail in self.ever)

    def shown(self) -> Counter[bytes]:
        return Counter(map(_content, self.memory.contents.values()))


class _Memory(Memory):
    """With doubts."""

    def __init__(self) -> None:
        super().__init__()
        self.spell: Spell | None = None
        self.ran = 0.0

    def sync(self, upstream: list[Mail], *, top: bool = True) -> None:
        self.left_since = self.ran - COMES_BACK_WITHIN
        super().sync(upstream, top=top)

    def _leave(self, missing: list[int], plan: Plan) -> None:
        found = judge(
            self.spell,
            len(missing),
            odd=plan.suspicious,
            by_retr=False,
            for_good=False,
            ran=self.ran,
        )
        self.spell = found.spell
        for message_id in missing if found.spell is None else ():
            self._update(message_id, upstream=Upstream.GONE, left_at_once=found.left_at)


class Step:
    def happen(self, box: Mailbox) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class Arrive(Step):
    count: int
    twin: bool
    stamped: bool

    def happen(self, box: Mailbox) -> None:
        for _ in range(self.count):
            number = len(box.ever)
            octets = b"Message-ID: <%d@x>\r\nDate: d\r\n\r\nbody %d\r\n" % (number, number)
            if self.stamped:
                octets = b"Received: by mx; %d\r\n" % number + octets
            # A twin of what is away cannot be told from that.
            if self.twin and box.there:
                octets = box.there[-1].octets
            new = box.named(Mail("", octets))
            box.there.append(new)
            box.ever.append(new)


@dataclass(frozen=True)
class Leave(Step):
    """Most of what is known."""

    stay: int

    def happen(self, box: Mailbox) -> None:
        box.memory.sync(box.there)
        stay = min(self.stay, (len(box.there) - 1) // 2)
        box.away += box.there[max(stay, 0) :]
        del box.there[max(stay, 0) :]


@dataclass(frozen=True)
class Return(Step):
    """So many, under new names."""

    most: int
    on_top: bytes

    def happen(self, box: Mailbox) -> None:
        back, box.away = box.away[: self.most], box.away[self.most :]
        changed = [replace(mail, octets=self.on_top + mail.octets) for mail in back]
        box.there[:0] = [box.named(mail) for mail in changed]


@dataclass(frozen=True)
class Rename(Step):
    def happen(self, box: Mailbox) -> None:
        box.there[:] = [box.named(mail) for mail in reversed(box.there)]


@dataclass(frozen=True)
class Sync(Step):
    after: float
    top: bool

    def happen(self, box: Mailbox) -> None:
        box.memory.ran += self.after
        box.memory.sync(box.there, top=self.top)


steps: st.SearchStrategy[Step] = st.one_of(
    st.builds(Sync, st.sampled_from([60.0, HOUR, BELIEVED_AFTER, DAY]), st.booleans()),
    st.builds(Sync, st.just(BELIEVED_AFTER), st.just(True)),
    st.builds(Arrive, st.integers(1, 12), st.booleans(), st.booleans()),
    st.builds(Leave, st.integers(0, 3)),
    st.builds(Return, st.integers(1, 15), st.sampled_from([b"", b"X-Moved: yes\r\n"])),
    st.just(Rename()),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(steps, max_size=25))
def test_whatever_leaves_and_comes_back_is_there_once(history: list[Step]) -> None:
    box = Mailbox()
    for step in (Arrive(5, False, True), Sync(0.0, True), *history):
        step.happen(box)
        if box.memory.ran > COMES_BACK_WITHIN - DAY:
            break
        assert box.shown() <= box.copies(), "something is there twice"
    box.there[:0] = [box.named(mail) for mail in box.away]
    box.memory.sync(box.there)
    assert box.shown() == box.copies()
    event(f"gone {sum(m.upstream is Upstream.GONE for m in box.memory.known) > 0}")
    assert all(m.upstream is Upstream.PRESENT for m in box.memory.known)


def _content(octets: bytes) -> bytes:
    """What stays of a mail."""
    digest = Fingerprint.of(octets).content_digest
    assert digest is not None
    return digest
