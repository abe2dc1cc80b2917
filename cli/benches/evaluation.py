"""An evaluation of the main job beside bare passes that read the same rows in the same modes.

Shapes: B batch, T time, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F

from ttt.adapters.base import Mode
from ttt.cli.benches.assembled import assembly_of
from ttt.cli.benches.timing import Row, paired, ratio
from ttt.evaluation.evaluate import evaluate
from ttt.evaluation.modes import modes
from ttt.learner import Engine
from ttt.stream import IGNORE, Batch

ADAPTERS, TASKS = ("none", "mlp_fast"), 3


def measure_evaluation(*, rounds: int) -> Iterator[Row]:
    """Yield a row for each adapter: CPU time of TASKS tasks in every mode, over bare passes."""
    for name in ADAPTERS:
        assembly = assembly_of(f"adapter={name}", f"trainer.threads={torch.get_num_threads()}")
        engine = assembly.engine(assembly.settings.fabric(), None)
        batches = [task.evaluation().to(engine.fabric.device) for task in assembly.stream.tasks[:TASKS]]
        # Without fast weights all modes are one.
        read = modes(engine.learner, assembly.recipe.objective) if engine.learner.fast else ("slow",)
        ours: Any = partial(evaluate, engine, batches, recipe=assembly.recipe, tasks=range(TASKS))
        seconds = paired({"bare": partial(bare_passes, engine, batches, read), "ours": ours}, rounds=rounds)
        over = ratio(seconds["ours"], seconds["bare"])
        yield {
            "adapter": name,
            "passes": str(len(read) * TASKS),
            "ms": median(seconds["ours"]) * 1e3,
            "bare": median(seconds["bare"]) * 1e3,
            "over bare": over.median,
            "least": over.low,
            "most": over.high,
        }


@torch.no_grad()
def bare_passes(engine: Engine, batches: Sequence[Batch], read: Sequence[Mode]) -> None:
    """Read every batch in every mode; take its loss and its share of hits, and drop them."""
    learner = engine.learner.eval()
    start = learner.adapter.initial()
    for mode in read:
        for batch in batches:
            with engine.fabric.autocast():
                logits_BTV, _ = learner.adapter.read(learner.model, batch, start, write=mode != "slow")
            flat_NV, target_N = logits_BTV.float().flatten(0, 1), batch.targets_BT.flatten()
            F.cross_entropy(flat_NV, target_N, ignore_index=IGNORE).item()
            (flat_NV.argmax(-1) == target_N).double().mean().item()
    learner.train()
