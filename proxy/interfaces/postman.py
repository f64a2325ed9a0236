"""The way out for mail to the operator."""

from __future__ import annotations

from typing import Protocol

from proxy.domain.policy import AlertsPolicy


class Postman(Protocol):
    async def send(self, policy: AlertsPolicy, mail: bytes) -> None:
        """Returns once the server has taken it for at least one of the recipients.

        Raises:
            MailNotSent
        """
