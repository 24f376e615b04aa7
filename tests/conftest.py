"""Fixtures that every kind of test may use."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of small real data sets beside the project; skips where it is absent."""
    shared = Path(os.environ.get("ZIGGURAT_SHARED", ROOT.parent / "shared"))
    if not (shared / "data").is_dir():
        pytest.skip(f"the real data sets are not here: no folder {shared / 'data'}")
    return shared / "data"
