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


# The groups that take longest, for the most part waiting: they start first, so that none ends last.
LONGEST = ("wandb_trouble", "wandb", "devices", "sweeps", "references", "sinks")


def pytest_collection_modifyitems(items):
    """Order the tests: the longest groups, other groups, tests that any process may run."""

    def place(item) -> int:
        mark = item.get_closest_marker("xdist_group")
        if mark is None:
            return len(LONGEST) + 1
        name = mark.args[0] if mark.args else mark.kwargs["name"]
        return LONGEST.index(name) if name in LONGEST else len(LONGEST)

    items.sort(key=place)
