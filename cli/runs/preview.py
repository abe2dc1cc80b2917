"""ttt-run --preview: what a stream is made of and what its sequences look like."""

from __future__ import annotations

import lzma
import math

import numpy as np
from rich.table import Table

from ttt.cli.console import Console
from ttt.config.messages import counted
from ttt.run.assemble import Assembly
from ttt.stream import IGNORE, SAMPLES, Batch, Ints, Stream, Task, sample_text

# How many batches the estimates are made from, and how many tasks get a row.
BATCHES, ROWS = 4, 20
# Columns of a console that is a file or a pipe.
WIDTH = 160


def preview(assembly: Assembly) -> None:
    stream, source = assembly.stream, assembly.source
    console = Console(highlight=False)
    if not console.is_terminal:
        # Rich would cut names to the 80 columns that it assumes of a file.
        console.width = max(console.width, WIDTH)

    def note(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    rows = ", ".join(f"{count:,} {unit}" for unit, count in source.rows.items()) or "made up as asked for"
    tasks, phases = counted(len(stream.tasks), "task"), counted(len(stream.phases), "phase")
    note(f"stream   {assembly.info.task} of {source.name}: {tasks}, {stream.scenario}-incremental")
    note(f"         {phases}, {counted(stream.steps, 'step')}; {stream.vocab_size} tokens in the vocabulary")
    note(f"source   {rows}; fingerprint {source.fingerprint[:12]}")
    console.print(table(stream))
    note("bits of a scored token, over a few batches: its frequency alone; lzma on all tokens; exact where it is known")
    for task in stream.tasks[:SAMPLES]:
        note(f"\n{task.name}, first sequence of its eval part:")
        console.print(sample_text(stream, task), markup=False)


def table(stream: Stream) -> Table:
    """A row for each task; of many tasks the first ones and the last."""
    shown_table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    counts = ("steps", "train tokens", "eval tokens", "of them scored", "scored")
    for name in ("task", "", *counts, "frequency", "lzma", "exact"):
        shown_table.add_column(name, justify="left" if name == "" else "right", no_wrap=name != "")
    shown_table.add_column("fingerprint")
    shown = range(len(stream.tasks))
    if stream.base is not None:
        shown_table.add_row("base", "", "", *numbers(stream.base), stream.base.fingerprint[:12])
    # The table shows the first ROWS tasks, and the last one if it is not among them.
    for j in [*shown[:ROWS], *shown[max(ROWS, len(shown) - 1) :]]:
        steps = sum(phase.steps for phase in stream.phases if phase.task == j)
        train = steps * stream.tasks[j].batch(0).num_tokens
        cells = numbers(stream.tasks[j])
        fingerprint = stream.tasks[j].fingerprint[:12]
        shown_table.add_row(str(j + 1), stream.tasks[j].name, f"{steps:,}", f"{train:,}", *cells[1:], fingerprint)
    return shown_table


def numbers(task: Task) -> list[str]:
    """Train tokens (unknown here), eval tokens, how many of them are scored, the share scored in
    training, three estimates of token entropy."""
    batches = [task.batch(step) for step in range(BATCHES)]
    scored = np.concatenate([b.targets_BT.numpy()[b.targets_BT.numpy() != IGNORE] for b in batches])
    share = len(scored) / sum(b.num_tokens for b in batches)
    exact = "-" if math.isnan(task.entropy) else f"{task.entropy:.3f}"
    part = task.evaluation()
    # Few scored tokens make coarse numbers: with eight labels accuracy goes in steps of an eighth.
    counts = f"{int((part.targets_BT != IGNORE).sum()):,}", f"{share:.0%}"
    return ["", f"{part.num_tokens:,}", *counts, f"{frequency(scored):.2f}", f"{compressed(batches):.2f}", exact]


def frequency(tokens: Ints) -> float:
    """Entropy of the tokens' frequencies in bits; too low for few tokens of a large vocabulary."""
    _, counts = np.unique(tokens, return_counts=True)
    share = counts / counts.sum()
    return float(-(share * np.log2(share)).sum())


def compressed(batches: list[Batch]) -> float:
    """Bits per token after lzma: an upper bound on the entropy, loose for few tokens."""
    if batches[0].tokens_BT.is_floating_point():
        # Vectors are not made of symbols that a compressor could find again.
        return float("nan")
    tokens = np.concatenate([b.tokens_BT.numpy().reshape(-1) for b in batches])
    # The fewest bytes that hold every token: a byte that is always zero would cost bits too.
    small = tokens.astype(np.min_scalar_type(tokens.max()))
    # The raw format has no header, whose bytes would count for few tokens.
    return (
        8
        * len(lzma.compress(small.tobytes(), format=lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2}]))
        / len(tokens)
    )
