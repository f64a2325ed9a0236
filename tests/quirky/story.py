"""What may happen to a mailbox, its upstream and its devices: steps of a story, drawn at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.quirky.mailbox import IDENTIFIED, SHAPES, TrueMail
from tests.quirky.play import Play
from tests.quirky.quirks import LINES, SIZES, UIDS, Quirks

ON_TOP = b"Received: by new.example; Tue, 3 Nov 2026 11:00:00 +0000\r\nX-Moved: yes\r\n"

LASTING: dict[str, list[Any]] = {
    "shows": [1, 5],
    "after_retr": ["hides", "deletes"],
    "sizes": [name for name in SIZES if name != "right"],
    "stat": ["as LIST"],
    "list_lines": [name for name in LINES if name != "right"],
    "uidl_lines": [name for name in LINES if name != "right"],
    "uids": [name for name in UIDS if name != "own"],
    "uidl": ["no", "not always"],
    "top": ["whole", "no", "not all"],
    "capa": ["no"],
    "pipelining": ["right", "drops", "reorders", "closes"],
    "login_every": [600.0],
}
"""What a server may be like for good. Servers that no client can make sense of are left out."""

PASSING: dict[str, list[Any]] = {
    "silent_in": ["greeting", "PASS", "LIST", "UIDL", "TOP", "RETR", "RETR #2", "DELE", "QUIT"],
    "cut_in": ["greeting", "PASS", "LIST", "UIDL", "TOP", "RETR", "RETR #3", "DELE", "QUIT"],
    "closes_after": [1, 3],
    "quit": ["closes", "refuses", "refuses but deletes"],
    "refused_logins": [3, 1000],
    "greeting": ["-ERR too many connections", ""],
}
"""Trouble that comes and goes."""


class Step:
    async def happen(self, play: Play) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class Deliver(Step):
    shapes: tuple[str, ...]

    async def happen(self, play: Play) -> None:
        for shape in self.shapes:
            # After many have left at once, nothing tells a twin of one of them from that one.
            play.mailbox.deliver("plain" if shape == "twin" and _twin_has_left(play) else shape)


@dataclass(frozen=True)
class Poll(Step):
    device: str

    async def happen(self, play: Play) -> None:
        await play.poll(self.device)


@dataclass(frozen=True)
class Look(Step):
    """A device that takes nothing holds mail back."""

    device: str

    async def happen(self, play: Play) -> None:
        await play.look(self.device)


@dataclass(frozen=True)
class Drop(Step):
    """In web mail."""

    which: int

    async def happen(self, play: Play) -> None:
        play.mailbox.drop(*_chosen(play, self.which)[:1])


@dataclass(frozen=True)
class ChangeIds(Step):
    every: int
    """Each so many-th mail; 1: all."""
    header: bool
    reverse: bool

    async def happen(self, play: Play) -> None:
        chosen = play.mailbox.mails[:: self.every]
        if chosen:
            play.mailbox.change_uids(*chosen, header=ON_TOP if self.header else b"")
        if self.header:
            # Another id and another header, and that tells neither a Message-ID nor a date.
            play.ambiguous.update(m.name for m in chosen if m.shape not in IDENTIFIED)
        if self.reverse:
            play.mailbox.reverse()


@dataclass(frozen=True)
class Leave(Step):
    """All of it, for a while."""

    async def happen(self, play: Play) -> None:
        for mail in play.mailbox.mails:
            mail.renamed = True
        play.mailbox.set_aside()


@dataclass(frozen=True)
class Return(Step):
    most: int
    new_uids: bool
    header: bool

    async def happen(self, play: Play) -> None:
        if self.header and self.new_uids:
            away = play.mailbox.away[: self.most]
            play.ambiguous.update(m.name for m in away if m.shape not in IDENTIFIED)
        header = ON_TOP if self.header else b""
        play.mailbox.bring_back(self.most, new_uids=self.new_uids, header=header)


@dataclass(frozen=True)
class ChangeSizes(Step):
    sizes: str

    async def happen(self, play: Play) -> None:
        play.upstream.quirks.sizes = self.sizes


@dataclass(frozen=True)
class ShowAgain(Step):
    async def happen(self, play: Play) -> None:
        if play.follows and play.upstream.quirks.after_retr == "hides":
            # This upstream has then shown that it keeps what was retrieved; so what it hides later
            # passes for removed by a person, and that is to be followed. Nothing can tell.
            return
        play.mailbox.show_again()


@dataclass(frozen=True)
class Restart(Step):
    async def happen(self, play: Play) -> None:
        await play.restart()


@dataclass(frozen=True)
class Later(Step):
    seconds: int

    async def happen(self, play: Play) -> None:
        play.later(self.seconds)


@dataclass(frozen=True)
class Trouble(Step):
    field: str
    value: Any
    after_lines: int = 1

    async def happen(self, play: Play) -> None:
        setattr(play.upstream.quirks, self.field, self.value)
        play.upstream.quirks.after_lines = self.after_lines


@dataclass(frozen=True)
class Calm(Step):
    async def happen(self, play: Play) -> None:
        play.upstream.quirks.calm()


def _twin_has_left(play: Play) -> bool:
    mailbox = play.mailbox
    return any(mail not in mailbox.mails for mail in mailbox.named(mailbox.ever[-1].name))


def _chosen(play: Play, which: int) -> list[TrueMail]:
    mails = play.mailbox.mails
    return mails[which % len(mails) :] if mails else []


# --- drawing -------------------------------------------------------------------------------------


def _pairs(table: dict[str, list[Any]]) -> list[tuple[str, Any]]:
    return [(field, value) for field, values in table.items() for value in values]


def quirks(most: int = 4) -> st.SearchStrategy[Quirks]:
    """A server with at most so many lasting quirks."""
    some = st.lists(
        st.sampled_from(_pairs(LASTING)), max_size=most, unique_by=lambda pair: str(pair[0])
    )
    return some.map(lambda pairs: Quirks(**dict(pairs)))


_devices = st.sampled_from(["a", "b", "c"])
_arrivals = st.lists(st.sampled_from([*SHAPES, "plain", "twin"]), min_size=1, max_size=4)
_troubles = st.builds(
    lambda pair, lines: Trouble(pair[0], pair[1], lines),
    st.sampled_from(_pairs(PASSING)),
    st.integers(0, 3),
)
_common: st.SearchStrategy[Step] = st.one_of(
    st.builds(Poll, _devices),
    st.builds(Deliver, _arrivals.map(tuple)),
    st.builds(Later, st.sampled_from([60, 3600, 90_000])),
)
_rare: st.SearchStrategy[Step] = st.one_of(
    _troubles,
    st.just(Calm()),
    st.builds(Drop, st.integers(0, 20)),
    st.builds(ChangeIds, st.integers(1, 3), st.booleans(), st.booleans()),
    st.just(Leave()),
    st.builds(Return, st.integers(1, 6), st.booleans(), st.booleans()),
    st.builds(ChangeSizes, st.sampled_from(list(SIZES))),
    st.just(Restart()),
    st.just(ShowAgain()),
    st.builds(Look, _devices),
)


def stories(longest: int = 20) -> st.SearchStrategy[list[Step]]:
    """Begins with mail in the mailbox and a device that reads it."""
    beginning: list[Step] = [Deliver(("plain", "unstamped", "plain")), Poll("a")]
    more = st.lists(st.one_of(_common, _common, _rare), max_size=longest)
    return more.map(lambda steps: [*beginning, *steps])
