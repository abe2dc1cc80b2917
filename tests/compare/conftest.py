"""One study for all tests of this folder: two adapters, two rates, five seeds."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from comparisons import write_run


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    """(folder, values): `values[adapter, rate]` has a number for each seed."""
    folder, rng = tmp_path_factory.mktemp("study"), np.random.default_rng(0)
    values = {(adapter, lr): rng.normal(size=5) for adapter in ("none", "mlp_fast") for lr in (0.1, 0.2)}
    for (adapter, lr), numbers in values.items():
        for seed, value in enumerate(numbers):
            write_run(folder, seed=seed, lr=lr, value=float(value), adapter=adapter)
    return folder, values


@pytest.fixture
def own_study(study, tmp_path):
    """The same study in a folder that the test may change."""
    shutil.copytree(study[0], tmp_path / "study")
    return tmp_path / "study", study[1]
