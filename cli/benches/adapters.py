"""Every adapter in the main job's model: its training step over the plain model's, and time per token by length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from ttt.cli.bench import Row, paired, ratio
from ttt.config.build import build
from ttt.learner import Learner, Reader
from ttt.run.assemble import build_learner
from ttt.stream import Batch, Stream

# One row at a time: with more rows in short calls small operations would be shared among more tokens.
LENGTHS = (512, 2048, 8192)
LONG_BATCH = 1
STEP_BATCH, STEP_LENGTH = 16, 256
DECODED = 32


def learner_of(adapter: str, *, length: int) -> tuple[Learner, str]:
    """The main job's learner for sequences of `length`, and the precision it would train in."""
    with initialize_config_module("ttt.conf", version_base="1.3"):
        config = compose("config", overrides=[f"adapter={adapter}", f"task.seq_len={length}"])
    resolved: Any = OmegaConf.to_container(config, resolve=True)
    stream = Stream(base=None, tasks=(), phases=(), vocab_size=256, seq_len=length, scenario="domain", show=str)
    parts = {group: build(resolved[group], group=group, given={}, trusted=[]) for group in ("optimizer", "strategy")}
    precision = build(resolved["trainer"], group="trainer", given={}, trusted=[]).precision
    learner, _ = build_learner(resolved, trusted=[], stream=stream, **parts)
    return learner, precision


def training_step(learner: Learner, *, batch: int, length: int, half: bool) -> Callable[[], None]:
    """Forward and backward on random tokens, from an empty state."""
    tokens_BT = torch.randint(256, (batch, length), generator=torch.Generator().manual_seed(0))
    rows = Batch(tokens_BT, tokens_BT.roll(-1, 1), torch.zeros_like(tokens_BT))
    state = learner.adapter.initial()

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits_BTV, _ = learner(rows, state)
            loss = F.cross_entropy(logits_BTV.float().flatten(0, 1), rows.targets_BT.flatten())
        loss.backward()
        learner.zero_grad()

    return run


def decode(learner: Learner, *, batch: int, length: int) -> Callable[[], None]:
    """DECODED tokens, one by one, behind a prefix that was read at once."""
    tokens_BT = torch.randint(256, (batch, length), generator=torch.Generator().manual_seed(0))
    reader = Reader(learner)
    reader.read(tokens_BT)

    def run() -> None:
        for t in range(DECODED):
            reader.read(tokens_BT[:, t : t + 1])

    return run


def measure(adapters: list[str], *, rounds: int) -> Iterator[Row]:
    """One row an adapter: ratios of paired rounds; seconds are CPU time of this machine, now."""
    plain, precision = learner_of("none", length=STEP_LENGTH)
    half = precision == "bf16-mixed"
    base_step = training_step(plain, batch=STEP_BATCH, length=STEP_LENGTH, half=half)
    for name in adapters:
        learner, _ = learner_of(name, length=STEP_LENGTH)
        step = training_step(learner, batch=STEP_BATCH, length=STEP_LENGTH, half=half)
        seconds = paired({"none": base_step, name: step}, rounds=rounds)
        calls = {}
        for length in LENGTHS:
            learner, _ = learner_of(name, length=length)
            calls[str(length)] = training_step(learner, batch=LONG_BATCH, length=length, half=half)
        long = paired(calls, rounds=rounds)
        short, longest = (long[str(length)] for length in (LENGTHS[0], LENGTHS[-1]))
        decoding = paired({"it": decode(learner_of(name, length=STEP_LENGTH)[0], batch=1, length=64)}, rounds=3)["it"]
        state = learner.adapter.initial()
        yield {
            "adapter": name,
            "training step over none": ratio(seconds[name], seconds["none"])[1],
            **{f"us/token at {length}": median(times) / int(length) * 1e6 for length, times in long.items()},
            f"{LENGTHS[-1]} over {LENGTHS[0]}": ratio(longest, short)[1] * LENGTHS[0] / LENGTHS[-1],
            "ms/token decoding": min(decoding) / DECODED * 1e3,
            "state numbers": str(sum(x.numel() for x in state.values())),
        }
