"""Words that people bring from other tools, and what they are called here."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ttt.cli.commands import COMMANDS

# A name that is no setting of ours -> the setting, or the whole word, that does the same.
HABITS = {
    "batch": "task.batch_size",
    "bs": "task.batch_size",
    "buffer_size": "strategy.size",
    "config-dir": "--config-dir",
    "config_dir": "--config-dir",
    "checkpoint": "base=checkpoint base.path",
    "context_length": "task.seq_len",
    "data": "source",
    "dataset": "source",
    "device": "trainer.accelerator",
    "epochs": "task.steps_per_task",
    "ewc_lambda": "strategy.coefficient",
    "gpu": "trainer.accelerator=cuda",
    "gpus": "trainer.devices",
    "lambda": "strategy.coefficient",
    "learning_rate": "optimizer.lr",
    "length": "task.seq_len",
    "lr": "optimizer.lr",
    "max_steps": "task.steps_per_task",
    "memory_size": "strategy.size",
    "method": "strategy",
    "n_tasks": "task.num_tasks",
    "num_epochs": "task.steps_per_task",
    "optim": "optimizer",
    "outdir": "output_dir",
    "output": "output_dir",
    "save_dir": "output_dir",
    "steps": "task.steps_per_task",
    "tracker": "logger",
    "wandb": "logger=wandb, or logger=none",
    "wd": "optimizer.weight_decay",
}
# Of the options that have a setting, those that most people mean.
USUAL = ("ewc", "replay", "mlp_fast")
# An option of a group -> what to type in its place.
OPTIONS = {
    ("model", "llama"): "model=hf model.name=FOLDER_OR_OWNER/NAME",
    ("model", "qwen"): "model=hf model.name=FOLDER_OR_OWNER/NAME",
    ("model", "gpt2"): "model=nano, or model=hf model.name=FOLDER_OR_OWNER/NAME",
    ("model", "transformer"): "model=nano",
    ("trainer", "gpu"): "trainer.accelerator=cuda",
    ("strategy", "er"): "strategy=replay",
    ("strategy", "finetune"): "strategy=naive",
    ("adapter", "ttt"): "adapter=mlp_fast (or ttt_linear, ttt_mlp, ttt_ntp)",
    ("adapter", "deltanet"): "adapter=delta_fast",
}


def meant(name: str, config: Mapping[str, Any]) -> str:
    """The setting that `name`, the last part of what was typed, most likely means; or nothing.

    A habit comes first, then a setting of that very name, then one that is spelled nearly so.
    """
    if name.lower() in HABITS:
        return HABITS[name.lower()]
    # A group is typed more often than a setting of its name, such as adapter.source.
    groups = difflib.get_close_matches(name, list(config), n=1, cutoff=0.8)
    if groups:
        return groups[0]
    # Of settings with one name that of the base is rarely meant.
    paths = dict(sorted(_leaves(config), key=lambda pair: pair[0].startswith("base.")))
    near = difflib.get_close_matches(name, paths.values(), n=1, cutoff=0.8)
    return next((path for path, leaf in paths.items() if near and leaf == near[0]), "")


def words_meant(words: Sequence[str]) -> str:
    """What to type for words that are no name=value; or nothing."""
    first, *rest = words
    if f"ttt-{first}" in COMMANDS and first != "run":
        return " ".join([f"ttt-{first}", *rest])
    if first == "run":
        return " ".join(["ttt-run", *rest])
    if first == "help":
        return " ".join(["ttt-run --help", *rest])
    # adapter:mlp_fast, or adapter mlp_fast.
    name, sign, value = first.partition(":")
    pair = [name, value] if sign else [first, *rest]
    return "=".join(pair) if len(pair) == 2 and all(map(str.strip, pair)) and "=" not in "".join(pair) else ""


def option_meant(group: str, option: str) -> str:
    """What to type for an option that is named otherwise elsewhere; or nothing.

    Several options in brackets are two strategies.
    """
    if group == "strategy" and option.startswith("["):
        first, _, second = option.strip("[]").partition(",")
        return f"strategy={first.strip()} strategy@also={second.strip()}"
    return next((ours for (its, name), ours in OPTIONS.items() if its == group and option.lower().startswith(name)), "")


def _leaves(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(path, last part) of every setting; those of the run itself first."""
    for key, value in section.items():
        if isinstance(value, Mapping) and key != "hydra":
            yield from _leaves(value, f"{prefix}{key}.")
        elif key not in ("_target_", "name", "study", "published", "hydra"):
            yield f"{prefix}{key}", str(key)
