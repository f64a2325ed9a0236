"""Which account and which device a login name means, however it is spelled: docs/protocol.md."""

from __future__ import annotations

import asyncio
from pathlib import Path
from unicodedata import normalize

import pytest

from proxy.domain.errors import BadLogin, UnfitDeviceName
from proxy.domain.facts import LoginRefused
from proxy.domain.policy import DevicePolicy, UpstreamServer
from proxy.services.replies import reply_to
from tests.rude_upstream import RudeUpstream
from tests.services.house import START, House, declared, house, policy_for
from tests.services.test_logins import scram_login

ADDRESS = "jürgen@bücher.example"


SPELLINGS = [
    ADDRESS + "+laptop",
    ADDRESS.upper() + "+LAPTOP",
    normalize("NFD", ADDRESS) + "+laptop",
    "Jürgen@XN--bcher-kva.example+Laptop",
    f" \t{ADDRESS}+laptop\u00a0",
    f"{ADDRESS} + laptop",
]


@pytest.mark.parametrize("first", SPELLINGS)
@pytest.mark.parametrize(
    ("is_declared", "pass_through"), [(True, True), (True, False), (False, True)]
)
async def test_all_spellings_are_one_account_one_device_and_one_mailbox(
    rude: RudeUpstream, tmp_path: Path, first: str, *, is_declared: bool, pass_through: bool
) -> None:
    policy = policy_for(rude.port)
    accounts = [declared(policy, ADDRESS)] if is_declared else []
    async with house(tmp_path, policy, *accounts, pass_through=pass_through) as home:
        opened = set()
        for login in (first, *SPELLINGS):
            maildrop = await home.login(login)
            maildrop.close()
            opened.add((maildrop.account, maildrop.device))
        assert len(opened) == 1
        assert len(await home.store.accounts()) == 1
        assert rude.retrieved() == 2


