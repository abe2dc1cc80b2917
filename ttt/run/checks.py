"""What does not go together, whatever each part says of itself.

Each check raises ValueError in the user's words.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from ttt.adapters.base import Adapter
from ttt.adapters.evolving import Evolving
from ttt.bases.base import Base
from ttt.compare.published import check_published
from ttt.config.allowed import refusal
from ttt.config.messages import show
from ttt.devices.settings import TrainerSettings
from ttt.evaluation.plan import Plan
from ttt.learner import Learner
from ttt.objectives.imitation import IMITATES
from ttt.objectives.reward import Reward
from ttt.run.context_parallel import check_context
from ttt.strategies.base import Strategy
from ttt.stream import Batch, Stream
from ttt.training.recipe import Recipe

# What the YAML of a group may say although no constructor takes it.
WORDS: Mapping[tuple[str, str], Any] = {
    ("model", "reads"): Literal["tokens", "vectors"],
    ("adapter", "base"): Literal["none"] | None,
}


def check_values(config: Mapping[str, Any]) -> None:
    """Check the settings that belong to no part."""
    if not 0 <= config["seed"] < 2**64:
        raise ValueError(f"seed={config['seed']}: must be at least 0, and below 2^64")
    for name in ("report", "references"):
        if not isinstance(config[name], bool):
            raise ValueError(f"{name}={show(config[name])}: must be true or false")
    check_published(config.get("published"))
    for (group, name), allowed in WORDS.items():
        section = config[group]
        why = refusal(section[name], allowed) if name in section else ""
        if why:
            raise ValueError(f"{group}.{name}={show(section[name])}: {why}")


def check_data(base: Base, stream: Stream, settings: TrainerSettings, *, task: str, source: str) -> None:
    """A base may need data, and devices need equally many rows of every batch."""
    if stream.base is None and base.needs_data:
        raise ValueError(
            f"base={base.name}: task={task} leaves no class of source={source} for a base distribution; "
            "use base=none, or fewer tasks or classes"
        )
    # Rows of other lengths come before the last ones, and are a multiple of them.
    # Making a batch takes time, and only parts need to know its size.
    rows = len(stream.phases[-1].batch(0).tokens_BT) if settings.parts > 1 else 0
    if rows % settings.row_parts:
        size = settings.world.size
        each = f" and trainer.accumulate={settings.accumulate}" if settings.accumulate > 1 else ""
        each += f", trainer.context_parallel={settings.context_parallel}" if settings.context_parallel > 1 else ""
        raise ValueError(
            f"task.batch_size={rows}: must be a multiple of {settings.row_parts}, with {size} "
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
    if adapter.runs_on == "one" and settings.parts > 1:
        raise ValueError(
            f"adapter.reset={adapter.reset}: what adapter={adapter.name} carries has no mean over the "
            f"{settings.parts} parts of a batch; use reset=sequence, or one device without trainer.accumulate"
        )
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
    check_context(learner, settings, stream=stream)
    check_reset("optimizer", recipe.pace.reset, stream=stream)
    if objective.is_plain:
        if isinstance(adapter, Evolving):
            raise ValueError(f"adapter={adapter.name}: searches for prompts by their reward; use objective=reward")
        return
    if adapter.name != "none" and not isinstance(adapter, Evolving):
        raise ValueError(
            f"adapter={adapter.name}: objective={objective.name} moves the plain model behind a prompt; "
            "use adapter=prompt_pool or none, or soft_prompt"
        )
    # Only with rewards: fast weights that are written while reading are then never reset, and
    # mlp_fast has reset=task by default.
    check_reset("adapter", adapter.reset, stream=stream)
    if strategy.needs_likelihood:
        raise ValueError(
            f"strategy={strategy.name}: needs the likelihood of right answers; objective={objective.name} has rewards"
        )
    if isinstance(objective, Reward):
        check_prompts(adapter, objective, batch=stream.phases[0].batch(0))
    if settings.parts > 1:
        raise ValueError(f"trainer: objective={objective.name} needs whole batches on one device, without accumulate")


def check_shapes(adapter: Mapping[str, Any], strategy: Strategy, stream: Stream) -> None:
    """A state for each row that lives on, and rows of a memory, need batches of one shape."""
    by_row = adapter.get("carry") == "lane" and adapter.get("reset") == "never"
    if not (by_row or strategy.acts_at("memory")):
        return
    first, last = (phase.batch(0).tokens_BT.shape for phase in (stream.phases[0], stream.phases[-1]))
    if first != last:
        what = "adapter.carry=lane" if by_row else f"strategy={strategy.name}"
        raise ValueError(f"{what}: needs rows of one length, and they grow from {first[1]} to {last[1]} tokens here")


def check_reset(group: str, reset: str, *, stream: Stream) -> None:
    """What is reset at each task needs tasks that are announced."""
    if reset == "task" and not any(phase.announced for phase in stream.phases):
        raise ValueError(f"{group}.reset=task: no task is announced; use reset=never, or a stream that announces tasks")


def check_prompts(adapter: Adapter, objective: Reward, *, batch: Batch) -> None:
    """Do the prompts and the rollouts that they share go together?"""
    if not isinstance(adapter, Evolving):
        if objective.learn_from == "prompt":
            raise ValueError(
                f"objective.learn_from=prompt: adapter={adapter.name} has no prompt to learn from; use prompt_pool"
            )
        if objective.reuse:
            raise ValueError(f"objective.reuse=true: adapter={adapter.name} searches for no prompt; use prompt_pool")
        return
    if not bool((objective.layout.prompts(batch) == torch.tensor(objective.layout.seed_prompt)).all()):
        raise ValueError(f"task.prompt=rule: leaves adapter={adapter.name} no prompt to improve; use adapter=none")
    if objective.learn_from in IMITATES:
        raise ValueError(
            f"objective.learn_from={objective.learn_from}: imitates what a proposer would see, in place of a search by "
            f"adapter={adapter.name}; use adapter=none"
        )
    budget, least = objective.cycle.fast_budget, adapter.min_rollouts(rows=len(batch.tokens_BT), group=objective.group)
    if 0 < budget < least:
        raise ValueError(f"objective.cycle.fast_budget={budget}: a round takes at least {least}, none takes 0")
    in_use = len(adapter.emitted(adapter.initial()))
    # Rollouts are spread evenly over the prompts: each must answer each problem at least once.
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


def check_savings(plan: Plan, strategy: Strategy, settings: TrainerSettings) -> None:
    """Relearning needs weights that forget, and a copy of whole weights."""
    if not plan.savings:
        return
    if strategy.renews and strategy.acts_at("evaluating"):
        raise ValueError(f"eval.savings=true: strategy={strategy.name} has weights for each task and forgets none")
    if settings.world.strategy == "fsdp":
        raise ValueError("eval.savings=true: needs a copy of whole weights; use trainer=ddp or one device")


def check_cache(folder: str) -> None:
    """Can the folder be written, or be made where it is not there yet?

    It is not made here: a run that is refused later must leave nothing behind.
    """
    path = Path(folder).expanduser().absolute()
    # The nearest folder above that exists decides whether the others can be made.
    nearest = next(above for above in (path, *path.parents) if os.path.exists(above))
    if not nearest.is_dir():
        raise ValueError(f"cache_dir={folder}: {nearest} is not a folder")
    # On POSIX a folder needs W to get a new entry, and X to be entered at all.
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ValueError(f"cache_dir={folder}: {nearest} cannot be written")


def check_adapter(config: Mapping[str, Any], model: nn.Module) -> None:
    """Fast weights need a model that reads tokens."""
    adapter = config["adapter"]["name"]
    if adapter != "none" and not hasattr(model, "get_input_embeddings"):
        raise ValueError(f"adapter={adapter}: model={config['model']['name']} reads no tokens; use adapter=none")


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
