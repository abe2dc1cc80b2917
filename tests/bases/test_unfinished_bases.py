"""A base that is stopped in its training goes on to the last bit, in whichever run needs it next."""

from __future__ import annotations

import pytest
import torch
from harness import FAST, SMALL
from stopping import Asked
from strategy_jobs import config_of

from ttt.bases import pretrain
from ttt.run.assemble import assemble
from ttt.storage.checkpoint import in_order
from ttt.training.saving import Saving, StoppedError

JOBS = {
    "plain": ("base.steps=8",),
    "carried": ("base.steps=8", "base.reset=task", "base.lifetime=3"),
    "until": ("base.steps=8", "base.until=20", "adapter.write_dropout=0.5"),
}


def weights(job, cache, saving=None, seen=None):
    assembly = assemble(config_of(*SMALL, *FAST, *JOBS[job], f"cache_dir={cache}"), trusted=[])
    observe = (lambda event: None) if seen is None else seen.append
    return assembly.base_weights(assembly.settings.fabric(), observe, saving), assembly.base.record


@pytest.mark.parametrize("job", JOBS)
def test_a_base_that_is_stopped_goes_on_to_the_last_bit(job, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "REPORT_EVERY", 2)
    if job == "until":
        # Reached at the last look only.
        monkeypatch.setattr(pretrain.Until, "is_reached", reached_at(4))
    whole, record = weights(job, tmp_path / "whole")
    for _ in range(2):
        with pytest.raises(StoppedError):
            weights(job, tmp_path / "broken", Saving(stop=Asked(1)))
    (unfinished,) = (tmp_path / "broken" / "base").glob("*.unfinished")
    assert len(in_order(unfinished)) == 1
    seen = []
    broken, again = weights(job, tmp_path / "broken", seen=seen)
    assert seen[0].step == 6
    assert {key: x for key, x in again.items() if key != "seconds"} == {
        key: x for key, x in record.items() if key != "seconds"
    }
    assert all(torch.equal(broken[name], x) for name, x in whole.items())
    assert not unfinished.exists()


def reached_at(looks):
    is_reached = pretrain.Until.is_reached

    def answer(self):
        is_reached(self)
        return self._mean._looks == looks

    return answer


def test_a_damaged_checkpoint_of_a_base_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "REPORT_EVERY", 2)
    with pytest.raises(StoppedError):
        weights("plain", tmp_path, Saving(stop=Asked(2)))
    (state,) = tmp_path.glob("base/*.unfinished/*/state.json")
    state.write_text("{}")
    seen = []
    weights("plain", tmp_path, seen=seen)
    assert seen[0].step == 2
