"""The text of a part of the user's own is part of the name of a run, and of its base."""

from __future__ import annotations

import pytest
from harness import TINY, run_apart

MINE = """
from ttt.adapters.none import NoAdapter
from beside import FACTOR

class Mine(NoAdapter):
    def read(self, model, batch, state, *, write, cache=None):
        logits, after = super().read(model, batch, state, write=write, cache=cache)
        return logits * FACTOR, after
"""


@pytest.fixture
def mine(tmp_path):
    folder = tmp_path / "mine"
    (folder / "adapter").mkdir(parents=True)
    (folder / "adapter/mine.yaml").write_text("_target_: mine.Mine\nname: mine\n")
    (folder / "mine.py").write_text(MINE)
    (folder / "beside.py").write_text("FACTOR = 1.0\n")
    return folder


def results(folder):
    return sorted(folder.glob("outputs/*/*/*/results.json"))


def test_another_text_is_another_run_with_a_base_of_its_own(mine, tmp_path):
    words = [*TINY, "adapter=mine", "--config-dir", str(mine), "cache_dir=cache"]
    for factor in (1.0, 2.0):
        (mine / "beside.py").write_text(f"FACTOR = {factor}\n")
        outcome = run_apart(words, tmp_path)
        assert outcome.code == 0, outcome.err
    first, second = results(tmp_path)
    assert first.read_bytes() != second.read_bytes()
    assert len([path for path in tmp_path.glob("cache/base/*") if path.is_dir()]) == 2
    # Typed once more as it was at first, the first run is shown.
    (mine / "beside.py").write_text("FACTOR = 1.0\n")
    assert run_apart(["-m", *words, "seed=0"], tmp_path).code == 0
    assert len(results(tmp_path)) == 2
