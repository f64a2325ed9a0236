"""Access tokens: refreshed ahead of time, once for all who wait, consent never lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from proxy.adapters.store import open_store
from proxy.adapters.vault import AesVault, KeySource
from proxy.domain.errors import ConsentNeeded, ProxyError, UpstreamUnreachable, UpstreamUnusable
from proxy.domain.policy import UpstreamServer
from proxy.services.tokens import AHEAD, KeptSecrets, Tokens

SERVER = UpstreamServer("pop", oauth_client_id="me", oauth_token_url="https://tokens.example.com/")


class TokenServer:
    """Answers as it is told; counts the requests."""

    def __init__(self) -> None:
        self.status = 200
        self.answer: object = None
        self.down = False
        self.forms: list[Mapping[str, str]] = []

    async def post_form(self, url: str, fields: Mapping[str, str]) -> tuple[int, str]:
        self.forms.append(fields)
        # Others get their turn while the request is on its way.
        await asyncio.sleep(0)
        if self.down:
            raise UpstreamUnreachable("down")
        number = len(self.forms)
        answer = self.answer or {
            "access_token": f"access {number}",
            "expires_in": 3600,
            "refresh_token": f"refresh {number}",
            "token_type": "Bearer",
        }
        return self.status, answer if isinstance(answer, str) else json.dumps(answer)


class House:
    def __init__(self, server: TokenServer, kept: KeptSecrets) -> None:
        self.server = server
        self.kept = kept
        self.tokens = Tokens(server, kept)

    async def access(self) -> bytes:
        return await self.tokens.access("alice", "alice@example.com", SERVER)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    store = await open_store(tmp_path / "data")
    vault = AesVault(KeySource("0123456789abcdef", tmp_path, ""), lambda octets: b"n" * octets)
    kept = KeptSecrets(store, vault)
    await kept.keep_refresh_token("alice", b"refresh 0")
    yield House(TokenServer(), kept)
    await store.close()


async def test_many_who_wait_cause_one_request(house: House) -> None:
    tokens = await asyncio.gather(*(house.access() for _ in range(20)))
    assert set(tokens) == {b"access 1"}
    assert len(house.server.forms) == 1
    form = house.server.forms[0]
    assert (form["grant_type"], form["refresh_token"]) == ("refresh_token", "refresh 0")
    assert form["client_id"] == "me"


async def test_one_who_gives_up_waiting_takes_it_from_nobody_else(house: House) -> None:
    first = asyncio.create_task(house.access())
    second = asyncio.create_task(house.access())
    await asyncio.sleep(0)
    first.cancel()
    assert await second == b"access 1"


async def test_a_token_is_replaced_before_it_ends(house: House) -> None:
    await house.access()
    held = house.tokens._access["alice"]
    assert held.ends - held.replace_at == AHEAD
    held.replace_at = 0.0
    assert await house.access() == b"access 2"


async def test_a_new_refresh_token_is_kept_and_used(house: House) -> None:
    await house.access()
    assert await house.kept.refresh_token("alice") == b"refresh 1"
    house.tokens.forget("alice")
    await house.access()
    assert house.server.forms[1]["refresh_token"] == "refresh 1"


async def test_while_the_token_server_is_down_a_token_that_still_holds_is_used(
    house: House,
) -> None:
    await house.access()
    house.tokens._access["alice"].replace_at = 0.0
    house.server.down = True
    assert await house.access() == b"access 1"
    house.tokens.forget("alice")
    with pytest.raises(UpstreamUnreachable):
        await house.access()
    assert await house.kept.refresh_token("alice") is not None


async def test_without_a_refresh_token_consent_is_needed(house: House) -> None:
    await house.kept.keep_refresh_token("alice", None)
    with pytest.raises(ConsentNeeded, match="account authorize alice"):
        await house.access()
    assert house.server.forms == []


@pytest.mark.parametrize(
    ("status", "answer", "error"),
    [
        (400, {"error": "invalid_grant", "error_description": "expired"}, ConsentNeeded),
        (400, {"error": "interaction_required"}, ConsentNeeded),
        (401, {"error": "invalid_client"}, UpstreamUnusable),
        (400, {"error": "invalid_scope"}, UpstreamUnusable),
        (400, {"error": "temporarily_unavailable"}, UpstreamUnreachable),
        (503, "<html>busy</html>", UpstreamUnreachable),
        (429, {"error": "slow_down"}, UpstreamUnreachable),
        (200, "<html>sign in to the hotel's network</html>", ProxyError),
        (200, "[]", ProxyError),
        (200, "null", ProxyError),
        (200, {"token_type": "Bearer"}, ProxyError),
    ],
)
async def test_what_the_token_server_says_becomes_an_error_and_the_consent_is_kept(
    house: House, status: int, answer: object, error: type[ProxyError]
) -> None:
    house.server.status, house.server.answer = status, answer
    with pytest.raises(error) as raised:
        await house.access()
    assert "refresh 0" not in str(raised.value)
    assert await house.kept.refresh_token("alice") == b"refresh 0"


async def test_a_client_secret_goes_to_the_token_server_alone(house: House) -> None:
    server = UpstreamServer(
        "pop", oauth_client_id="me", oauth_client_secret="s3cret", oauth_token_url="https://t/"
    )
    await house.tokens.access("alice", "alice", server)
    assert house.server.forms[0]["client_secret"] == "s3cret"
    assert "s3cret" not in repr(server)
