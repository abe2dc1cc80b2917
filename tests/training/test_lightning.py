"""The learner in the hands of a stock Lightning trainer."""

from __future__ import annotations

import pytest
from assembling import assembled
from harness import FAST, SMALL
from learning import engine_of, losses_of
from lightning import Trainer
from torch.utils.data import DataLoader

from ttt.learner import slow_hash
from ttt.objectives.next_token import NextToken
from ttt.training.lightning import LightningLearner


# Lightning's own deprecations are not ours to mend.
@pytest.mark.filterwarnings("ignore")
def test_a_stock_trainer_takes_the_same_steps():
    ours, theirs = (assembled(*SMALL, *FAST, "base=none") for _ in range(2))
    losses_of(engine_of(ours), ours, 0, steps=3)
    batches = [theirs.stream.tasks[0].batch(step) for step in range(3)]
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, gradient_clip_val=theirs.learner.optimizer_factory.clip,
    )  # fmt: skip
    trainer.fit(LightningLearner(theirs.learner), DataLoader(batches, batch_size=None))
    assert slow_hash(theirs.learner.model) == slow_hash(ours.learner.model)


class Half(NextToken):
    def loss(self, *args, **more):
        loss = super().loss(*args, **more)
        return loss._replace(value=loss.value / 2)


def test_an_objective_of_ones_own_is_what_it_learns_from():
    losses = []
    for objective in (NextToken, Half):
        assembly = assembled(*SMALL, *FAST, "base=none")
        module = LightningLearner(assembly.learner, objective=objective(name="mine"))
        losses.append(module.training_step(assembly.stream.tasks[0].batch(0), 0).item())
    assert losses[1] == pytest.approx(losses[0] / 2)
