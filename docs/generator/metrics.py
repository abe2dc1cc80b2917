"""The page of metrics: every name of the catalogue, with its sign, its unit and its definition."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from markup import code, escaped, table

from ttt.results import definitions
from ttt.results.metric import Metric

READ = {
    "value": "a value",
    "gain": "+ is gain",
    "harm": "+ is harm",
    "more": "more is better",
    "less": "less is better",
    "neither": "neither",
}
SECTIONS = {
    "MODE/QUANTITY/...": (definitions.METRICS, "Of one mode and quantity, from R and what was measured beside it."),
    "MODE/regret/...": (definitions.REGRET, "Averages of the loss above the entropy, where the source knows it."),
    "fast_gain/QUANTITY/...": (definitions.FAST_GAIN, "Mode `fast` over mode `slow`."),
    "split/QUANTITY/...": (definitions.SPLIT, "Forgetting and loss of plasticity, part by part."),
    "MODE/QUANTITY/known_NAME_...": (definitions.KNOWN, "What the model knew before the stream (`eval.known`)."),
    "MODE/plasticity/...": (definitions.PLASTICITY, "Units, ranks and norms on a fixed probe batch."),
    "MODE/drift/...": (definitions.DRIFT, "How far answers moved from the base's."),
    "cost/run/...": (definitions.COSTS, "What a run cost."),
}


def metrics_page() -> str:
    """All metrics, by the first parts of their names."""
    text = "# Metrics by name\n\nEvery metric of `results.json`, its sign and where its definition lies. "
    text += "[R and its metrics](../concepts/metrics.md) explains them.\n\n"
    for title, (metrics, about) in SECTIONS.items():
        text += f"## {escaped(title)}\n\n{about}\n\n{_section(metrics)}"
    return text


def _section(metrics: Mapping[str, Metric]) -> str:
    rows = []
    for name, metric in metrics.items():
        unit = metric.unit.replace("{}", "unit of the quantity")
        rows.append((code(name), escaped(metric.label), READ[metric.better], escaped(unit), escaped(_defined(metric))))
    return table(("metric", "what it is", "sign", "unit", "definition"), rows)


def _defined(metric: Metric) -> str:
    """The first paragraph on the function of a metric, unless it is only named elsewhere."""
    function = metric.of.func if isinstance(metric.of, functools.partial) else metric.of
    doc = function.__doc__ or ""
    is_ours = getattr(function, "__module__", "").startswith("ttt.")
    return " ".join(doc.split("\n\n")[0].split()) if is_ours else ""
