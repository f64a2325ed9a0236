"""Encryption of what the store keeps of other people's secrets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.adapters.vault import CREDENTIAL, AesVault, KeySource
from proxy.domain.errors import VaultLocked

KEY = "0123456789abcdef"


def vault(key: str = KEY, key_file: Path = Path("/nowhere/key"), credentials: str = "") -> AesVault:
    return AesVault(KeySource(key, key_file, credentials), os.urandom)


@given(st.binary(max_size=200), st.text(max_size=30))
def test_what_was_sealed_opens_for_the_same_purpose_alone(secret: bytes, purpose: str) -> None:
    sealed = vault().seal(purpose, secret)
    assert vault().unseal(purpose, sealed) == secret
    with pytest.raises(VaultLocked):
        vault().unseal(purpose + "!", sealed)


@given(st.data())
def test_a_changed_octet_is_noticed(data: st.DataObject) -> None:
    sealed = bytearray(vault().seal("p", b"secret"))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(VaultLocked):
        vault().unseal("p", bytes(sealed))


@pytest.mark.parametrize("sealed", [b"", b"\1", b"\1" + b"x" * 12, b"\2" + b"x" * 40])
def test_what_is_no_sealed_secret_is_refused(sealed: bytes) -> None:
    with pytest.raises(VaultLocked):
        vault().unseal("p", sealed)


def test_equal_secrets_look_different() -> None:
    assert vault().seal("p", b"secret") != vault().seal("p", b"secret")


def test_another_key_opens_nothing() -> None:
    sealed = vault().seal("p", b"secret")
    with pytest.raises(VaultLocked, match="another key"):
        vault(key="fedcba9876543210").unseal("p", sealed)


def test_a_key_file_is_made_for_its_owner_alone_and_used_from_then_on(tmp_path: Path) -> None:
    file = tmp_path / "proxy.key"
    sealed = vault(key="", key_file=file).seal("p", b"secret")
    assert file.stat().st_mode & 0o777 == 0o600
    assert vault(key="", key_file=file).unseal("p", sealed) == b"secret"


def test_no_key_file_is_made_to_open_something(tmp_path: Path) -> None:
    with pytest.raises(VaultLocked, match="does not exist"):
        vault(key="", key_file=tmp_path / "proxy.key").unseal("p", b"\1")
    assert list(tmp_path.iterdir()) == []


def test_a_key_file_that_cannot_be_made_is_said() -> None:
    with pytest.raises(VaultLocked, match="key_file under"):
        vault(key="").seal("p", b"secret")


@pytest.mark.parametrize("short", ["short", "               x               "])
def test_a_short_key_is_refused(short: str) -> None:
    with pytest.raises(VaultLocked, match="shorter"):
        vault(key=short).seal("p", b"secret")


def test_systemd_s_credential_comes_first(tmp_path: Path) -> None:
    (tmp_path / CREDENTIAL).write_text("another key altogether\n")
    sealed = vault(credentials=str(tmp_path)).seal("p", b"secret")
    assert vault(key="another key altogether").unseal("p", sealed) == b"secret"


def test_credentials_without_a_key_among_them_leave_the_key_file_in_use(tmp_path: Path) -> None:
    (tmp_path / "alice").write_text("a password of somebody's")
    file = tmp_path / "proxy.key"
    sealed = vault(key="", key_file=file, credentials=str(tmp_path)).seal("p", b"secret")
    assert vault(key="", key_file=file).unseal("p", sealed) == b"secret"
