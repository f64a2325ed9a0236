from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a configuration can be written."""
    return tmp_path / "proxy.toml"
