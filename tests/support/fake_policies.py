"""Runs of `objective=reward` with invented curves, as the claims read them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from policies import RULES
from sample_events import trained, write_journal

from ttt.cli.benches.assembled import assembly_of
from ttt.compare.runs import Run
from ttt.results.results import Results
from ttt.storage.read import flatten

STEPS = (0, 10, 20, 30)
# Rollouts that a step of training costs; a rollout reads and generates so many tokens, and a search
# takes SECONDS for each of its rollouts.
PER_STEP, READ, GENERATED, SECONDS = 100.0, 7.0, 4.0, 0.5
FLAT = (0.0, 0.0, 0.0, 0.0)


def policy_run(
    folder: Path,
    *,
    adapter: str,
    success: Sequence[float],
    kl: Sequence[float] = FLAT,
    seed: int = 0,
    extra: float = 0.0,
) -> Run:
    """Return a run of one task of thirty steps with these curves, measured at each of STEPS.

    A step costs PER_STEP + `extra` rollouts.
    """
    results = Results(
        scenario="domain", tasks=["a"], fingerprints=[f"{seed}"], learned_at=[1], entropy=[math.nan], phases=1
    )
    for step, earned, far in zip(STEPS, success, kl, strict=True):
        scores = scores_of(adapter, success=earned, kl=far)
        if step in (STEPS[0], STEPS[-1]):
            results.add(columns=[0], scores=scores, base=scores, step=step, current=0 if step else None)
        else:
            results.points.append({"step": step, "columns": [0], "scores": scores})
    path = folder / f"{adapter}-{seed}"
    path.mkdir(parents=True)
    write_costs(path / "metrics.jsonl", success=success, extra=extra)
    config = composed(adapter) | {"base.seed": seed}
    return Run(folder=path, seed=seed, config=config, costs={}, results=results)


def scores_of(adapter: str, *, success: float, kl: float) -> dict[str, dict[str, list[float]]]:
    """Modes other than the main one hold nonsense: what they say must not matter."""
    prompted = adapter == "prompt_pool"
    main = "carried" if prompted else "slow"
    return {
        mode: {
            "success": [success if mode == main else -1.0],
            "kl": [kl if mode == main else 9.0],
            "kl_words": [kl / 2],
            "kl_forward": [3 * kl if mode == main else 9.0],
            "kl_forward_words": [kl],
            "reward": [success],
        }
        for mode in (("slow", "fast", "carried", "archived") if prompted else ("slow", "fast"))
    }


def write_costs(file: Path, *, success: Sequence[float], extra: float) -> None:
    terms = [
        {
            "rollouts": PER_STEP * step,
            "fast_rollouts": extra * step,
            "slow_tokens_read": READ * PER_STEP * step,
            "fast_tokens_read": READ * extra * step,
            "slow_tokens_generated": GENERATED * PER_STEP * step,
            "fast_tokens_generated": GENERATED * extra * step,
            "slow_seconds": float(step),
            "fast_seconds": SECONDS * extra * step,
            "entropy": earned,
        }
        for step, earned in zip(STEPS[1:], success[1:], strict=True)
    ]
    write_journal(file, [replace(trained(step), terms=x) for step, x in zip(STEPS[1:], terms, strict=True)])


@cache
def composed(adapter: str) -> dict[str, Any]:
    overrides = ("task.num_tasks=1", f"task.steps_per_task={STEPS[-1]}", f"adapter={adapter}")
    flat = flatten(assembly_of(*RULES, *overrides).config)
    return {key: value for key, value in flat.items() if key not in ("seed", "output_dir")}


def changed(run: Run, **keys: Any) -> Run:
    """Return the run with other values in its config: base__steps=7 sets base.steps."""
    return replace(run, config={**run.config, **{key.replace("__", "."): value for key, value in keys.items()}})
