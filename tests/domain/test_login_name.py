"""Login names: ACCOUNT or ACCOUNT+DEVICE, and what is one name however it is written."""

from __future__ import annotations

import sys
from unicodedata import normalize

import idna
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.domain.login_name import (
    ACCOUNT_LIMIT,
    canonical,
    spelled,
    splits,
    unfit_device_name,
    unheard_of,
)
from proxy.domain.model import is_valid_device_name

names = st.text(max_size=40) | st.from_regex(r"[^@]{0,8}@[^@]{0,12}(\.[^@]{0,12})?", fullmatch=True)


@pytest.mark.parametrize(
    "spelling",
    [
        "ALICE@Example.COM",
        " alice@example.com\t",
        "\u00a0alice@example.com\u3000",
        "\uff21lice@example.com".replace("\uff21", "A"),
    ],
)
def test_case_and_outer_blanks_make_no_other_account(spelling: str) -> None:
    assert canonical(spelling) == "alice@example.com"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("alice@bücher.example", "alice@xn--bcher-kva.example"),
        ("alice@BÜCHER.example", "Alice@XN--BCHER-KVA.Example"),
        ("alice@bu\u0308cher.example", "alice@bücher.example"),
        ("ju\u0308rgen", "JÜRGEN"),
        ("Groß@example.com", "GROSS@example.com"),
        ("alice@例え。テスト", "alice@xn--r8jz45g.xn--zckzah"),
        # No domains: compared as text.
        ("alice@ä_b.example", "ALICE@Ä_B.example"),
        ("alice@-ü.example", "alice@-U\u0308.EXAMPLE"),
    ],
)
def test_two_spellings_of_one_account(one: str, other: str) -> None:
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("alice", "alice@example.com"),
        ("alice@straße.example", "alice@strasse.example"),
        ("alice@example.com", "alice@example.com."),
        ("a lice", "alice"),
    ],
)
def test_two_accounts(one: str, other: str) -> None:
    assert canonical(one) != canonical(other)


def test_every_character_has_a_canonical_form_that_stays() -> None:
    for code in range(sys.maxunicode + 1):
        # Domains take their time: the scripts that have case, and a few of the others.
        for text in (chr(code), f"a@x{chr(code)}") if code < 0x600 else (chr(code),):
            once = canonical.__wrapped__(text)
            assert canonical.__wrapped__(once) == once, hex(code)


@given(names)
@example("a\u0345\u0301@\u0345\u0301")
@example("@")
@example("\ud800@\ud800ü")
def test_the_canonical_form_is_its_own(name: str) -> None:
    assert canonical(canonical(name)) == canonical(name)


@given(names)
def test_composition_blanks_and_case_do_not_matter(name: str) -> None:
    for other in (normalize("NFD", name), f" {name}\t", f"\u00a0{name}"):
        assert canonical(other) == canonical(name)
    assert canonical(spelled(name)) == canonical(name)


@given(st.from_regex(r"[a-z]{1,8}@([a-z0-9]{1,8}\.){1,2}[a-z]{2,5}", fullmatch=True))
def test_an_ascii_address_is_told_by_its_lower_case(name: str) -> None:
    assert canonical(name.upper()) == name


@pytest.mark.parametrize(
    ("login", "expected"),
    [
        ("alice", []),
        ("alice+laptop", [("alice", "laptop")]),
        ("a+b+c", [("a+b", "c"), ("a", "b+c")]),
        ("alice+tag@example.com", [("alice", "tag@example.com")]),
        ("alice+", [("alice", "")]),
        ("+laptop", []),
        (" alice +\u00a0a b ", [("alice", "a b")]),
    ],
)
def test_a_login_is_split_at_any_separator(login: str, expected: list[tuple[str, str]]) -> None:
    assert splits(login, "+") == expected


@pytest.mark.parametrize(
    ("login", "meant"),
    [
        ("alice", ("alice", None)),
        ("alice+laptop", ("alice", "laptop")),
        ("a+b+c", ("a+b", "c")),
        ("alice+tag@example.com", ("alice+tag@example.com", None)),
        ("alice+tag@example.com+pc", ("alice+tag@example.com", "pc")),
        ("alice+", ("alice", "")),
        ("+laptop", ("+laptop", None)),
        (" Alice@Example.com + my laptop ", ("Alice@Example.com", "my laptop")),
    ],
)
def test_what_a_login_means_that_nobody_knows(login: str, meant: tuple[str, str | None]) -> None:
    assert unheard_of(login, "+") == meant


def test_another_separator() -> None:
    assert unheard_of("alice+tag#pc", "#") == ("alice+tag", "pc")


def test_a_login_of_separators_is_not_taken_apart_for_ever() -> None:
    assert len(splits("a" + "+" * 100_000, "+")) == ACCOUNT_LIMIT


@given(st.text(max_size=40))
def test_what_is_unfit_to_name_a_device_is_said_in_words_that_hold_nothing_of_it(name: str) -> None:
    fault = unfit_device_name(name)
    assert bool(fault) is not is_valid_device_name(name)
    assert fault.isascii()


def test_what_can_be_no_domain_is_not_tried_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger's name is read before he has to wait for anything: IDNA takes milliseconds."""
    tried: list[str] = []

    def encode(text: str, **_: object) -> bytes:
        tried.append(text)
        raise UnicodeError

    monkeypatch.setattr(idna, "encode", encode)
    labels = ".".join("漢字" * 7 + str(number) for number in range(10))
    login = f"x@{labels}" + "+" * 160
    names = [login, *(account for account, _ in splits(login, "+"))]
    for name in names:
        canonical.__wrapped__(name)
    assert len(tried) == 1
