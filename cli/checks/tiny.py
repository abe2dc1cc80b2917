"""From what was typed to a run of seconds: everything that was left open is made small."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ttt.cli.runs.check import check_command
from ttt.cli.runs.parser import parse_command
from ttt.config.messages import UsageError, suggest
from ttt.promises import GROUPS
from ttt.run.compose import resolve

# Choices where none was typed.
CHOICES = {"source": "recall", "adapter": "none", "base": "none", "logger": "none"}
# A strategy may work on fast weights: it gets some that live as long as the stream.
WITH_STRATEGY = {"adapter": "mlp_fast"}
# Settings that were not typed, where the part has them.
SIZES: Mapping[str, Mapping[str, Any]] = {
    "task": {"num_tasks": 3, "batch_size": 4, "steps_per_task": 4, "eval_sequences": 4},
    "adapter": {"chunk": 4, "like.chunk": 4, "prompt": 6},
    "strategy": {"every": 2, "size": 12, "samples": 8, "maturity": 2, "replacement_rate": 0.1, "rank": 2, "tau": 0.5},
    "optimizer": {"lr": 0.01},
}
# Where promises are tried: sums on a CPU are the same in every reading.
TRAINER = {"threads": 1, "precision": "32-true", "accelerator": "cpu"}
# Those of the model, where none was typed.
MODEL = {"width": 16, "heads": 2, "mlp_width": 24, "window": 5}
# Tokens of a sequence of recall, for a model that was not typed either.
SEQ_LEN = 24


def checked_groups(words: Sequence[str]) -> list[str]:
    """The groups of the parts to check, as they were typed. Raises UsageError if there is none."""
    for word in words:
        if "=" not in word:
            raise UsageError(f"{word}: must be GROUP=NAME, or a setting as for ttt-run, such as adapter=none")
    parts = [word.partition("=")[0] for word in words if word.partition("=")[0] in GROUPS]
    if not parts:
        example = f"; {words[0]}: {suggest(words[0].partition('=')[0], GROUPS)}" if words else ""
        raise UsageError(f"say which part to check, such as adapter=mine --config-dir mine{example}")
    return list(dict.fromkeys(parts))


def tiny_config(words: Sequence[str], *, config_dir: str | None) -> dict[str, Any]:
    """The resolved config. Raises UsageError for what `ttt-run` would refuse."""
    typed = {word.partition("=")[0].lstrip("+") for word in words}
    chosen = [*words, *_choices(typed)]
    config = resolve(check_command(_command(chosen, config_dir)))
    # Composed twice, since only the config says which settings the parts have.
    return resolve(check_command(_command([*_sizes(config, typed), *chosen], config_dir)))


def _choices(typed: set[str]) -> Iterator[str]:
    fast = WITH_STRATEGY if "strategy" in typed and "model" not in typed else {}
    for group, name in (CHOICES | fast).items():
        if group not in typed:
            yield f"{group}={name}"
    if fast and "adapter" not in typed:
        # A strategy may work on what is carried from task to task.
        yield "adapter.reset=never"


def _sizes(config: Mapping[str, Any], typed: set[str]) -> Iterator[str]:
    for group, sizes in SIZES.items():
        for key, value in sizes.items():
            # Only numbers are made small: one strategy acts every 1,000 steps, another every task.
            section, _, name = f"{group}.{key}".rpartition(".")
            there = _section(config, section)
            if name in there and f"{group}.{key}" not in typed and _is_larger(there[name], value):
                yield f"{group}.{key}={value}"
    yield from (f"trainer.{key}={value}" for key, value in TRAINER.items() if f"trainer.{key}" not in typed)
    if "model" not in typed:
        yield from (f"model.{key}={value}" for key, value in MODEL.items() if f"model.{key}" not in typed)
    if not typed & {"model", "source", "task", "task.seq_len"}:
        yield f"task.seq_len={SEQ_LEN}"


def _is_larger(present: Any, small: float) -> bool:
    """Is it worth replacing? Rates are not sizes, and a word is no number."""
    is_count = isinstance(present, int) and isinstance(small, int)
    return present > small if is_count else not isinstance(present, str)


def _section(config: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    """The section at a path with dots; empty where there is none."""
    for name in path.split("."):
        config = config.get(name) or {}
    return config


def _command(words: Sequence[str], config_dir: str | None) -> argparse.Namespace:
    return parse_command([*words, *(["--config-dir", config_dir] if config_dir else [])])
