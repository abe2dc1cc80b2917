"""Tiny jobs for strategies: vectors for a plain MLP, tokens for a transformer with fast weights."""

from __future__ import annotations

import copy
from functools import cache

import torch
from harness import FAST, SMALL
from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser
from learning import learn_task
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from ttt.learner import Engine, cross_entropy
from ttt.run.assemble import Assembly, assemble
from ttt.stream import Batch

ENVIRONMENT = tuple(o for o in SMALL if o.startswith(("trainer", "logger", "report")))
DIGITS = (
    *ENVIRONMENT, "model=mlp", "model.widths=[16,12]", "source=digits", "adapter=none", "base=none",
    "task.num_tasks=3", "task.batch_size=8", "task.steps_per_task=6", "task.eval_sequences=8", "optimizer=sgd",
    "optimizer.lr=0.1", "optimizer.clip=null", "trainer.report_every=1",
)  # fmt: skip
MLP = (*DIGITS, "task=permuted-sequence", "task.permute=positions")
SPLIT = (*DIGITS, "task=split-sequence", "task.classes_per_task=2")
# One matrix and one bias: gradients can be written down.
LINEAR = (*MLP, "model.widths=[]")
TOKENS = (*SMALL, "base=none", "adapter=none", "optimizer.lr=0.01", "trainer.report_every=1")
NANO = (*SMALL, *FAST, "base=none", "adapter.reset=never", "optimizer.lr=0.01", "trainer.report_every=1")
JOBS = {"mlp": MLP, "nano": NANO}

# Each strategy, set so that it acts within a few steps.
STRATEGIES = {
    "joint": ("strategy=joint",),
    "cumulative": ("strategy=cumulative",),
    "independent": ("strategy=independent",),
    "frozen": ("strategy=frozen",),
    "replay": ("strategy=replay", "strategy.size=12"),
    "der": ("strategy=der", "strategy.size=12"),
    "agem": ("strategy=agem", "strategy.size=12"),
    "lwf": ("strategy=lwf",),
    "distill": ("strategy=distill",),
    "l2": ("strategy=l2", "strategy.coefficient=0.3"),
    "l2_init": ("strategy=l2_init", "strategy.coefficient=0.3"),
    "ewc": ("strategy=ewc", "strategy.coefficient=5", "strategy.samples=20"),
    "online_ewc": ("strategy=online_ewc", "strategy.coefficient=5", "strategy.samples=20", "strategy.gamma=0.7"),
    "si": ("strategy=si", "strategy.coefficient=30"),
    "mas": ("strategy=mas", "strategy.coefficient=0.05", "strategy.samples=20"),
    "shrink_perturb": ("strategy=shrink_perturb", "strategy.shrink=0.99", "strategy.perturb=0.02"),
    "layer_reset": ("strategy=layer_reset", "strategy.to=fresh"),
    "continual_backprop": (
        "strategy=continual_backprop",
        "strategy.replacement_rate=0.1",
        "strategy.maturity=2",
    ),
    "redo": ("strategy=redo", "strategy.every=2", "strategy.tau=0.5"),
    "lora_task": ("strategy=lora_task", "strategy.rank=2"),
    "lora_task-each": ("strategy=lora_task", "strategy.per=task", "strategy.rank=2"),
    "olora": ("strategy=olora", "strategy.rank=2"),
    "consolidate": ("strategy=consolidate",),
    "consolidate-slowly": ("strategy=consolidate", "strategy.every=step", "strategy.share=0.1", "strategy.rank=1"),
}
PENALTIES = ("l2", "l2_init", "ewc", "online_ewc", "si", "mas")
# These work on fast weights, which an MLP has not.
NEED_FAST = ("distill", "consolidate", "consolidate-slowly")
SERVED = [(name, job) for name in STRATEGIES for job in JOBS if job == "nano" or name not in NEED_FAST]


@cache
def _composed(groups: tuple[str, ...]) -> DictConfig:
    with initialize_config_module("ttt.conf", version_base="1.3"):
        return compose("config", overrides=list(groups))


def config_of(*overrides: str) -> dict:
    """Return the resolved config; of two overrides of one key the later one counts."""
    words = {override.partition("=")[0]: override for override in overrides}
    values = [override for key, override in words.items() if "." in key]
    # Composing takes longer than what most tests do: do it once for each choice of parts.
    config = copy.deepcopy(_composed(tuple(override for key, override in words.items() if "." not in key)))
    for override in OverridesParser.create().parse_overrides(values):
        OmegaConf.update(config, override.key_or_group, override.value())
    return OmegaConf.to_container(config, resolve=True)


def make(*overrides: str) -> tuple[Assembly, Engine]:
    """Return an assembly and its engine, ready for the first task."""
    assembly = assemble(config_of(*overrides), trusted=[])
    return assembly, assembly.engine(assembly.settings.fabric(), None)


def learned(*overrides: str, tasks: int) -> tuple[Assembly, Engine]:
    """Return an assembly and its engine after the first `tasks` tasks."""
    assembly, engine = make(*overrides)
    for index in range(tasks):
        learn_task(engine, assembly, index)
    return assembly, engine


def weights(engine: Engine) -> dict[str, Tensor]:
    """Return a copy of the model's parameters by name."""
    return {name: p.detach().clone() for name, p in engine.learner.model.named_parameters()}


def data_gradients(engine: Engine, batch: Batch) -> dict[str, Tensor]:
    """Return the gradients of the mean loss of `batch` at the present weights of a plain model."""
    model = copy.deepcopy(engine.learner.model)
    model.zero_grad()
    cross_entropy(model(batch.tokens_BT), batch, reduction="mean").backward()
    return {name: p.grad for name, p in model.named_parameters()}


@torch.no_grad()
def read(engine: Engine, batch: Batch, state: dict[str, Tensor] | None = None) -> Tensor:
    """Return the logits for `batch`, read without writes from a state (None: the initial one)."""
    learner = engine.learner.eval()
    logits_BTV, _ = learner(batch, learner.adapter.initial() if state is None else state, write=False)
    learner.train()
    return logits_BTV


class OneBatch:
    """A task of one batch."""

    name = "one"

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def batch(self, step: int) -> Batch:
        return self._batch
