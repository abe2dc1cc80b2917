"""`ttt-probe causality`: what is probed, and what is said about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from rich.console import RenderableType
from torch import Tensor

from ttt.cli.probes.overrides import composed
from ttt.cli.probes.show import new_table
from ttt.learner import Learner
from ttt.probes.causality import CONDITIONS, ProbeSizes, Verdict, unprobed
from ttt.probes.checks import TOLERANCE
from ttt.run.open import OpenedRun
from ttt.storage.read import read_config

# Sequences whose tokens are flipped.
SEQUENCES = 2


class Subject(NamedTuple):
    """A learner with sequences to read, and the numbers that say which one it is.

    `chunk`: the adapter's, None for one without chunks.
    """

    learner: Learner
    token_RT: Tensor
    chunk: int | None
    settings: dict[str, Any]


def of_run(run: OpenedRun) -> Subject:
    config = read_config(run.folder.path)
    # The last task is the one whose state the stream left.
    tokens = run.stream.tasks[-1].evaluation().tokens_BT
    return _subject(run.learner, tokens, config, weights=f"after task {run.learned}")


def of_overrides(words: Sequence[str], *, config_dir: Path | None) -> Subject:
    """What these overrides name, as `ttt-run` takes them, with the weights before any training.

    Raises ValueError in the user's words.
    """
    run = composed(words, config_dir=config_dir)
    tokens = run.assembly.stream.tasks[-1].evaluation().tokens_BT
    return _subject(run.assembly.learner, tokens, run.config, weights=run.weights)


def _subject(learner: Learner, token_BT: Tensor, config: dict[str, Any], *, weights: str) -> Subject:
    """Raises ValueError where there is nothing to flip."""
    why = unprobed(learner, token_BT)
    if why:
        model, adapter = config["model"]["name"], config["adapter"]["name"]
        raise ValueError(f"model={model} adapter={adapter}: {why}; nothing to probe")
    settings = {
        "model": config["model"]["name"],
        "adapter": config["adapter"]["name"],
        "parameters": sum(parameter.numel() for parameter in learner.parameters()),
        "weights": weights,
        "task": config["task"]["name"],
        "source": config["source"]["name"],
    }
    # In half precision the rounding of another shape could not be told from a leak.
    return Subject(learner.float(), token_BT[:SEQUENCES], config["adapter"].get("chunk"), settings)


def numbers_of(subject: Subject, verdict: Verdict, sizes: ProbeSizes) -> dict[str, Any]:
    """All numbers as --out keeps them."""
    settings = subject.settings | asdict(sizes) | {"sequences": len(subject.token_RT), "tolerance": TOLERANCE}
    return {
        "settings": settings,
        "flips": verdict.flips,
        "writes_move": verdict.writes_move,
        "line": verdict.line(),
        "checks": [asdict(check) | {"leaks": check.leaks} for check in verdict.checks],
        "profiles": dict(verdict.profiles),
    }


def show_causality(numbers: dict[str, Any]) -> list[RenderableType]:
    settings, modes = numbers["settings"], list(numbers["profiles"])
    head = (
        f"{settings['model']}, {settings['parameters']:,} parameters ({settings['weights']}), "
        f"adapter={settings['adapter']}; {settings['sequences']} sequences of {settings['length']} tokens of "
        f"{settings['source']}; {numbers['flips']} flips at {settings['places']} places in each mode"
    )
    table = new_table(
        "largest change where none may be, as a share of the largest score", "condition", "moved by", *modes, left=2
    )
    for condition in CONDITIONS:
        checks = [check for check in numbers["checks"] if check["condition"] == condition]
        for i, what in enumerate(dict.fromkeys(check["what"] for check in checks)):
            cells = {check["mode"]: _cell(check) for check in checks if check["what"] == what}
            table.add_row("" if i else condition, what, *(cells.get(mode, "-") for mode in modes))
    leaks = [f"leak   {x['mode']}: {x['where']} moves by {x['size']:.2g}" for x in numbers["checks"] if x["leaks"]]
    return [head, table, _foot(numbers), *leaks, f"causal {numbers['line']}"]


def _cell(check: dict[str, Any]) -> str:
    size = "0" if check["size"] == 0 else f"{check['size']:.1e}"
    return f"LEAK {size}" if check["leaks"] else size


def _foot(numbers: dict[str, Any]) -> str:
    """What the zeros of the table are to be held against."""
    # If a flipped token moved nothing behind it either, a table of zeros would prove nothing.
    moved = max(max(profile) for profile in numbers["profiles"].values())
    words = [f"for comparison: one flipped token moves scores that come after it by up to {moved:.2g}"]
    if numbers["writes_move"] is not None:
        words.append(f"writes move scores by up to {numbers['writes_move']:.2g}")
    if numbers["writes_move"] == 0:
        words.append("so that the modes that write have nothing to leak")
    return "; ".join(words) + f"\nallowed: 0 (in pieces, and on a GPU: {TOLERANCE:g}, for rounding)"


def plot_causality(numbers: dict[str, Any]) -> Figure:
    """Plot how far scores move by their distance from one flipped token: left of it, not at all."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    for mode, profile in numbers["profiles"].items():
        length = len(profile) // 2
        axes.plot(range(-length, length + 1), profile, ".-", markersize=3, linewidth=0.8, label=mode)
    axes.axvline(-0.5, color="k", linestyle=":")
    # Zero has no logarithm: below the smallest rounding the axis is linear.
    axes.set_yscale("symlog", linthresh=1e-8)
    axes.set(xlabel="positions from the flipped token", ylabel="largest change of a score", ylim=(0, None))
    axes.legend()
    return figure
