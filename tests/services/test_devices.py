"""Devices: whether they need a name, how many there may be, and who is told of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

import pytest

from proxy.domain.directory import Directory
from proxy.domain.errors import (
    BadLogin,
    DeviceNotNamed,
    NotJudged,
    TooManyDevices,
)
from proxy.domain.facts import DeviceEnrolled, DeviceRefused, LoginPutOff, LoginRefused
from proxy.domain.policy import DevicePolicy, LimitsPolicy, Seconds, StorePolicy, SubmissionLimits
from proxy.services.face import PasswordProof
from proxy.services.replies import reply_to
from tests.rude_upstream import RudeUpstream
from tests.services.house import NO_DELAY, House, declared, house, policy_for

REFUSE = DevicePolicy(unnamed="refuse")


@pytest.fixture
async def rude() -> AsyncIterator[RudeUpstream]:
    async with RudeUpstream([("u1", b"Subject: 1\r\n\r\n1\r\n")]).listening() as server:
        yield server


async def names(home: House, account: str = "alice") -> list[str]:
    known = await home.store.account(account)
    assert known is not None
    return [device.name for device in await home.store.devices(known.id)]


def switch_notices(home: House, *, on: bool, limits: LimitsPolicy = NO_DELAY) -> None:
    """As a reload does."""
    home.core.follow(home.core._face.policy, limits, SubmissionLimits(), StorePolicy(), notices=on)


# --- without a name -------------------------------------------------------------------------------


async def test_who_names_no_device_is_told_what_to_write_and_makes_none(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    async with house(tmp_path, policy_for(rude.port, devices=REFUSE)) as home:
        with pytest.raises(DeviceNotNamed) as refused:
            await home.login("alice@example.com")
        text, code = reply_to(refused.value)
        assert code == "AUTH"
        assert text.endswith("log in as alice@example.com+laptop")
        assert await names(home, "alice@example.com") == []
        assert (await home.login("alice@example.com+laptop")).device == "laptop"
        assert (await home.login("alice@example.com+default")).device == "default"


async def test_it_is_said_only_to_who_has_proved_to_be_the_account(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    policy = policy_for(rude.port, devices=REFUSE)
    async with house(tmp_path, policy, declared(policy)) as home:
        for name, password in (("alice", b"guess"), ("nobody", b"")):
            rude.refusals["AUTH"] = b"-ERR [AUTH] no\r\n"
            with pytest.raises(BadLogin):
                await home.login(name, password)


async def test_it_is_no_guess_whatever_often_it_comes(rude: RudeUpstream, tmp_path: Path) -> None:
    """With the real delays: it would wait, and then be turned away, if each counted as one."""
    policy = policy_for(rude.port, devices=REFUSE)
    async with house(tmp_path, policy, declared(policy), limits=LimitsPolicy()) as home:
        async with asyncio.timeout(10):
            for _ in range(20):
                with pytest.raises(DeviceNotNamed):
                    await home.login("alice", peer="203.0.113.7")
        assert home.facts.of(LoginRefused) == []
        assert {fact.peer for fact in home.facts.of(DeviceRefused)} == {"203.0.113.7"}
        assert len(home.facts.of(DeviceRefused)) == 20


async def test_what_else_names_the_device_does(rude: RudeUpstream, tmp_path: Path) -> None:
    ways = replace(REFUSE, identify_by=("login", "app-password", "address"))
    policy = policy_for(rude.port, devices=REFUSE)
    by_address = declared(policy_for(rude.port, devices=ways), "bob")
    async with house(tmp_path, policy, declared(policy), by_address) as home:
        made = await home.core.admin.device_add("alice", "phone")
        assert (await home.login("alice", made["app_password"].encode())).device == "phone"
        assert (await home.login("bob", peer="192.168.1.20")).device == "192.168.1.20"
        with pytest.raises(DeviceNotNamed):
            await home.login("alice", peer="192.168.1.20")


async def test_an_account_may_have_it_otherwise(rude: RudeUpstream, tmp_path: Path) -> None:
    policy = policy_for(rude.port, devices=REFUSE)
    easy = declared(policy_for(rude.port, devices=DevicePolicy()), "bob")
    async with house(tmp_path, policy, declared(policy), easy) as home:
        assert (await home.login("bob")).device == "default"
        with pytest.raises(DeviceNotNamed):
            await home.login("alice")


async def test_the_default_device_of_before_keeps_what_it_has_had_under_a_name(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    policy = policy_for(rude.port)
    async with house(tmp_path, policy, declared(policy)) as home:
        assert len(await home.read("alice", delete=True)) == 1
        strict = replace(policy, devices=REFUSE)
        home.directory.replace(Directory([declared(strict)], strict, pass_through=True))
        with pytest.raises(DeviceNotNamed):
            await home.login("alice")
        await home.core.admin.device_rename("alice", "default", "laptop")
        assert await home.uids("alice+laptop") == []
        assert await home.uids("alice+other") == ["u1"]


async def test_who_sends_needs_a_name_as_well(rude: RudeUpstream, tmp_path: Path) -> None:
    policy = policy_for(rude.port, devices=REFUSE)
    async with house(tmp_path, policy, declared(policy)) as home:
        proof = PasswordProof("alice", b"secret")
        with pytest.raises(DeviceNotNamed):
            await home.core.logins.sender(proof, "127.0.0.1")
        named = replace(proof, username="alice+laptop")
        assert (await home.core.logins.sender(named, "127.0.0.1")).device_name == "laptop"


@pytest.mark.parametrize("name", ["älice@example.com", "a" * 300, "al\x85ice", "a  b"])
async def test_a_name_that_cannot_be_repeated_is_not(
    name: str, rude: RudeUpstream, tmp_path: Path
) -> None:
    policy = policy_for(rude.port, devices=REFUSE)
    async with house(tmp_path, policy, declared(policy, name)) as home:
        with pytest.raises(DeviceNotNamed) as refused:
            await home.login(name)
        assert str(refused.value).isascii()
        assert len(str(refused.value)) < 400
        assert str(refused.value).endswith("log in as YOUR-USER-NAME+laptop")


# --- a new one ------------------------------------------------------------------------------------


async def mails(home: House, username: str) -> list[EmailMessage]:
    return [message_from_bytes(mail, policy=default) for mail in await home.read(username)]


async def test_a_new_device_is_told_to_the_others_once(rude: RudeUpstream, tmp_path: Path) -> None:
    policy = policy_for(rude.port)
    async with house(tmp_path, policy, declared(policy)) as home:
        switch_notices(home, on=True)
        assert len(await mails(home, "alice+desktop")) == 1, "the first one is told to nobody"
        (await home.login("alice+lpatop", peer="203.0.113.7")).close()
        for _ in range(3):
            own, notice = await mails(home, "alice+desktop")
            assert own["Subject"] == "1"
            assert notice["Subject"] == "New device lpatop of alice"
            assert notice["X-POP3-Sync-Proxy-Trouble"] == "new_device"
            words = notice.get_content()
            assert "203.0.113.7" in words
            assert "3 November 2026, 10:00 UTC" in words
            assert "    pop3-sync-proxy device remove alice lpatop\r\n" in words
        assert len(await mails(home, "alice+lpatop")) == 1, "it is told of itself"
        assert len(await mails(home, "alice+tablet")) == 1, "it is told of what was before it"
        assert len(home.facts.of(DeviceEnrolled)) == 3


async def test_what_the_operator_makes_is_told_to_nobody(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    policy = policy_for(rude.port)
    async with house(tmp_path, policy, declared(policy)) as home:
        switch_notices(home, on=True)
        await home.read("alice+desktop")
        made = await home.core.admin.device_add("alice", "phone")
        await home.login("alice", made["app_password"].encode())
        await home.core.admin.device_rename("alice", "phone", "tablet")
        assert len(await mails(home, "alice+desktop")) == 1


async def test_nothing_is_told_where_notices_are_off(rude: RudeUpstream, tmp_path: Path) -> None:
    policy = policy_for(rude.port)
    async with house(tmp_path, policy, declared(policy)) as home:
        switch_notices(home, on=False)
        await home.read("alice+desktop")
        await home.read("alice+laptop")
        assert len(await mails(home, "alice+desktop")) == 1


async def test_many_first_logins_at_once_are_one_device_and_one_notice(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    policy = policy_for(rude.port)
    async with house(tmp_path, policy, declared(policy)) as home:
        switch_notices(home, on=True)
        await home.read("alice+desktop")
        await asyncio.gather(*(home.login("alice+laptop") for _ in range(10)))
        assert len(await mails(home, "alice+desktop")) == 2
        files = [path for path in (tmp_path / "blobs").glob("??/*") if path.is_file()]
        assert len(files) == 2, "notices of devices that were not made are left"


# --- ceilings -------------------------------------------------------------------------------------

FEW = LimitsPolicy(login_delay=Seconds(0), max_devices=3, max_new_accounts=3)


async def test_a_device_too_many_is_refused_until_one_is_removed(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    policy = policy_for(rude.port)
    async with house(tmp_path, policy, declared(policy), limits=FEW) as home:
        switch_notices(home, on=True, limits=FEW)
        for device in ("a", "b", "c"):
            await home.login(f"alice+{device}")
        assert "3 devices now, as many" in (await mails(home, "alice+a"))[-1].get_content()
        with pytest.raises(TooManyDevices) as refused:
            await home.login("alice+d")
        text, code = reply_to(refused.value)
        assert code == "SYS/PERM"
        assert "has 3 devices" in text
        assert "wait until one is removed" in text
        with pytest.raises(TooManyDevices, match="has 3 devices"):
            await home.core.admin.device_add("alice", "d")
        assert (await home.login("alice+B")).device == "b", "those that are there go on"
        assert home.facts.of(LoginRefused) == []
        await home.core.admin.device_remove("alice", "b")
        assert (await home.login("alice+d")).device == "d"


async def test_many_new_devices_at_once_are_no_more_than_may_be(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    policy = policy_for(rude.port)
    async with house(tmp_path, policy, declared(policy), limits=FEW) as home:
        logins = (home.login(f"alice+d{number}") for number in range(10))
        outcomes = await asyncio.gather(*logins, return_exceptions=True)
        assert sum(isinstance(outcome, TooManyDevices) for outcome in outcomes) == 7
        assert len(await names(home)) == 3


async def test_one_place_makes_so_many_accounts_an_hour_and_others_go_on(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    async with house(tmp_path, policy_for(rude.port), limits=FEW) as home:
        logins = (home.login(f"user{number}", peer="203.0.113.7") for number in range(10))
        outcomes = await asyncio.gather(*logins, return_exceptions=True)
        assert sum(isinstance(outcome, NotJudged) for outcome in outcomes) == 7
        assert [fact.kind for fact in home.facts.of(LoginPutOff)] == ["TooManyAccounts"] * 7
        made = [account.name for account in await home.store.accounts()]
        assert len(made) == 3
        seen = len(rude.commands)
        with pytest.raises(NotJudged) as refused:
            await home.login("late", peer="203.0.113.7")
        assert len(rude.commands) == seen
        assert reply_to(refused.value)[1] == "SYS/TEMP"
        await home.login(made[0], peer="203.0.113.7")
        await home.login("elsewhere", peer="203.0.113.8")


async def test_what_upstream_refuses_makes_no_account_and_counts_for_none(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    async with house(tmp_path, policy_for(rude.port), limits=FEW) as home:
        rude.refusals["AUTH"] = b"-ERR [AUTH] no\r\n"
        for number in range(5):
            with pytest.raises(BadLogin):
                await home.login(f"user{number}", peer="203.0.113.7")
        rude.refusals.clear()
        for number in range(5, 8):
            await home.login(f"user{number}", peer="203.0.113.7")
