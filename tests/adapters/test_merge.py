"""Merging accounts: whatever both have been through, every device goes on as if nothing was."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.adapters.blobs import InlineRunner
from proxy.adapters.sqlite.connection import connect_inline
from proxy.adapters.store import SqliteStore, open_store
from proxy.domain.model import Account, Device
from proxy.domain.policy import ViewKind
from tests.interfaces.store_contract import NOW, fetched

UIDS = ["1", "2", "3", "a", "b", "not valid", ""]
BODIES = [b"one\r\n", b"two\r\n", b"three\r\n", b"four\r\n"]
NAMES = ["laptop", "Phone", "tablet"]

Step = tuple[str, int, int, int]
"""What happens in an account, and three numbers that say to what."""

_ACTS = ["device", "retrieve", "delete", "everywhere", "purge", "gone", "notice", "copy"]

steps = st.lists(
    st.tuples(
        st.sampled_from([*("mail",) * 3, *_ACTS]),
        st.integers(0, 6),
        st.integers(0, 6),
        st.integers(0, 6),
    ),
    max_size=12,
)


async def live(store: SqliteStore, account: Account, story: list[Step]) -> None:
    """Let an account go through this."""
    for index, (what, one, two, three) in enumerate(story):
        at = NOW + index
        devices = await store.devices(account.id)
        rows = await store.records(account.id)
        row = rows[one % len(rows)] if rows else None
        device = devices[two % len(devices)] if devices else None
        match what:
            case "mail":
                body = BODIES[one % len(BODIES)]
                mail = await fetched(store, body, UIDS[two], received_at=NOW + three)
                await store.add_messages(account.id, [mail], at=at)
            case "device" if await store.device(account.id, NAMES[one % 3]) is None:
                since = NOW + two if two < 4 else None
                await store.add_device(account.id, NAMES[one % 3], since=since, at=at)
            case "notice":
                writer = store.new_blob()
                await writer.write(b"notice %d\r\n" % one)
                await store.add_own(account.id, await writer.finish(), at=at)
            case "purge" if row:
                await store.purge(account.id, [row.id], at=at)
            case "gone" if row and not row.own:
                await store.note_listing(account.id, gone=[row.id], seen=[], at=at)
            case "copy" if row and device:
                await store.add_copy(account.id, row.id, device.id, at=at)
            case "retrieve" | "delete" | "everywhere" if row and device:
                seen = await view(store, device)
                if any(entry[2] == row.id for entry in seen):
                    await store.commit_session(
                        device.id,
                        retrieved={row.id},
                        deleted=set() if what == "retrieve" else {row.id},
                        everywhere=what == "everywhere",
                        at=at,
                    )


async def view(
    store: SqliteStore, device: Device, kind: ViewKind = "all"
) -> list[tuple[str, bytes, int]]:
    """What the device sees: UIDL, digest, and the message's id."""
    hidden = await store.hidden(device.id, kind)
    uids = await store.uids_of(device.id)
    messages = await store.messages(device.account_id)
    return [(uids.get(m.id, m.uid), m.digest, m.id) for m in messages if m.id not in hidden]


@dataclass
class Before:
    """What a device knows of its account."""

    sees: dict[str, bytes]
    to_get: dict[str, bytes]
    had: Counter[bytes]
    """Digests of the mails that it retrieved or deleted, purged ones too. As below, messages of
    the proxy's own are left out."""
    mails: Counter[bytes]
    """All of its account."""
    names: dict[str, bytes]
    """Every UIDL that it has ever been shown, or that was used in its account."""


async def remember(store: SqliteStore, device: Device) -> Before:
    fetch = store._database.fetch  # no verb tells of tombstones
    uids = await store.uids_of(device.id)
    rows = await fetch(
        "SELECT message.id, uid, digest, own, retrieved_at IS NOT NULL OR "
        "delivery.deleted_at IS NOT NULL, delivery.deleted_at IS NOT NULL, purged_at IS NOT NULL "
        "FROM message LEFT JOIN delivery ON message_id = message.id AND device_id = ? "
        "WHERE account_id = ?",
        (device.id, device.account_id),
    )
    return Before(
        sees={uid: digest for uid, digest, _ in await view(store, device)},
        to_get={uid: digest for uid, digest, _ in await view(store, device, "undelivered")},
        had=Counter(digest for _, _, digest, own, had, _, _ in rows if had and not own),
        mails=Counter(digest for _, _, digest, own, *_ in rows if not own),
        names={
            uids.get(id_, uid): digest
            for id_, uid, digest, own, *_, over in rows
            if not (own and over)
        },
    )


