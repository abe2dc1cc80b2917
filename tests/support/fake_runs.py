"""Run folders of invented numbers, written by the classes that write real ones.

The numbers follow a simple law, so that a test knows what must come out: a task costs BEFORE bits
until it is learned, `learned` bits right after, and climbs back by FORGETTING as other tasks
follow. Mode fast is `gain` bits better than mode slow everywhere, unless there are no fast weights.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hydra.core.global_hydra import GlobalHydra

from ttt.results.events import Evaluated, Trained
from ttt.results.results import Results
from ttt.results.saved import as_json
from ttt.results.scores import QUANTITIES, Scores
from ttt.run.compose import compose_run
from ttt.run.info import describe
from ttt.storage.files import write_json
from ttt.storage.journal import Journal

PACKAGES = {"ttt": "0.1.0", "python": "3.11.7", "torch": "2.13.0+cpu", "lightning": "2.6.6", "numpy": "2.4.6"}
# Bits per token before a task is learned, and what is forgotten of it in the end.
BEFORE, FORGETTING = 6.0, 1.0
# Training events in a task.
REPORTS = 3


def make_run(
    folder: Path,
    *,
    seed: int = 0,
    overrides: Sequence[str] = (),
    tasks: int = 5,
    names: Sequence[str] = (),
    every: int = 1,
    learned: float = 3.0,
    gain: float = 0.5,
    noise: float = 0.05,
    status: str = "done",
    reason: str = "",
    rows: int | None = None,
    stream: str = "",
    journal: bool = True,
) -> Path:
    """Write a run below `folder` as ttt-run would name it, and return its folder.

    `overrides` are as typed, without the seed. Every `every`-th row of R is full; `rows` is the
    number of rows that a run has that is not done. Runs of equal `seed` and `stream` saw equal
    data.
    """
    config = copy.deepcopy(composed(tuple(overrides)))
    config |= {"seed": seed, "output_dir": str(folder)}
    config["task"] |= {"num_tasks": tasks, "scenario": "domain"}
    config["base"]["seed"] = seed
    info = describe(config, data="invented")
    run = info.folder
    run.mkdir(parents=True)
    names = names or [f"{j:03d} language {j}" for j in range(1, tasks + 1)]
    results = empty_results(names, seed=seed, stream=stream)
    bits = invented(config, tasks=tasks, identity=info.id, learned=learned, gain=gain, noise=noise)
    events: list[Trained | Evaluated] = []
    for row in range(tasks + 1 if rows is None else rows):
        events += [trained(row, k, names=names, bits=bits) for k in range(REPORTS) if row]
        events.append(evaluated(row, bits=bits, every=every, results=results))
    if journal:
        with closing(Journal(run / "metrics.jsonl")) as write_event:
            for event in events:
                write_event(event)
    write_files(run, config, results, overrides=overrides, status=status, reason=reason)
    return run


def write_files(
    run: Path, config: dict[str, Any], results: Results, *, overrides: Sequence[str], status: str, reason: str
) -> None:
    """Write everything but the journal; results.json only for a run that is done."""
    (run / "config.yaml").write_text(yaml.dump(config, sort_keys=False, allow_unicode=True))
    write_json(run / "environment.json", environment(overrides, seed=config["seed"], results=results))
    costs = {"seconds": 60.0, "tokens": 40960 * len(results.tasks), "training_tokens_per_second": 16000.0}
    costs |= {"peak_memory_bytes": 800_000_000, "fast_state_numbers": 49152}
    content = {"status": status, "reason": reason, "time": "2026-11-22T12:00:00+0000"}
    write_json(run / "status.json", content | (costs if status == "done" else {}))
    first = results.tasks[0]
    write_json(run / "samples.json", [{"task": first, "text": f"A text in {first}."}])
    if status == "done":
        write_json(run / "results.json", as_json(results))


def empty_results(names: Sequence[str], *, seed: int, stream: str) -> Results:
    tasks = len(names)
    return Results(
        scenario="domain",
        tasks=names,
        fingerprints=[hashlib.sha256(f"{stream} {seed} {j}".encode()).hexdigest() for j in range(tasks)],
        learned_at=list(range(1, tasks + 1)),
        entropy=[float("nan")] * tasks,
        phases=tasks,
    )


@cache
def composed(overrides: tuple[str, ...]) -> dict[str, Any]:
    """Return the resolved config of a command: copy it before changing it."""
    # A command that ran in this process before may have left Hydra open.
    GlobalHydra.instance().clear()
    return compose_run(["logger=none", "trainer.precision=32-true", *overrides])


def modes_of(config: dict[str, Any]) -> list[str]:
    return ["slow", "fast"] + (["carried"] if config["adapter"].get("reset", "sequence") != "sequence" else [])


def invented(
    config: dict[str, Any], *, tasks: int, identity: str, learned: float, gain: float, noise: float
) -> dict[str, np.ndarray]:
    """Return mode -> bits [tasks + 1, tasks].

    How hard a task is depends on the seed alone, as in a real comparison; `identity` seeds the
    noise of the method.
    """
    shared_rng, method_rng = np.random.default_rng(config["seed"]), np.random.default_rng(int(identity, 16))
    since = np.arange(tasks + 1)[:, None] - np.arange(1, tasks + 1)[None, :]
    forgotten = FORGETTING * (1 - np.exp(-np.maximum(since, 0) / 3))
    slow = np.where(since >= 0, learned + forgotten, BEFORE) + shared_rng.normal(0, noise, (1, tasks))
    offset = {"slow": 0.0, "fast": gain, "carried": 0.8 * gain}
    bits = {mode: slow - offset[mode] + method_rng.normal(0, noise / 5, slow.shape) for mode in modes_of(config)}
    return bits if config["adapter"]["name"] != "none" else bits | {"fast": bits["slow"]}


def scores(bits: dict[str, np.ndarray], row: int, columns: Sequence[int]) -> Scores:
    values: Scores = {}
    for mode, r in bits.items():
        loss = r[row, list(columns)]
        early, late = loss + 0.2, loss - (0.2 if mode == "slow" else 0.4)
        losses = {"loss": loss, "loss_early": early, "loss_late": late}
        shares = {key.replace("loss", "accuracy"): np.clip(1 - x / 8, 0, 1) for key, x in losses.items()}
        values[mode] = {quantity: (losses | shares)[quantity].tolist() for quantity in QUANTITIES}
    return values


def trained(row: int, k: int, *, names: Sequence[str], bits: dict[str, np.ndarray]) -> Trained:
    start, end = bits["slow"][row - 1, row - 1], bits["slow"][row, row - 1]
    step = (row - 1) * REPORTS * 10 + (k + 1) * 10
    return Trained(
        task=row,
        task_name=names[row - 1],
        task_step=(k + 1) * 10,
        task_steps=REPORTS * 10,
        step=step,
        tokens=step * 4096,
        seconds=step * 0.25,
        tokens_per_second=16000.0 + 100 * k,
        loss=float(start + (end - start) * (k + 1) / REPORTS),
    )


def evaluated(row: int, *, bits: dict[str, np.ndarray], every: int, results: Results) -> Evaluated:
    """Return the event of a row, and add the row to `results`."""
    tasks = len(results.tasks)
    full = row % every == 0 or row == tasks
    columns = list(range(tasks)) if full else sorted({row - 1, min(row, tasks - 1)})
    values = scores(bits, row, columns)
    base = {mode: {q: [3.0 + 0.01 * row] for q in QUANTITIES} for mode in bits} if full else None
    results.add(columns=columns, scores=values, base=base)
    return Evaluated(
        row=row,
        columns=columns,
        current=row - 1 if row else None,
        seen=list(range(row)),
        step=row * 30,
        tokens=row * 30 * 4096,
        seconds=row * 7.5,
        tasks=values,
        base=base,
        diagnostics={f"layers.{k}.mlp.{what}": 0.1 * (row + k) for k in range(2) for what in ("state_over_w0", "step")},
    )


def environment(overrides: Sequence[str], *, seed: int, results: Results) -> dict[str, Any]:
    return {
        "versions": PACKAGES,
        "code": "c0de" * 16,
        "git": "0123456789ab",
        "platform": "Linux-6.1-x86_64",
        "cpu_count": 2,
        "threads": 1,
        "device": "cpu",
        "data": {
            "source": "da7a" * 16,
            "rows": {"train bytes": 4_900_000, "eval bytes": 1_200_000},
            "base": "ba5e" * 16,
            "tasks": results.fingerprints,
        },
        "command": ["/somewhere/bin/ttt-run", *overrides, f"seed={seed}"],
    }
