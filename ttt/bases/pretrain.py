"""`base=pretrain`: slow weights trained on the base distribution, once, and kept in the cache.

Fast weights need a base that has learned to use them: many small worlds (languages, mappings), none
of which will be a task. AdamW, linear warm-up, linear decay to zero.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

from annotated_types import Ge
from filelock import FileLock, Timeout

from ttt.bases.base import BaseSetting, Observe, SlowWeights
from ttt.devices.collective import decided
from ttt.devices.shards import whole_tensors
from ttt.learner import Engine
from ttt.optimizers.adamw import AdamW
from ttt.optimizers.groups import Clip, Rate, WeightDecay
from ttt.results.events import Trained, Waiting
from ttt.storage.checkpoint import Checkpoint, load, save
from ttt.stream import Task
from ttt.training.recipe import Recipe
from ttt.training.train import Progress, train

REPORT_EVERY = 10


class Pretrain:
    """Arguments are explained in conf/base/pretrain.yaml."""

    needs_data = True

    def __init__(
        self,
        *,
        name: str,
        seed: int,
        steps: Annotated[int, Ge(1)],
        lr: Rate,
        warmup: Annotated[int, Ge(1)],
        weight_decay: WeightDecay,
        clip: Clip,
    ) -> None:
        self.name, self.seed = name, seed
        self._steps, self._warmup = steps, warmup
        self.optimizer = AdamW(name="adamw", lr=lr, beta1=0.9, beta2=0.95, weight_decay=weight_decay, clip=clip)

    def rate(self, step: int) -> float:
        """The share of `lr` at a step: up to 1 over the warm-up, then down to zero at the end."""
        return min((step + 1) / self._warmup, 1 - step / self._steps)

    def weights(self, setting: BaseSetting) -> SlowWeights | None:
        folder = setting.cache / "base" / setting.identity
        lock = FileLock(folder.with_suffix(".lock"))
        try:
            if not decided(setting.fabric, lambda: _valid_when_free(folder, lock, setting.observe)):
                self._train(setting, folder)
            # Nobody reads before the first process has written.
            setting.fabric.barrier()
        finally:
            lock.release(force=True)
        return load(folder).tensors["slow"]

    def _train(self, setting: BaseSetting, folder: Path) -> None:
        """Train the base and write its weights, with the curve of its loss, to `folder`."""
        learner, task = setting.new_learner(self.optimizer), setting.stream.base
        assert task is not None, "assemble checks that there is data for a base"
        engine = Engine.build(setting.fabric, learner, learner.configure_optimizers(), accumulate=setting.accumulate)
        state = self._learn(engine, task, setting.observe)
        is_first = setting.fabric.is_global_zero
        slow = whole_tensors(dict(learner.model.named_parameters()), keep=is_first)
        if is_first:
            save(folder, Checkpoint(tensors={"slow": slow}, state=state))

    def _learn(self, engine: Engine, task: Task, observe: Observe) -> dict[str, object]:
        """Train to the end; return what is worth keeping beside the weights."""
        tokens, seconds = 0, 0.0
        curve: list[tuple[int, float]] = []
        reports = train(engine, task, recipe=Recipe(), steps=self._steps, report_every=REPORT_EVERY, rate=self.rate)
        for progress in reports:
            tokens, seconds = tokens + progress.tokens, seconds + progress.seconds
            event = self._event(progress, tokens=tokens, seconds=seconds)
            curve.append((event.step, event.loss))
            observe(event)
        return {"tokens": tokens, "seconds": seconds, "curve": curve}

    def _event(self, progress: Progress, *, tokens: int, seconds: float) -> Trained:
        return Trained(
            task=0,
            task_name="base",
            task_step=progress.step,
            task_steps=self._steps,
            step=progress.step,
            tokens=tokens,
            seconds=seconds,
            tokens_per_second=progress.tokens / progress.seconds,
            loss=progress.loss / math.log(2),
            lr=progress.lr,
        )


def _valid_when_free(folder: Path, lock: FileLock, observe: Observe) -> bool:
    """Is the base in `folder` whole? Takes the lock; called in the first process only.

    Runs that start together wait here for one of them, which trains for all.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        observe(Waiting())
        lock.acquire()
    return _is_valid(folder)


def _is_valid(folder: Path) -> bool:
    try:
        load(folder)
    except ValueError:
        return False
    return True
