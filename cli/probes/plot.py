"""The plots of ttt-probe."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

Rows = Sequence[dict[str, Any]]


def svg(figure: Figure) -> bytes:
    """Return the SVG; the same numbers give the same bytes."""
    import matplotlib

    buffer = io.BytesIO()
    # Matplotlib salts the ids of an SVG by chance and dates it: both would change every time.
    with matplotlib.rc_context({"svg.hashsalt": "ttt", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def plot_synthetic(rows: Rows) -> Figure:
    """Plot v* and k* with the prediction for v* (left), and how far v* stands out (right)."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    names = [f"{row['target']}, {row['keys']}, a={row['mean']:g}" for row in rows]
    y = range(len(rows))
    left.errorbar([row["v"] for row in rows], y, xerr=[3 * row["v_se"] for row in rows], fmt="o", label="v* ± 3 SE")
    left.plot([row["predicted"] for row in rows], y, "kx", label="predicted for v*")
    left.plot([row["k"] for row in rows], y, "s", mfc="none", label="k*")
    left.set(xlabel="change of logit", yticks=y, yticklabels=names)
    left.invert_yaxis()
    left.legend()
    right.barh(y, [row["z"] for row in rows])
    # To the right of this line v* stands out, as in `case_row`.
    right.axvline(10, color="k", linestyle=":")
    right.set(xlabel="z-score of v* among all words")
    return figure


def plot_activations(numbers: dict[str, Any]) -> Figure:
    """Plot the z-score of v* by keys and target, in a panel for each layer.

    Bars are the lens, then the true change at each ratio.
    """
    rows = numbers["rows"]
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    figure = Figure(figsize=(11, 1 + 2.8 * len(layers)), layout="constrained")
    for axes, layer in zip(figure.subplots(len(layers), 1, squeeze=False)[:, 0], layers, strict=True):
        mine = [row for row in rows if row["layer"] == layer]
        writes = list(dict.fromkeys((row["keys"], row["target"]) for row in mine))
        reads = list(dict.fromkeys(row["ratio"] for row in mine))
        for i, ratio in enumerate(reads):
            bars = [row for row in mine if row["ratio"] == ratio]
            # Bars of one group stand side by side, centred on their tick.
            x = [at + (i - (len(reads) - 1) / 2) * 0.2 for at in range(len(writes))]
            errors = [row["z_v_se"] for row in bars]
            label = "lens" if ratio is None else f"true, {ratio:g}"
            axes.bar(x, [row["z_v"] for row in bars], width=0.2, yerr=errors, label=label)
        axes.axhline(0, color="k", linewidth=0.8)
        axes.set(title=layer, ylabel="z-score of v*")
        axes.set_xticks(range(len(writes)), [f"{keys}\n{target}" for keys, target in writes], fontsize=7)
        axes.legend(fontsize=7)
    return figure


def plot_state(numbers: dict[str, Any]) -> Figure:
    """Plot the state's size over the stream (left), and what writes change by position (right)."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    journal = numbers["journal"]
    sizes = [name for name in (journal[-1] if journal else {}) if name.endswith("state_over_w0")]
    for name in sizes:
        left.plot([row["row"] for row in journal], [row.get(name) for row in journal], "o-", label=name)
    left.set(xlabel="after task", ylabel="|S| / |W0|", title="fast state over the stream")
    if sizes:
        left.legend(fontsize=7)
    parts = numbers["parts"]
    middle = [(row["from"] + row["to"] - 1) / 2 for row in parts]
    for mode in ("fast", "carried"):
        # A state that resets at each sequence has no mode carried.
        if mode in parts[0]:
            gains, errors = ([row[f"{mode}_{what}"] for row in parts] for what in ("gain", "gain_se"))
            right.errorbar(middle, gains, yerr=errors, fmt="o-", label=f"{mode} - slow")
    right.axhline(0, color="k", linewidth=0.8)
    right.set(xlabel="position", ylabel="bits per token", title="writes on minus writes off")
    right.legend(fontsize=7)
    return figure
