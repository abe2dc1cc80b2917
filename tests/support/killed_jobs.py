"""Runs of some seconds that save all the time, for `torture.py kills`: part x strategy x objective."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from harness import FAST, TINY, only_run
from stopped_jobs import ADAM, REWARD
from strategy_jobs import STRATEGIES

from ttt.storage.checkpoint import in_order

SAVE_EVERY = 5
OFTEN = (f"trainer.save_every={SAVE_EVERY}", f"trainer.report_every={SAVE_EVERY}")
# The base is trained for as long as a task, so that kills hit it as well.
TOKENS = (*TINY, *ADAM, *OFTEN, "base.steps=60", "task.num_tasks=3", "task.steps_per_task=60", "adapter.reset=never",
          "eval.anytime=30")  # fmt: skip
REWARDS = (*REWARD, *OFTEN, "task.steps_per_task=40")
KILLED = {
    "mlp_fast x ewc": (*TOKENS, *FAST, *STRATEGIES["ewc"]),
    "none x replay": (*TOKENS[:-2], "adapter=none", *STRATEGIES["replay"]),
    "delta_fast x der": (*TOKENS, "adapter=delta_fast", *STRATEGIES["der"]),
    "titans_fast x lwf": (*TOKENS, "adapter=titans_fast", "adapter.chunk=4", *STRATEGIES["lwf"]),
    "sgd_fast x si": (*TOKENS, "adapter=sgd_fast", "adapter.chunk=4", *STRATEGIES["si"]),
    "lora_fast x mas": (*TOKENS, "adapter=lora_fast", "adapter.chunk=4", *STRATEGIES["mas"]),
    "prompts by search x reward": (*REWARDS, "adapter=prompt_pool", "adapter.proposer=mutate"),
    "prompts by gradient x reward": (*REWARDS, "adapter=soft_prompt"),
}


def steps_lost(folder: Path, words: Sequence[str]) -> int:
    """Steps that the journal of the run in `folder` has, and its newest checkpoint lacks."""
    # Killed before its folder was made, or before its first report.
    journals = list(folder.glob("outputs/*/*/*/metrics.jsonl"))
    if not journals:
        return 0
    # The line that was being written when the process ended may be cut.
    lines = journals[0].read_text(encoding="utf-8").split("\n")[:-1]
    steps_of_a_task = [int(x.partition("=")[2]) for x in words if x.startswith("task.steps_per_task=")][-1]
    reported = [event["step"] for event in map(json.loads, lines) if event["event"] == "trained"]
    names = [path.name.split("-") for path in in_order(only_run(folder) / "checkpoints")]
    saved = [int(name[1]) * steps_of_a_task + (int(name[3]) if len(name) > 2 else 0) for name in names]
    return max(reported, default=0) - max(saved, default=0)