async def test_the_spelling_that_upstream_accepted_first_goes_upstream(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    server = UpstreamServer("127.0.0.1", rude.port, "none", auth="user")
    async with house(tmp_path, policy_for(rude.port, upstream=server)) as home:
        for login in (" Alice@Example.com+pc", "ALICE@example.COM+pc", "alice@example.com"):
            maildrop = await home.login(login)
            maildrop.close()
            assert maildrop.account == "Alice@Example.com"
    users = [line for line in rude.commands if line.startswith("USER")]
    assert users == ["USER Alice@Example.com"] * 3


async def test_first_logins_in_two_spellings_at_once_make_one_account_and_fetch_once(
    home: House, rude: RudeUpstream
) -> None:
    logins = ["alice@example.com+a", "Alice@example.com+b", "ALICE@EXAMPLE.COM+c"] * 3
    opened = await asyncio.gather(*(home.login(login) for login in logins))
    assert len({maildrop.account for maildrop in opened}) == 1
    assert {maildrop.view.count for maildrop in opened} == {2}
    assert len(await home.store.accounts()) == 1
    assert rude.retrieved() == 2


@pytest.mark.parametrize("known", [True, False])
async def test_upstream_is_asked_once_about_a_wrong_password_in_all_spellings(
    home: House, rude: RudeUpstream, *, known: bool
) -> None:
    if known:
        await home.read(ADDRESS)
    rude.commands.clear()
    for login in SPELLINGS:
        with pytest.raises(BadLogin):
            await home.login(login, b"evil")
    assert len([line for line in rude.commands if line.startswith(("PASS", "AUTH"))]) == 1


async def test_another_spelling_does_not_walk_round_the_policy_of_a_declared_account(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    policy = policy_for(rude.port, devices=DevicePolicy(enrol="closed"))
    async with house(tmp_path, policy_for(rude.port), declared(policy)) as home:
        for login in ("alice+new", "ALICE+new", " Alice +new"):
            with pytest.raises(BadLogin):
                await home.login(login)


async def test_a_store_s_account_keeps_its_spelling_when_it_is_declared_in_another(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    policy = policy_for(rude.port)
    async with house(tmp_path, policy) as home:
        await home.read("Alice+pc")
    async with house(tmp_path, policy, declared(policy, "alice")) as home:
        await home.core.respell(home.directory)
        home.core.syncs.follow_directory()
        assert await home.uids("ALICE+pc") == ["u1", "u2"]
        (account,) = await home.store.accounts()
        assert (account.name, account.declared) == ("Alice", True)
        assert [row["account"] for row in await home.core.admin.account_list()] == ["Alice"]
        (known,) = home.directory.all_declared()
        assert (known.name, known.credentials.username) == ("Alice", "alice")
    assert rude.retrieved() == 2


# --- SCRAM ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False])
async def test_every_spelling_has_the_same_salt_which_tells_nobody_whether_it_is_known(
    home: House, *, known: bool
) -> None:
    before = {(await home.core.logins.scram(f"{login}", "::1")).salt for login in SPELLINGS}
    assert len(before) == 1
    if known:
        maildrop = await home.login(SPELLINGS[1])
        maildrop.close()
    after = {(await home.core.logins.scram(login, "::1")).salt for login in SPELLINGS}
    assert after == before


async def test_scram_keys_of_a_store_that_spelled_its_accounts_go_on_working(
    home: House, tmp_path: Path
) -> None:
    """Their salt was made of the name as it was spelled."""
    await home.read("Alice+pc")
    store = home.store
    async with store._database.transaction() as change:  # type: ignore[attr-defined]
        await change.execute("UPDATE account SET salt_name = name")
    store._people = None  # type: ignore[attr-defined]
    made = await home.core.admin.device_add("ALICE", "phone")
    password = made["app_password"].encode()
    for login in ("Alice", "alice+phone", "ALICE+PHONE"):
        assert (await scram_login(home, login, password)).device == "phone"
    salts = {(await home.core.logins.scram(login, "::1")).salt for login in ("alice", "ALICE")}
    assert len(salts) == 1


# --- accounts and devices -------------------------------------------------------------------------


async def test_a_stranger_does_not_make_an_account_of_a_device_s_login(
    home: House, rude: RudeUpstream
) -> None:
    await home.read("bob+laptop")
    seen = len(rude.commands)
    for login in ("bob+laptop+x", "bob+laptop +x", "BOB+laptop+", "bob+other+x@example.com"):
        with pytest.raises(BadLogin):
            await home.login(login, b"evil")
        with pytest.raises(UnfitDeviceName):
            await home.login(login)
    assert not [line for line in rude.commands[seen:] if "laptop" in str(line)]
    assert [account.name for account in await home.store.accounts()] == ["bob"]
    assert (await home.login("bob+laptop")).account == "bob"


@pytest.mark.parametrize(("made", "means"), [(START + 1, "bob"), (START - 1, "bob+laptop")])
async def test_of_a_device_and_an_account_of_the_same_login_the_older_one_is_meant(
    home: House, made: float, means: str
) -> None:
    """Versions before this one let strangers make such accounts."""
    await home.store.ensure_account("bob+laptop", declared=False, at=made)
    bob = await home.store.ensure_account("bob", declared=False, at=START)
    await home.store.add_device(bob.id, "laptop", since=None, at=START)
    assert (await home.login("bob+laptop")).account == means
    assert (await home.login("bob+laptop+pc")).account == "bob+laptop"


async def test_a_login_behind_an_account_of_its_own_upstream_never_goes_to_the_default_one(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    async with RudeUpstream([]).listening() as default:
        own = policy_for(rude.port)
        async with house(tmp_path, policy_for(default.port), declared(own)) as home:
            for login in ("alice+my laptop", "alice+", "Alice+büro", "alice+" + "x" * 33):
                with pytest.raises(UnfitDeviceName):
                    await home.login(login)
        assert default.commands == []


@pytest.mark.parametrize(
    ("device", "says"),
    [
        ("", "the device name is empty"),
        ("  ", "the device name is empty"),
        ("x" * 33, "the device name is longer than 32 characters"),
        ("my laptop", "the device name has other characters than A-Z a-z 0-9 . _ -"),
        ("Büro", "the device name has other characters than A-Z a-z 0-9 . _ -"),
        ("laptop+work", "the device name has other characters than A-Z a-z 0-9 . _ -"),
    ],
)
@pytest.mark.parametrize("known", [True, False])
async def test_what_is_wrong_with_a_device_name_is_told_to_who_has_proved_to_be_the_account(
    home: House, device: str, says: str, *, known: bool
) -> None:
    # Of an account that nobody knows it could be "alice+laptop".
    if known or device == "laptop+work":
        await home.read("alice")
    with pytest.raises(UnfitDeviceName) as refused:
        await home.login(f"alice+{device}")
    assert reply_to(refused.value) == (f"login refused: {says}", "AUTH")
    account = await home.store.account("alice")
    assert account is not None
    assert {each.name for each in await home.store.devices(account.id)} <= {"default"}


async def test_to_others_it_is_not_told_but_to_the_log(rude: RudeUpstream, tmp_path: Path) -> None:
    policy = policy_for(rude.port)
    async with house(tmp_path, policy, declared(policy)) as home:
        with pytest.raises(BadLogin) as refused:
            await home.login("alice+my laptop", b"guess")
        assert reply_to(refused.value)[0] == "login refused: check user name and password"
        (fact,) = home.facts.of(LoginRefused)
        assert "the device name has other characters" in fact.reason


# --- the operator's commands ----------------------------------------------------------------------


async def test_commands_take_an_account_by_any_spelling(home: House) -> None:
    await home.read("Alice@Example.com+pc")
    admin = home.core.admin
    assert (await admin.account_show("ALICE@example.com"))["account"] == "Alice@Example.com"
    made = await admin.device_add(" alice@example.com", "phone")
    assert made["account"] == "Alice@Example.com"
    maildrop = await home.login("alice@example.com", made["app_password"].encode())
    maildrop.close()
    assert maildrop.device == "phone"
    await admin.device_remove("alice@EXAMPLE.com", "phone")
    row = await admin.call("account remove", {"account": "alice@example.com"})
    assert row["account"] == "Alice@Example.com"
    assert await home.store.accounts() == []


async def two_spellings(home: House) -> tuple[int, int]:
    """As versions before this one made them."""
    one = await home.store.ensure_account("Alice@example.com", declared=False, at=START)
    async with home.store._database.transaction() as change:  # type: ignore[attr-defined]
        await change.execute(
            "INSERT INTO account (name, key, declared, created_at) "
            "VALUES ('alice@example.com', 'alice@example.com', 0, 1)"
        )
    home.store._people = None  # type: ignore[attr-defined]
    other = await home.store.account("alice@example.com")
    assert other is not None
    assert other.id != one.id
    return one.id, other.id


async def test_two_spellings_of_an_old_store_are_two_accounts_until_they_are_merged(
    home: House,
) -> None:
    await two_spellings(home)
    admin = home.core.admin
    for login in ("Alice@example.com", "alice@example.com"):
        assert (await home.login(f"{login}+pc")).account == login
    assert (await home.login("ALICE@example.com+pc")).account == "Alice@example.com"
    pair = ["Alice@example.com", "alice@example.com"]
    assert (await admin.status())["namesakes"] == [pair]
    assert [row["namesakes"] for row in await admin.account_list()] == [pair, pair]


async def test_a_merge_waits_until_nobody_uses_either_account(home: House) -> None:
    await two_spellings(home)
    await home.read("Alice@example.com+phone")
    arguments = {"account": "alice@example.com", "into": "Alice@example.com"}
    call = home.core.admin.call
    maildrop = await home.login("alice@example.com+pc")
    with pytest.raises(Exception, match="in use"):
        await call("account merge", arguments)
    maildrop.close()
    assert (await call("account look-at-merge", arguments))["same"] == 2
    row = await call("account merge", arguments)
    assert (row["devices"], row["messages"], row["same"], row["moved"]) == (("pc",), 2, 2, 0)
    with pytest.raises(Exception, match="one account already"):
        await call("account merge", arguments)
    assert (await home.login("alice@example.com+pc")).account == "Alice@example.com"


async def test_app_passwords_outlive_a_merge_and_scram_keys_are_named(home: House) -> None:
    await two_spellings(home)
    async with home.store._database.transaction() as change:  # type: ignore[attr-defined]
        await change.execute("UPDATE account SET salt_name = name")
    home.store._people = None  # type: ignore[attr-defined]
    passwords = {}
    for account in ("Alice@example.com", "alice@example.com"):
        for device in ("both", "upper" if account[0] == "A" else "lower"):
            made = await home.core.admin.device_add(account, device)
            passwords[account, device] = made["app_password"].encode()
    row = await home.core.admin.call(
        "account merge", {"account": "alice@example.com", "into": "Alice@example.com"}
    )
    assert row["without_scram"] == ("lower",)
    assert row["without_password"] == ("both",)
    for (account, device), password in passwords.items():
        if (account[0], device) == ("a", "both"):
            continue
        assert (await home.login(account, password)).device == device
    upper = passwords["Alice@example.com", "upper"]
    assert (await scram_login(home, "alice@example.com", upper)).device == "upper"


async def test_a_declared_account_is_not_merged_away(rude: RudeUpstream, tmp_path: Path) -> None:
    policy = policy_for(rude.port)
    async with house(tmp_path, policy, declared(policy, "alice")) as home:
        await home.read("alice+pc")
        await home.read("bob+phone")
        with pytest.raises(Exception, match="is declared"):
            await home.core.admin.call("account merge", {"account": "alice", "into": "bob"})
        await home.core.admin.call("account merge", {"account": "bob", "into": "alice"})
        assert (await home.login("bob+phone")).account == "alice"
        assert rude.retrieved() == 4


async def test_a_command_s_spelling_names_no_declared_account(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    policy = policy_for(rude.port)
    async with house(tmp_path, policy, declared(policy, "alice@example.com")) as home:
        await home.core.admin.device_add("ALICE@Example.com", "pc")
        assert [each.name for each in await home.store.accounts()] == ["alice@example.com"]
