"""Who may log in, and as which device: DESIGN section 4."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from proxy.domain.errors import BadLogin, NotJudged, Temporary, UpstreamRefusedLogin
from proxy.domain.facts import DeviceEnrolled, LoginRefused, LoginUnasked, SyncFailed
from proxy.domain.model import Credentials
from proxy.domain.policy import (
    DAY,
    AccountPolicy,
    DevicePolicy,
    IdentifyBy,
    LimitsPolicy,
    RetentionPolicy,
    Seconds,
    SyncPolicy,
)
from proxy.domain.retention import expire_days
from proxy.services.face import CertificateProof, ScramProof
from proxy.services.maildrops import DeviceMaildrop
from proxy.wire.scram import scram_keys
from tests.rude_upstream import RudeUpstream, mail
from tests.services.house import START, House, declared, house, policy_for


async def test_an_unknown_login_that_upstream_accepts_makes_an_account_and_a_device(
    home: House,
) -> None:
    assert await home.read("alice+laptop") == [mail("1"), mail("2")]
    account = await home.store.account("alice")
    assert account is not None
    assert not account.declared
    assert home.facts.of(DeviceEnrolled) == [DeviceEnrolled("alice", "laptop")]


async def test_an_unknown_login_that_upstream_refuses_leaves_no_trace(home: House) -> None:
    with pytest.raises(BadLogin):
        await home.login("mallory", b"guess")
    assert await home.store.accounts() == []
    assert len(home.facts.of(LoginRefused)) == 1


async def test_device_names_are_compared_without_case(home: House) -> None:
    await home.login("alice+Laptop")
    await home.login("alice+LAPTOP")
    account = await home.store.account("alice")
    assert account is not None
    assert [d.name for d in await home.store.devices(account.id)] == ["Laptop"]


async def test_without_a_device_name_it_is_the_default_device(home: House) -> None:
    assert (await home.login("alice")).device == "default"


async def test_an_account_whose_whole_name_matches_wins(rude: RudeUpstream, tmp_path: Path) -> None:
    policy = policy_for(rude.port)
    async with house(tmp_path, policy, declared(policy, "alice+work")) as home:
        maildrop = await home.login("alice+work")
        assert (maildrop.account, maildrop.device) == ("alice+work", "default")
        maildrop = await home.login("alice+work+pc")
        assert (maildrop.account, maildrop.device) == ("alice+work", "pc")


async def test_a_verified_password_is_served_from_the_store_while_upstream_is_down(
    home: House, rude: RudeUpstream
) -> None:
    await home.read()
    rude.refusals["CAPA"] = b"gibberish\r\n"
    assert await home.uids() == ["u1", "u2"]
    with pytest.raises(Temporary):
        await home.login("alice", b"wrong")
    with pytest.raises(Temporary):
        await home.login("nobody", b"wrong")


async def test_a_verified_password_is_not_hashed_again_at_every_login(home: House) -> None:
    for _ in range(5):
        await home.uids()
    assert home.passwords.verified <= 1


async def test_a_password_that_upstream_no_longer_takes_is_refused_and_its_verifier_dropped(
    home: House, rude: RudeUpstream
) -> None:
    await home.uids()
    rude.refusals["AUTH"] = b"-ERR [AUTH] changed\r\n"
    with pytest.raises(BadLogin):
        await home.login()
    account = await home.store.account("alice")
    assert account is not None
    assert account.verifier is None


async def test_a_wrong_guess_does_not_drop_the_verifier_of_the_right_password(
    home: House, rude: RudeUpstream
) -> None:
    await home.uids()
    rude.refusals["AUTH"] = b"-ERR [AUTH] no\r\n"
    with pytest.raises(BadLogin):
        await home.login("alice", b"guess")
    account = await home.store.account("alice")
    assert account is not None
    assert account.verifier is not None


async def test_a_refused_guess_does_not_hold_up_the_owner(home: House, rude: RudeUpstream) -> None:
    await home.uids()
    rude.refusals["AUTH"] = b"-ERR [AUTH] no\r\n"
    with pytest.raises(BadLogin):
        await home.login("alice", b"guess")
    rude.refusals.clear()
    rude.mails.append(("u3", mail("3")))
    assert await home.uids() == ["u1", "u2", "u3"]


async def test_a_declared_account_takes_the_configured_password_alone(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    policy = policy_for(rude.port)
    async with house(tmp_path, policy, declared(policy)) as home:
        assert await home.uids() == ["u1", "u2"]
        seen = len(rude.commands)
        with pytest.raises(BadLogin):
            await home.login("alice", b"guess")
        assert len(rude.commands) == seen, "a guess went upstream"


async def test_a_declared_account_is_served_before_upstream_was_ever_reached(
    tmp_path: Path,
) -> None:
    async with RudeUpstream().listening() as gone:
        pass
    policy = policy_for(gone.port)
    async with house(tmp_path, policy, declared(policy)) as home:
        assert await home.uids() == []


async def test_an_app_password_names_its_device_and_never_goes_upstream(
    home: House, rude: RudeUpstream
) -> None:
    await home.uids()
    made = await home.core.admin.device_add("alice", "phone")
    seen = len(rude.commands)
    password = made["app_password"].encode()
    assert (await home.login("alice", password)).device == "phone"
    assert (await home.login("alice+phone", password)).device == "phone"
    assert len(rude.commands) == seen
    with pytest.raises(BadLogin):
        await home.login("alice+laptop", password)


async def test_a_removed_device_takes_its_app_password_with_it(
    home: House, rude: RudeUpstream
) -> None:
    await home.uids()
    made = await home.core.admin.device_add("alice", "phone")
    await home.core.admin.device_remove("alice", "phone")
    with pytest.raises(BadLogin):
        await home.login("alice", made["app_password"].encode())


async def test_closed_enrolment_takes_only_devices_that_were_added(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    policy = policy_for(rude.port, devices=DevicePolicy(enrol="closed"))
    async with house(tmp_path, policy, declared(policy)) as home:
        with pytest.raises(BadLogin):
            await home.login("alice+laptop")
        await home.core.admin.device_add("alice", "laptop")
        assert (await home.login("alice+laptop")).device == "laptop"


async def test_many_first_logins_of_one_device_make_one_device_and_one_sync(
    home: House, rude: RudeUpstream
) -> None:
    await asyncio.gather(*(home.login("alice+laptop") for _ in range(10)))
    account = await home.store.account("alice")
    assert account is not None
    assert len(await home.store.devices(account.id)) == 1
    assert rude.retrieved() == 2


async def test_a_login_waits_no_longer_than_login_wait(rude: RudeUpstream, tmp_path: Path) -> None:
    sync = SyncPolicy(max_age=Seconds(0), login_wait=Seconds(0.2))
    policy = policy_for(rude.port, sync=sync)
    rude.silent_on = {"STAT"}
    async with house(tmp_path, policy, declared(policy)) as home:
        async with asyncio.timeout(10):
            assert await home.uids() == []


@pytest.mark.parametrize(
    ("backlog", "expected"), [("all", ["old", "young", "undated"]), ("30d", ["young", "undated"])]
)
async def test_the_backlog_of_a_new_device_counts_from_the_messages_own_dates(
    backlog: str, expected: list[str], tmp_path: Path
) -> None:
    mails = [
        ("old", b"Date: Mon, 01 Jun 2026 10:00:00 +0000\r\n" + mail("1")),
        ("young", b"Date: Mon, 02 Nov 2026 10:00:00 +0000\r\n" + mail("2")),
        ("undated", mail("3")),
    ]
    async with RudeUpstream(mails).listening() as rude:
        policy = policy_for(rude.port, devices=DevicePolicy(backlog=backlog))
        async with house(tmp_path, policy) as home:
            assert await home.uids("alice+new") == expected


async def test_a_device_without_backlog_gets_what_comes_later(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    policy = policy_for(rude.port, devices=DevicePolicy(backlog="none"))
    async with house(tmp_path, policy) as home:
        assert await home.uids("alice+new") == []
        home.clock.time = START + DAY
        rude.mails.append(("later", mail("later")))
        assert await home.uids("alice+new") == ["later"]
        assert await home.uids("alice+newer") == []


async def test_a_stranger_s_guess_does_not_keep_the_owner_s_mail_from_coming(
    home: House, rude: RudeUpstream
) -> None:
    """The guess is under way upstream when the owner logs in."""
    await home.uids()
    rude.mails.append(("u3", mail("3")))
    before = len(rude.commands)
    guess = asyncio.create_task(home.login("alice", b"guess", peer="203.0.113.1"))
    async with asyncio.timeout(20):
        while len(rude.commands) == before:  # noqa: ASYNC110 - it has no event to wait for
            await asyncio.sleep(0)
    assert await home.uids() == ["u1", "u2", "u3"]
    with pytest.raises(BadLogin):
        await guess


async def test_upstream_is_asked_for_only_so_many_passwords(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    limits = LimitsPolicy(login_delay=Seconds(0), upstream_refusals=2)
    async with house(tmp_path, policy_for(rude.port), limits=limits) as home:
        rude.refusals["AUTH"] = b"-ERR [AUTH] no\r\n"
        for guess in (b"1", b"2"):
            with pytest.raises(BadLogin):
                await home.login("alice", guess)
        seen = len(rude.commands)
        with pytest.raises(NotJudged):
            await home.login("alice", b"3")
        assert len(rude.commands) == seen
        assert [fact.refusal for fact in home.facts.of(LoginRefused)] == ["credentials"] * 2
        assert [fact.why for fact in home.facts.of(LoginUnasked)] == ["too_many_upstream"]


async def scram_login(home: House, username: str, password: bytes) -> DeviceMaildrop:
    """As a session does it, with what a client that knows the password would prove."""
    challenge = await home.core.logins.scram(username, "127.0.0.1")
    keys = scram_keys(password, challenge.salt, challenge.iterations)
    candidate = challenge.candidates.index(keys) if keys in challenge.candidates else None
    return await home.core.logins.login(ScramProof(challenge, candidate), "127.0.0.1")


async def test_scram_takes_app_passwords_and_declared_passwords(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    policy = policy_for(rude.port)
    async with house(tmp_path, policy, declared(policy)) as home:
        phone = (await home.core.admin.device_add("alice", "phone"))["app_password"].encode()
        tablet = (await home.core.admin.device_add("alice", "tablet"))["app_password"].encode()
        assert (await scram_login(home, "alice", tablet)).device == "tablet"
        assert (await scram_login(home, "alice", phone)).device == "phone"
        assert (await scram_login(home, "alice+phone", phone)).device == "phone"
        assert (await scram_login(home, "alice+laptop", b"secret")).device == "laptop"
        for name, wrong in [("alice", b"wrong"), ("nobody", phone), ("alice+laptop", phone)]:
            with pytest.raises(BadLogin):
                await scram_login(home, name, wrong)
        await home.core.admin.device_remove("alice", "phone")
        with pytest.raises(BadLogin):
            await scram_login(home, "alice", phone)


async def test_scram_is_announced_only_where_every_password_can_be_checked_so(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    """Upstream judges the password of a pass-through account, and has to be given it."""
    policy = policy_for(rude.port)
    for pass_through in (True, False):
        folder = tmp_path / str(pass_through)
        async with house(folder, policy, declared(policy), pass_through=pass_through) as home:
            assert home.core.logins.announces_scram is not pass_through


async def test_a_certificate_logs_in_its_own_device_alone(home: House) -> None:
    await home.uids()
    for device in ("phone", "tablet"):
        await home.core.admin.device_add("alice", device)
    row = await home.core.admin.device_certificate("alice", "phone")
    made = x509.load_pem_x509_certificate(row["certificate"].encode())
    fingerprint = made.fingerprint(SHA256())

    async def log_in(username: str, shown: bytes = fingerprint) -> DeviceMaildrop:
        return await home.core.logins.login(CertificateProof(username, shown), "127.0.0.1")

    for username in ("", "alice", "alice+phone", "alice+PHONE"):
        assert (await log_in(username)).device == "phone"
    for username in ("bob", "alice+tablet"):
        with pytest.raises(BadLogin):
            await log_in(username)
    with pytest.raises(BadLogin):
        await log_in("", b"x" * 32)
    await home.core.admin.device_certificate("alice", "phone")
    with pytest.raises(BadLogin):
        await log_in("")


@pytest.mark.parametrize(
    ("identify_by", "username", "peer", "device"),
    [
        (("login", "address"), "alice", "192.0.2.7", "192.0.2.7"),
        (("login", "address"), "alice+laptop", "192.0.2.7", "laptop"),
        (("address", "login"), "alice+laptop", "192.0.2.7", "192.0.2.7"),
        (("address",), "alice", "2001:db8::7", "20010db8000000000000000000000007"),
        (("address",), "alice", "local", "default"),
        (("reverse-name", "login"), "alice+laptop", "127.0.0.1", "localhost"),
        (("reverse-name", "login"), "alice+laptop", "192.0.2.7", "laptop"),
        ((), "alice+laptop", "192.0.2.7", "default"),
    ],
)
async def test_the_first_way_that_gives_a_name_decides_on_the_device(
    rude: RudeUpstream,
    tmp_path: Path,
    identify_by: tuple[IdentifyBy, ...],
    username: str,
    peer: str,
    device: str,
) -> None:
    policy = policy_for(rude.port, devices=DevicePolicy(identify_by=identify_by))
    async with house(tmp_path, policy) as home:
        assert (await home.login(username, peer=peer)).device == device


async def test_an_app_password_opens_no_device_but_its_own_however_devices_are_named(
    rude: RudeUpstream, tmp_path: Path
) -> None:
    ways: tuple[IdentifyBy, ...] = ("app-password", "address")
    policy = policy_for(rude.port, devices=DevicePolicy(identify_by=ways))
    async with house(tmp_path, policy) as home:
        await home.uids()
        phone = (await home.core.admin.device_add("alice", "phone"))["app_password"].encode()
        assert (await home.login("alice", phone, "192.0.2.7")).device == "phone"
        assert (await home.login("alice", peer="192.0.2.7")).device == "192.0.2.7"
    policy = policy_for(rude.port, devices=DevicePolicy(identify_by=("address",)))
    async with house(tmp_path, policy) as home:
        with pytest.raises(BadLogin):
            await home.login("alice", phone, "192.0.2.7")


@pytest.mark.parametrize(
    ("policy", "days"),
    [
        (AccountPolicy(), None),
        (AccountPolicy(retention=RetentionPolicy(upstream="delivered")), 30),
        (AccountPolicy(retention=RetentionPolicy("age", local_keep=Seconds(DAY * 2.5))), 2),
        (AccountPolicy(devices=DevicePolicy(view="undelivered")), 0),
    ],
)
def test_how_long_a_message_stays_follows_from_the_policy(
    policy: AccountPolicy, days: int | None
) -> None:
    """RFC 2449 §6.7."""
    assert expire_days(policy) == days


async def test_programs_with_an_old_password_ask_upstream_once_and_keep_nobody_out(
    home: House, rude: RudeUpstream
) -> None:
    await home.uids("alice+pc1")
    rude.refusals["AUTH"] = b"-ERR [AUTH] changed\r\n"
    before = rude.commands.count("AUTH")
    tries = [home.login(f"alice+pc{n}", peer=f"127.0.0.{n}") for n in range(1, 5)]
    answers = await asyncio.gather(*tries, return_exceptions=True)
    assert all(isinstance(answer, BadLogin) for answer in answers)
    assert rude.commands.count("AUTH") == before + 1
    seen = len(rude.commands)
    for _ in range(20):
        with pytest.raises(BadLogin):
            await home.login("alice+pc1")
    assert len(rude.commands) == seen, "answered from memory"
    assert {fact.why for fact in home.facts.of(LoginUnasked)} == {"refused_lately"}


@pytest.mark.parametrize("name", ["alice", "nobody", "declared"])
async def test_what_looks_like_an_app_password_never_goes_upstream(
    name: str, rude: RudeUpstream, tmp_path: Path
) -> None:
    """That of a device that was removed, or one at a mistyped name."""
    policy = policy_for(rude.port)
    async with house(tmp_path, policy, declared(policy, "declared")) as home:
        await home.uids()
        made = await home.core.admin.device_add("alice", "phone")
        await home.core.admin.device_remove("alice", "phone")
        seen = len(rude.commands)
        with pytest.raises(BadLogin):
            await home.login(name, made["app_password"].encode())
        assert len(rude.commands) == seen


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"-ERR [SYS/TEMP] not now\r\n",
        b"-ERR login attempts too frequent, wait 720 minutes between logins\r\n",
        b"-ERR [AUTH] no\r\n",
        b"-ERR [SYS/PERM] closed\r\n",
    ],
)
async def test_a_guess_changes_nothing_of_an_account(
    answer: bytes | None, home: House, rude: RudeUpstream
) -> None:
    """No back-off, no learnt interval, no failure, no verifier, no line about a sync."""
    await home.uids()
    before = await home.store.account("alice")
    if answer is None:
        rude.hang_up_on = {"AUTH", "PASS"}
    else:
        rude.refusals |= {"AUTH": answer, "PASS": answer}
    for number in range(8):
        with pytest.raises((BadLogin, NotJudged)):
            await home.login("alice", b"guess %d" % number, peer="203.0.113.1")
    assert await home.store.account("alice") == before
    assert home.core.syncs.retry_in("alice") == 0.0
    assert home.facts.of(SyncFailed) == []
    rude.refusals.clear()
    rude.hang_up_on.clear()
    rude.mails.append(("u3", mail("3")))
    assert await home.uids() == ["u1", "u2", "u3"]


async def test_a_refusal_that_no_login_waits_for_drops_the_verifier_as_well(
    home: House, rude: RudeUpstream
) -> None:
    await home.uids()
    rude.refusals["AUTH"] = b"-ERR [AUTH] changed\r\n"
    run = home.core.syncs.start("alice", Credentials("alice", b"secret"))
    with pytest.raises(UpstreamRefusedLogin):
        await run.finished
    async with asyncio.timeout(20):
        while (  # noqa: ASYNC110 - it has no event to wait for
            account := await home.store.account("alice")
        ) and account.verifier is not None:
            await asyncio.sleep(0)
    rude.refusals.clear()
    with pytest.raises(BadLogin):
        await home.login()
