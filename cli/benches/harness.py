"""Our training loop beside a bare torch loop that takes the same steps on batches in memory.

Shapes: B batch, T time, V vocabulary.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F

from ttt.cli.benches.assembled import assembly_of
from ttt.cli.benches.timing import paired
from ttt.learner import Learner
from ttt.run.assemble import Assembly
from ttt.stream import IGNORE
from ttt.training.train import train

STEPS = 10


def measure_harness(*, rounds: int) -> dict[str, list[float]]:
    """Return the CPU seconds for STEPS steps of the main job, for `bare` and `harness`."""
    assembly = assembly_of(f"trainer.threads={torch.get_num_threads()}")
    fabric = assembly.settings.fabric()
    # Each side trains weights of its own, from the same start.
    bare = BareLoop(copy.deepcopy(assembly.learner), assembly, fabric.device)
    engine = assembly.engine(fabric, None)
    task = assembly.stream.tasks[0]

    def harness() -> None:
        every = assembly.settings.report_every
        for _ in train(engine, task, recipe=assembly.recipe, steps=STEPS, report_every=every):
            pass

    return paired({"bare": bare.run, "harness": harness}, rounds=rounds)


class BareLoop:
    """A loop as written without a harness: the same model, adapter, optimizer and clipping."""

    def __init__(self, learner: Learner, assembly: Assembly, device: torch.device) -> None:
        self._model, self._adapter = learner.model.to(device), learner.adapter
        self._optimizer = learner.configure_optimizers()
        limit = learner.optimizer_factory.clip
        self._clip = math.inf if limit is None else limit
        self._batches = [assembly.stream.tasks[0].batch(step).to(device) for step in range(STEPS)]
        self._device, self._half = device.type, assembly.settings.precision == "bf16-mixed"
        self._state = self._adapter.initial()

    def run(self) -> None:
        """Take STEPS training steps, the fast state carried from one to the next."""
        for batch in self._batches:
            with torch.autocast(self._device, torch.bfloat16, enabled=self._half):
                # This calls the adapter itself: what the learner
                # adds is part of what the harness costs.
                logits_BTV, after = self._adapter.read(self._model, batch, self._state, write=True)
            flat = (logits_BTV.float().flatten(0, 1), batch.targets_BT.flatten())
            loss = F.cross_entropy(*flat, ignore_index=IGNORE)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._clip)
            self._optimizer.step()
            self._optimizer.zero_grad()
            # As with `reset=task|never`: the fast state goes on from batch to batch.
            self._state = self._adapter.carry(after)
