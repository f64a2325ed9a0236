"""What sessions rest on: each right that ends takes along those that rest on it, and no other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from proxy.domain.directory import DeclaredAccount, Directory
from proxy.domain.errors import BadLogin, LogInAgain, ProxyError
from proxy.domain.model import Credentials
from proxy.domain.policy import RetentionPolicy, Seconds, SyncPolicy
from proxy.services.face import CertificateProof, PasswordProof, Proof, ScramProof
from proxy.services.maildrops import DeviceMaildrop
from proxy.services.rights import Claim, Loss, Right, Rights
from tests import rude_upstream
from tests.rude_upstream import RudeUpstream, mail
from tests.services.house import House, declared, house, policy_for


@dataclass(eq=False)
class Guest:
    known: bool = False
    lost: list[Loss] = field(default_factory=list)

    def proved(self) -> None:
        self.known = True

    def lose(self, loss: Loss) -> None:
        self.lost.append(loss)


@pytest.fixture
async def rude() -> AsyncIterator[RudeUpstream]:
    async with RudeUpstream([("u1", mail("1"))]).listening() as upstream:
        yield upstream


@pytest.fixture
async def home(rude: RudeUpstream, tmp_path: Path) -> AsyncIterator[House]:
    """Declared: alice, and carol whose password the store keeps. Anybody else passes through."""
    policy = policy_for(rude.port)
    carol = replace(declared(policy, "carol"), password_stored=True)
    async with house(tmp_path, policy, declared(policy), carol) as home:
        yield home


async def enter(home: House, proof: Proof) -> tuple[Guest, Claim, DeviceMaildrop]:
    guest = Guest()
    claim = home.core.rights.claim(guest)
    maildrop = await home.core.logins.login(proof, "127.0.0.1", claim)
    return guest, claim, maildrop


@dataclass
class People:
    """One session for each thing that can be rested on."""

    own: Guest
    own_scram: Guest
    app: Guest
    app_scram: Guest
    certificate: Guest
    phone: Guest
    """Another device of alice's, by an app password."""
    carol: Guest
    passed: Guest
    """bob, whose password upstream has accepted."""

    def lost(self) -> dict[str, Loss]:
        return {name: guest.lost[0] for name, guest in vars(self).items() if guest.lost}


async def people(home: House) -> People:
    admin = home.core.admin
    await home.login("alice+desk")
    made = (await admin.device_add("alice", "laptop"))["app_password"].encode()
    phone = (await admin.device_add("alice", "phone"))["app_password"].encode()
    issued = await admin.device_certificate("alice", "laptop")
    fingerprint = x509.load_pem_x509_certificate(issued["certificate"].encode()).fingerprint(
        SHA256()
    )
    challenge = await home.core.logins.scram("alice+laptop", "127.0.0.1")
    by_own = replace(challenge, username="alice+desk")
    proofs: dict[str, Proof] = {
        "own": PasswordProof("alice+desk", b"secret"),
        "own_scram": ScramProof(by_own, challenge.devices.index(None)),
        "app": PasswordProof("alice", made),
        "app_scram": ScramProof(challenge, challenge.devices.index("laptop")),
        "certificate": CertificateProof("alice+laptop", fingerprint),
        "phone": PasswordProof("alice", phone),
        "carol": PasswordProof("carol", b"secret"),
        "passed": PasswordProof("bob", b"secret"),
    }
    return People(**{name: (await enter(home, proof))[0] for name, proof in proofs.items()})


Change = Callable[[House, RudeUpstream], Awaitable[object]]


async def reload(
    home: House, *, pass_through: bool = True, **accounts: DeclaredAccount | None
) -> None:
    """With these accounts otherwise, or not at all."""
    all_ = {one.name: one for one in home.directory.all_declared()} | accounts
    known = [one for one in all_.values() if one is not None]
    home.core.take_over(Directory(known, home.directory.default, pass_through=pass_through))


def alice(home: House) -> DeclaredAccount:
    found = home.directory.declared("alice")
    assert found is not None
    return found


async def other_password(home: House, _: RudeUpstream) -> None:
    await reload(home, alice=replace(alice(home), credentials=Credentials("alice", b"other")))


async def other_retention(home: House, _: RudeUpstream) -> None:
    policy = replace(alice(home).policy, retention=RetentionPolicy(on_delete="everywhere"))
    await reload(home, alice=replace(alice(home), policy=policy))


async def other_interval(home: House, _: RudeUpstream) -> None:
    policy = replace(alice(home).policy, sync=SyncPolicy(interval=Seconds(77)))
    await reload(home, alice=replace(alice(home), policy=policy))


