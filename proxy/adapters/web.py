"""HTTP requests to token servers, by aiohttp."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp

from proxy.domain.errors import UpstreamUnreachable

TIMEOUT = 30.0
"""Seconds for one request, everything included."""
ANSWER_LIMIT = 64 * 1024
"""Octets; tokens have a few thousand."""


class WebClient:
    """`interfaces.world.Web`. A connection for each request: there is one an hour."""

    async def post_form(self, url: str, fields: Mapping[str, str]) -> tuple[int, str]:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        headers = {"Accept": "application/json"}
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, headers=headers) as http,
                http.post(url, data=dict(fields), allow_redirects=False) as response,
            ):
                body = await response.content.read(ANSWER_LIMIT)
                if not response.content.at_eof():
                    raise UpstreamUnreachable(f"{response.url.host}: the answer is too long")
                return response.status, body.decode(errors="replace")
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            why = str(error) or type(error).__name__
            raise UpstreamUnreachable(f"no answer from the token server: {why}") from None
