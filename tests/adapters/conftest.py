"""A store on this machine, and an account in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.adapters.store import SqliteStore, open_store
from proxy.domain.model import Account
from tests.interfaces.store_contract import NOW


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await open_store(tmp_path)
    yield store
    await store.close()


@pytest.fixture
async def alice(store: SqliteStore) -> Account:
    return await store.ensure_account("alice", declared=True, at=NOW)
