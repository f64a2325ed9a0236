"""Mail to the operator, handed to an SMTP server by aiosmtplib; TLS is verified."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from aiosmtplib import SMTP, SMTPException, SMTPResponseException

from proxy.adapters.certificate import client_context
from proxy.domain.errors import BadConfig, MailNotSent
from proxy.domain.plain_text import one_line
from proxy.domain.policy import AlertsPolicy

TIMEOUT = 30.0
"""Seconds for each step."""
WHOLE_TIMEOUT = 120.0

SAID = 300
"""Characters of what a server said."""


class SmtpPostman:
    """See `interfaces.postman.Postman`."""

    async def send(self, policy: AlertsPolicy, mail: bytes) -> None:
        async with _session(policy) as server:
            await server.sendmail(policy.envelope_sender, list(policy.to), mail)

    async def try_out(self, policy: AlertsPolicy) -> None:
        """Log in, and send nothing.

        Raises:
            MailNotSent
        """
        async with _session(policy):
            pass


@asynccontextmanager
async def _session(policy: AlertsPolicy) -> AsyncIterator[SMTP]:
    where = f"{policy.host}:{policy.port}"
    try:
        async with asyncio.timeout(WHOLE_TIMEOUT):
            # Reads the trust roots, which takes some 20 ms.
            context = await asyncio.to_thread(client_context, policy.ca_file)
            server = SMTP(
                hostname=policy.host,
                port=policy.port,
                timeout=TIMEOUT,
                use_tls=policy.tls == "implicit",
                start_tls=policy.tls == "starttls",
                tls_context=context,
            )
            try:
                await server.connect()
                if policy.username:
                    password = await asyncio.to_thread(_password, policy)
                    await server.login(policy.username, password)
                yield server
                # What is said to this changes nothing of what was taken.
                with suppress(SMTPException, OSError):
                    await server.quit()
            finally:
                server.close()
    except SMTPResponseException as error:
        said = one_line(f"{error.code} {error.message}", SAID)
        raise MailNotSent(f"{where}: {said}") from None
    except ssl.SSLCertVerificationError as error:
        raise MailNotSent(
            f"{where}: the certificate does not verify: {error.verify_message}"
        ) from None
    except (SMTPException, OSError, ValueError, TimeoutError) as error:
        said = one_line(str(error), SAID) or type(error).__name__
        raise MailNotSent(f"{where}: {said}") from None


def check_password_file(policy: AlertsPolicy) -> None:
    """Raises:
    BadConfig: it cannot be read.
    """
    try:
        _password(policy)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise BadConfig(
            [f"alerts.password_file: {policy.password_file} cannot be read: {why}"]
        ) from None


def _password(policy: AlertsPolicy) -> str:
    if not policy.password_file:
        return policy.password
    return Path(policy.password_file).read_text().removesuffix("\n").removesuffix("\r")
