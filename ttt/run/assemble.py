"""One run, put together: all that a config names, built and checked before anything is made."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ttt.bases.base import Base, BaseSetting, Observe, SlowWeights
from ttt.config.build import build
from ttt.config.code_hash import run_code_hash
from ttt.config.identity import base_adapter, base_identity
from ttt.devices.one_device import Devices
from ttt.devices.settings import TrainerSettings
from ttt.evaluation.exact import check_exact
from ttt.evaluation.plan import Plan
from ttt.learner import Engine, Learner, OptimizerFactory
from ttt.run.checks import (
    check_cache,
    check_data,
    check_devices,
    check_method,
    check_savings,
    check_shapes,
    check_values,
)
from ttt.run.data import BASE, RUN, build_data, own_code
from ttt.run.info import describe
from ttt.run.known import build_known
from ttt.run.parts import build_dropout, build_learner, build_objective, build_optimizer, build_strategy
from ttt.run.published import (
    check_base,
    check_memory,
    recompute_blocks,
    recorded_revision,
    unchanged,
    weights_of,
    with_precision,
)
from ttt.run.samples import check_samples
from ttt.run.weights import initial_weights, load_weights
from ttt.sinks.base import RunInfo, Sink
from ttt.stream import KnownSets, Source, Stream
from ttt.training.recipe import Recipe
from ttt.training.saving import Saving


@dataclass(frozen=True)
class Assembly:
    """A checked run: its parts, who it is, and where it goes.

    `config` is the resolved one, in which `auto` has become what it means here. `own_names`: the
    parameters that are the model's own; `base_names`: those that a base may bring (the adapter's
    too).
    """

    config: dict[str, Any]
    trusted: Sequence[Path]
    source: Source
    stream: Stream
    learner: Learner
    recipe: Recipe
    own_names: frozenset[str]
    base_names: frozenset[str]
    plan: Plan
    known_sets: KnownSets
    base: Base
    settings: TrainerSettings
    sink: Sink
    info: RunInfo
    data: str

    @property
    def code(self) -> str:
        """Hash of the code that makes the numbers of this run."""
        return run_code_hash(self.config, trusted=self.trusted)

    @property
    def base_id(self) -> str:
        """The name in the cache of a base that is trained for this run."""
        return self._base_name(with_code=True)

    @property
    def base_content(self) -> str:
        """The same without the code: the name of a base that comes with ttt."""
        return self._base_name(with_code=False)

    def _base_name(self, *, with_code: bool) -> str:
        fingerprint = self.stream.base.fingerprint if self.stream.base else ""
        parts = self.config | {"adapter": base_adapter(self.config["adapter"])}
        fingerprint += own_code(parts, groups=BASE)
        return base_identity(self.config, stream_fingerprint=fingerprint, with_code=with_code)

    def base_weights(self, fabric: Devices, observe: Observe, saving: Saving | None = None) -> SlowWeights | None:
        """Slow weights before the stream; train them if that was not done before."""
        setting = BaseSetting(
            new_learner=self._base_learner,
            fabric=fabric,
            stream=self.stream,
            identity=self.base_id,
            content=self.base_content,
            cache=Path(self.config["cache_dir"]).expanduser(),
            observe=observe,
            accumulate=self.settings.accumulate,
            processes=self.settings.context_parallel,
            model=self.config["model"],
            initial=initial_weights(self.learner),
            dropout=build_dropout(self.config["adapter"], seed=self.base.seed),
            saving=saving or Saving(),
        )
        return self.base.weights(setting)

    def engine(self, fabric: Devices, weights: SlowWeights | None) -> Engine:
        """The learner with the base's `weights`, ready for the first task.

        Raises ValueError where the weights do not fit the model.
        """
        # Weights without memory get it as the learner is set up, for the share of this device.
        late, published = self.learner.deferred is not None, unchanged(self.learner.model)
        if weights is not None and not late:
            self.load(weights)
        optimizer = self.learner.configure_optimizers()
        accumulate, processes = self.settings.accumulate, self.settings.context_parallel
        engine = Engine.build(fabric, self.learner, optimizer, accumulate=accumulate, processes=processes)
        if weights is not None and late:
            self.load(weights, published=published)
            # As an adapter may make it of weights.
            self.learner.fast = self.learner.adapter.initial()
        self.recipe.objective.begin(self.learner)
        # Reseed: everything after this depends on the run's seed, not on the base's.
        torch.manual_seed(self.config["seed"])
        self.recipe.strategy.begin(engine, self.stream)
        return engine

    def fresh_learner(self, seed: int) -> Learner:
        """Another learner, with random weights of this seed."""
        return self._learner(self.config | {"base": self.config["base"] | {"seed": seed}})

    def fresh_recipe(self) -> Recipe:
        """A recipe with a new objective and no strategy, for another learner."""
        return Recipe(objective=build_objective(self.config, trusted=self.trusted, stream=self.stream))

    def _base_learner(self, optimizer: OptimizerFactory) -> Learner:
        reset = self.config["base"].get("reset", "sequence")
        config = self.config | {"adapter": base_adapter(self.config["adapter"], reset=reset)}
        return self._learner(config, optimizer=optimizer)

    def _learner(self, config: dict[str, Any], *, optimizer: OptimizerFactory | None = None) -> Learner:
        optimizer = optimizer or self.learner.optimizer_factory
        return build_learner(
            config, trusted=self.trusted, stream=self.stream, optimizer=optimizer, deferred=self.settings.is_cut
        )[0]

    def load(self, weights: SlowWeights, *, published: Set[str] | None = None) -> None:
        """Put `weights` into the learner. Raises ValueError where they do not fit."""
        published = unchanged(self.learner.model) if published is None else published
        names = {"own_names": self.own_names, "base_names": self.base_names, "published": published}
        load_weights(self.learner, weights, **names)


def assemble(config: dict[str, Any], *, trusted: Sequence[Path]) -> Assembly:
    """Build every part of a run. Raises ValueError in the user's words; `config` stays as it is."""
    check_values(config)
    check_cache(config["cache_dir"])
    config = with_precision(config)

    def part(group: str) -> Any:
        return build(config[group], group=group, given={}, trusted=trusted)

    # Data: a source, and the stream of tasks that is cut from it.
    settings: TrainerSettings = part("trainer")
    base: Base = part("base")
    sink: Sink = part("logger")
    source, stream = build_data(config, base_seed=base.seed, trusted=trusted)
    check_data(base, stream, settings, task=config["task"]["name"], source=source.name)

    # Method: a learner, and what moves its slow weights. A strategy may change what is trained on.
    method = _build_method(config, trusted=trusted, stream=stream, settings=settings)
    check_base(base, method.learner)

    # Run: what is measured, and the name that follows from everything that determines the numbers.
    plan = Plan.read(config["eval"], stream=method.stream, is_cut=settings.world.strategy == "fsdp")
    check_savings(plan, method.recipe.strategy, settings)
    check_samples(plan.samples, stream=stream, learner=method.learner, is_cut=settings.world.strategy == "fsdp")
    check_exact(plan.exact, stream=stream, learner=method.learner, is_cut=settings.world.strategy == "fsdp")
    known_sets = build_known(config, source=source, adapter=method.learner.adapter, length=stream.seq_len)
    trainer = config["trainer"] | {"precision": settings.precision}
    data = source.fingerprint + known_sets.fingerprint + own_code(config, groups=RUN)
    resolved = recorded_revision(config, method.learner.model)
    resolved = resolved | {"trainer": trainer, "task": config["task"] | {"scenario": stream.scenario}}
    return Assembly(
        config=resolved,
        trusted=trusted,
        source=source,
        plan=plan,
        known_sets=known_sets,
        base=base,
        settings=settings,
        sink=sink,
        info=describe(resolved, data=data, weights=weights_of(method.learner.model)),
        data=data,
        **method._asdict(),
    )


