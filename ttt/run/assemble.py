"""One run, put together: everything that a config names, built and checked before anything is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from ttt.bases.base import Base, Setting, Watcher, Weights
from ttt.config.build import build
from ttt.config.code_hash import run_code_hash
from ttt.config.identity import BASE_OBJECTIVE, base_adapter, base_identity, identity
from ttt.devices.one_device import Devices, OneDevice
from ttt.devices.settings import TrainerSettings
from ttt.devices.shards import check_adapter
from ttt.evaluation.evaluate import Plan
from ttt.learner import Engine, Learner, OptimizerFactory
from ttt.run.checks import (
    check_base,
    check_cache,
    check_devices,
    check_objective,
    check_parts,
    check_values,
    vector_size,
)
from ttt.sinks.base import RunInfo, Sink
from ttt.strategies.base import Strategy
from ttt.strategies.both import Both, second_refuses
from ttt.strategies.naive import Naive
from ttt.stream import Source, Stream
from ttt.training.pace import Pace


@dataclass(frozen=True)
class Assembly:
    """A checked run: its parts, who it is, and where it goes."""

    config: dict[str, Any]
    trusted: Sequence[Path]
    source: Source
    stream: Stream
    learner: Learner
    own_names: frozenset[str]
    plan: Plan
    pace: Pace
    base: Base
    settings: TrainerSettings
    sink: Sink
    info: RunInfo

    @property
    def code(self) -> str:
        return run_code_hash(self.config, trusted=self.trusted)

    def base_weights(self, fabric: Devices, observe: Watcher) -> Weights | None:
        """Slow weights before the stream; trains them if that was not done before."""
        cache = Path(self.config["cache_dir"]).expanduser()
        setting = Setting(
            new_learner=self._base_learner,
            fabric=fabric,
            stream=self.stream,
            identity=base_identity(
                self.config, stream_fingerprint=self.stream.base.fingerprint if self.stream.base else ""
            ),
            cache=cache,
            observe=observe,
            accumulate=self.settings.accumulate,
        )
        return self.base.weights(setting)

    def engine(self, fabric: Devices, weights: Weights | None) -> Engine:
        """The learner with the base's `weights`, ready for the first task. Raises ValueError where these do not fit,
        or the strategy cannot serve them."""
        if weights is not None:
            self.load(weights)
        strategy = self.learner.strategy
        strategy.attach(self.learner.model)
        optimizer = self.learner.configure_optimizers()
        engine = Engine.build(fabric, self.learner, optimizer, accumulate=self.settings.accumulate, pace=self.pace)
        # From here on chance is the run's own, not that of its base.
        torch.manual_seed(self.config["seed"])
        strategy.begin(engine, self.stream)
        return engine

    def fresh_learner(self, seed: int) -> Learner:
        """A learner of its own, with random weights of another seed."""
        config = self.config | {"base": self.config["base"] | {"seed": seed}}
        naive, optimizer = Naive(name="naive"), self.learner.optimizer_factory
        return build_learner(config, trusted=self.trusted, stream=self.stream, optimizer=optimizer, strategy=naive)[0]

    def _base_learner(self, optimizer: OptimizerFactory) -> Learner:
        config = self.config | {"adapter": base_adapter(self.config["adapter"]), "objective": BASE_OBJECTIVE}
        naive = Naive(name="naive")
        return build_learner(config, trusted=self.trusted, stream=self.stream, optimizer=optimizer, strategy=naive)[0]

    def load(self, weights: Weights) -> None:
        """Put `weights` into the learner. Raises ValueError where they do not fit."""
        model = self.learner.model
        have = dict(model.named_parameters())
        unknown = sorted(set(weights) - set(have))
        missing = sorted(self.own_names - set(weights))
        if unknown or missing:
            name = (unknown or missing)[0]
            raise ValueError(f"base: the weights do not fit the model: {name} is only in one of them")
        for name, tensor in weights.items():
            if tensor.shape != have[name].shape:
                shapes = f"{list(tensor.shape)} there, {list(have[name].shape)} here"
                raise ValueError(f"base: the weights do not fit the model: {name} is {shapes}")
        model.load_state_dict(weights, strict=False)


def assemble(config: dict[str, Any], *, trusted: Sequence[Path]) -> Assembly:
    """Build every part. Raises ValueError in the user's words."""
    check_values(config)
    check_cache(config["cache_dir"])

    def part(group: str) -> Any:
        return build(config[group], group=group, given={}, trusted=trusted)

    settings: TrainerSettings = part("trainer")
    config["trainer"]["precision"] = settings.precision
    base: Base = part("base")
    sink: Sink = part("logger")
    source: Source = part("source")
    stream: Stream = part("task").build(source, seed=config["seed"], base_seed=base.seed)
    check_base(base, stream, task=config["task"]["name"], source=source.name)
    check_parts(stream, settings)
    if settings.world.strategy == "fsdp":
        check_adapter(config["adapter"]["name"])
    # What `auto` means here is part of what determines the numbers.
    config["task"]["scenario"] = stream.scenario
    strategy = _strategy(config, trusted)
    check_devices(strategy, settings)
    optimizer, pace = _optimizer(config["optimizer"], trusted)
    learner, own_names = build_learner(config, trusted=trusted, stream=stream, optimizer=optimizer, strategy=strategy)
    check_objective(learner, settings, stream=stream, pace=pace)
    if base.needs_data or config["references"]:
        _rehearse(config, trusted=trusted, stream=stream, settings=settings, learner=learner)
    stream = replace(stream, phases=strategy.phases(stream))
    return Assembly(
        config=config,
        trusted=trusted,
        source=source,
        stream=stream,
        learner=learner,
        own_names=own_names,
        plan=Plan.read(config["eval"], stream=stream, strategy=strategy, is_cut=settings.world.strategy == "fsdp"),
        pace=pace,
        base=base,
        settings=settings,
        sink=sink,
        info=describe(config, data=source.fingerprint),
    )


