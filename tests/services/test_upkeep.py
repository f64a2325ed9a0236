"""`verify` goes on to the end whatever it meets, and tells all of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from proxy.adapters.blobs import blob_path
from tests.rude_upstream import RudeUpstream, mail
from tests.services.house import House, declared, house, policy_for

NAMES = [str(number) for number in range(1, 9)]


def digest(name: str) -> bytes:
    return hashlib.sha256(mail(name)).digest()


@pytest.fixture
async def rude() -> AsyncIterator[RudeUpstream]:
    mails = [(f"u{name}", mail(name)) for name in NAMES]
    async with RudeUpstream(mails).listening() as upstream:
        yield upstream


@pytest.fixture
async def home(rude: RudeUpstream, tmp_path: Path) -> AsyncIterator[House]:
    policy = policy_for(rude.port)
    async with house(tmp_path, policy, declared(policy)) as home:
        await home.uids()
        yield home


async def verify(home: House) -> Any:
    return await home.core.admin.call("verify", {})


async def test_verify_meets_every_damage_and_all_comes_again(
    home: House, rude: RudeUpstream, tmp_path: Path
) -> None:
    paths = [blob_path(tmp_path / "blobs", digest(name)) for name in NAMES]
    paths[0].write_bytes(mail("1")[::-1])
    paths[1].write_bytes(b"")
    for path in paths[2:5]:
        path.unlink()
    paths[3].mkdir()
    paths[4].symlink_to(paths[7])
    row = await verify(home)
    hurt = {digest(name).hex() for name in NAMES[:5]}
    assert {one["sha256"] for one in row["damaged"]} == hurt
    assert (row["blobs"], row["repaired"], row["uncompared"]) == (8, 5, [])
    assert rude.retrieved() == 13
    row = await verify(home)
    assert (row["damaged"], row["found_again"]) == ([], 0)
    assert await home.read() == [mail(name) for name in NAMES]


async def test_verify_goes_on_behind_what_it_cannot_open_or_read(
    home: House, rude: RudeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unreadable block is damage; a process out of descriptors has compared nothing."""
    del rude.mails[:2]
    unreadable, not_now = digest("1").hex(), digest("2").hex()
    opened = os.open

    def failing(path: Any, *arguments: Any, **more: Any) -> int:
        if str(path).endswith(unreadable):
            raise OSError(5, "Input/output error")
        if str(path).endswith(not_now):
            raise OSError(24, "Too many open files")
        return opened(path, *arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", failing)
        row = await verify(home)
    assert [(one["sha256"], one["repaired"]) for one in row["damaged"]] == [(unreadable, False)]
    (uncompared,) = row["uncompared"]
    assert uncompared.startswith(not_now)
    assert "Too many open files" in uncompared
    row = await verify(home)
    assert (row["damaged"], row["uncompared"], row["found_again"]) == ([], [], 1)
    assert await home.read() == [mail(name) for name in NAMES]
