"""Comparing a listing with what is known: nothing is dropped, nothing fetched without need.

A small model of an upstream plays the sync's part: it shows headers and octets when asked.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from hypothesis import event, given, settings
from hypothesis import strategies as st

from proxy.domain.fingerprint import header_digest
from proxy.domain.model import KnownMessage, Upstream
from proxy.domain.plan import Entry, left_upstream, plan_sync
from proxy.domain.reconcile import Reconciliation, Verdict


@dataclass(frozen=True)
class Mail:
    """A message upstream; `copy` tells byte-equal twins apart for the test alone."""

    uid: str
    octets: bytes
    copy: int = 0


def mail(uid: str, content: str, copy: int = 0, *, identified: bool = True) -> Mail:
    header = f"Message-ID: <{content}@x>\r\n" if identified else ""
    return Mail(uid, f"{header}Subject: s\r\n\r\n{content}\r\n".encode(), copy)


class Memory:
    """What the store would know, and which model mail each row stands for."""

    def __init__(self) -> None:
        self.known: list[KnownMessage] = []
        self.contents: dict[int, bytes] = {}
        self.retrieved: list[Mail] = []

    def sync(self, upstream: list[Mail], *, top: bool = True) -> None:
        entries = [Entry(n, len(m.octets), m.uid) for n, m in enumerate(upstream, 1)]
        plan = plan_sync(entries, self.known)
        found = Reconciliation(plan)
        for entry in plan.doubtful:
            header = upstream[entry.number - 1].octets.partition(b"\r\n\r\n")[0]
            found.judge_header(entry, header + b"\r\n" if top else None)
        new: list[KnownMessage] = []
        for entry in found.fetch:
            fetched = upstream[entry.number - 1]
            self.retrieved.append(fetched)
            digest = hashlib.sha256(fetched.octets).digest()
            verdict, message_id = found.judge_octets(entry, digest)
            if verdict is Verdict.NEW:
                message_id = len(self.known) + len(new) + 1
                self.contents[message_id] = fetched.octets
                new.append(self._row(message_id, entry, fetched))
            elif verdict is Verdict.REPAIR:
                assert message_id is not None
                assert self.contents[message_id] == fetched.octets
                self._update(message_id, blob_kept=True, upstream=Upstream.PRESENT)
        gone, _ = left_upstream(self.known, set(found.same), len(entries))
        for message_id in gone:
            self._update(message_id, upstream=Upstream.GONE)
        for sighting in found.sightings:
            self._update(
                sighting.message_id,
                upstream_uid=sighting.upstream_uid,
                upstream_octets=sighting.upstream_octets,
                upstream=Upstream.PRESENT,
            )
        self.known += new

    def _row(self, message_id: int, entry: Entry, fetched: Mail) -> KnownMessage:
        return KnownMessage(
            id=message_id,
            upstream_uid=entry.uid,
            upstream_octets=entry.octets,
            digest=hashlib.sha256(fetched.octets).digest(),
            header_digest=header_digest(fetched.octets),
            upstream=Upstream.PRESENT,
            blob_kept=True,
        )

    def _update(self, message_id: int, **changes: object) -> None:
        self.known[message_id - 1] = replace(self.known[message_id - 1], **changes)  # type: ignore[arg-type]

    def present(self) -> list[bytes]:
        """Octets of the messages believed to be upstream."""
        return sorted(self.contents[m.id] for m in self.known if m.upstream is Upstream.PRESENT)


def test_an_ordinary_mailbox_is_fetched_once() -> None:
    memory = Memory()
    box = [mail("a", "1"), mail("b", "2")]
    memory.sync(box)
    memory.sync(box)
    memory.sync([*box, mail("c", "3")])
    assert [m.uid for m in memory.retrieved] == ["a", "b", "c"]


def test_an_id_used_again_for_another_message_is_noticed_by_its_size() -> None:
    memory = Memory()
    memory.sync([mail("a", "1")])
    memory.sync([mail("a", "longer")])
    assert len(memory.known) == 2


def test_an_id_used_again_after_a_gap_is_noticed_by_its_header() -> None:
    memory = Memory()
    memory.sync([mail("a", "1"), mail("z", "9")])
    memory.sync([mail("z", "9")])
    memory.sync([mail("z", "9"), mail("a", "2")])
    assert len(memory.known) == 3


def test_a_message_that_was_missing_from_one_listing_is_not_fetched_again() -> None:
    memory = Memory()
    box = [mail("a", "1"), mail("b", "2")]
    memory.sync(box)
    memory.sync(box[:1])
    memory.sync(box)
    assert len(memory.retrieved) == 2


def test_a_size_that_changes_is_not_a_new_message() -> None:
    memory = Memory()
    memory.sync([mail("a", "1"), mail("b", "2")])
    changed = replace(memory.known[0], upstream_octets=999)
    memory.known[0] = changed
    memory.sync([mail("a", "1"), mail("b", "2")])
    assert len(memory.retrieved) == 2


def test_all_ids_changed_at_once_are_recognised_by_their_headers() -> None:
    memory = Memory()
    memory.sync([mail(f"old-{n}", str(n)) for n in range(5)])
    memory.sync([mail(f"new-{n}", str(n)) for n in range(5)])
    assert len(memory.retrieved) == len(memory.known) == 5


def test_without_uidl_a_message_is_known_by_its_header() -> None:
    memory = Memory()
    memory.sync([mail("", "1"), mail("", "2")])
    memory.sync([mail("", "2"), mail("", "3")])
    assert len(memory.retrieved) == len(memory.known) == 3
    assert memory.known[0].upstream is Upstream.GONE


def test_without_uidl_and_top_a_message_is_known_by_its_octets() -> None:
    memory = Memory()
    memory.sync([mail("", "1"), mail("", "2")], top=False)
    memory.sync([mail("", "2"), mail("", "3")], top=False)
    assert len(memory.known) == 3


def test_twins_without_uidl_are_two_messages() -> None:
    memory = Memory()
    twins = [mail("", "1", 0), mail("", "1", 1)]
    memory.sync(twins)
    memory.sync(twins)
    assert len(memory.known) == len(memory.retrieved) == 2


def test_one_id_for_two_messages_in_a_listing_keeps_both() -> None:
    memory = Memory()
    memory.sync([mail("x", "1")])
    memory.sync([mail("x", "1"), mail("x", "2")])
    memory.sync([mail("x", "2"), mail("x", "1")])
    assert len(memory.known) == len(memory.retrieved) == 2


def test_a_lost_blob_is_fetched_again_into_the_same_message() -> None:
    memory = Memory()
    memory.sync([mail("a", "1")])
    memory.known[0] = replace(memory.known[0], blob_kept=False)
    memory.sync([mail("a", "1")])
    assert len(memory.known) == 1
    assert memory.known[0].blob_kept


def test_a_lost_blob_under_whose_id_other_octets_come_is_a_new_message() -> None:
    memory = Memory()
    memory.sync([mail("a", "1")])
    memory.known[0] = replace(memory.known[0], blob_kept=False)
    memory.sync([mail("a", "2")])
    assert len(memory.known) == 2
    assert memory.known[0].upstream is Upstream.GONE


def test_a_listing_that_is_suddenly_empty_is_to_be_doubted() -> None:
    memory = Memory()
    memory.sync([mail("a", "1"), mail("b", "2")])
    assert left_upstream(memory.known, set(), 0) == ([1, 2], True)
    assert left_upstream(memory.known, {1}, 1) == ([2], False)
    assert left_upstream([], set(), 0) == ([], False)


contents = st.integers(0, 2).map(str)
uids = st.sampled_from(["", "a", "b", "c"])
boxes = st.lists(st.builds(mail, uids, contents, identified=st.booleans()), max_size=6)


@settings(max_examples=500)
@given(st.lists(st.tuples(boxes, st.booleans()), min_size=1, max_size=5))
def test_whatever_upstream_shows_its_mail_is_all_there_after_a_sync(
    history: list[tuple[list[Mail], bool]],
) -> None:
    """Ids missing, repeated, re-used, changed at will: no message of the last listing is lost.

    One exception is beyond POP3: an id that goes on at once, unbroken, with the same size, for
    other octets. The model avoids it, as the sizes of its different mails differ.
    """
    memory = Memory()
    for box, top in history:
        box = [replace(m, octets=m.octets + b"x" * 40 * int(m.octets[-3:-2])) for m in box]
        memory.sync(box, top=top)
        wanted = sorted(m.octets for m in box)
        assert memory.present() == wanted
    event(f"rows {min(len(memory.known), 10)}")
