"""The main picture: learning against forgetting, one line for each method over its learning rates."""

from __future__ import annotations

from matplotlib.axes import Axes

from ttt.compare.frontier import Frontier
from ttt.compare.groups import name_of
from ttt.config.messages import show
from ttt.figures import style
from ttt.results.catalogue import better


def frontier(content: Frontier) -> Axes:
    """Points with the intervals of both metrics, joined by rate; the better corner is always at the top right."""
    axes = style.axes(height=4.6)
    for i, line in enumerate(content.lines):
        x, y = ([group.interval(metric) for group in line.groups] for metric in content.metrics)
        axes.errorbar(
            [v.mean for v in x],
            [v.mean for v in y],
            xerr=[v.half for v in x],
            yerr=[v.half for v in y],
            label=name_of(line.label),
            color=style.color(i),
            linestyle=style.dash(i),
            marker=style.marker(i),
            markersize=5,
            capsize=2,
            elinewidth=0.8,
        )
        for group, a, b in zip(line.groups, x, y, strict=True):
            axes.annotate(
                show(group.label[content.key]), (a.mean, b.mean), xytext=(4, 4), textcoords="offset points", fontsize=7
            )
    axes.set(xlabel=_label(content.learning), ylabel=_label(content.forgetting))
    # Where lower is better the axis runs the other way.
    for metric, invert in ((content.learning, axes.invert_xaxis), (content.forgetting, axes.invert_yaxis)):
        if better(metric) < 0:
            invert()
    axes.text(0.98, 0.97, "better ↗", transform=axes.transAxes, ha="right", va="top", fontsize=9)
    style.legend(axes)
    return axes


def _label(metric: str) -> str:
    return f"{metric} ({'higher' if better(metric) > 0 else 'lower'} is better)"
