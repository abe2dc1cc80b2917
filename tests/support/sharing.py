"""What each of several real gloo processes does in tests/devices/test_devices.py: a module of its own, for them to import."""

from __future__ import annotations

import os
import socket
import time
import warnings
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from harness import SMALL
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from ttt.devices.collective import decided
from ttt.devices.shards import whole_tensors
from ttt.evaluation.evaluate import evaluate
from ttt.evaluation.plan import Plan
from ttt.learner import Engine
from ttt.results.results import Results
from ttt.run.assemble import assemble
from ttt.run.resume import restore_run, save_run
from ttt.storage import checkpoint
from ttt.storage.journal import Journal
from ttt.stream import IGNORE, Batch
from ttt.training.clock import Clock
from ttt.training.train import train

STEPS = 50
# Three sequences to evaluate: two devices cannot share them evenly.
OWN = ("base=none", "task.batch_size=4", "task.eval_sequences=3")


def config_of(*overrides: str) -> dict[str, Any]:
    with initialize_config_module("ttt.conf", version_base="1.3"):
        # What comes later counts.
        words = {o.split("=")[0]: o for o in (*SMALL, *OWN, *overrides)}
        config = compose("config", overrides=list(words.values()))
    return OmegaConf.to_container(config, resolve=True)


class Uneven:
    """A task whose rows hold very different numbers of scored tokens: at times one device has none at all."""

    def __init__(self, task: Any) -> None:
        self._task, self.name = task, task.name

    def batch(self, step: int) -> Batch:
        batch = self._task.batch(step)
        targets_BT = batch.targets_BT.clone()
        for row in range(len(targets_BT)):
            # Rows 0 and 2 are those of the first of two devices.
            targets_BT[row, : (len(targets_BT[0]) if row % 2 == step % 2 else 3 * row)] = IGNORE
        return batch._replace(targets_BT=targets_BT)


def engine_for(config: dict[str, Any]) -> tuple[Any, Engine]:
    assembly = assemble(config, trusted=[])
    fabric = assembly.settings.fabric()
    optimizer = assembly.learner.configure_optimizers()
    return assembly, Engine.build(fabric, assembly.learner, optimizer, accumulate=assembly.settings.accumulate)


def learn(config: dict[str, Any], steps: int) -> dict[str, Any]:
    """Losses of every step, the state that is left, and what evaluation measures, as the first process sees it."""
    assembly, engine = engine_for(config)
    assert not engine.learner.adapter.initial() or engine.merges == (config["adapter"].get("carry") != "lane")
    losses = [
        p.loss
        for p in train(engine, Uneven(assembly.stream.tasks[0]), recipe=assembly.recipe, steps=steps, report_every=1)
    ]
    fast = engine.whole_fast()
    scores = evaluate(engine, [task.evaluation() for task in assembly.stream.tasks], recipe=assembly.recipe)
    slow = whole_tensors(dict(engine.learner.model.named_parameters()), keep=True)
    return {"losses": losses, "fast": fast, "scores": scores, "slow": slow}


def save_and_go_on(config: dict[str, Any], folder: Path, *, goes_on: bool) -> dict[str, Any]:
    """Some steps, a checkpoint, some more; or only those after it, from the checkpoint that lies there."""
    assembly, engine = engine_for(config)
    results, task = Results.of(assembly.stream), assembly.stream.tasks[0]
    saves = folder / "task-0000"
    if goes_on:
        restore_run(engine, assembly.recipe, checkpoint.load(saves), results=results)
    else:
        list(train(engine, task, recipe=assembly.recipe, steps=3, report_every=3))
        row = Plan.of("auto", stream=assembly.stream).columns(0, stream=assembly.stream)
        results.add(
            columns=row,
            scores=evaluate(engine, [t.evaluation() for t in assembly.stream.tasks], recipe=assembly.recipe),
            base=None,
        )
        journal = decided_journal(engine, folder)
        save_run(engine, assembly.recipe, results=results, clock=Clock(step=3), journal=journal, folder=folder)
    losses = [p.loss for p in train(engine, assembly.stream.phases[1], recipe=assembly.recipe, steps=3, report_every=1)]
    return {"losses": losses, "slow": whole_tensors(dict(engine.learner.model.named_parameters()), keep=True)}


def decided_journal(engine: Engine, folder: Path) -> Journal | None:
    return Journal(folder / "metrics.jsonl") if engine.fabric.is_global_zero else None


def refuse(config: dict[str, Any]) -> str:
    """The first process refuses; the others must hear of it instead of waiting."""
    _, engine = engine_for(config)

    def no() -> None:
        raise ValueError("the folder is taken")

    try:
        decided(engine.fabric, no)
    except ValueError as error:
        return str(error)
    return "went on"


def base_weights(config: dict[str, Any]) -> Any:
    assembly = assemble(config, trusted=[])
    return assembly.base_weights(assembly.settings.fabric(), lambda event: None)


WORK = {"base_weights": base_weights, "learn": learn, "save_and_go_on": save_and_go_on, "refuse": refuse}


def together(jobs: list[tuple[str, dict[str, Any]]], file: Path, *, ranks: int = 2) -> list[list[Any]]:
    """Every job on `ranks` processes that are started once: what each of them returned, job by job."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["sharing"])
    port = free_port()
    processes = [context.Process(target=_member, args=(rank, ranks, port, jobs, str(file))) for rank in range(ranks)]
    for process in processes:
        process.start()
    deadline = time.monotonic() + 300
    while any(process.exitcode is None for process in processes) and time.monotonic() < deadline:
        # Who is left alone would wait.
        if any(process.exitcode for process in processes):
            for process in processes:
                process.terminate()
        time.sleep(0.05)
    assert [process.exitcode for process in processes] == [0] * ranks
    return [torch.load(f"{file}.{rank}", weights_only=False) for rank in range(ranks)]


def _member(rank: int, ranks: int, port: int, jobs: list[tuple[str, dict[str, Any]]], file: str) -> None:
    warnings.simplefilter("error")
    # Lightning's and torch's own deprecations are not ours to mend.
    for module in ("lightning", "torch"):
        warnings.filterwarnings("ignore", module=module)
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    torch.save([WORK[name](**arguments) for name, arguments in jobs], f"{file}.{rank}")
    torch.distributed.destroy_process_group()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])
