"""ttt-probe: what fast weights do.

    ttt-probe induction         one write on made-up keys: does it raise the right word, as the theorem says?
    ttt-probe induction RUN     the same with a run's own keys, its unembedding and its later layers
    ttt-probe state RUN         how large and how full the fast state is, and what it gains by position

RUN is a folder that ttt-run made. --out FOLDER keeps all numbers (probe.json) and a plot (probe.svg).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType

from ttt.cli.probes.arguments import SIZES, arguments

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ttt.run.open import OpenedRun

WIDTH = 140
# What is shown, what is kept, its picture.
Answer = tuple[Sequence[RenderableType], dict[str, Any], "Figure"]


def main() -> None:
    """The console command."""
    try:
        typed = arguments(sys.argv[1:], about=__doc__ or "")
        # Imported here and below: a wrong word should not wait for torch.
        import torch

        torch.set_num_threads(typed.threads)
        run = opened(typed)
        if typed.out is not None:
            make_folder(typed.out)
        start = time.perf_counter()
        probe = (probe_state if typed.probe == "state" else probe_activations) if run is not None else None
        shown, kept, figure = probe(run, typed) if probe and run else probe_made_up(typed)
    except ValueError as error:
        print(f"ttt-probe: {error}", file=sys.stderr)
        sys.exit(2)
    seconds = time.perf_counter() - start
    console = Console(highlight=False)
    if not console.is_terminal:
        # Half a number in a file is none.
        console.width = max(console.width, WIDTH)
    for part in shown:
        console.print(part)
    if typed.out is not None:
        keep(typed.out, {"probe": typed.probe, "run": run and str(typed.run), "seconds": seconds, **kept}, figure)
    console.print(f"{seconds:.1f} s" + (f"; kept in {typed.out}" if typed.out else ""))


def opened(typed: argparse.Namespace) -> OpenedRun | None:
    if typed.run is None:
        return None
    from ttt.run.open import open_run

    trusted = [typed.config_dir] if typed.config_dir else []
    sys.path.extend(str(path) for path in trusted if str(path) not in sys.path)
    run = open_run(typed.run, trusted=trusted)
    if typed.probe == "state" and not run.learner.adapter.initial():
        raise ValueError(f"{typed.run}: adapter={run.adapter} has no fast state to probe")
    return run


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--out {folder}: cannot be made: {error.strerror}") from error


def probe_made_up(typed: argparse.Namespace) -> Answer:
    from ttt.cli.probes import plot as probe_plot
    from ttt.cli.probes import show as probe_show
    from ttt.probes.induction import Setting, synthetic

    setting = Setting(**{name: getattr(typed, name) for name in SIZES}, seed=typed.seed)
    with Console(stderr=True).status("") as status:
        rows = synthetic(setting, progress=lambda done: status.update(f"trial {done} of {setting.trials}"))
    kept = {"settings": vars(setting), "rows": rows}
    return probe_show.made_up(rows), kept, probe_plot.made_up(rows)


def probe_activations(run: OpenedRun, typed: argparse.Namespace) -> Answer:
    from ttt.cli.probes import plot as probe_plot
    from ttt.cli.probes import show as probe_show
    from ttt.probes import activations

    vocab, length = len(activations.unembedding(run.learner.model)), run.stream.seq_len
    prompts = activations.draw_prompts(typed.prompts, length=length, vocab=vocab, seed=typed.seed)
    with Console(stderr=True).status("") as status:
        found = activations.probe_activations(
            run.learner,
            prompts,
            true_prompts=typed.true_prompts,
            seed=typed.seed,
            progress=lambda done: status.update(f"prompt {done} of {typed.prompts}"),
        )
    of_them = min(typed.true_prompts, typed.prompts)
    settings = {"prompts": typed.prompts, "true_prompts": of_them, "tokens": length, "vocab": vocab, "seed": typed.seed}
    kept = {"settings": settings | {"adapter": run.adapter, "learned": run.learned}, **found}
    return probe_show.activations(kept), kept, probe_plot.activations(kept)


def probe_state(run: OpenedRun, typed: argparse.Namespace) -> Answer:
    from ttt.cli.probes import plot as probe_plot
    from ttt.cli.probes import show as probe_show
    from ttt.probes import state

    task = run.stream.tasks[-1]
    found = state.probe_state(run.learner, task.evaluation())
    journal = state.journal_numbers(run.folder.metrics) if run.folder.metrics.is_file() else []
    settings = {"adapter": run.adapter, "learned": run.learned, "task": task.name}
    kept = {"settings": settings, "journal": journal, **found}
    return probe_show.state(kept), kept, probe_plot.state(kept)


def keep(folder: Path, numbers: dict[str, Any], figure: Figure) -> None:
    from ttt.cli.probes.plot import svg
    from ttt.storage.files import write_bytes, write_json
    from ttt.storage.journal import plain

    write_json(folder / "probe.json", plain(numbers))
    write_bytes(folder / "probe.svg", svg(figure))


if __name__ == "__main__":
    main()
