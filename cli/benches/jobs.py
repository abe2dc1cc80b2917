"""What `ttt-bench startup` and `ttt-bench all` time: commands as one types them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence

from ttt.cli.benches.typed import Job, Side
from ttt.storage.run_folder import RunFolder

# Run folders that a comparison reads: so many seeds of each rate.
RATES, SEEDS = 20, 50
RUN, COMPARE = ("-m", "ttt.cli.run"), ("-m", "ttt.cli.compare")
PLAIN = ("logger=none", "report=false", "trainer.threads=1", "trainer.precision=32-true", "trainer.accelerator=cpu")
TINY = (
    *PLAIN, "source=recall", "task.held_out=10", "task.seq_len=64", "task.batch_size=2", "task.steps_per_task=3",
    "task.eval_sequences=2", "model.width=16", "model.heads=2", "model.mlp_width=24", "model.window=4",
    "base.steps=3", "base.warmup=1",
)  # fmt: skip
THREE = (*TINY, "task.num_tasks=3")
SWEEP = ("-m", *THREE, "adapter=none,mlp_fast", "optimizer=adamw,sgd", "seeds=3")
MANY = (*TINY, "task.num_tasks=200", "task.held_out=200", "eval.every=200", "eval.diagnostics=false")
# The main job for a few seconds.
MAIN = (*PLAIN, "base=none", "task.num_tasks=2", "task.steps_per_task=8", "task.eval_sequences=2")
DIGITS = (
    *PLAIN, "model=mlp", "adapter=none", "base=none", "source=digits", "task=permuted-sequence",
    "task.permute=positions", "task.num_tasks=5", "task.steps_per_task=4-pass", "task.batch_size=32",
    "optimizer=sgd", "optimizer.lr=0.05",
)  # fmt: skip

COMPOSED = f"""
from hydra import compose, initialize_config_module
with initialize_config_module("ttt.conf", version_base="1.3"):
    for seed in range({{runs}}):
        compose("config", overrides=[{", ".join(map(repr, THREE))}, f"seed={{{{seed}}}}"])
import numpy, rich.table
"""
READ = """
import json, pathlib, numpy, rich.table
for file in pathlib.Path("outputs").rglob("results.json"):
    json.loads(file.read_bytes())
"""
ONE_STEP = """
import torch
model = torch.nn.Linear(4, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
model(torch.zeros(1, 4)).sum().backward()
optimizer.step()
"""
UNSAVED = f"""
import importlib, sys
importlib.import_module("ttt.run.session").Session.save = lambda session: None
sys.argv = ["ttt-run", *{MANY!r}, "output_dir=unsaved"]
import shutil; shutil.rmtree("unsaved", ignore_errors=True)
importlib.import_module("ttt.cli.run").main()
"""


def jobs() -> list[Job]:
    """All of them, by the benchmark that they belong to."""
    return [
        Job("startup", "run to its end", [*RUN, *THREE], is_new=True, floor=ONE_STEP),
        Job("startup", "run again", [*RUN, *THREE], _once([*RUN, *THREE]), floor=COMPOSED.format(runs=1)),
        Job("startup", "sweep again", [*RUN, *SWEEP], _once([*RUN, *SWEEP]), floor=COMPOSED.format(runs=12)),
        Job("startup", f"{RATES * SEEDS:,} runs", [*COMPARE, "outputs"], _copies, floor=READ),
        Job("startup", "200 tasks", [*RUN, *MANY], is_new=True, floor=UNSAVED),
        *(
            Job("adapters", name, [*RUN, *MAIN, f"adapter={name}"], is_new=True)
            for name in ("none", "mlp_fast", "delta_fast")
        ),
        *(
            Job("strategies", name, [*RUN, *DIGITS, f"strategy={name}"], is_new=True)
            for name in ("naive", "ewc", "replay")
        ),
        Job("evaluation", "all rows", [*RUN, *MAIN, "task.steps_per_task=1", "task.num_tasks=3", "eval.every=1"],
            is_new=True),
    ]  # fmt: skip


def _once(words: Sequence[str]) -> Callable[[Side], None]:
    """Prepare by doing the same before."""
    return lambda side: side.run(words)


def _copies(side: Side) -> None:
    """Prepare many run folders: one run, under other seeds and rates."""
    side.run([*RUN, *TINY, "task.num_tasks=10", "output_dir=model", "optimizer.lr=0.125", "seed=7777"])
    (path,) = (side.folder / "model").glob("*/*/*")
    model = RunFolder(path)
    text = model.config.read_text()
    for i in range(RATES * SEEDS):
        rate, seed = 2.0 ** -(i // SEEDS), i % SEEDS
        copy = RunFolder(side.folder / "outputs" / "many" / f"rate{rate}" / f"seed{seed}")
        copy.path.mkdir(parents=True)
        for file in (model.results, model.status_file, model.environment):
            shutil.copy(file, copy.path)
        copy.config.write_text(re.sub(r"\b7777\b", str(seed), text).replace("lr: 0.125", f"lr: {rate}"))
