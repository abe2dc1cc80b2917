"""The tables of ttt-probe."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table

Rows = Sequence[dict[str, Any]]
# Rows of R that a table of diagnostics shows side by side.
MOST_ROWS = 8


def new_table(title: str, *columns: str, left: int) -> Table:
    """Return an empty table with words in the first `left` columns and numbers in the others."""
    table = Table(title=title, title_justify="left", box=None, header_style="bold", padding=(0, 1, 0, 0))
    # No wrapping: a number over two lines is misread.
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i < left else "right", no_wrap=True)
    return table


def decimals(value: float | None, places: int = 3) -> str:
    """Return the number with this many decimals, or a dash if it was not measured."""
    return "-" if value is None or math.isnan(value) else f"{value:.{places}f}"


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def show_synthetic(rows: Rows) -> list[RenderableType]:
    table = new_table(
        "one write, made-up keys: change of logits (d), means over trials",
        *("target", "keys", "a", "d v*", "predicted", "off\n(SE)", "others", "z", "argmax", "d k*", "as\npredicted"),
        left=2,
    )
    for row in rows:
        verdict = ("yes" if row["as_predicted"] else "no") + ("" if row["assumed"] else "*")
        keys = row["keys"] if row["keys"] == "raw" else f"minus {row['keys']}"
        table.add_row(
            *(row["target"], keys, f"{row['mean']:.1f}"),
            f"{row['v']:.3f} ±{row['v_se']:.3f}",
            *(decimals(row["predicted"]), f"{row['off_se']:+.1f}"),
            f"{row['others_mean']:.3f} ±{row['others_sd']:.3f}",
            *(decimals(row["z"], 1), percent(row["argmax"]), decimals(row["k"]), verdict),
        )
    notes = (
        "d v* ± standard error; others: mean ± standard deviation over all words but v*; z = (d v* - mean) / sd.\n"
        "as predicted: d v* within 3 standard errors of the prediction, and z > 10 (next token) or |z| < 1.\n"
        "a: length of a part that all keys share. *The theorem assumes keys without one: it promises nothing here."
    )
    return [table, notes]


def show_activations(numbers: dict[str, Any]) -> list[RenderableType]:
    settings, off = numbers["settings"], numbers["off"]
    head = (
        f"{settings['prompts']} prompts of {settings['tokens']} random tokens, {settings['vocab']} words; "
        f"adapter={settings['adapter']}, after task {settings['learned']}"
    )
    lens = new_table("lens: e_w . dW z_n", "layer", "keys", "target", *CHANGE, left=3)
    for row in numbers["rows"]:
        if row["ratio"] is None:
            lens.add_row(*write_label(row), *lens_cells(row))
    foot = (
        f"writes off: v* has rank {off['rank_v']:.1f} ±{off['rank_v_se']:.1f} of {settings['vocab']} "
        f"(k*: {off['rank_k']:.1f}); its change is 0 by definition. ± standard error over prompts."
    )
    true_prompts = settings["true_prompts"]
    true_tables = [true_change_table(numbers["rows"], true_prompts)] if true_prompts else []
    return [head, key_table(numbers["keys"]), lens, *true_tables, foot]


CHANGE = ("d v*", "z v*", "rank v*", "argmax", "z k*", "rank k*")


def write_label(row: dict[str, Any]) -> tuple[str, str, str]:
    """Return the layer, keys and target of one write."""
    return row["layer"], key_name(row), row["target"]


def key_name(row: dict[str, Any]) -> str:
    keys: str = row["keys"]
    return "minus earlier mean" if keys == "earlier mean" else keys


def lens_cells(row: dict[str, Any]) -> tuple[str, ...]:
    z_v = f"{row['z_v']:.2f} ±{row['z_v_se']:.2f}"
    ranks = (decimals(row["rank_v"], 1), percent(row["argmax_v"]), decimals(row["z_k"], 2), decimals(row["rank_k"], 1))
    return f"{row['v']:.3g}", z_v, *ranks


def key_table(rows: Rows) -> Table:
    table = new_table("keys: cosine of k*'s two, mean |cosine| with others", "layer", "keys", *GEOMETRY, left=2)
    for row in rows:
        table.add_row(
            row["layer"],
            key_name(row),
            decimals(row["c_align"]),
            decimals(row["collision"]),
            decimals(row["effective_rank"], 1),
        )
    return table


# Columns of the two tables about keys.
GEOMETRY = ("alignment", "collision", "effective rank")


def true_change_table(rows: Rows, prompts: int) -> Table:
    """Return a row for each write, with its ratios side by side."""
    by_write: dict[tuple[str, str, str], Rows] = {}
    for row in rows:
        if row["ratio"] is not None:
            by_write[write_label(row)] = [*by_write.get(write_label(row), ()), row]
    # All writes were measured at the same ratios.
    ratios = [f"{row['ratio']:g}" for row in next(iter(by_write.values()))]
    heads = [f"{what}\n{ratio}" for what in ("d v*", "z v*", "rank v*\nafter") for ratio in ratios]
    title = f"true: logits with W0 + eta dW, |eta dW z_n| / |W0 z_n| as below; {prompts} prompts"
    table = new_table(title, *NAMES, *heads, left=3)
    for name, group in by_write.items():
        cells = [f"{row['v']:+.4f}" for row in group] + [decimals(row["z_v"], 2) for row in group]
        table.add_row(*name, *cells, *(decimals(row["rank_v_on"], 1) for row in group))
    return table


NAMES = ("layer", "keys", "target")


def show_state(numbers: dict[str, Any]) -> list[RenderableType]:
    settings = numbers["settings"]
    head = (
        f"{numbers['sequences']} sequences of {settings['task']}; adapter={settings['adapter']}, "
        f"after task {settings['learned']}"
    )
    tensors = new_table("fast state", "state", "tensor", "shape", "norm", "over |W0|", "effective rank", left=3)
    for row in numbers["tensors"]:
        shape = " x ".join(map(str, row["shape"]))
        cells = (decimals(row["norm"]), decimals(row["over_w0"]), decimals(row["effective_rank"], 1))
        tensors.add_row(row["state"], row["tensor"], shape, *cells)
    tables = (tensors, layer_table(numbers["layers"]), position_table(numbers["parts"]))
    return [head, *journal_tables(numbers["journal"]), *tables]


def journal_tables(rows: Rows) -> list[Table]:
    """Return the adapter's diagnostics over the stream; no table if it reported none."""
    # The newest row names the columns: diagnostics may begin within the stream.
    names = [name for name in (rows[-1] if rows else {}) if name not in ("row", "tokens")]
    if not names:
        return []
    # A row for each number: a deep model has hundreds, and a terminal few columns. Of a long stream
    # the first and the last rows say most.
    shown = rows if len(rows) <= MOST_ROWS else [rows[0], *rows[1 - MOST_ROWS :]]
    heads = [f"after {row['row']}" for row in shown]
    table = new_table("over the stream, as the run wrote it down: after which task", "", *heads, left=1)
    table.add_row("tokens", *(f"{row['tokens']:,}" for row in shown))
    for name in names:
        table.add_row(name, *(decimals(row.get(name), 4) for row in shown))
    return [table]


def layer_table(rows: Rows) -> Table:
    heads = (*GEOMETRY, "|ZS|/|ZW0|", "in the last eighth")
    table = new_table("keys and read-out, writes on", "layer", "keys", *heads, left=2)
    for row in rows:
        cells = (decimals(row["alignment"]), decimals(row["collision"]), decimals(row["effective_rank"], 1))
        table.add_row(
            row["layer"], key_name(row), *cells, decimals(row["read_out"], 4), decimals(row["read_out_end"], 4)
        )
    return table


def position_table(rows: Rows) -> Table:
    """Return bits per token by position in each mode, and what writes change (negative: a gain)."""
    modes = [mode for mode in ("fast", "carried") if mode in rows[0]]
    heads = ("slow", *modes, *(f"{mode} - slow" for mode in modes))
    table = new_table("bits per token by position: writes on minus writes off", "positions", *heads, left=0)
    for row in rows:
        gains = (f"{row[f'{mode}_gain']:+.3f} ±{decimals(row[f'{mode}_gain_se'])}" for mode in modes)
        table.add_row(f"{row['from']}-{row['to'] - 1}", *(decimals(row[mode]) for mode in ("slow", *modes)), *gains)
    return table
