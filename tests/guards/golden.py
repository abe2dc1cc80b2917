"""Golden results: the SHA-256 of results.json of small runs that together touch every kind of part.

    python tests/guards/golden.py record            write golden.json from the code of this checkout
    python tests/guards/golden.py check             run them again and compare
    python tests/guards/golden.py check --tree DIR  the same with the code of another checkout
    python tests/guards/golden.py check ewc resume  only these runs

Floating-point results depend on the processor and on the version of torch, so the hashes hold for
the machine that is named in golden.json; elsewhere record them before a change and check them after it.
What is in LATER was added to results.json since they were recorded, and is left out of the hashes.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import json
import os
import platform
import runpy
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
FILE = HERE / "golden.json"
# Metrics, by the last word of their names, and keys of the file.
LATER = ("gained", "gained_slope", "kept", "forgetting_per_gained", "tags", "sha256")
# Loaded before the first fork, as far as a tree has it: its import takes longer than most runs.
PRELOADED = ("torch._dynamo", "pandas", "pyarrow.parquet", "ttt.cli.run", "ttt.assemble", "ttt.run.execute", "ttt.loop")
TINY = (
    "source=recall task.num_tasks=3 task.held_out=10 task.seq_len=16 task.batch_size=2 "
    "task.steps_per_task=3 task.eval_sequences=2 model.width=16 model.heads=2 model.mlp_width=24 "
    "model.window=4 trainer.threads=1 trainer.precision=32-true trainer.accelerator=cpu logger=none "
    "report=false base.steps=3 base.warmup=1"
)
FAST = "adapter.chunk=4"
NO_RECALL = ("source=", "task.held_out=", "task.seq_len=", "task.num_tasks=")
REWARD = "task=reward-sequence source=rule-world objective=reward base.steps=2 base.warmup=1 task.num_tasks=2"
DIGITS = (
    "model=mlp source=digits adapter=none base=none task=permuted-sequence task.permute=positions "
    "task.num_tasks=3 task.eval_sequences=4"
)
# A run by its name: what is typed after the settings of TINY. "-" in front: without what NO_RECALL names.
RUNS = {
    "none": "adapter=none",
    "mlp_fast": f"adapter=mlp_fast {FAST} eval.anytime=1 eval.savings=true",
    "never-lane": f"adapter=mlp_fast {FAST} adapter.reset=never adapter.carry=lane adapter.rule=delta "
    "adapter.momentum=0.5 adapter.centre=true adapter.clip=0.5",
    "hidden-nlms": f"adapter=mlp_fast {FAST} adapter.rule=nlms adapter.source=hidden adapter.keys=raw "
    "adapter.reset=sequence optimizer=muon",
    "delta_fast-replay-l2_init": "adapter=delta_fast strategy=replay strategy.size=8 strategy@also=l2_init",
    "titans_fast-ewc": f"adapter=titans_fast {FAST} strategy=ewc optimizer.schedule=cosine optimizer.warmup=1",
    "ttt_linear-der": f"adapter=ttt_linear {FAST} strategy=der strategy.size=8",
    "ttt_mlp-mas": f"adapter=ttt_mlp {FAST} strategy=mas task.num_tasks=2",
    "lact_fast-si": f"adapter=lact_fast {FAST} strategy=si",
    "lora_fast-lora_task": f"adapter=lora_fast {FAST} strategy=lora_task",
    "sgd_fast-lwf": f"adapter=sgd_fast {FAST} strategy=lwf optimizer=sgd optimizer.lr=0.01",
    "prompt_fast-online_ewc": f"adapter=prompt_fast {FAST} strategy=online_ewc optimizer.slow_every=2",
    "linear-distill": f"adapter=mlp_fast {FAST} strategy=distill",
    "consolidate": f"adapter=mlp_fast {FAST} strategy=consolidate",
    "shrink_perturb": f"adapter=mlp_fast {FAST} strategy=shrink_perturb trainer.accumulate=2",
    "olora": "adapter=none strategy=olora",
    "joint": "adapter=none strategy=joint",
    "cumulative": "adapter=none strategy=cumulative",
    "drift": f"task=drift-sequence adapter=mlp_fast {FAST}",
    "revisits-blur": f"adapter=mlp_fast {FAST} task.revisits=1",
    "agem-digits": f"-{DIGITS} strategy=agem strategy.size=16 optimizer=sgd task.batch_size=8",
    "redo-digits": f"-{DIGITS} strategy=redo optimizer=adam",
    "continual_backprop": f"-{DIGITS} strategy=continual_backprop optimizer=adamw",
    "layer_reset": f"-{DIGITS} strategy=layer_reset task.steps_per_task=one-pass task.num_tasks=2",
    "automata": f"-source=automata task.num_tasks=2 task.seq_len=32 adapter=mlp_fast {FAST}",
    "languages": f"-source=languages task.num_tasks=2 task.seq_len=32 adapter=mlp_fast {FAST}",
    "recall-sequence": f"-task=recall-sequence source=automata task.seq_len=32 task.distances=[8,16] "
    f"task.facts=[2] adapter=mlp_fast {FAST}",
    "labels": "-task=label-sequence source=digits task.example_len=4 task.num_tasks=3 adapter=none base=none",
    "reward-none": f"-{REWARD} adapter=none",
    "reward-pool": f"-{REWARD} adapter=prompt_pool adapter.proposer=mutate",
    "reward-soft": f"-{REWARD} adapter=soft_prompt",
    "references": f"adapter=mlp_fast {FAST} references=true",
    # A cache of its own: another run may have trained the same base in one process, which rounds otherwise.
    "two-processes": f"adapter=mlp_fast {FAST} trainer=ddp trainer.devices=2 strategy=replay strategy.size=8 "
    "cache_dir=two",
    "resume": f"adapter=mlp_fast {FAST} adapter.reset=never strategy=ewc task.num_tasks=4",
}


def words_of(name: str) -> list[str]:
    """The words of a run; what is typed later replaces what TINY says of the same setting."""
    typed, tiny = RUNS[name], TINY.split()
    if typed.startswith("-"):
        typed, tiny = typed[1:], [word for word in tiny if not word.startswith(NO_RECALL)]
    if "model=mlp" in typed:
        tiny = [word for word in tiny if not word.startswith("model.")]
    if "base=none" in typed:
        tiny = [word for word in tiny if not word.startswith("base.")]
    later = {word.split("=")[0] for word in typed.split()}
    return [*(word for word in tiny if word.split("=")[0] not in later), *typed.split()]


def results_of(folder: Path, *, strategy: str = "") -> Path:
    """The results of the run itself; its reference runs lie beside it."""
    pattern = f"outputs/*/*{strategy}*/*/results.json"
    (file,) = (path for path in folder.glob(pattern) if not path.parents[1].name.startswith("ref-"))
    return file


def run_once(name: str, work: Path) -> None:
    """The run in a fork of this process, which has everything loaded and never computes itself."""
    child = os.fork()
    if child:
        if os.waitpid(child, 0)[1]:
            raise ChildProcessError(name)
        return
    try:
        with (work / "log").open("a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        os.chdir(work)
        sys.argv = ["ttt-run", *words_of(name)]
        runpy.run_module("ttt.cli.run", run_name="__main__")
    except SystemExit as stop:
        os._exit(stop.code if isinstance(stop.code, int) else int(stop.code is not None))
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def hash_of(file: Path) -> str:
    """The SHA-256 of results.json as it was before anything in LATER was added."""

    def before(content: object) -> object:
        if not isinstance(content, dict):
            return content
        return {key: before(value) for key, value in content.items() if key.rsplit("/")[-1] not in LATER}

    text = json.dumps(before(json.loads(file.read_text())), indent=2, ensure_ascii=False)
    return hashlib.sha256((text + "\n").encode()).hexdigest()


def digest_of(name: str, root: Path) -> str:
    """Run it in a folder of its own; `resume` is stopped before its last task and run again."""
    work = root / name
    work.mkdir()
    try:
        run_once(name, work)
    except ChildProcessError:
        return "FAILED: " + (work / "log").read_text().strip().splitlines()[-1]
    file = results_of(work, strategy="-naive" if name == "references" else "")
    digest = hash_of(file)
    if name == "resume":
        shutil.rmtree(sorted((file.parent / "checkpoints").iterdir())[-1])
        file.unlink()
        (file.parent / "status.json").write_text(json.dumps({"status": "requeue"}))
        run_once(name, work)
        again = hash_of(file)
        return digest if again == digest else f"FAILED: resumed to {again}"
    return digest


def link_tree(tree: Path, at: Path) -> Path:
    """The package of a checkout as it would install: `at` goes into PYTHONPATH."""
    (at / "ttt").mkdir(parents=True)
    for item in (tree / "ttt").iterdir():
        (at / "ttt" / item.name).symlink_to(item)
    for folder in ("cli", "conf", "tasks", "kernels"):
        (at / "ttt" / folder).symlink_to(tree / folder)
    return at


def digests(tree: Path, names: Sequence[str]) -> dict[str, str]:
    """Of each run, by a process that sees the code of `tree` alone."""
    with tempfile.TemporaryDirectory(prefix="golden-") as work:
        root = Path(work)
        environment = os.environ | {
            "PYTHONPATH": str(link_tree(tree, root / "tree")),
            "PYTHONSAFEPATH": "1",
            "WANDB_MODE": "offline",
            "HF_HUB_OFFLINE": "1",
            "TTT_CACHE": str(root / "cache"),
        }
        command = [sys.executable, __file__, "serve", *names, "--tree", str(root)]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
        return dict(json.loads(done.stdout))


def serve(root: Path, names: Sequence[str]) -> None:
    """Run them two at a time; prints name -> digest."""
    for module in PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    with ThreadPoolExecutor(2) as pool:
        hashes = pool.map(lambda name: digest_of(name, root), names)
        print(json.dumps(dict(zip(names, hashes, strict=True))))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("record", "check", "serve"))
    parser.add_argument("runs", nargs="*", help="names of runs (all)")
    parser.add_argument("--tree", type=Path, default=HERE.parents[1], help="the checkout whose code runs")
    # Intermixed: names may stand behind --tree too.
    typed = parser.parse_intermixed_args()
    names = typed.runs or list(RUNS)
    if typed.action == "serve":
        serve(typed.tree, names)
        return 0
    new = digests(typed.tree.resolve(), names)
    failed = {name: digest for name, digest in new.items() if digest.startswith("FAILED")}
    for name, why in failed.items():
        print(f"{name}: {why}")
    if failed:
        return 1
    if typed.action == "record":
        old = json.loads(FILE.read_text())["runs"] if FILE.is_file() and typed.runs else {}
        content = {"machine": f"{platform.machine()} {platform.processor()}".strip(), "runs": old | new}
        FILE.write_text(json.dumps(content, indent=2) + "\n")
        return 0
    golden = json.loads(FILE.read_text())["runs"]
    differ = [name for name in names if golden.get(name) != new[name]]
    print(f"{len(names) - len(differ)} of {len(names)} equal" + (f"; differ: {' '.join(differ)}" if differ else ""))
    return int(bool(differ))


if __name__ == "__main__":
    sys.exit(main())
