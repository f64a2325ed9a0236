"""Names of accounts and devices, however somebody writes them.

An account has one canonical form, in which names are compared, and one spelling of its own, which
goes upstream.
"""

from __future__ import annotations

import re
from functools import lru_cache
from unicodedata import normalize

import idna

from proxy.domain.model import is_valid_device_name

CACHED = 1024
"""Names remembered in their canonical form: a login asks for its own some ten times."""

ACCOUNT_LIMIT = 320
"""Characters: an address has no more (RFC 5321 §4.5.3.1). No name is searched for longer ones."""

DOMAIN_LIMIT = 253
"""Characters of a domain (RFC 1035 §2.3.4); longer ones are not looked at as one."""

_LABELS = re.compile(r"(?:[a-z0-9.-]|[^\x00-\x7f])+")
"""What a domain may be written in. IDNA refuses the rest as well, after much work."""


BLANKS = (
    " \t\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u202f\u205f\u3000"
)
"""What a name may have around it: the tab, and what Unicode calls separators of words (Zs)."""


def spelled(name: str) -> str:
    """As it is written, but for what nobody sees: outer blanks, and how letters are composed."""
    return normalize("NFC", name).strip(BLANKS)


@lru_cache(maxsize=CACHED)
def canonical(name: str) -> str:
    """Equal for two spellings of one account: NFC, case folded, without outer blanks.

    The domain behind the last "@" is brought into its ASCII form by IDNA 2008 (UTS 46, not
    transitional) where it is one. IDNA 2003, which the standard library speaks, would make one
    domain of two: "straße.example" and "strasse.example" may belong to different people.
    """
    name = spelled(name)
    if name.isascii():
        return name.lower()
    local, at, domain = name.rpartition("@")
    return f"{_folded(local)}@{_domain(domain)}" if at else _folded(domain)


def _folded(text: str) -> str:
    """Canonical caseless matching, composed (The Unicode Standard, section 3.13, D145)."""
    return normalize("NFC", normalize("NFD", text).casefold())


def _domain(domain: str) -> str:
    if domain.isascii():
        return domain.lower()
    folded = _folded(domain)
    if not _LABELS.fullmatch(folded):
        return folded
    for text in dict.fromkeys((domain, folded)):
        if len(text) <= DOMAIN_LIMIT:
            try:
                return idna.encode(text, uts46=True).decode()
            except UnicodeError:
                # Not a domain; it is compared as it is written.
                pass
    return folded


def splits(login: str, separator: str) -> list[tuple[str, str]]:
    """Each way to read a login name as account and device, the longest account first.

    Blanks around either are dropped. The device may be anything, also "".
    """
    login = spelled(login)
    start = login[: ACCOUNT_LIMIT + 1]
    ends = [index for index, character in enumerate(start) if character == separator]
    pairs = [(login[:end].strip(BLANKS), login[end + 1 :].strip(BLANKS)) for end in reversed(ends)]
    return [pair for pair in pairs if pair[0]]


def unheard_of(login: str, separator: str) -> tuple[str, str | None]:
    """What a login name means of which nobody knows any account that it could begin with.

    What follows the last separator is the device, but where an address goes on behind it, as in
    "alice+tag@example.com".
    """
    whole = spelled(login)
    account, device = next(iter(splits(whole, separator)), (whole, "@"))
    return (whole, None) if "@" in device or separator in device else (account, device)


def unfit_device_name(name: str) -> str:
    """What is wrong with the name of a device, in words; "" for nothing."""
    if is_valid_device_name(name):
        return ""
    if not name:
        return "the device name is empty"
    if len(name) > 32:
        return "the device name is longer than 32 characters"
    return "the device name has other characters than A-Z a-z 0-9 . _ -"
