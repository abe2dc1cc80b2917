"""What does not go together, whatever each part says of itself.

Each check raises ValueError in the user's words.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ttt.adapters.base import Adapter
from ttt.adapters.evolving import Evolving
from ttt.bases.base import Base
from ttt.compare.published import check_published
from ttt.config.messages import show
from ttt.devices.settings import TrainerSettings
from ttt.learner import Learner
from ttt.objectives.reward import Reward
from ttt.strategies.base import Strategy
from ttt.stream import Stream
from ttt.training.recipe import Recipe


def check_values(config: Mapping[str, Any]) -> None:
    """Check the settings that belong to no part."""
    if not 0 <= config["seed"] < 2**64:
        raise ValueError(f"seed={config['seed']}: must be at least 0, and below 2^64")
    for name in ("report", "references"):
        if not isinstance(config[name], bool):
            raise ValueError(f"{name}={show(config[name])}: must be true or false")
    check_published(config.get("published"))


def check_data(base: Base, stream: Stream, settings: TrainerSettings, *, task: str, source: str) -> None:
    """A base may need data, and devices need equally many rows of every batch."""
    if stream.base is None and base.needs_data:
        raise ValueError(
            f"base={base.name}: task={task} leaves no class of source={source} for a base distribution; "
            "use base=none, or fewer tasks or classes"
        )
    rows = len(stream.phases[0].batch(0).tokens_BT) if settings.parts > 1 else 0
    if rows % settings.parts:
        size = settings.world.size
        each = f" and trainer.accumulate={settings.accumulate}" if settings.accumulate > 1 else ""
        raise ValueError(
            f"task.batch_size={rows}: must be a multiple of {settings.parts}, with {size} "
            f"device{'s' if size > 1 else ''}{each}"
        )


def check_devices(adapter: Adapter, strategy: Strategy, settings: TrainerSettings) -> None:
    """Several devices do not hold all that every adapter and strategy needs."""
    kind = settings.world.strategy
    if strategy.runs_on == "one" and settings.parts > 1:
        what = f"trainer.strategy={kind}" if settings.world.size > 1 else f"trainer.accumulate={settings.accumulate}"
        raise ValueError(f"{what}: strategy={strategy.name} needs whole batches on one device")
    if kind == "fsdp" and strategy.runs_on == "ddp":
        raise ValueError(f"trainer.strategy=fsdp: strategy={strategy.name} needs whole parameters; use trainer=ddp")
    if kind == "fsdp" and adapter.runs_on == "ddp":
        raise ValueError(
            f"trainer.strategy=fsdp: adapter={adapter.name} reads parameters that are cut; use trainer=ddp"
        )


def check_method(learner: Learner, recipe: Recipe, settings: TrainerSettings, *, stream: Stream) -> None:
    """Do adapter, objective and strategy go together on this stream and these devices?

    A reward needs whole batches, the plain model behind a prompt, and strategies that need no
    likelihood. What is to happen at each task needs tasks that are announced.
    """
    objective, adapter, strategy = recipe.objective, learner.adapter, recipe.strategy
    if objective.is_plain:
        if isinstance(adapter, Evolving):
            raise ValueError(f"adapter={adapter.name}: searches for prompts by their reward; use objective=reward")
        return
    if adapter.name != "none" and not isinstance(adapter, Evolving):
        raise ValueError(
            f"adapter={adapter.name}: objective={objective.name} moves the plain model behind a prompt; "
            "use adapter=prompt_pool or none, or soft_prompt"
        )
    if not any(phase.announced for phase in stream.phases):
        for argument, value in (("adapter", adapter.reset), ("optimizer", recipe.pace.reset)):
            if value == "task":
                raise ValueError(
                    f"{argument}.reset=task: no task is announced; use task.announced=true, or reset=never"
                )
    if strategy.needs_likelihood:
        raise ValueError(
            f"strategy={strategy.name}: needs the likelihood of right answers; objective={objective.name} has rewards"
        )
    if isinstance(objective, Reward):
        check_prompts(adapter, objective, rows=len(stream.phases[0].batch(0).tokens_BT))
    if settings.parts > 1:
        raise ValueError(f"trainer: objective={objective.name} needs whole batches on one device, without accumulate")


def check_prompts(adapter: Adapter, objective: Reward, *, rows: int) -> None:
    """Do the prompts and the rollouts that they share go together?"""
    if not isinstance(adapter, Evolving):
        if objective.learn_from == "prompt":
            raise ValueError(
                f"objective.learn_from=prompt: adapter={adapter.name} has no prompt to learn from; use prompt_pool"
            )
        if objective.reuse:
            raise ValueError(f"objective.reuse=true: adapter={adapter.name} searches for no prompt; use prompt_pool")
        return
    budget, least = objective.cycle.fast_budget, adapter.min_rollouts(rows=rows, group=objective.group)
    if 0 < budget < least:
        raise ValueError(f"objective.cycle.fast_budget={budget}: a round takes at least {least}, none takes 0")
    in_use = len(adapter.emitted(adapter.initial()))
    if in_use > objective.group:
        raise ValueError(
            f"adapter.emit={in_use}: each prompt in use answers each problem; objective.rollouts={objective.group} "
            "must be at least that"
        )
    if objective.baseline == "prompt" and objective.group < 2 * in_use:
        raise ValueError(
            f"objective.baseline=prompt: {in_use} prompts share objective.rollouts={objective.group}, and one answer "
            f"has none to be compared with; use objective.rollouts={2 * in_use} or more"
        )
    if objective.reuse and not adapter.reusable:
        raise ValueError(
            f"objective.reuse=true: adapter={adapter.name} moves its prompts after each rollout; use reuse=false"
        )


def check_cache(folder: str) -> None:
    path = Path(folder).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cache_dir={folder}: cannot be made: {error.strerror}") from error
    if not os.access(path, os.W_OK):
        raise ValueError(f"cache_dir={folder}: cannot be written")


def vector_size(config: dict[str, Any], stream: Stream) -> dict[str, int]:
    """The size of the vectors, for a model that reads them.

    Raises ValueError where model and source do not agree.
    """
    model, source = config["model"]["name"], config["source"]["name"]
    wanted = config["model"].get("reads", "tokens") == "vectors"
    if wanted and stream.vector_size is None:
        whole = f"ttt-run model={model} source=digits adapter=none base=none"
        raise ValueError(f"model={model}: reads vectors, source={source} gives tokens; this works: {whole}")
    if stream.vector_size is None:
        return {}
    if not wanted:
        raise ValueError(f"source.read_as=vectors: model={model} reads tokens; use model=mlp")
    return {"vector_size": stream.vector_size}
