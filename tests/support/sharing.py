"""What each of several real gloo processes does for the tests of devices.

A module of its own, so that these processes can import it.
"""

from __future__ import annotations

import os
import socket
import time
import warnings
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from assembling import config_of as composed_config
from assembling import last_of
from harness import SMALL
from torch import Tensor

from ttt.cli.sweeps.child import PRELOADED
from ttt.devices.collective import decided, over_devices
from ttt.devices.shards import whole_tensors
from ttt.evaluation.evaluate import evaluate
from ttt.learner import Engine
from ttt.results.results import Results
from ttt.run.assemble import assemble
from ttt.run.resume import restore_run, save_run
from ttt.storage import checkpoint
from ttt.storage.history import History
from ttt.storage.journal import Journal
from ttt.stream import IGNORE, Batch
from ttt.training.clock import Clock
from ttt.training.train import _backward, train

STEPS = 12
# Three sequences to evaluate: two devices cannot share them evenly.
OWN = ("base=none", "task.batch_size=4", "task.eval_sequences=3")


def config_of(*overrides: str) -> dict[str, Any]:
    return composed_config(*last_of(*SMALL, *OWN, *overrides))


class Uneven:
    """A task whose rows have different numbers of scored tokens: at times a device has none."""

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
    settings, optimizer = assembly.settings, assembly.learner.configure_optimizers()
    accumulate, processes = settings.accumulate, settings.context_parallel
    engine = Engine.build(settings.fabric(), assembly.learner, optimizer, accumulate=accumulate, processes=processes)
    return assembly, engine


def learn(config: dict[str, Any], steps: int) -> dict[str, Any]:
    """Return losses of every step, the states that are left, and what evaluation measures."""
    assembly, engine = engine_for(config)
    assert not engine.learner.adapter.initial() or engine.merges == (config["adapter"].get("carry") != "lane")
    task, recipe = Uneven(assembly.stream.tasks[0]), assembly.recipe
    losses = [report.loss for report in train(engine, task, recipe=recipe, steps=steps, report_every=1)]
    fast = engine.whole_fast()
    scores = evaluate(engine, [task.evaluation() for task in assembly.stream.tasks], recipe=assembly.recipe)
    slow = whole_tensors(dict(engine.learner.model.named_parameters()), keep=True)
    return {"losses": losses, "fast": fast, "scores": scores, "slow": slow}


def save_and_go_on(config: dict[str, Any], folder: Path, *, goes_on: bool) -> dict[str, Any]:
    """Take some steps, save, and take some more; `goes_on`: only the later ones, from the save."""
    assembly, engine = engine_for(config)
    recipe, phases = assembly.recipe, assembly.stream.phases
    results, task = Results.of(assembly.stream), assembly.stream.tasks[0]
    saves = folder / "task-0000"
    if goes_on:
        restore_run(engine, recipe, checkpoint.load(saves), results=results)
    else:
        list(train(engine, task, recipe=recipe, steps=3, report_every=3))
        evaluations = [each.evaluation() for each in assembly.stream.tasks]
        scores = evaluate(engine, evaluations, recipe=recipe)
        results.add(columns=list(range(len(evaluations))), scores=scores, base=None)
        journal = decided_journal(engine, folder)
        history, clock = History(folder), Clock(step=3)
        save_run(
            engine,
            recipe,
            results=results,
            clock=clock,
            journal=journal,
            history=history,
            folder=folder,
            task_step=0,
            sharded=assembly.settings.shards_checkpoints,
        )
    losses = [report.loss for report in train(engine, phases[1], recipe=recipe, steps=3, report_every=1)]
    return {"losses": losses, "slow": whole_tensors(dict(engine.learner.model.named_parameters()), keep=True)}


def decided_journal(engine: Engine, folder: Path) -> Journal | None:
    return Journal(folder / "metrics.jsonl") if engine.fabric.is_global_zero else None


def refuse(config: dict[str, Any]) -> str:
    """Let the first process refuse: the others must hear of it instead of waiting."""
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


def backward_once(config: dict[str, Any], *, packed: bool) -> dict[str, Any]:
    """Read one batch in fp64; return loss, gradients, state, and the bytes of floats sent and saved."""
    assembly = assemble(config, trusted=[])
    generator = torch.Generator().manual_seed(0)
    for parameter in assembly.learner.double().parameters():
        # A memory that is new reads out nothing: without noise most gradients would be zero.
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    settings, optimizer = assembly.settings, assembly.learner.configure_optimizers()
    accumulate, processes = settings.accumulate, settings.context_parallel
    engine = Engine.build(settings.fabric(), assembly.learner, optimizer, accumulate=accumulate, processes=processes)
    engine.learner.fast = {name: x.double() for name, x in engine.learner.fast.items()}
    batch = assembly.stream.tasks[0].batch(0)
    # Documents of five tokens, at other places in each row.
    place_BT = torch.arange(batch.segment_BT.shape[1]) + torch.arange(len(batch.segment_BT))[:, None]
    batch = batch._replace(segment_BT=place_BT // 5) if packed else batch
    weights = {x.untyped_storage().data_ptr() for x in engine.learner.parameters()}
    saved: dict[int, Tensor] = {}

    def save(x: Tensor) -> Tensor:
        saved[x.untyped_storage().data_ptr()] = x
        return x

    isend = torch.distributed.isend
    with (
        torch.autograd.graph.saved_tensors_hooks(save, lambda x: x),
        mock.patch.object(torch.distributed, "isend", wraps=isend) as sends,
    ):
        loss = _backward(engine, assembly.recipe, batch, step=0, share=1)
    tensors = [call.args[0] for call in sends.call_args_list]
    named = engine.learner.named_parameters()
    return {
        "loss": over_devices(engine.fabric, loss),
        "gradients": {name: x.grad for name, x in named if x.grad is not None},
        "fast": engine.learner.fast,
        "sent": sum(x.nbytes for x in tensors if x.is_floating_point()),
        "saved": sum(x.untyped_storage().nbytes() for at, x in saved.items() if at not in weights),
    }


WORK = {
    "backward_once": backward_once,
    "base_weights": base_weights,
    "learn": learn,
    "save_and_go_on": save_and_go_on,
    "refuse": refuse,
}


# The name of a function above, or one of another module, and its arguments.
Job = tuple[str | Callable[..., Any], dict[str, Any]]


def together(jobs: list[Job], file: Path, *, ranks: int = 2) -> list[list[Any]]:
    """Do every job on `ranks` processes that start once; return what each of them returned."""
    context = get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    port = free_port()
    processes = [context.Process(target=_member, args=(rank, ranks, port, jobs, str(file))) for rank in range(ranks)]
    for process in processes:
        process.start()
    deadline = time.monotonic() + 300
    while any(process.exitcode is None for process in processes) and time.monotonic() < deadline:
        # A process that is left alone would wait for the others.
        if any(process.exitcode for process in processes):
            for process in processes:
                process.terminate()
        time.sleep(0.05)
    assert [process.exitcode for process in processes] == [0] * ranks
    return [torch.load(f"{file}.{rank}", weights_only=False) for rank in range(ranks)]


def _member(rank: int, ranks: int, port: int, jobs: list[Job], file: str) -> None:
    warnings.simplefilter("error")
    # Lightning's and torch's own deprecations are not ours to mend.
    for module in ("lightning", "torch"):
        warnings.filterwarnings("ignore", module=module)
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    work = ((WORK[what] if isinstance(what, str) else what, arguments) for what, arguments in jobs)
    torch.save([do(**arguments) for do, arguments in work], f"{file}.{rank}")
    # The first process keeps the store through which the others are still finding each other.
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])
