"""`base=pretrain`: slow weights trained on the base distribution, once, and kept in the cache.

Fast weights need a base that has learned to use them: many small worlds (languages, mappings), none
of which will be a task. AdamW, linear warm-up, linear decay to zero; with `until` a constant rate.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt
from filelock import FileLock, Timeout

from ttt.bases.base import BaseSetting, Observe, SlowWeights
from ttt.bases.shipped import shipped_base
from ttt.bases.unfinished import Unfinished
from ttt.bases.until import Until
from ttt.devices.collective import decided
from ttt.learner import Engine
from ttt.optimizers.adamw import AdamW
from ttt.optimizers.groups import Clip, Rate, WeightDecay
from ttt.results.events import Damaged, Trained, Waiting
from ttt.storage.checkpoint import Checkpoint, load, save, save_together
from ttt.storage.files import check_space, remove_unfinished
from ttt.training.engine_state import bytes_of_a_save
from ttt.training.recipe import Recipe
from ttt.training.saving import StoppedError
from ttt.training.train import Progress, train

REPORT_EVERY = 10
# What a run records of its base; the curve of the loss stays in the cache.
RECORDED = ("steps", "tokens", "seconds", "loss", "held_out_loss")


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
        reset: Literal["sequence", "task"],
        lifetime: Annotated[int, Ge(1)],
        until: Annotated[float, Gt(0)] | None,
    ) -> None:
        self.name, self.seed = name, seed
        self.record: dict[str, float | str] = {}
        self._steps, self._warmup, self._until = steps, warmup, until
        self._lifetime = lifetime if reset == "task" else None
        self.optimizer = AdamW(name="adamw", lr=lr, beta1=0.9, beta2=0.95, weight_decay=weight_decay, clip=clip)

    def rate(self, step: int) -> float:
        """The share of `lr` at a step: up to 1 over the warm-up, then down to zero at the end.

        With `until` it stays at 1, because nobody knows where the end is.
        """
        # The lower of two lines counts: one rises over
        # the warm-up, the other falls to zero at the end.
        return min((step + 1) / self._warmup, 1 - step / self._steps if self._until is None else 1.0)

    def weights(self, setting: BaseSetting) -> SlowWeights | None:
        folder = setting.cache / "base" / setting.identity
        lock = FileLock(folder.with_suffix(".lock"))
        try:
            if not decided(setting.fabric, lambda: _valid_when_free(folder, lock, setting.observe)):
                self._make(setting, folder)
            # Nobody reads before the first process has written.
            setting.fabric.barrier()
        finally:
            # Other runs may be waiting for the lock, whatever has happened to this one.
            lock.release(force=True)
        saved = load(folder)
        self._check_loss(saved.state)
        self.record = {"id": setting.identity}
        self.record |= {name: saved.state[name] for name in RECORDED if name in saved.state}
        return saved.tensors["slow"]

    def _check_loss(self, state: dict[str, Any]) -> None:
        """Raise ValueError for a base that never came down to `until`."""
        if self._until is not None and state["held_out_loss"] > self._until:
            raise ValueError(
                f"base.until={self._until}: after base.steps={self._steps} the base has a loss of "
                f"{state['held_out_loss']:.4f} bits per token on held-out text; take more steps, or a higher loss"
            )

    def _engine(self, setting: BaseSetting) -> Engine:
        learner = setting.new_learner(self.optimizer)
        optimizer, fabric = learner.configure_optimizers(), setting.fabric
        return Engine.build(fabric, learner, optimizer, accumulate=setting.accumulate, processes=setting.processes)

    def _make(self, setting: BaseSetting, folder: Path) -> None:
        """Write the base to `folder`: the one that comes with ttt, or one that is trained here."""
        shipped = shipped_base(setting, partial(self._engine, setting))
        if shipped is None:
            self._train(setting, folder)
        elif setting.fabric.is_global_zero:
            save(folder, shipped)

    def _train(self, setting: BaseSetting, folder: Path) -> None:
        """Train the base and write its weights, with the curve of its loss, to `folder`."""
        engine = self._engine(setting)
        # A full disk is noticed before the training, not after it.
        check_space(folder, bytes_of_a_save(engine), what="the base")
        unfinished = Unfinished.of(folder, engine)
        with setting.saving.deferred():
            state = self._learn(engine, setting, unfinished)
        slow = Checkpoint({"slow": dict(engine.learner.model.named_parameters())}, state)
        save_together(setting.fabric, folder, slow, sharded=setting.saving.sharded)
        if setting.fabric.is_global_zero:
            # The checkpoints go only now that the base itself is whole.
            unfinished.remove()

    def _learn(self, engine: Engine, setting: BaseSetting, unfinished: Unfinished) -> dict[str, Any]:
        """Train to the end; return what is worth keeping beside the weights."""
        task = setting.stream.base
        assert task is not None, "assemble checks that there is data for a base"
        until = None if self._until is None else Until(engine, task.evaluation(), self._until)
        saved = unfinished.restore()
        if saved is not None and until is not None:
            until.restore(dict(saved.tensors["mean"]))
        so_far: dict[str, Any] = saved.state if saved else {"step": 0, "tokens": 0, "seconds": 0.0, "curve": []}
        tokens, seconds, curve = so_far["tokens"], so_far["seconds"], so_far["curve"]
        setting.saving.restart(so_far["step"])
        reports = train(
            engine,
            task,
            recipe=Recipe(dropout=setting.dropout),
            steps=self._steps,
            report_every=REPORT_EVERY,
            start=so_far["step"],
            rate=self.rate,
            lifetime=self._lifetime,
        )
        for progress in reports:
            tokens, seconds = tokens + progress.tokens, seconds + progress.seconds
            # Asking takes a look at the weights: the mean needs one at every report.
            is_reached = until is not None and until.is_reached()
            event = self._event(progress, tokens=tokens, seconds=seconds, is_last=is_reached)
            curve.append((event.step, event.loss))
            setting.observe(event)
            if is_reached:
                break
            if progress.step < self._steps:
                state = {"tokens": tokens, "seconds": seconds, "curve": curve}
                _rest(setting, unfinished, progress.step, state, until)
        # With `until` the last report may come long before the last step that was allowed.
        state = {"steps": event.step, "tokens": tokens, "seconds": seconds, "loss": event.loss, "curve": curve}
        return state if until is None else state | {"held_out_loss": until.end()}

    def _event(self, progress: Progress, *, tokens: int, seconds: float, is_last: bool) -> Trained:
        return Trained(
            task=0,
            task_name="base",
            task_step=progress.step,
            task_steps=progress.step if is_last else self._steps,
            step=progress.step,
            tokens=tokens,
            seconds=seconds,
            tokens_per_second=progress.tokens / progress.seconds,
            loss=progress.loss / math.log(2),
            lr=progress.lr,
        )


def _rest(setting: BaseSetting, unfinished: Unfinished, step: int, state: dict[str, Any], until: Until | None) -> None:
    """Save after this step if that is due. Raise StoppedError if a signal asks."""
    saving = setting.saving
    # The first process decides for all, because clocks and signals differ.
    number, is_due = decided(setting.fabric, lambda: (saving.stop(), saving.is_due(step)))
    if number is None and not is_due:
        return
    unfinished.save(step, state, until.state() if until else {}, sharded=saving.sharded)
    saving.restart(step)
    if number is not None:
        raise StoppedError(number)


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
    remove_unfinished(folder.parent, prefix=folder.name)
    if not folder.exists():
        return False
    try:
        load(folder)
    except ValueError as error:
        observe(Damaged(str(error)))
        return False
    return True
