"""The tables and the plot of `ttt-probe context`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.console import RenderableType
from rich.table import Table

from ttt.cli.probes.show import decimals, new_table, percent
from ttt.figures import style
from ttt.figures.heat import COLORMAP

Rows = Sequence[dict[str, Any]]
UNIT = "bits per token"


def show_context(numbers: dict[str, Any]) -> list[RenderableType]:
    settings = numbers["settings"]
    modes, window = settings["modes"], settings["window"]
    head = f"source={settings['source']}; adapter={settings['adapter']}, {settings['weights']}; "
    head += "full attention" if window is None else f"window {window} (a layer hands on what the one below it saw)"
    tables = [
        _table(title, numbers[name], keys, modes)
        for name, (title, keys) in {
            "block": (f"the last {settings['block']} tokens", ("length",)),
            "along": ("by position", ("from", "to")),
            "asked": ("answers by length and depth", ("length", "where")),
        }.items()
        if name in numbers
    ]
    foot = f"{UNIT}; gain: slow - mode, paired by row, ± 95 %; µs: to read one token; "
    if "asked" in numbers:
        foot += "exact: rows whose answer is right\nwhen the model writes it by itself; "
    return [head, *tables, foot + f"peak memory {settings['peak_mb']:.0f} MB"]


def _table(title: str, rows: Rows, keys: Sequence[str], modes: Sequence[str]) -> Table:
    others = [mode for mode in modes if mode != "slow"]
    heads = [*modes, *(head for mode in others for head in (f"{mode} gain", "±"))]
    exact = [f"{mode}_exact" for mode in modes if f"{mode}_exact" in rows[0]]
    times = [f"{mode}_us" for mode in modes if f"{mode}_us" in rows[0]]
    columns = [*heads, *(f"exact {name.removesuffix('_exact')}" for name in exact)]
    columns += [f"µs {name.removesuffix('_us')}" for name in times]
    table = new_table(title, *keys, "window", *columns, left=len(keys) + 1)
    for row in rows:
        gains = (text for mode in others for text in (f"{row[f'{mode}_gain']:+.3f}", decimals(row[f"{mode}_half"])))
        table.add_row(
            *(str(row[key]) for key in keys),
            row["seen"],
            *(decimals(row[mode]) for mode in modes),
            *gains,
            *(percent(row[name]) for name in exact),
            *(decimals(row[name], 0) for name in times),
        )
    return table


def plot_context(numbers: dict[str, Any]) -> Figure:
    """Plot the loss over lengths and positions, or maps of answers by length and depth."""
    settings = numbers["settings"]
    if "asked" in numbers:
        return _heat_maps(numbers["asked"], settings["modes"])
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    lengths = [row["length"] for row in numbers["block"]]
    middles = [(row["from"] + row["to"]) / 2 for row in numbers["along"]]
    for k, mode in enumerate(settings["modes"]):
        look = {"color": style.color(k), "marker": style.marker(k), "label": mode}
        left.plot(lengths, [row[mode] for row in numbers["block"]], **look)
        right.plot(middles, [row[mode] for row in numbers["along"]], **look)
    left.set_xscale("log", base=2)
    left.set_xticks(lengths, [str(length) for length in lengths])
    left.set(xlabel="length of the context", ylabel=UNIT, title=f"the last {settings['block']} tokens")
    right.set(xlabel="position", ylabel=UNIT, title="the longest rows")
    if settings["window"] is not None:
        right.axvline(settings["window"], color=style.INK, linestyle=":", label="window")
    right.legend(fontsize=7)
    return figure


def _heat_maps(rows: Rows, modes: Sequence[str]) -> Figure:
    """A map of loss and one of exact answers in each mode: lengths down, depths across."""
    lengths, places = (list(dict.fromkeys(row[key] for row in rows)) for key in ("length", "where"))
    figure = Figure(figsize=(2 + 3.5 * len(modes), 1.5 + 0.8 * len(lengths) + 2), layout="constrained")
    panels = figure.subplots(2, len(modes), squeeze=False)
    for axes_M, (suffix, what) in zip(panels, (("", UNIT), ("_exact", "exact, share of rows")), strict=True):
        by_mode = {mode: np.array([row[f"{mode}{suffix}"] for row in rows]).reshape(len(lengths), -1) for mode in modes}
        # One scale for all modes: equal colours are equal numbers.
        high = 1.0 if suffix else max(float(np.nanmax(values)) for values in by_mode.values())
        for axes, (mode, values) in zip(axes_M, by_mode.items(), strict=True):
            picture = axes.imshow(values, cmap=COLORMAP, aspect="auto", vmin=0, vmax=high)
            axes.set(title=f"{mode}: {what}", ylabel="length")
            axes.set_xticks(range(len(places)), places, rotation=45, ha="right", fontsize=7)
            axes.set_yticks(range(len(lengths)), [str(length) for length in lengths])
        figure.colorbar(picture, ax=list(axes_M))
    return figure
