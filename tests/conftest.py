"""Keep tests offline, on one thread, with a cache of their own."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

# Before anything imports them: no network, no tracker, no shared cache. Processes of one session
# inherit its cache, so that data are prepared once.
CACHE = Path(os.environ.get("TTT_TEST_CACHE") or tempfile.mkdtemp(prefix="ttt-tests-"))
os.environ.update(HF_HUB_OFFLINE="1", HF_HOME=str(CACHE / "hf"), TTT_CACHE=str(CACHE), WANDB_MODE="offline")
os.environ["TTT_TEST_CACHE"] = str(CACHE)

import torch  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def cache() -> Path:
    return CACHE


def pytest_configure(config):
    # Known without pytest-xdist too, as where one file is run alone.
    config.addinivalue_line("markers", "xdist_group(name): tests that one process runs")


def pytest_collection_modifyitems(items):
    """Start with what one process must do alone, so that it does not end last."""
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)