async def merge(store: SqliteStore, source: str, target: str) -> None:
    """Merge, and look at every device before and after."""
    one, other = await store.account(source), await store.account(target)
    assert one is not None
    assert other is not None
    before = {
        account.id: {
            device.name.lower(): await remember(store, device)
            for device in await store.devices(account.id)
        }
        for account in (one, other)
    }
    foreign = {
        account.id: Counter(
            digest
            for (digest,) in await store._database.fetch(
                "SELECT digest FROM message WHERE account_id = ? AND NOT own", (account.id,)
            )
        )
        for account in (one, other)
    }
    seen = await store.look_at_merge(one.id, other.id)
    assert await store.merge_accounts(one.id, other.id, at=NOW + 100) == seen
    assert await store.account(source) == await store.account(target)
    devices = await store.devices(other.id)
    names = [device.name.lower() for device in devices]
    assert sorted(names) == sorted({*before[one.id], *before[other.id]})
    for device in devices:
        known = [before[id_].get(device.name.lower()) for id_ in (one.id, other.id)]
        now = await view(store, device)
        assert len({uid for uid, _, _ in now}) == len(now), "a UIDL twice"
        sees = {uid: digest for uid, digest, _ in now}
        waits = {u: d for u, d, _ in await view(store, device, "undelivered")}
        for own, strange in zip(known, (foreign[other.id], foreign[one.id]), strict=True):
            if own is None or known.count(None) == 0:
                continue
            assert own.sees.items() <= sees.items(), "lost, or shown under another UIDL"
            assert own.to_get.items() <= waits.items(), "no longer to get"
            more = Counter(d for u, d in sees.items() if u not in own.sees)
            assert more <= strange - own.mails, "comes again"
            assert not {u for u in sees if u not in own.sees} & own.names.keys()
        if None not in known:
            own_ids = {row.id for row in await store.records(other.id) if row.own}
            waiting = await view(store, device, "undelivered")
            assert_joined(
                [one for one in known if one],
                Counter(digest for _, digest, _ in waiting),
                Counter(digest for _, digest, id_ in waiting if id_ not in own_ids),
            )
        for message in await store.messages(other.id):
            reader = store.open_blob(message)
            assert hashlib.sha256(reader.read(message.octets)).digest() == message.digest
            reader.close()
    assert await store.damage() == []


def assert_joined(known: list[Before], waits: Counter[bytes], mails: Counter[bytes]) -> None:
    """A device that was two: it is to get what neither had, and has had what either had."""
    first, second = known
    wanted = Counter(first.to_get.values()) | Counter(second.to_get.values())
    had = first.had | second.had
    assert wanted - had <= waits, "lost"
    assert mails <= (first.mails | second.mails) - had, "comes again"


async def everything(stories: list[list[Step]], later: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = await open_store(
            Path(folder), connect=connect_inline, run=InlineRunner(), exclusive=False
        )
        try:
            accounts = ["bob", "robert", "bert"]
            for name, story in zip(accounts, stories, strict=True):
                account = await store.ensure_account(name, declared=False, at=NOW)
                await live(store, account, story)
            await merge(store, "bob", "robert")
            middle = await store.account("bob")
            assert middle is not None
            await live(store, middle, later)
            await merge(store, "robert", "bert")
            await live(store, (await store.accounts())[0], later)
        finally:
            await store.close()


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.tuples(steps, steps, steps), steps)
def test_no_device_loses_a_mail_or_gets_one_again(
    stories: tuple[list[Step], list[Step], list[Step]], later: list[Step]
) -> None:
    asyncio.run(everything(list(stories), later))
