"""The label `account`, and how many there may be."""

from __future__ import annotations

from proxy.domain.labels import metrics_label

PREFIX = "pop3_sync"

MAX_ACCOUNTS = 1000
"""Accounts with series of their own: a server has to hold them all."""

OTHER = "other"


class AccountLabels:
    def __init__(self, key: bytes | None) -> None:
        """`key`: see `metrics_label`."""
        self._key = key
        self._known: dict[str, str] = {}

    def of(self, account: str) -> str:
        """ "other" for no account, and past `MAX_ACCOUNTS` of them."""
        if not account:
            return OTHER
        label = self._known.get(account)
        if label is None:
            if len(self._known) >= MAX_ACCOUNTS:
                return OTHER
            label = self._known[account] = metrics_label(account, self._key)
        return label
