"""Upstream's SMTP server, spoken to with aiosmtplib: `interfaces.submission.SmtpDialer`."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from contextlib import suppress

from aiosmtplib import SMTP
from aiosmtplib.errors import (
    SMTPConnectError,
    SMTPException,
    SMTPResponseException,
    SMTPTimeoutError,
)
from aiosmtplib.protocol import SMTPProtocol
from aiosmtplib.response import SMTPResponse

from proxy.adapters.certificate import upstream_context
from proxy.domain.errors import (
    ProxyError,
    UpstreamBusy,
    UpstreamGarbled,
    UpstreamSilent,
    UpstreamUnreachable,
    UpstreamUnusable,
)
from proxy.domain.policy import SmtpServer
from proxy.interfaces.link import DEAD
from proxy.interfaces.submission import GO_ON, Answer

CONNECT_TIMEOUT = 30.0
COMMAND_TIMEOUT = 300.0
STALL_TIMEOUT = 180.0
END_TIMEOUT = 600.0
"""Seconds: for an answer, for a part of the content to go, for the answer to its end (RFC 5321
§4.5.3.2)."""
QUIT_TIMEOUT = 5.0

OUR_NAME = "[127.0.0.1]"
"""What EHLO says: a literal that tells nothing of the network we are in, as mail programs do."""


class SmtpUpstream:
    """See `interfaces.submission.UpstreamSmtp`."""

    def __init__(self, client: SMTP, where: str) -> None:
        self.offers: Mapping[str, str] = {
            name.upper(): parameters for name, parameters in client.esmtp_extensions.items()
        }
        self.encrypted = client.get_transport_info("ssl_object") is not None
        peer = client.get_transport_info("peername")
        self.peer = str(peer[0]) if isinstance(peer, tuple) else "unknown"
        self._client = client
        self._where = where
        self._verdict: asyncio.Task[SMTPResponse] | None = None
        """The answer to the content that is being sent."""

    async def command(self, line: bytes) -> Answer:
        self._check_silence()
        try:
            response = await self._client.execute_command(line, timeout=COMMAND_TIMEOUT)
        except (SMTPException, OSError) as error:
            raise _broken(self._where, error) from None
        if response.code == GO_ON:
            self._check_silence()
            # Waited for from now on: what comes before it is asked for would be dropped.
            self._verdict = asyncio.create_task(self._protocol.read_response(timeout=None))
            self._verdict.add_done_callback(_look_at)
            await asyncio.sleep(0)
        return _answer(response)

    async def write(self, data: bytes) -> Answer | None:
        if self._verdict is None or self._verdict.done() or self._protocol._buffer:
            # It has answered, or begun to.
            return await self._hear()
        try:
            self._protocol.write(data)
            async with asyncio.timeout(STALL_TIMEOUT):
                await self._protocol._drain_helper()
        except TimeoutError:
            raise self._is_silent() from None
        except (SMTPException, OSError):
            # It has hung up. What it said before that is its answer.
            return await self._hear()
        return None

    async def end(self) -> Answer:
        with suppress(SMTPException, OSError):
            self._protocol.write(b".\r\n")
        return await self._hear()

    async def _hear(self) -> Answer:
        """The answer to the content."""
        verdict, self._verdict = self._verdict, None
        if verdict is None:
            raise UpstreamUnreachable(f"{self._where}: the connection was lost")
        try:
            async with asyncio.timeout(END_TIMEOUT):
                return _answer(await verdict)
        except TimeoutError:
            raise self._is_silent() from None
        except (SMTPException, OSError) as error:
            raise _broken(self._where, error) from None

    def _is_silent(self) -> UpstreamSilent:
        return UpstreamSilent(f"{self._where}: no answer in time")

    @property
    def _protocol(self) -> SMTPProtocol:
        """Raises:
        UpstreamUnreachable
        """
        protocol = self._client.protocol
        if protocol is None:
            raise UpstreamUnreachable(f"{self._where}: the connection was lost")
        return protocol

    def _check_silence(self) -> None:
        """What came behind the last answer would be taken for the next one.

        Raises:
            UpstreamGarbled
        """
        protocol = self._client.protocol
        if protocol is not None and protocol._buffer:
            raise UpstreamGarbled(f"{self._where}: an answer that nobody has asked for")

    async def quit(self) -> None:
        with suppress(SMTPException, OSError):
            await self._client.execute_command(b"QUIT", timeout=QUIT_TIMEOUT)
        self._client.close()

    def abort(self) -> None:
        transport = self._client.transport
        if isinstance(transport, asyncio.WriteTransport):
            with suppress(*DEAD):
                transport.abort()
        self._client.close()


class AioSmtpDialer:
    """See `interfaces.submission.SmtpDialer`."""

    async def open(self, server: SmtpServer) -> SmtpUpstream:
        where = f"{server.host}:{server.port}"
        context = _context(server) if server.tls != "none" else None
        client = SMTP(
            hostname=server.host,
            port=server.port,
            local_hostname=OUR_NAME,
            timeout=CONNECT_TIMEOUT,
            use_tls=server.tls == "implicit",
            start_tls=False,
            tls_context=context,
        )
        try:
            await client.connect()
            await client.ehlo()
            if server.tls == "starttls":
                if not client.supports_extension("starttls"):
                    raise UpstreamUnusable(f"{where}: offers no STARTTLS")
                await client.starttls()
                await client.ehlo()
        except (SMTPException, OSError) as error:
            client.close()
            raise _broken(where, error) from None
        except BaseException:
            client.close()
            raise
        return SmtpUpstream(client, where)


def _look_at(verdict: asyncio.Task[SMTPResponse]) -> None:
    """So that one that nobody waits for any more is not reported as overlooked."""
    if not verdict.cancelled():
        verdict.exception()


def _answer(response: SMTPResponse) -> Answer:
    return Answer(response.code, _printable(response.message))


def _printable(text: str) -> str:
    """Without the lone surrogates that stand for octets that are no UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _broken(where: str, error: Exception) -> ProxyError:
    cause = error.__cause__ or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return UpstreamUnreachable(
            f"{where}: the certificate does not verify: {cause.verify_message}"
        )
    if isinstance(error, SMTPTimeoutError):
        return UpstreamSilent(f"{where}: no answer in time")
    if isinstance(error, SMTPResponseException):
        text = f"{where}: {error.code} {_printable(error.message)}"
        if 400 <= error.code < 500:
            return UpstreamBusy(text)
        if 500 <= error.code < 600:
            return UpstreamUnusable(text)
        # What it says instead may be anything, our password too.
        return UpstreamGarbled(f"{where}: an answer that makes no sense")
    if isinstance(error, SMTPConnectError) and isinstance(cause, OSError):
        return UpstreamUnreachable(f"{where}: {cause.strerror or cause}")
    return UpstreamUnreachable(f"{where}: {error}")


def _context(server: SmtpServer) -> ssl.SSLContext:
    try:
        return upstream_context(server.ca_file, server.client_certificate, server.client_key)
    except (OSError, ssl.SSLError) as error:
        raise UpstreamUnusable(f"the certificates for {server.host}: {error}") from None
