"""Accounts that may not come: refused as a wrong password is, and upstream hears nothing of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.domain.allowed import Allowed
from proxy.domain.directory import Directory
from proxy.domain.errors import BadLogin
from proxy.domain.facts import LoginRefused
from proxy.services.face import CertificateProof
from tests.rude_upstream import RudeUpstream
from tests.services.house import House, declared, house, policy_for


@pytest.fixture
async def rude() -> AsyncIterator[RudeUpstream]:
    async with RudeUpstream([("u1", b"Subject: 1\r\n\r\n1\r\n")]).listening() as server:
        yield server


@pytest.fixture
async def home(rude: RudeUpstream, tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, policy_for(rude.port)) as made:
        yield made


def allow(home: House, *patterns: str, name: str | None = None) -> None:
    """As after a reload; `name` is declared."""
    policy = home.directory.default
    accounts = [declared(policy, name)] if name else []
    home.directory.replace(
        Directory(accounts, policy, pass_through=True, allowed=Allowed(patterns))
    )


async def test_who_may_not_come_is_refused_before_upstream_hears_of_it(
    home: House, rude: RudeUpstream
) -> None:
    allow(home, "*@example.com", "bob")
    for name in ("alice", "alice@elsewhere.test", "alice@elsewhere.test+laptop"):
        with pytest.raises(BadLogin):
            await home.login(name)
    assert rude.commands == []
    assert {fact.reason for fact in home.facts.of(LoginRefused)} == {"not among accounts.allow"}
    assert await home.store.accounts() == []
    assert (await home.login("Alice@Example.com+laptop")).device == "laptop"
    assert (await home.login("bob")).account == "bob"


async def test_a_declared_account_is_not_asked_for_on_the_list(home: House) -> None:
    allow(home, "bob", name="alice")
    assert (await home.login("alice")).account == "alice"


async def test_an_account_of_before_is_closed_whatever_its_proof(
    home: House, rude: RudeUpstream
) -> None:
    await home.login("alice")
    app_password = (await home.core.admin.device_add("alice", "phone"))["app_password"].encode()
    account = await home.store.account("alice")
    assert account is not None
    phone = await home.store.device(account.id, "phone")
    assert phone is not None
    await home.store.set_certificate(phone.id, b"c" * 32)
    allow(home, "bob")
    seen = len(rude.commands)
    with pytest.raises(BadLogin):
        await home.login("alice")
    with pytest.raises(BadLogin):
        await home.login("alice", app_password)
    with pytest.raises(BadLogin):
        await home.core.logins.login(CertificateProof("", b"c" * 32), "127.0.0.1")
    assert (await home.core.logins.scram("alice", "127.0.0.1")).candidates == ()
    assert len(rude.commands) == seen
    assert [state.name for state in await home.core.surveyor.survey()] == []
    allow(home)
    assert (await home.login("alice", app_password)).device == "phone"
