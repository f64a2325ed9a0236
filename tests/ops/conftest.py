"""What these tests share: the end-to-end tests' real upstream, and a storage for containers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.conftest import certificates, dovecot
from tests.ops.containers import Containers

__all__ = ["certificates", "dovecot"]


@pytest.fixture(scope="session")
def containers() -> Iterator[Containers]:
    made = Containers()
    yield made
    made.close()
