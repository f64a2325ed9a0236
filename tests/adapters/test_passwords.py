"""Argon2id verifiers."""

from __future__ import annotations

import asyncio

import pytest

from proxy.adapters.passwords import Argon2Passwords


async def test_a_password_matches_its_verifier_and_no_other_does() -> None:
    passwords = Argon2Passwords()
    verifier = await passwords.hash(b"caf\xe9")
    assert await passwords.verify(verifier, b"caf\xe9")
    assert not await passwords.verify(verifier, b"cafe")
    assert not await passwords.verify(verifier, b"")


async def test_a_verifier_says_how_it_was_made_and_not_of_what() -> None:
    passwords = Argon2Passwords()
    first, second = await passwords.hash(b"hunter22"), await passwords.hash(b"hunter22")
    assert first.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert "hunter22" not in first
    assert first != second


@pytest.mark.parametrize(
    "verifier",
    [
        "",
        "rubbish",
        "$argon2id$",
        "caf\xe9",
        "\udc80",
        "$argon2id$v=19$m=4294967295,t=1,p=1$YWJjZGVmZ2g$YWJj",
    ],
)
async def test_a_verifier_that_cannot_be_read_matches_nothing(verifier: str) -> None:
    assert not await Argon2Passwords().verify(verifier, b"password")


async def test_the_loop_goes_on_while_a_password_is_hashed() -> None:
    hashing = asyncio.ensure_future(Argon2Passwords().hash(b"password"))
    turns = 0
    while not hashing.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 10
