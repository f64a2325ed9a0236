"""The state of accounts and devices, and the facts that metrics are made of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.domain.directory import Directory
from proxy.domain.errors import StoreUnavailable, Temporary
from proxy.domain.facts import LoginPutOff, MessageFetched, Unexpected, UpstreamLoggedIn
from proxy.domain.policy import Seconds, SyncPolicy, UpstreamServer
from proxy.domain.survey import AccountState
from proxy.services import survey
from tests.rude_upstream import RudeUpstream, mail
from tests.services.house import START, House, declared, house, policy_for


@pytest.fixture
async def rude() -> AsyncIterator[RudeUpstream]:
    async with RudeUpstream([("u1", mail("1")), ("u2", mail("2"))]).listening() as upstream:
        yield upstream


@pytest.fixture
async def home(rude: RudeUpstream, tmp_path: Path) -> AsyncIterator[House]:
    policy = policy_for(rude.port)
    async with house(tmp_path, policy, declared(policy), pass_through=False) as home:
        yield home


async def look(home: House) -> AccountState:
    (state,) = await home.core.surveyor.survey()
    return state


def backlogs(state: AccountState) -> dict[str, int]:
    return {device.name: device.backlog for device in state.devices}


async def test_a_declared_account_is_there_before_it_was_ever_synced(home: House) -> None:
    state = await look(home)
    assert (state.name, state.messages, state.synced_at) == ("alice", 0, 0.0)
    assert (state.upstream_messages, state.sync_interval) == (None, 86400.0)
    assert state.devices == ()


async def test_an_account_shows_its_size_and_what_each_device_has_to_get(home: House) -> None:
    await home.login("alice+laptop")
    await home.read("alice+desktop")
    state = await look(home)
    assert (state.messages, state.octets) == (2, len(mail("1")) + len(mail("2")))
    assert (state.upstream_messages, state.synced_at) == (2, START)
    assert backlogs(state) == {"laptop": 2, "desktop": 0}
    assert {device.seen_at for device in state.devices} == {START}
    assert (state.consent_needed, state.login_refused) == (False, False)


async def test_the_survey_follows_what_changes(home: House, rude: RudeUpstream) -> None:
    await home.login("alice+laptop")
    await look(home)
    rude.mails.append(("u3", mail("3")))
    await home.read("alice+desktop")
    state = await look(home)
    assert (state.messages, backlogs(state)) == (3, {"laptop": 3, "desktop": 0})
    await home.read("alice+laptop", delete=True)
    account = await home.store.account("alice")
    assert account is not None
    desktop = await home.store.device(account.id, "desktop")
    assert desktop is not None
    await home.store.remove_device(desktop.id)
    assert backlogs(await look(home)) == {"laptop": 0}


async def test_what_has_not_changed_costs_no_query(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await home.login("alice+laptop")
    before = await look(home)

    async def never(_: int) -> None:
        raise AssertionError

    monkeypatch.setattr(home.store, "waiting", never)
    monkeypatch.setattr(home.store, "size", never)
    assert await look(home) == before
    assert await look(home) == before


async def test_a_refused_password_is_a_state_until_upstream_takes_it(
    home: House, rude: RudeUpstream
) -> None:
    rude.refusals |= dict.fromkeys(["AUTH", "PASS"], b"-ERR [AUTH] wrong\r\n")
    await home.login()
    assert (await look(home)).login_refused
    rude.refusals.clear()
    home.core.syncs.try_again("alice", declared(home.directory.policy("alice")).credentials)
    await home.login()
    assert not (await look(home)).login_refused


async def test_accounts_that_may_no_longer_be_used_are_left_out(
    home: House, rude: RudeUpstream
) -> None:
    await home.login()
    default = home.directory.default
    home.directory.replace(Directory([], default, pass_through=False))
    assert await home.core.surveyor.survey() == []
    home.directory.replace(Directory([], default, pass_through=True))
    state = await look(home)
    assert (state.messages, state.sync_interval) == (2, None)


async def test_an_interval_is_as_long_as_upstream_wants_it(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    upstream = UpstreamServer("127.0.0.1", rude.port, "none", login_interval=Seconds(600))
    policy = policy_for(rude.port, sync=SyncPolicy(interval=Seconds(300)), upstream=upstream)
    async with house(tmp_path, policy, declared(policy), pass_through=False) as home:
        assert (await look(home)).sync_interval == 600
        await home.login()
        account = await home.store.account("alice")
        assert account is not None
        await home.store.set_login_interval(account.id, 900)
        assert (await look(home)).sync_interval == 900


async def test_rounds_go_on_whatever_happens(home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "EVERY", 0.001)
    troubles: list[Exception] = [StoreUnavailable("full"), RuntimeError("a bug")]
    accounts = home.store.accounts

    async def in_trouble() -> object:
        if troubles:
            raise troubles.pop(0)
        return await accounts()

    monkeypatch.setattr(home.store, "accounts", in_trouble)
    shown: asyncio.Queue[list[AccountState]] = asyncio.Queue()
    work = asyncio.create_task(home.core.surveyor.work(shown.put_nowait))
    async with asyncio.timeout(20):
        assert [state.name for state in await shown.get()] == ["alice"]
    work.cancel()
    assert [str(fact.error) for fact in home.facts.of(Unexpected)] == ["a bug"]


# --- facts --------------------------------------------------------------------------------------


async def test_each_login_upstream_and_each_message_is_timed(home: House) -> None:
    await home.login()
    (login,) = home.facts.of(UpstreamLoggedIn)
    assert login.account == "alice"
    fetched = home.facts.of(MessageFetched)
    assert sorted(fact.octets for fact in fetched) == sorted(len(mail(n)) for n in "12")
    assert all(0 <= fact.seconds < 20 for fact in (login, *fetched))


async def test_a_login_that_nobody_can_judge_is_told(rude: RudeUpstream, tmp_path: Path) -> None:
    rude.greeting = b"gibberish\r\n"
    async with house(tmp_path, policy_for(rude.port)) as home:
        with pytest.raises(Temporary):
            await home.login("bob", peer="192.0.2.1")
        (put_off,) = home.facts.of(LoginPutOff)
    assert (put_off.peer, put_off.account) == ("192.0.2.1", "bob")
    assert put_off.kind == "UpstreamGarbled"


async def test_syncs_that_wait_for_their_turn_are_counted(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    sync = SyncPolicy(max_sessions_per_host=1, login_wait=Seconds(0))
    policy = policy_for(rude.port, sync=sync)
    accounts = [declared(policy, name) for name in ("alice", "bob", "carol")]
    rude.silent_on = {"LIST"}
    async with house(tmp_path, policy, *accounts) as home:
        for account in accounts:
            home.core.syncs.start(account.name, account.credentials)
        await home.facts.first(UpstreamLoggedIn)
        load = home.core.load()
    assert (load.upstream_sessions, load.syncs_waiting) == (1, 2)
    after = home.core.load()
    assert (after.upstream_sessions, after.syncs_waiting) == (0, 0)