class _Method(NamedTuple):
    """What `Assembly` calls by the same names."""

    stream: Stream
    learner: Learner
    recipe: Recipe
    own_names: frozenset[str]
    base_names: frozenset[str]


def _build_method(
    config: dict[str, Any], *, trusted: Sequence[Path], stream: Stream, settings: TrainerSettings
) -> _Method:
    """The learner with the strategy attached, and everything that either of them refuses."""
    strategy = build_strategy(config, trusted)
    optimizer, pace = build_optimizer(config["optimizer"], trusted)
    learner, own_names = build_learner(
        config, trusted=trusted, stream=stream, optimizer=optimizer, deferred=settings.is_cut
    )
    recompute_blocks(learner, settings)
    # Before the strategy adds parameters of its own, which no base brings.
    base_names = frozenset(name for name, _ in learner.model.named_parameters())
    dropout = build_dropout(config["adapter"], seed=config["seed"]).in_stream()
    recipe = Recipe(build_objective(config, trusted=trusted, stream=stream), strategy, pace, dropout)
    check_devices(learner.adapter, strategy, settings)
    check_method(learner, recipe, settings, stream=stream)
    check_shapes(config["adapter"], strategy, stream)
    stream = replace(stream, phases=strategy.phases(stream))
    # A strategy with parameters of its own freezes the others, but not those that were named.
    learned = [p for p in learner.parameters() if p.requires_grad] if config["optimizer"].get("only") else []
    strategy.attach(learner.model)
    for parameter in learned:
        parameter.requires_grad_(True)
    strategy.check(learner, stream, parts=settings.row_parts)
    check_memory(learner, settings)
    # The optimizer may refuse the model: known now, not after minutes of a base.
    learner.configure_optimizers()
    return _Method(stream, learner, recipe, own_names, base_names)
