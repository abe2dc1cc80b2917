"""Tiny runs of every kind of part that has a state, for tests that stop them anywhere."""

from __future__ import annotations

from harness import FAST, SMALL
from strategy_jobs import MLP, NANO, SPLIT, STRATEGIES

ADAM = ("optimizer=adamw", "optimizer.lr=0.01")
TOKENS = (*SMALL, "base=none", "adapter.reset=never", *ADAM)
RULES = tuple(word for word in SMALL if not word.startswith(("source", "task.held_out", "task.seq_len")))
REWARD = (*RULES, "base=none", "task=reward-sequence", "source=rule-world", "objective=reward", "task.num_tasks=2",
          "objective.cycle.slow_steps=2", *ADAM)  # fmt: skip
CHUNKED = ("in_place_official", "lact_fast", "lora_fast", "mlp_fast", "prompt_fast", "sgd_fast", "titans_fast",
           "ttt_linear", "ttt_mlp")  # fmt: skip
# Strategies of hidden units, and one more, on vectors; all others on tokens with fast weights.
ON_VECTORS = ("continual_backprop", "redo", "agem")
JOBS = {
    **{f"strategy-{name}": (*(MLP if name in ON_VECTORS else NANO), *ADAM, *words)
       for name, words in STRATEGIES.items()},
    **{f"adapter-{name}": (*TOKENS, f"adapter={name}", "adapter.chunk=4") for name in CHUNKED},
    "adapter-ttt_ntp": (*TOKENS, "adapter=ttt_ntp", "adapter.prompt=4", "adapter.chunk=4"),
    "adapter-delta_fast": (*TOKENS, "adapter=delta_fast"),
    "adapter-lane": (*TOKENS, *FAST, "adapter.carry=lane", "adapter.rule=delta", "adapter.momentum=0.5"),
    "adapter-dropout": (*TOKENS, *FAST, "adapter.write_dropout=0.5", "adapter.write_dropout_in=both"),
    "strategy-replay-class": (*SPLIT, *ADAM, *STRATEGIES["replay"], "strategy.balance=class"),
    "strategy-der-task": (*SPLIT, *ADAM, *STRATEGIES["der"], "strategy.balance=task"),
    "strategy-replay+lwf": (*SPLIT, *ADAM, *STRATEGIES["replay"], "strategy@also=lwf"),
    "pace-slow": (*NANO, *ADAM, "optimizer.slow_every=2", "optimizer.schedule=cosine", "optimizer.over=stream"),
    "pace-muon": (*NANO, "optimizer=muon"),
    "pace-adafactor": (*NANO, "optimizer=adafactor"),
    "plan-anytime": (*NANO, *ADAM, "eval.anytime=2", "eval.savings=true"),
    "stream-one": (*NANO, *ADAM, "task.num_tasks=1", "task.steps_per_task=6"),
    "stream-drift": (*NANO, *ADAM, "task=drift-sequence", *STRATEGIES["replay"]),
    "reward-none": (*REWARD, "adapter=none"),
    "reward-pool": (*REWARD, "adapter=prompt_pool", "adapter.proposer=mutate"),
    "reward-soft": (*REWARD, "adapter=soft_prompt"),
    "reward-answers": (*REWARD, "adapter=none", "objective.learn_from=answers"),
}  # fmt: skip
