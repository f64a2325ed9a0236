"""What an account is called where its name, an address as a rule, is not to be seen."""

from __future__ import annotations

import hashlib

DIGITS = 8


def metrics_label(account: str, *, named: bool) -> str:
    """The label `account` of metrics; without `named`, the beginning of the name's SHA-256."""
    # A name may hold octets that are no text, and metrics have to be UTF-8.
    if named:
        return account.encode(errors="backslashreplace").decode()
    return hashlib.sha256(account.encode(errors="surrogateescape")).hexdigest()[:DIGITS]
