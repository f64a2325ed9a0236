"""An upstream with two mails, and a house in front of it; tests that need others make their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.rude_upstream import RudeUpstream, mail
from tests.services.house import House, house, policy_for


@pytest.fixture
async def rude() -> AsyncIterator[RudeUpstream]:
    async with RudeUpstream([("u1", mail("1")), ("u2", mail("2"))]).listening() as upstream:
        yield upstream


@pytest.fixture
async def home(rude: RudeUpstream, tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, policy_for(rude.port)) as home:
        yield home
