"""Mail that the catalogue does not name: who gets it, under which UIDL, and how often."""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.adapters.store import open_store
from proxy.domain.errors import BadRequest
from proxy.domain.facts import TroubleBegan, TroubleOver
from proxy.domain.model import Fetched
from proxy.domain.policy import Octets
from tests.rude_upstream import RudeUpstream, mail
from tests.services.house import House, declared, house, policy_for
from tests.services.test_troubles import Desk, desk

__all__ = ["desk"]


async def adopt(home: House, account: str = "alice") -> dict[str, Any]:
    row = await home.core.admin.call("verify", {"adopt": True, "account": account})
    found: dict[str, Any] = row["adopted"]
    return found


async def go_back(rude: RudeUpstream, data_dir: Path, later: list[tuple[str, bytes]]) -> None:
    """The desktop lacks all mail, the laptop has it; then yesterday's catalogue is put back and
    accepted. It knows u1 and u2, and both devices."""
    policy = policy_for(rude.port)
    async with house(data_dir, policy, declared(policy)) as home:
        await home.read("alice+laptop")
        await home.uids("alice+desktop")
    shutil.copy(data_dir / "catalogue.db", data_dir / "yesterday.db")
    rude.mails += later
    async with house(data_dir, policy, declared(policy)) as home:
        await home.read("alice+laptop")
    (data_dir / "yesterday.db").replace(data_dir / "catalogue.db")
    store = await open_store(data_dir, accept=True)
    assert await store.clean_up() == len(later)
    await store.close()


def aside(data_dir: Path) -> int:
    return len(list((data_dir / "blobs" / "orphans").iterdir()))


LATER = [("u3", mail("3")), ("u4", mail("4"))]


