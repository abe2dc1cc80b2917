"""ttt-probe: what fast weights do, and whether they know the future.

    ttt-probe causality RUN     does a token move any score or state that comes before it?
    ttt-probe causality adapter=mlp_fast source=languages ...
                                the same for what ttt-run would run, before any training
    ttt-probe context RUN       what is a longer context worth, with writes off, on, and carried
                                on? of running text the loss by position, and of the same last
                                tokens behind contexts of --lengths 256,512,...; of questions
                                (source=needle, mqar) by length and depth, with exact answers
    ttt-probe context model=smollm2 source=needle source.kind=single-2 ...
                                the same for what ttt-run would run, before any training
    ttt-probe documents model=smollm2 adapter.step=0.01,0.1 ...
                                what do writes gain on single documents, without training? a row
                                for each combination of values, as in a sweep
    ttt-probe induction         does one write on made-up keys raise the right word, as proved?
    ttt-probe induction RUN     the same with a run's own keys, unembedding and later layers
    ttt-probe slow RUN          how much of the drift of mode slow goes when a copy learns some
                                steps on the base's text with writes off?
    ttt-probe state RUN         how large and full the fast state is, and what it gains by position

RUN is a folder that ttt-run made. --out FOLDER keeps all numbers (probe.json) and a plot
(probe.svg). Exit codes: 0; 1 causality saw a leak; 2 the command was wrong.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import RenderableType

from ttt.cli.console import Console, say_error
from ttt.cli.outlet import outlast_readers
from ttt.cli.probes.arguments import SIZES, options_with_run
from ttt.cli.process import in_own_process
from ttt.run.exit_codes import ExitCode

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ttt.run.open import OpenedRun

WIDTH = 140


class Answer(NamedTuple):
    """What a probe prints, the numbers that --out keeps, their picture, and the exit code."""

    parts: Sequence[RenderableType]
    numbers: dict[str, Any]
    figure: Figure
    code: int = ExitCode.DONE


@in_own_process
def main() -> None:
    """Run the console command."""
    outlast_readers()
    try:
        typed = options_with_run(sys.argv[1:], about=__doc__ or "")
        # Imported here and below, so that a mistyped word does not wait for torch.
        import torch

        torch.set_num_threads(typed.threads)
        run = opened(typed)
        # Made before the probe runs: a folder that cannot be made is not found out after minutes.
        if typed.out is not None:
            make_folder(typed.out)
        start = time.perf_counter()
        # Refusals may still come: whether a probe fits a learner shows only when it looks at it.
        answer = answer_of(run, typed)
    except ValueError as error:
        say_error(f"ttt-probe: {error}")
        sys.exit(ExitCode.USAGE)
    seconds = time.perf_counter() - start
    console = Console(highlight=False)
    if not console.is_terminal:
        # Rich would cut numbers to the 80 columns that it assumes of a file or a pipe.
        console.width = max(console.width, WIDTH)
    for part in answer.parts:
        console.print(part)
    if typed.out is not None:
        words = {"run": run and str(typed.run), "overrides": typed.overrides}
        keep(typed.out, {"probe": typed.probe, **words, "seconds": seconds} | answer.numbers, answer.figure)
    console.print(f"{seconds:.1f} s" + (f"; kept in {typed.out}" if typed.out else ""))
    if answer.code:
        sys.exit(answer.code)


def opened(typed: argparse.Namespace) -> OpenedRun | None:
    """Open the run that was typed, if any. Raises ValueError if it has nothing to probe."""
    if typed.run is None:
        return None
    from ttt.adapters.evolving import Evolving
    from ttt.run.open import open_run

    # Modules of the user's own lie in the folder that ttt-run was started with.
    trusted = [typed.config_dir] if typed.config_dir else []
    sys.path.extend(str(path) for path in trusted if str(path) not in sys.path)
    run = open_run(typed.run, trusted=trusted)
    if isinstance(run.learner.adapter, Evolving):
        raise ValueError(
            f"{typed.run}: adapter={run.adapter}: its fast weights are prompts, which are not written while reading; "
            "nothing to probe"
        )
    if typed.probe in ("slow", "state") and not run.learner.adapter.initial():
        raise ValueError(f"{typed.run}: adapter={run.adapter} has no fast state to probe")
    return run


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--out {folder}: cannot be made: {error.strerror}") from error


def answer_of(run: OpenedRun | None, typed: argparse.Namespace) -> Answer:
    if typed.probe == "causality":
        return causality(run, typed)
    if typed.probe == "context":
        return context(run, typed)
    if typed.probe == "documents":
        return documents(typed)
    if run is None:
        return synthetic_induction(typed)
    if typed.probe == "slow":
        return slow_of_run(run, typed)
    return state_of_run(run) if typed.probe == "state" else induction_of_run(run, typed)


def causality(run: OpenedRun | None, typed: argparse.Namespace) -> Answer:
    from ttt.cli.probes.causality import numbers_of, of_overrides, of_run, plot_causality, show_causality
    from ttt.probes.causality import ProbeSizes, probe_causality

    subject = of_run(run) if run is not None else of_overrides(typed.overrides, config_dir=typed.config_dir)
    sizes = ProbeSizes.within(
        subject.learner, length=subject.token_RT.shape[1], chunk=subject.chunk, places=typed.places
    )
    with Console(stderr=True).status(f"{sizes.places} places"):
        verdict = probe_causality(subject.learner, subject.token_RT, chunk=subject.chunk, sizes=sizes)
    numbers = numbers_of(subject, verdict, sizes)
    code = ExitCode.FAILED if verdict.leaks else ExitCode.DONE
    return Answer(show_causality(numbers), numbers, plot_causality(numbers), code)


def context(run: OpenedRun | None, typed: argparse.Namespace) -> Answer:
    from ttt.cli.probes.context import Lengths, read_context, subject_of
    from ttt.cli.probes.context_tables import plot_context, show_context

    subject = subject_of(run, typed.overrides, config_dir=typed.config_dir)
    lengths = Lengths.typed(subject, tokens=typed.lengths, block=typed.block, sequences=typed.sequences)
    with Console(stderr=True).status("") as status:
        numbers = read_context(subject, lengths, progress=status.update)
    return Answer(show_context(numbers), numbers, plot_context(numbers))


def documents(typed: argparse.Namespace) -> Answer:
    from ttt.cli.probes.documents import plot_documents, read_settings, show_documents

    with Console(stderr=True).status("") as status:
        rows = read_settings(
            typed.overrides,
            foreign=bool(typed.foreign),
            config_dir=typed.config_dir,
            out=typed.out,
            progress=lambda text: status.update(text),
        )
    return Answer(show_documents(rows), {"rows": rows}, plot_documents(rows))


def synthetic_induction(typed: argparse.Namespace) -> Answer:
    from ttt.cli.probes.plot import plot_synthetic
    from ttt.cli.probes.show import show_synthetic
    from ttt.probes.induction import SyntheticSizes, synthetic

    sizes = SyntheticSizes(**{name: getattr(typed, name) for name in SIZES}, seed=typed.seed)
    with Console(stderr=True).status("") as status:
        rows = synthetic(sizes, progress=lambda done: status.update(f"trial {done} of {sizes.trials}"))
    return Answer(show_synthetic(rows), {"settings": vars(sizes), "rows": rows}, plot_synthetic(rows))


def induction_of_run(run: OpenedRun, typed: argparse.Namespace) -> Answer:
    from ttt.cli.probes.plot import plot_activations
    from ttt.cli.probes.show import show_activations
    from ttt.probes.activations import draw_prompts, probe_activations, unembedding

    vocab, length = len(unembedding(run.learner.model)), run.stream.seq_len
    prompts = draw_prompts(typed.prompts, length=length, vocab=vocab, seed=typed.seed)
    with Console(stderr=True).status("") as status:
        tables = probe_activations(
            run.learner,
            prompts,
            true_prompts=typed.true_prompts,
            seed=typed.seed,
            progress=lambda done: status.update(f"prompt {done} of {typed.prompts}"),
        )
    settings = {
        "prompts": typed.prompts,
        "true_prompts": min(typed.true_prompts, typed.prompts),
        "tokens": length,
        "vocab": vocab,
        "seed": typed.seed,
        "adapter": run.adapter,
        "learned": run.learned,
    }
    numbers = {"settings": settings, **tables}
    return Answer(show_activations(numbers), numbers, plot_activations(numbers))


def slow_of_run(run: OpenedRun, typed: argparse.Namespace) -> Answer:
    from ttt.cli.probes.slow import plot_slow, read_curves, show_slow

    trusted = [typed.config_dir] if typed.config_dir else []
    with Console(stderr=True).status("") as status:
        numbers = read_curves(run, trusted=trusted, steps=typed.steps, lr=typed.lr, progress=status.update)
    return Answer(show_slow(numbers), numbers, plot_slow(numbers))


def state_of_run(run: OpenedRun) -> Answer:
    from ttt.cli.probes.plot import plot_state
    from ttt.cli.probes.show import show_state
    from ttt.probes.state import journal_numbers, probe_state

    # The last task is the one whose state the stream left.
    task = run.stream.tasks[-1]
    settings = {"adapter": run.adapter, "learned": run.learned, "task": task.name}
    journal = journal_numbers(run.folder.metrics)
    numbers = {"settings": settings, "journal": journal, **probe_state(run.learner, task.evaluation())}
    return Answer(show_state(numbers), numbers, plot_state(numbers))


def keep(folder: Path, numbers: dict[str, Any], figure: Figure) -> None:
    """Write probe.json and probe.svg."""
    from ttt.cli.probes.plot import svg
    from ttt.results.rows import plain
    from ttt.storage.files import write_bytes, write_json

    # JSON has no NaN: plain() writes null.
    write_json(folder / "probe.json", plain(numbers))
    write_bytes(folder / "probe.svg", svg(figure))


if __name__ == "__main__":
    main()