def _strategy(config: dict[str, Any], trusted: Sequence[Path]) -> Strategy:
    """One, or two at once (strategy@also=...)."""
    first: Strategy = build(config["strategy"], group="strategy", given={}, trusted=trusted)
    if config.get("also") is None:
        return first
    with second_refuses():
        second: Strategy = build(config["also"], group="also", given={}, trusted=trusted)
    return Both(first, second)


def _rehearse(
    config: dict[str, Any], *, trusted: Sequence[Path], stream: Stream, settings: TrainerSettings, learner: Learner
) -> None:
    """What a strategy refuses as it begins is known now, and not after minutes of a base or of reference runs.

    A strategy that prepares something does so with another learner: `learner` stays as it is.
    """
    if not learner.strategy.acts_at("attach", "begin"):
        # The optimizer may refuse the model all the same.
        learner.configure_optimizers()
        return
    strategy, optimizer = _strategy(config, trusted), _optimizer(config["optimizer"], trusted)[0]
    learner, _ = build_learner(config, trusted=trusted, stream=stream, optimizer=optimizer, strategy=strategy)
    strategy.attach(learner.model)
    device = OneDevice(torch.device("cpu"), precision="32-true")
    engine = Engine.build(device, learner, learner.configure_optimizers(), accumulate=settings.parts)
    strategy.begin(engine, stream)


def _optimizer(config: dict[str, Any], trusted: Sequence[Path]) -> tuple[OptimizerFactory, Pace]:
    """What moves the slow weights, and how fast."""
    names = [field.name for field in fields(Pace)]
    timing = {"_target_": "ttt.training.pace.Pace"} | {name: config[name] for name in names if name in config}
    rest = {name: value for name, value in config.items() if name not in names}
    built: OptimizerFactory = build(rest, group="optimizer", given={}, trusted=trusted)
    return built, build(timing, group="optimizer", given={}, trusted=trusted)


def build_learner(
    config: dict[str, Any],
    *,
    trusted: Sequence[Path],
    stream: Stream,
    optimizer: OptimizerFactory,
    strategy: Strategy,
) -> tuple[Learner, frozenset[str]]:
    """A learner with fresh weights, and the names of the parameters that are the model's own."""
    torch.manual_seed(config["base"]["seed"])
    given = {"vocab_size": stream.vocab_size} | vector_size(config, stream)
    # What a model reads is for its source to know.
    own = {name: value for name, value in config["model"].items() if name != "reads"}
    model = build(own, group="model", given=given, trusted=trusted)
    adapter_name = config["adapter"]["name"]
    if adapter_name != "none" and not hasattr(model, "get_input_embeddings"):
        raise ValueError(f"adapter={adapter_name}: model={config['model']['name']} reads no tokens; use adapter=none")
    own_names = frozenset(name for name, _ in model.named_parameters())
    # How a base is trained is for `base_adapter` to know.
    own = {name: value for name, value in config["adapter"].items() if name != "base"}
    offered = {"layout": stream.layout}
    adapter = build(own, group="adapter", given={}, trusted=trusted, offered=offered)
    objective = build(config["objective"], group="objective", given={}, trusted=trusted, offered=offered)
    learner = Learner(model, adapter=adapter, optimizer=optimizer, strategy=strategy, objective=objective)
    return learner, own_names


def describe(config: dict[str, Any], *, data: str) -> RunInfo:
    """Names of a run, from its config and its data: the same config on the same data is the same folder."""
    name = {group: config[group]["name"] for group in ("task", "source", "adapter", "strategy", "optimizer")}
    if config.get("also") is not None:
        name["strategy"] += f"+{config['also']['name']}"
    method = f"{name['adapter']}-{name['strategy']}-{name['optimizer']}"
    run_id = identity(config, data=data)[:8]
    folder = Path(config["output_dir"]).expanduser() / name["task"] / method / f"seed{config['seed']}-{run_id}"
    # Runs that differ in nothing but the seed form one group.
    unseeded = identity({**config, "seed": 0, "base": {**config["base"], "seed": 0}}, data=data)[:6]
    return RunInfo(
        id=run_id,
        task=name["task"],
        group=f"{name['task']}/{name['source']}/{method}/{unseeded}",
        name=f"{method}/seed{config['seed']}-{run_id}",
        tags=(name["task"], name["source"], name["adapter"], name["strategy"], name["optimizer"]),
        config=config,
        folder=folder,
    )
