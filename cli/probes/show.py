"""The tables of ttt-probe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table

Rows = Sequence[dict[str, Any]]


def table(title: str, *columns: str, left: int) -> Table:
    """Words in the first `left` columns, numbers behind."""
    made = Table(title=title, title_justify="left", box=None, header_style="bold", padding=(0, 1, 0, 0))
    for i, name in enumerate(columns):
        made.add_column(name, justify="left" if i < left else "right", no_wrap=True)
    return made


def number(value: float | None, places: int = 3) -> str:
    return "-" if value is None or value != value else f"{value:.{places}f}"


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def made_up(rows: Rows) -> list[RenderableType]:
    shown = table(
        "one write, made-up keys: change of logits (d), means over trials",
        *("target", "keys", "a", "d v*", "predicted", "off\n(SE)", "others", "z", "argmax", "d k*", "as\npredicted"),
        left=2,
    )
    for row in rows:
        verdict = ("yes" if row["as_predicted"] else "no") + ("" if row["assumed"] else "*")
        keys = row["keys"] if row["keys"] == "raw" else f"minus {row['keys']}"
        shown.add_row(
            *(row["target"], keys, f"{row['mean']:.1f}"),
            f"{row['v']:.3f} ±{row['v_se']:.3f}",
            *(number(row["predicted"]), f"{row['off_se']:+.1f}"),
            f"{row['others_mean']:.3f} ±{row['others_sd']:.3f}",
            *(number(row["z"], 1), percent(row["argmax"]), number(row["k"]), verdict),
        )
    notes = (
        "d v* ± standard error; others: mean ± standard deviation over all words but v*; z = (d v* - mean) / sd.\n"
        "as predicted: d v* within 3 standard errors of the prediction, and z > 10 (next token) or |z| < 1.\n"
        "a: length of a part that all keys share. *The theorem assumes keys without one: it promises nothing here."
    )
    return [shown, notes]


def activations(kept: dict[str, Any]) -> list[RenderableType]:
    settings, off = kept["settings"], kept["off"]
    head = (
        f"{settings['prompts']} prompts of {settings['tokens']} random tokens, {settings['vocab']} words; "
        f"adapter={settings['adapter']}, after task {settings['learned']}"
    )
    lens = table("lens: e_w . dW z_n", "layer", "keys", "target", *CHANGE, left=3)
    for row in kept["rows"]:
        if row["ratio"] is None:
            lens.add_row(*named(row), *change(row))
    foot = (
        f"writes off: v* has rank {off['rank_v']:.1f} ±{off['rank_v_se']:.1f} of {settings['vocab']} "
        f"(k*: {off['rank_k']:.1f}); its change is 0 by definition. ± standard error over prompts."
    )
    return [head, geometry(kept["keys"]), lens, true_changes(kept["rows"], settings["true_prompts"]), foot]


CHANGE = ("d v*", "z v*", "rank v*", "argmax", "z k*", "rank k*")


def named(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["layer"], row["keys"] if row["keys"] != "earlier mean" else "minus earlier mean", row["target"]


def change(row: dict[str, Any]) -> tuple[str, ...]:
    z_v = f"{row['z_v']:.2f} ±{row['z_v_se']:.2f}"
    ranks = (number(row["rank_v"], 1), percent(row["argmax_v"]), number(row["z_k"], 2), number(row["rank_k"], 1))
    return f"{row['v']:.3g}", z_v, *ranks


def geometry(rows: Rows) -> Table:
    made = table("keys: cosine of k*'s two, mean |cosine| with others", "layer", "keys", *GEOMETRY, left=2)
    for row in rows:
        layer, keys, _ = named({**row, "target": ""})
        made.add_row(layer, keys, number(row["c_align"]), number(row["collision"]), number(row["effective_rank"], 1))
    return made


GEOMETRY = ("alignment", "collision", "effective rank")


def true_changes(rows: Rows, prompts: int) -> Table:
    """A row for each write, its ratios side by side."""
    by_write: dict[tuple[str, str, str], Rows] = {}
    for row in rows:
        if row["ratio"] is not None:
            by_write[named(row)] = [*by_write.get(named(row), ()), row]
    ratios = [f"{row['ratio']:g}" for row in next(iter(by_write.values()))]
    heads = [f"{what}\n{ratio}" for what in ("d v*", "z v*", "rank v*\nafter") for ratio in ratios]
    title = f"true: logits with W0 + eta dW, |eta dW z_n| / |W0 z_n| as below; {prompts} prompts"
    made = table(title, *NAMES, *heads, left=3)
    for name, group in by_write.items():
        cells = [f"{row['v']:+.4f}" for row in group] + [number(row["z_v"], 2) for row in group]
        made.add_row(*name, *cells, *(number(row["rank_v_on"], 1) for row in group))
    return made


NAMES = ("layer", "keys", "target")


def state(kept: dict[str, Any]) -> list[RenderableType]:
    settings = kept["settings"]
    head = (
        f"{kept['sequences']} sequences of {settings['task']}; adapter={settings['adapter']}, "
        f"after task {settings['learned']}"
    )
    tensors = table("fast state", "state", "tensor", "shape", "norm", "over |W0|", "effective rank", left=3)
    for row in kept["tensors"]:
        shape = " x ".join(map(str, row["shape"]))
        numbers = (number(row["norm"]), number(row["over_w0"]), number(row["effective_rank"], 1))
        tensors.add_row(row["state"], row["tensor"], shape, *numbers)
    return [head, *journal(kept["journal"]), tensors, layers(kept["layers"]), parts(kept["parts"])]


def journal(rows: Rows) -> list[Table]:
    names = [name for name in (rows[-1] if rows else {}) if name not in ("row", "tokens")]
    if not names:
        return []
    made = table("over the stream, as the run wrote it down", "after task", "tokens", *names, left=0)
    for row in rows:
        made.add_row(str(row["row"]), str(row["tokens"]), *(number(row.get(name), 4) for name in names))
    return [made]


def layers(rows: Rows) -> Table:
    heads = (*GEOMETRY, "|ZS|/|ZW0|", "in the last eighth")
    made = table("keys and read-out, writes on", "layer", "keys", *heads, left=2)
    for row in rows:
        layer, keys, _ = named({**row, "target": ""})
        cells = (number(row["alignment"]), number(row["collision"]), number(row["effective_rank"], 1))
        made.add_row(layer, keys, *cells, number(row["read_out"], 4), number(row["read_out_end"], 4))
    return made


def parts(rows: Rows) -> Table:
    """Bits per token by position, each mode, and what the writes change (below zero: a gain)."""
    modes = [mode for mode in ("fast", "carried") if mode in rows[0]]
    heads = ("slow", *modes, *(f"{mode} - slow" for mode in modes))
    made = table("bits per token by position: writes on minus writes off", "positions", *heads, left=0)
    for row in rows:
        gains = (f"{row[f'{mode}_gain']:+.3f} ±{number(row[f'{mode}_gain_se'])}" for mode in modes)
        made.add_row(f"{row['from']}-{row['to'] - 1}", *(number(row[mode]) for mode in ("slow", *modes)), *gains)
    return made