async def refused_by_upstream(home: House, rude: RudeUpstream) -> None:
    rude.refusals["AUTH"] = b"-ERR [AUTH] changed\r\n"
    with pytest.raises(BadLogin):
        await home.login("bob")


OF_LAPTOP = ["app", "app_scram", "certificate"]
OF_ALICE = ["own", "own_scram", *OF_LAPTOP, "phone"]


@pytest.mark.parametrize(
    ("change", "loss", "whose"),
    [
        (lambda h, _: h.core.admin.device_remove("alice", "laptop"), "revoked", OF_LAPTOP),
        (lambda h, _: h.core.admin.device_reset("alice", "laptop"), "changed", OF_LAPTOP),
        (lambda h, _: h.core.admin.device_certificate("alice", "laptop"), "revoked", OF_LAPTOP[2:]),
        (lambda h, _: h.core.admin.device_remove("alice", "desk"), "revoked", OF_ALICE[:2]),
        (lambda h, _: h.core.admin.device_rename("alice", "laptop", "new"), "changed", []),
        (lambda h, _: h.core.admin.account_set_password("carol", "new"), "revoked", ["carol"]),
        (lambda h, _: h.core.admin.account_set_password("carol", "secret"), "revoked", []),
        (other_password, "revoked", OF_ALICE[:2]),
        (other_retention, "changed", OF_ALICE),
        (other_interval, "changed", []),
        (lambda h, _: reload(h), "changed", []),
        (lambda h, _: reload(h, alice=None, pass_through=False), "revoked", [*OF_ALICE, "passed"]),
        (lambda h, _: reload(h, pass_through=False), "revoked", ["passed"]),
        (refused_by_upstream, "revoked", ["passed"]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_a_right_that_ends_takes_its_sessions_along_and_no_others(
    home: House, rude: RudeUpstream, change: Change, loss: Loss, whose: list[str]
) -> None:
    everybody = await people(home)
    assert all(guest.known for guest in vars(everybody).values())
    await change(home, rude)
    await asyncio.sleep(0)
    assert everybody.lost() == dict.fromkeys(whose, loss)


async def test_an_account_that_is_no_longer_declared_ends_its_sessions(home: House) -> None:
    """Its password is none any more; its devices may yet be those of one that upstream judges."""
    everybody = await people(home)
    await reload(home, alice=None)
    app: Loss = "changed"
    assert everybody.lost() == dict.fromkeys(OF_ALICE, app) | {
        "own": "revoked",
        "own_scram": "revoked",
    }


async def test_a_password_refused_by_upstream_ends_its_sessions_whatever_is_verified_now(
    home: House, rude: RudeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two passwords have been right; the older one is no longer."""
    guest, _, _ = await enter(home, PasswordProof("bob", b"secret"))
    monkeypatch.setattr(rude_upstream, "PASSWORD", "second")
    newer, _, _ = await enter(home, PasswordProof("bob", b"second"))
    with pytest.raises(BadLogin):
        await home.login("bob", b"secret")
    assert (guest.lost, newer.lost) == (["revoked"], [])


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda h, _: h.core.admin.device_remove("alice", "laptop"), BadLogin),
        (lambda h, _: h.core.admin.device_reset("alice", "laptop"), LogInAgain),
        (other_password, BadLogin),
        (lambda h, _: reload(h, alice=None, pass_through=False), BadLogin),
    ],
    ids=["remove", "reset", "password", "reload"],
)
async def test_a_login_under_way_when_its_right_ends_does_not_get_in(
    home: House, rude: RudeUpstream, change: Change, error: type[ProxyError]
) -> None:
    """It waits for its sync, which upstream does not answer."""
    await home.login("alice+laptop")
    rude.silent_on = {"UIDL"}
    asked = len(rude.commands)
    guest = Guest()
    claim = home.core.rights.claim(guest)
    proof = PasswordProof("alice+laptop", b"secret")
    login = asyncio.create_task(home.core.logins.login(proof, "127.0.0.1", claim))
    async with asyncio.timeout(20):
        while not any(command.startswith("UIDL") for command in rude.commands[asked:]):  # noqa: ASYNC110 - it has no event to wait for
            await asyncio.sleep(0)
    assert guest.known
    await change(home, rude)
    await home.core.syncs.break_off("alice")
    with pytest.raises(error):
        await login
    account = await home.store.account("alice")
    assert account is not None
    assert guest.lost == []


async def test_a_challenge_of_before_lets_nobody_in_by_a_key_that_is_no_more(home: House) -> None:
    await home.login("alice+desk")
    admin = home.core.admin
    await admin.device_add("alice", "laptop")
    challenge = await home.core.logins.scram("alice+laptop", "127.0.0.1")
    await admin.device_remove("alice", "laptop")
    await admin.device_add("alice", "laptop")
    await other_password(home, RudeUpstream())
    for device in ("laptop", None):
        proof = ScramProof(challenge, challenge.devices.index(device))
        with pytest.raises(BadLogin):
            await home.core.logins.login(proof, "127.0.0.1")


async def test_an_account_that_nobody_declares_any_more_opens_to_none_of_its_devices(
    home: House,
) -> None:
    await home.login("alice+desk")
    made = await home.core.admin.device_add("alice", "laptop")
    password = made["app_password"].encode()
    await home.login("alice", password)
    await reload(home, alice=None, pass_through=False)
    with pytest.raises(BadLogin):
        await home.login("alice", password)


# --- removing an account --------------------------------------------------------------------------


async def test_an_account_is_removed_once_its_sessions_are_over(home: House) -> None:
    guest, claim, maildrop = await enter(home, PasswordProof("bob", b"secret"))
    bystander, _, _ = await enter(home, PasswordProof("alice", b"secret"))
    removing = asyncio.create_task(home.core.admin.account_remove("bob"))
    async with asyncio.timeout(20):
        while not guest.lost:  # noqa: ASYNC110 - it has no event to wait for
            await asyncio.sleep(0)
    assert await home.store.account("bob") is not None
    with pytest.raises(BadLogin):
        await enter(home, PasswordProof("bob", b"secret"))
    maildrop.close()
    claim.release()
    row = await removing
    assert (row["messages"], row["erased"], row["copies"]) == (1, True, [])
    assert await home.store.account("bob") is None
    assert bystander.lost == []
    await home.login("bob")


async def test_a_sync_under_way_holds_up_no_removal_and_brings_nothing_back(
    home: House, rude: RudeUpstream
) -> None:
    await home.login("bob")
    rude.silent_on = {"UIDL"}
    run = home.core.syncs.start("bob", Credentials("bob", b"secret"))
    await run.accepted
    async with asyncio.timeout(20):
        await home.core.admin.account_remove("bob")
    assert run.finished.exception() is not None
    assert await home.store.account("bob") is None


async def test_a_sync_that_has_not_begun_is_broken_off_as_well(home: House) -> None:
    run = home.core.syncs.start("bob", Credentials("bob", b"secret"))
    await home.core.syncs.break_off("bob")
    assert run.finished.exception() is not None
    assert home.core.syncs.start("bob", Credentials("bob", b"secret")) is not run


# --- the rules ------------------------------------------------------------------------------------

RIGHTS = st.builds(
    Right,
    account=st.sampled_from("ab"),
    secret=st.sampled_from([b"", b"1", b"2"]),
    device_id=st.sampled_from([None, 1, 2]),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["prove", "settle", "release"]), st.integers(0, 4)),
        st.tuples(st.sampled_from(["account", "secret", "device"]), RIGHTS),
    ),
    max_size=40,
)


@given(st.lists(RIGHTS, min_size=5, max_size=5), STEPS)
def test_whoever_got_in_has_lost_nothing_or_been_told(
    wanted: list[Right], steps: list[tuple[str, object]]
) -> None:
    rights = Rights()
    guests = [Guest() for _ in wanted]
    claims = [rights.claim(guest) for guest in guests]
    stage = ["new"] * 5
    taken: list[Callable[[Right], bool]] = []
    for step, what in steps:
        if isinstance(what, int):
            right, claim = wanted[what], claims[what]
            due = any(match(right) for match in taken)
            if step == "release":
                claim.release()
                stage[what] = "over"
            elif (step, stage[what]) in (("prove", "new"), ("settle", "proved")):
                try:
                    if step == "prove":
                        claim.prove(replace(right, device_id=None))
                    else:
                        claim.settle(right.device_id)
                    assert step == "prove" or not due
                    stage[what] = "proved" if step == "prove" else "in"
                except BadLogin:
                    assert due
                    stage[what] = "refused"
        elif isinstance(what, Right):
            key = {"account": "account", "secret": "secret", "device": "device_id"}[step]
            if (value := getattr(what, key)) is None:
                continue

            def match(right: Right, key: str = key, value: object = value) -> bool:
                return bool(getattr(right, key) == value)

            taken.append(match)
            rights.end("revoked", match)
            for guest, right, at in zip(guests, wanted, stage, strict=True):
                assert not (at == "in" and match(right)) or guest.lost
    for guest, at in zip(guests, stage, strict=True):
        assert at in ("in", "over") or not guest.lost
