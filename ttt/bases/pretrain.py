"""`base=pretrain`: slow weights trained on the base distribution, once, and kept in the cache.

What fast weights need is a base that has learned to use them: many small worlds (languages, mappings),
none of which will be a task. AdamW, linear warm-up, linear decay to zero.
"""

from __future__ import annotations

import math
from pathlib import Path

from filelock import FileLock, Timeout

from ttt.bases.base import Setting, Watcher, Weights
from ttt.devices.collective import decided
from ttt.devices.shards import gather
from ttt.learner import Engine
from ttt.optimizers.adamw import AdamW
from ttt.results.events import Trained, Waiting
from ttt.storage.checkpoint import Checkpoint, load, save
from ttt.training.train import train


class Pretrain:
    """Arguments are explained in conf/base/pretrain.yaml."""

    needs_data = True

    def __init__(
        self, *, name: str, seed: int, steps: int, lr: float, warmup: int, weight_decay: float, clip: float
    ) -> None:
        for argument, value in {"steps": steps, "warmup": warmup}.items():
            if value < 1:
                raise ValueError(f"base.{argument}={value}: must be at least 1")
        self.name, self.seed = name, seed
        self._steps, self._warmup = steps, warmup
        self.optimizer = AdamW(name="adamw", lr=lr, beta1=0.9, beta2=0.95, weight_decay=weight_decay, clip=clip)

    def rate(self, step: int) -> float:
        """Share of `lr` at a step: up to 1 over the warm-up, then down to zero at the end."""
        return min((step + 1) / self._warmup, 1 - step / self._steps)

    def weights(self, setting: Setting) -> Weights | None:
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

    def _train(self, setting: Setting, folder: Path) -> None:
        learner = setting.new_learner(self.optimizer)
        engine = Engine.build(setting.fabric, learner, learner.configure_optimizers(), accumulate=setting.accumulate)
        tokens, seconds = 0, 0.0
        curve = []
        task = setting.stream.base
        assert task is not None
        for progress in train(engine, task, steps=self._steps, report_every=10, rate=self.rate):
            tokens, seconds = tokens + progress.tokens, seconds + progress.seconds
            bits = progress.loss / math.log(2)
            curve.append([progress.step, bits])
            setting.observe(
                Trained(
                    task=0,
                    task_name="base",
                    task_step=progress.step,
                    task_steps=self._steps,
                    step=progress.step,
                    tokens=tokens,
                    seconds=seconds,
                    tokens_per_second=progress.tokens / progress.seconds,
                    loss=bits,
                    lr=progress.lr,
                )
            )
        state = {"tokens": tokens, "seconds": seconds, "curve": curve}
        first = setting.fabric.is_global_zero
        slow = gather(dict(learner.model.named_parameters()), keep=first)
        if first:
            save(folder, Checkpoint(tensors={"slow": slow}, state=state))


def _valid_when_free(folder: Path, lock: FileLock, observe: Watcher) -> bool:
    """Takes the lock, in the first process only: runs that start together wait for one, which trains for all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        observe(Waiting())
        lock.acquire()
    return _valid(folder)


def _valid(folder: Path) -> bool:
    try:
        load(folder)
    except ValueError:
        return False
    return True
