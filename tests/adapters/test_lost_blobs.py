"""What is damaged, missing or unreadable is lost: never handed out, never forgotten, and back as
soon as somebody brings it."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.adapters import blobs
from proxy.adapters.blobs import Blobs, InlineRunner, blob_path
from proxy.adapters.store import SqliteStore, open_store
from proxy.domain.errors import StoreUnavailable
from proxy.domain.model import Account, Device, Message
from proxy.services.transfer import CHUNK, Transfer
from tests.interfaces.store_contract import NOW, add, commit, fetched

MAIL = b"Subject: one\r\n\r\n.the first line\r\nthe last line\r\n"


def flip(offset: int) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        octets = bytearray(path.read_bytes())
        octets[offset] ^= 1
        path.write_bytes(octets)

    return damage


def becomes_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "somebody's").write_bytes(b"file")


def becomes_a_link(path: Path) -> None:
    twin = path.with_name("twin")
    path.rename(twin)
    path.symlink_to(twin)


def becomes_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES = {
    "first octet": flip(0),
    "middle": flip(len(MAIL) // 2),
    "last octet": flip(-1),
    "truncated": lambda path: path.write_bytes(MAIL[:-3]),
    "empty": lambda path: path.write_bytes(b""),
    "extended": lambda path: path.write_bytes(MAIL + b"more\r\n"),
    "missing": Path.unlink,
    "folder": becomes_a_folder,
    "link": becomes_a_link,
    "pipe": becomes_a_pipe,
}


@pytest.fixture
async def laptop(store: SqliteStore, alice: Account) -> Device:
    return await store.add_device(alice.id, "laptop", since=None, at=NOW)


def place(folder: Path, octets: bytes = MAIL) -> Path:
    return blob_path(folder / "blobs", hashlib.sha256(octets).digest())


def read(store: SqliteStore, message: Message, device: Device | None = None) -> bytes:
    reader = store.open_blob(message, device=device.id if device else None)
    try:
        return reader.read(10**6)
    finally:
        reader.close()


async def shown(store: SqliteStore, device: Device) -> list[bytes]:
    """The octets of what a view of this device would show, by their digests."""
    hidden = await store.hidden(device.id, "all")
    return [m.digest for m in await store.messages(device.account_id) if m.id not in hidden]


class Failing:
    """Stands in for a function of `os`: fails for blobs, and works for all else."""

    def __init__(self, name: str, code: int) -> None:
        self._real = getattr(os, name)
        self._code = code

    def __call__(self, what: Any, *arguments: Any) -> Any:
        path = os.readlink(f"/proc/self/fd/{what}") if isinstance(what, int) else os.fspath(what)
        if len(Path(path).name) == 64:
            raise OSError(self._code, os.strerror(self._code))
        return self._real(what, *arguments)


def unreadable(*_: Any) -> None:
    """Stands in for `hashlib.file_digest`."""
    raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("how", DAMAGES)
async def test_what_is_damaged_is_lost_at_once_and_over_a_restart_until_it_comes_again(
    tmp_path: Path, how: str
) -> None:
    store = await open_store(tmp_path)
    alice = await store.ensure_account("alice", declared=True, at=NOW)
    laptop = await store.add_device(alice.id, "laptop", since=None, at=NOW)
    message_id = await add(store, alice, MAIL)
    (message,) = await store.messages(alice.id)
    DAMAGES[how](place(tmp_path))
    version = store.version(alice.id)
    with pytest.raises(StoreUnavailable):
        read(store, message)
    assert store.version(alice.id) > version
    for _ in range(2):
        assert not (await store.known(alice.id))[0].blob_kept
        assert [record.id for record in await store.lost(alice.id)] == [message_id]
        assert await shown(store, laptop) == []
        assert not await store.is_intact(message.digest)
        await store.close()
        store = await open_store(tmp_path)
    repair = await fetched(store, MAIL, repairs=message_id)
    await store.add_messages(alice.id, [repair], at=NOW)
    assert read(store, message) == MAIL
    assert await store.is_intact(message.digest)
    assert await store.lost(alice.id) == []
    assert await shown(store, laptop) == [message.digest]
    assert (await store.messages(alice.id))[0].uid == message.uid
    await store.close()


async def test_what_a_device_found_lost_right_before_the_end_is_lost_after_the_next_start(
    tmp_path: Path,
) -> None:
    store = await open_store(tmp_path)
    alice = await store.ensure_account("alice", declared=True, at=NOW)
    message_id = await add(store, alice, MAIL)
    (message,) = await store.messages(alice.id)
    flip(0)(place(tmp_path))
    with pytest.raises(StoreUnavailable):
        read(store, message)
    await store.close()
    store = await open_store(tmp_path)
    assert [record.id for record in await store.lost(alice.id)] == [message_id]
    await store.close()


async def test_a_folder_in_a_blob_s_place_is_set_aside_with_what_is_in_it(
    store: SqliteStore, alice: Account, tmp_path: Path
) -> None:
    await add(store, alice, MAIL)
    becomes_a_folder(place(tmp_path))
    await add(store, alice, MAIL, "again")
    assert place(tmp_path).read_bytes() == MAIL
    assert [p.read_bytes() for p in (tmp_path / "blobs").rglob("somebody's")] == [b"file"]


@pytest.mark.parametrize("name", ["open", "read"])
@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.EPERM, errno.ESTALE])
async def test_what_cannot_be_read_is_lost(
    store: SqliteStore,
    alice: Account,
    laptop: Device,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    code: int,
) -> None:
    await add(store, alice, MAIL)
    (message,) = await store.messages(alice.id)
    with monkeypatch.context() as patch:
        patch.setattr(os, name, Failing(name, code))
        patch.setattr(hashlib, "file_digest", unreadable)
        with pytest.raises(StoreUnavailable):
            read(store, message)
        assert await shown(store, laptop) == []


async def test_an_unreadable_block_is_no_error_of_the_comparison_but_its_result(
    store: SqliteStore, alice: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(store, alice, MAIL)
    (message,) = await store.messages(alice.id)
    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", unreadable)
        assert not await store.is_intact(message.digest)
    assert [record.id for record in await store.lost(alice.id)] == [message.id]
    assert await store.is_intact(message.digest)
    assert await store.lost(alice.id) == []


@pytest.mark.parametrize("code", sorted(blobs.PASSING))
@pytest.mark.parametrize("name", ["open", "read"])
async def test_a_machine_out_of_something_says_nothing_of_a_blob(
    store: SqliteStore,
    alice: Account,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    name: str,
) -> None:
    await add(store, alice, MAIL)
    (message,) = await store.messages(alice.id)
    with monkeypatch.context() as patch:
        patch.setattr(os, name, Failing(name, code))
        with pytest.raises(StoreUnavailable):
            read(store, message)
        if name == "open":
            with pytest.raises(StoreUnavailable):
                await store.is_intact(message.digest)
    assert await store.lost(alice.id) == []


async def test_what_failed_once_and_is_whole_is_shown_again_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await open_store(tmp_path)
    alice = await store.ensure_account("alice", declared=True, at=NOW)
    await add(store, alice, MAIL)
    (message,) = await store.messages(alice.id)
    with monkeypatch.context() as patch:
        patch.setattr(os, "read", Failing("read", errno.EIO))
        with pytest.raises(StoreUnavailable):
            read(store, message)
    # What is found lost is looked at again; closing waits for that.
    await store.close()
    store = await open_store(tmp_path)
    assert await store.lost(alice.id) == []
    await store.close()


async def test_a_full_disk_does_not_keep_a_blob_from_being_lost(
    store: SqliteStore, alice: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(store, alice, MAIL)
    place(tmp_path).unlink()

    def full(**_: Any) -> Any:
        raise StoreUnavailable("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(store._database, "transaction", full)
        assert not await store.is_intact(hashlib.sha256(MAIL).digest())
    assert len(await store.lost(alice.id)) == 1


async def test_views_of_an_account_that_nothing_has_changed_so_far_notice_it_too(
    tmp_path: Path,
) -> None:
    """Also right after a start, when no version has grown."""
    store = await open_store(tmp_path)
    alice = await store.ensure_account("alice", declared=True, at=NOW)
    await add(store, alice, MAIL)
    await store.close()
    store = await open_store(tmp_path)
    (message,) = await store.messages(alice.id)
    version = store.version(alice.id)
    place(tmp_path).unlink()
    with pytest.raises(StoreUnavailable):
        read(store, message)
    assert store.version(alice.id) != version
    await store.close()


async def test_a_device_that_has_a_lost_message_goes_on_seeing_it_unless_it_asks_for_it(
    store: SqliteStore, alice: Account, laptop: Device, tmp_path: Path
) -> None:
    """A program drops UIDLs that it is not shown, and would fetch it again when it is back. The
    laptop has it from a session that was cut off."""
    desktop = await store.add_device(alice.id, "desktop", since=None, at=NOW)
    phone = await store.add_device(alice.id, "phone", since=None, at=NOW)
    message_id = await add(store, alice, MAIL)
    (message,) = await store.messages(alice.id)
    await commit(store, desktop, {message_id})
    await store.note_cut_off(laptop.id, sent=[message_id], broken=())
    flip(-1)(place(tmp_path))
    assert not await store.is_intact(message.digest)
    seen = [await shown(store, device) for device in (laptop, desktop, phone)]
    assert seen == [[message.digest], [message.digest], []]
    version = store.version(alice.id)
    with pytest.raises(StoreUnavailable):
        read(store, message, desktop)
    assert store.version(alice.id) != version
    seen = [await shown(store, device) for device in (laptop, desktop, phone)]
    assert seen == [[message.digest], [], []]
    flip(-1)(place(tmp_path))
    assert await store.is_intact(message.digest)
    for device in (laptop, desktop, phone):
        assert await shown(store, device) == [message.digest]


@pytest.mark.parametrize("by", ["another account", "a copy of sent mail", "hand"])
async def test_who_brings_the_octets_brings_the_message_back_for_all(
    store: SqliteStore, alice: Account, laptop: Device, tmp_path: Path, by: str
) -> None:
    await add(store, alice, MAIL)
    (message,) = await store.messages(alice.id)
    place(tmp_path).unlink()
    assert not await store.is_intact(message.digest)
    version = store.version(alice.id)
    bob = await store.ensure_account("bob", declared=True, at=NOW)
    if by == "another account":
        await add(store, bob, MAIL)
    elif by == "a copy of sent mail":
        await store.add_own(bob.id, (await fetched(store, MAIL)).blob, at=NOW)
    else:
        place(tmp_path).write_bytes(MAIL)
        assert await store.is_intact(message.digest)
    assert store.version(alice.id) != version
    assert await shown(store, laptop) == [message.digest]
    assert read(store, message) == MAIL


async def test_a_blob_replaced_while_it_was_compared_is_not_lost(
    store: SqliteStore, alice: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(store, alice, MAIL)
    (message,) = await store.messages(alice.id)
    flip(0)(place(tmp_path))
    compare = store._blobs.is_intact

    async def beside_a_sync(digest: bytes) -> bool:
        intact = await compare(digest)
        if not intact:
            await add(store, alice, MAIL, "again")
        return intact

    monkeypatch.setattr(store._blobs, "is_intact", beside_a_sync)
    assert await store.is_intact(message.digest)
    assert await store.lost(alice.id) == []


sizes = st.one_of(
    st.integers(1, 200),
    st.sampled_from([CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 17]),
)


@given(sizes, st.integers(min_value=0), st.integers(0, 7), st.sampled_from([None, 0, 1, 10**6]))
def test_a_flipped_bit_anywhere_is_never_handed_out_with_an_end(
    tmp_path_factory: pytest.TempPathFactory, size: int, at: int, bit: int, top: int | None
) -> None:
    octets = (b"Subject: x\r\n\r\n" + b".line\r\n" * (size // 7 + 1))[:size]
    digest = hashlib.sha256(octets).digest()
    found = Blobs(tmp_path_factory.mktemp("blobs"), InlineRunner())
    path = found.path(digest)
    path.parent.mkdir(parents=True)

    def hand_out() -> bytes:
        """What goes out before the terminator would."""
        message = Message(1, "uid", digest, size, dots=True)
        transfer = Transfer(1, message, found.open(digest, size), top)
        sent = b""
        try:
            while not transfer.done:
                sent += transfer.next_part()
        finally:
            transfer.close()
        return sent

    path.write_bytes(octets)
    whole = hand_out()
    if top is None:
        assert whole == octets.replace(b"\r\n.", b"\r\n..")
    flipped = bytearray(octets)
    flipped[at % size] ^= 1 << bit
    path.write_bytes(flipped)
    with pytest.raises(StoreUnavailable):
        hand_out()
