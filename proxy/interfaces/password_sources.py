"""The door to passwords that the configuration does not hold itself."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from proxy.domain.password_source import PasswordSource


class PasswordSources(Protocol):
    async def fetch(self, source: PasswordSource, secret_variables: Collection[str]) -> bytes:
        """The password; may take as long as a command may run.

        A command does not see the `secret_variables`, nor any other secret of ours.

        Raises:
            PasswordUnavailable: it cannot be had, or cannot be sent in POP3.
        """