async def test_what_upstream_has_keeps_its_uidl_and_the_rest_comes_once(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    await go_back(rude, tmp_path, LATER)
    rude.mails = [one for one in rude.mails if one[0] != "u3"]
    policy = policy_for(rude.port)
    async with house(tmp_path, policy, declared(policy)) as home:
        row = await adopt(home)
        assert (row["adopted"], row["untold"], row["failures"]) == (1, 0, [])
        assert aside(tmp_path) == 0
        uids = await home.uids("alice+desktop")
        assert uids[:3] == ["u1", "u2", "u4"]
        assert sorted(await home.read("alice+desktop")) == sorted(mail(n) for n in "1234")
        assert (await adopt(home))["adopted"] == 0
        assert await home.uids("alice+desktop") == uids


async def test_mail_of_which_nothing_tells_whose_it_is_waits_for_a_word(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    """Though there is but one account."""
    await go_back(rude, tmp_path, LATER)
    del rude.mails[2:]
    policy = policy_for(rude.port)
    async with house(tmp_path, policy, declared(policy)) as home:
        row = await adopt(home, "")
        assert (row["adopted"], row["untold"]) == (0, 2)
        assert len(await home.uids("alice+desktop")) == 2
        assert (await adopt(home))["adopted"] == 2
        assert len(await home.uids("alice+desktop")) == 4


async def test_nothing_is_taken_in_for_an_account_that_could_not_be_synced(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    """What upstream has would come twice."""
    await go_back(rude, tmp_path, LATER)
    rude.refusals["PASS"] = rude.refusals["AUTH"] = b"-ERR [SYS/TEMP] not now\r\n"
    policy = policy_for(rude.port)
    async with house(tmp_path, policy, declared(policy)) as home:
        row = await adopt(home)
        assert (row["adopted"], row["untold"]) == (0, 2)
        assert "not now" in row["failures"][0]
        assert aside(tmp_path) == 2


async def test_mail_that_upstream_listed_and_did_not_give_is_recognised_when_it_comes(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    await go_back(rude, tmp_path, [("u3", mail("3")), ("u4", mail("4") + b"x" * 5000 + b"\r\n")])
    policy = policy_for(rude.port)
    small = replace(policy, sync=replace(policy.sync, max_message_size=Octets(2000)))
    async with house(tmp_path, small, declared(small)) as home:
        assert (await adopt(home))["adopted"] == 1
    async with house(tmp_path, policy, declared(policy)) as home:
        uids = await home.uids("alice+desktop")
        assert (len(uids), uids[:3]) == (4, ["u1", "u2", "u3"])
        await home.core.admin.call("sync", {})
        assert await home.uids("alice+desktop") == uids


async def test_mail_of_a_new_catalogue_is_recognised_though_upstream_showed_none(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    """Where nothing was known, an empty listing is nothing to doubt."""
    await go_back(rude, tmp_path, LATER)
    (tmp_path / "catalogue.db").unlink()
    await (await open_store(tmp_path, accept=True)).close()
    policy = policy_for(rude.port)
    mails, rude.mails = rude.mails, []
    async with house(tmp_path, policy, declared(policy)) as home:
        assert (await adopt(home))["adopted"] == 4
        rude.mails = mails
        await home.core.admin.call("sync", {})
        assert sorted(await home.read("alice+desktop")) == sorted(mail(n) for n in "1234")


async def test_nothing_is_taken_in_while_a_listing_is_doubted(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    """What upstream still has comes back under the UIDL that devices remember."""
    await go_back(rude, tmp_path, LATER)
    policy = policy_for(rude.port)
    mails, rude.mails = rude.mails, []
    async with house(tmp_path, policy, declared(policy)) as home:
        row = await adopt(home)
        assert (row["adopted"], row["untold"]) == (0, 2)
        assert "not believed" in row["failures"][0]
        rude.mails = mails
        assert (await adopt(home))["failures"] == []
        assert await home.uids("alice+desktop") == ["u1", "u2", "u3", "u4"]


async def test_mail_that_an_account_without_a_kept_password_gets_is_known_to_its_next_sync(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    await go_back(rude, tmp_path, LATER)
    policy = policy_for(rude.port)
    async with house(tmp_path, policy) as home:
        assert (await adopt(home))["adopted"] == 2
        retrieved = rude.retrieved()
        assert sorted(await home.read("alice+desktop")) == sorted(mail(n) for n in "1234")
        assert rude.retrieved() == retrieved


async def test_mail_that_came_again_with_another_header_is_not_doubled(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    await go_back(rude, tmp_path, LATER)
    rude.mails[2:] = [("u3", b"X-Moved: yes\r\n" + mail("3"))]
    policy = policy_for(rude.port)
    async with house(tmp_path, policy, declared(policy)) as home:
        row = await adopt(home)
        assert (row["adopted"], row["known"]) == (1, 1)
        assert len(await home.uids("alice+desktop")) == 4
        assert aside(tmp_path) == 1


async def test_a_fresh_store_shows_the_uidls_that_devices_remember(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    """And all mail to a device that does not remember: what it had is lost with the catalogue."""
    await go_back(rude, tmp_path, LATER)
    (tmp_path / "catalogue.db").unlink()
    await (await open_store(tmp_path, accept=True)).close()
    policy = policy_for(rude.port)
    async with house(tmp_path, policy, declared(policy)) as home:
        assert (await adopt(home))["adopted"] == 0
        assert aside(tmp_path) == 0
        assert await home.uids("alice+laptop") == ["u1", "u2", "u3", "u4"]
        assert len(await home.read("alice+laptop")) == 4


async def test_what_cannot_be_read_or_has_gone_keeps_nothing_else_out(
    rude: RudeUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await go_back(rude, tmp_path, LATER)
    del rude.mails[2:]
    orphans = tmp_path / "blobs" / "orphans"
    (orphans / ("01" * 32)).mkdir()
    os.mkfifo(orphans / ("02" * 32))
    (orphans / ("03" * 32)).symlink_to(tmp_path / "catalogue.db")
    gone = bytes.fromhex("04" * 32)
    policy = policy_for(rude.port)
    async with house(tmp_path, policy, declared(policy)) as home:
        listed = home.store.orphans
        monkeypatch.setattr(home.store, "orphans", lambda: _with(listed(), gone))
        found = await home.core.admin.call("verify", {"adopt": True, "account": "alice"})
        row = found["adopted"]
        assert (row["adopted"], row["damaged"]) == (2, [])
        assert [problem[:2] for problem in row["unreadable"]] == ["01", "02", "03"]
        assert found["blobs"] == 4


async def test_what_a_sync_brings_meanwhile_is_not_taken_in_again(
    rude: RudeUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await go_back(rude, tmp_path, LATER)
    mails, rude.mails = rude.mails, rude.mails[:2]
    policy = policy_for(rude.port)
    async with house(tmp_path, policy, declared(policy)) as home:
        examine = home.store.orphan

        async def orphan(digest: bytes) -> Fetched | None:
            found = await examine(digest)
            rude.mails = mails
            await home.core.admin.call("sync", {})
            return found

        monkeypatch.setattr(home.store, "orphan", orphan)
        row = await adopt(home)
        assert (row["adopted"], row["unreadable"]) == (0, [])
        assert await home.uids("alice+desktop") == ["u1", "u2", "u3", "u4"]


async def _with(listed: Awaitable[list[bytes]], *more: bytes) -> list[bytes]:
    return [*await listed, *more]


async def test_an_account_that_is_not_known_is_refused(home: House) -> None:
    with pytest.raises(BadRequest, match="no account bob"):
        await adopt(home, "bob")


async def test_mail_that_was_set_aside_is_the_operator_s_trouble_until_it_is_gone(
    desk: Desk, tmp_path: Path
) -> None:
    await desk.account()
    (orphans := tmp_path / "blobs" / "orphans").mkdir()
    stray = orphans / ("ab" * 32)
    stray.write_bytes(b"whose?")
    for _ in range(2):
        await desk.later(60)
    assert desk.home.facts.of(TroubleBegan) == [TroubleBegan("", "orphans", False)]
    assert await desk.subjects() == []
    (trouble,) = await desk.store.troubles()
    assert "1 message" in trouble.subject
    assert "verify --adopt" in trouble.body
    stray.unlink()
    await desk.later(60)
    assert [fact.trouble for fact in desk.home.facts.of(TroubleOver)] == ["orphans"]
