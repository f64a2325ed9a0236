"""What an account is called where its name, an address as a rule, is not to be seen."""

from __future__ import annotations

import hmac

DIGITS = 8

KEY_OCTETS = 32


def metrics_label(account: str, key: bytes | None) -> str:
    """The label `account` of metrics: the beginning of an HMAC-SHA-256 of the name, so that nobody
    can try out names who has not got the key; without a key, the name."""
    # A name may hold octets that are no text, and metrics have to be UTF-8.
    if key is None:
        return account.encode(errors="backslashreplace").decode()
    return hmac.digest(key, account.encode(errors="surrogateescape"), "sha256").hex()[:DIGITS]
