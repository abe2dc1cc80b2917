"""Tiny learners with every adapter, in variants that together use every argument.

Shapes: B batch (lanes), T time.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

from ttt.config.build import build
from ttt.learner import Learner
from ttt.models.nano import Nano
from ttt.optimizers.adamw import AdamW
from ttt.stream import Batch

VOCAB, LENGTH = 11, 24
# The YAML's arguments, made smaller: a chunk of 4 tokens, two heads.
SMALLER = {
    "chunk": 4,
    "prompt": 6,
    "heads": 2,
    "reset": "sequence",
    "decay": 0.9,
    "step": 0.5,
    "vectors": 3,
    "share": 1.0,
    "rank": 2,
}
MEMORIES = ["delta_fast", "titans_fast", "ttt_linear", "ttt_mlp", "lact_fast"]
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("none", {}),
    ("mlp_fast", {}),
    ("mlp_fast", {"centre": True}),
    ("mlp_fast", {"keys": "raw", "decay": 1.0, "chunk": 5}),
    ("mlp_fast", {"reset": "task", "chunk": 2}),
    ("mlp_fast", {"rule": "delta", "step": 0.1, "clip": 0.1}),
    ("mlp_fast", {"rule": "nlms", "keys": "raw", "momentum": 0.5}),
    ("mlp_fast", {"source": "hidden", "layers": [1], "clip": 0.05, "reset": "task"}),
    ("mlp_fast", {"target": "next", "source": "hidden_raw", "rule": "delta_whole", "layers": "last=1"}),
    ("mlp_fast", {"rule": "ridge", "target": "next", "norm": "rows", "clip": 0.2, "keys": "raw"}),
    ("mlp_fast", {"norm": "spectral", "start": "step_zero", "source": "embeddings_raw"}),
    ("mlp_fast", {"norm": "rows", "rule": "nlms", "centre": True}),
    ("mlp_fast", {"start": "conv_zero", "projection": "diagonal", "keys": "raw", "write_at": "prompt"}),
    ("mlp_fast", {"rule": "ridge", "write_at": "prompt", "most_tokens": 4, "reset": "task"}),
    ("mlp_fast", {"write_at": "document", "reset": "task", "target": "next", "momentum": 0.5}),
    ("mlp_fast", {"write_at": "document", "reset": "never", "rule": "ridge", "centre": True, "most_tokens": 7}),
    ("in_place_official", {}),
    ("ttt_ntp", {}),
    ("delta_fast", {}),
    ("delta_fast", {"gated": False, "taps": 1}),
    ("ttt_linear", {}),
    ("ttt_linear", {"reset": "task", "chunk": 5}),
    ("ttt_mlp", {}),
    ("lact_fast", {}),
    ("lact_fast", {"muon": False, "reset": "task"}),
    ("titans_fast", {}),
    ("titans_fast", {"reset": "task", "chunk": 5}),
    ("lora_fast", {}),
    ("lora_fast", {"second_order": True, "clip": 0.1}),
    ("sgd_fast", {}),
    ("sgd_fast", {"reset": "task", "second_order": True, "share": 0.5}),
    ("prompt_fast", {}),
    ("prompt_fast", {"reset": "task"}),
    ("cache", {"size": 7, "order": 2}),
    ("cache", {"size": 40, "order": 3, "reset": "task", "escape": 0.5}),
    ("cache", {"kind": "neural", "size": 9}),
    ("cache", {"kind": "neural", "size": 40, "reset": "task", "mix": 0.2}),
]
FAST = [variant for variant in VARIANTS if variant[0] != "none"]
# A single document reads nothing that it writes at its end.
WITHIN = [variant for variant in FAST if variant[1].get("write_at") != "document"]


def name_of(variant: tuple[str, dict[str, Any]]) -> str:
    """A variant as one would type it: `mlp_fast centre=True`."""
    adapter, options = variant
    return " ".join([adapter, *(f"{key}={value}" for key, value in options.items())])


@cache
def defaults(adapter: str) -> dict[str, Any]:
    """The arguments of the adapter's YAML, with those of SMALLER that it has."""
    folder = Path(str(files("ttt.conf"))) / "adapter"
    yaml: Any = OmegaConf.load(folder / f"{adapter}.yaml")
    # Other settings of an adapter beside its YAML name that in their defaults.
    # What all fast adapters share (/fast) is no argument of theirs.
    beside = [OmegaConf.load(folder / f"{name}.yaml") for name in yaml.pop("defaults", []) if name[0] not in "_/"]
    for part in beside:
        part.pop("defaults", None)
    config = OmegaConf.merge({"task": {"seq_len": LENGTH}}, *({"adapter": part} for part in [*beside, yaml])).adapter
    arguments: Any = OmegaConf.to_container(config, resolve=True)
    return arguments | {key: value for key, value in SMALLER.items() if key in arguments}


def build_adapter(adapter: str, **options: object) -> Any:
    return build(defaults(adapter) | options, group="adapter", given={}, trusted=[])


def make(adapter: str = "mlp_fast", *, window: int | None = 5, vocab: int = VOCAB, **options: object) -> Learner:
    """A learner in fp64 whose fast weights matter from the first token they are read by."""
    torch.manual_seed(0)
    model = Nano(
        name="nano", vocab_size=vocab, seq_len=LENGTH, layers=2, width=16, heads=2, mlp_width=24,
        window=window, rope_base=10000.0,
    )  # fmt: skip
    part = build_adapter(adapter, **options)
    optimizer = AdamW(name="adamw", lr=1e-3, beta1=0.9, beta2=0.95, weight_decay=0.0, clip=1.0)
    learner = Learner(model, adapter=part, optimizer=optimizer)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Larger embeddings and outputs than at the start of training.
            if parameter.dim() > 1 and parameter.requires_grad and "memory" not in name:
                parameter.mul_(5)
            # What starts at zero so that a model equals its base.
            if name.endswith("gain"):
                parameter.fill_(0.5)
            if name.endswith("conv_OD") and not parameter.any():
                parameter.normal_(generator=torch.Generator().manual_seed(2))
            # A new memory beside attention is silent.
            if name.endswith("memory.out_proj.weight"):
                parameter.normal_(std=0.5, generator=torch.Generator().manual_seed(1))
    return learner.double()


def batch_of(tokens_BT: Tensor, segment_BT: Tensor | None = None) -> Batch:
    segment_BT = torch.zeros_like(tokens_BT) if segment_BT is None else segment_BT
    return Batch(tokens_BT, tokens_BT.roll(-1, 1), segment_BT)


def tokens(seed: int, rows: int = 3, length: int = LENGTH) -> Tensor:
    return torch.randint(VOCAB, (rows, length), generator=torch.Generator().manual_seed(seed))


def read(learner: Learner, tokens_BT: Tensor, *, write: bool = True) -> Tensor:
    """Logits from the initial state."""
    return learner(batch_of(tokens_BT), learner.adapter.initial(), write=write)[0]
