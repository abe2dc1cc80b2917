"""How a page writes numbers, names, times and commands."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ttt.config.visible import visible

# What a headline shows, in this order; labels and units are in ttt.results.catalogue.
HEADLINE = (
    "avg_before",
    "avg_learning",
    "avg_final",
    "forgetting_max_seen",
    "forgetting_at_learn",
    "bwt_gem",
    "fwt_b_row0",
    "learning_slope",
    "base_forgetting",
)
# Shown beside them if there were reference runs.
PEERS = ("plasticity_gap_fresh", "intransigence_joint_last", "score_final")
SHOWN_QUANTITIES = ("reward", "success", "kl", "loss", "loss_late", "bits_per_byte", "accuracy", "exact_match", "exact")
UNDEFINED = "\u2013"
# So many characters of a name fit below a tick without overlapping the next one.
TICK = 13


def number(value: float) -> str:
    """Return a number with three decimals, or two digits if it is tiny.

    From 1,000 on it has no decimals, and a whole number has none from 10 on.
    A number that was not measured becomes a dash.
    """
    if not math.isfinite(value):
        return UNDEFINED
    if 0 < abs(value) < 0.0005:
        return f"{value:.2g}"
    # Adding zero turns -0.0 into 0.0.
    is_whole = abs(value) >= 1000 or (abs(value) >= 10 and value == round(value))
    return f"{value:,.0f}" if is_whole else f"{value + 0.0:.3f}"


def sentence_case(text: str) -> str:
    """Return the text with its first letter large and the others as they are, as those of KL."""
    return text[:1].upper() + text[1:]


def as_sentences(notes: Sequence[str]) -> str:
    """Return the notes below a table as one paragraph."""
    return " ".join(f"{sentence_case(note)}." for note in notes)


def tick(name: str) -> str:
    """Return a name short enough for an axis."""
    name = visible(name).replace("\n", " ")
    name = name if len(name) <= TICK else name[: TICK - 1] + "…"
    # Matplotlib would typeset what is between two dollars as a formula.
    return name.replace("$", r"\$")


def duration(seconds: float) -> str:
    """Return seconds as "1 h 02 min", "3 min 20 s" or "12.3 s"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    # Seconds are rounded before they are divided: 1 min 59.7 s is 2 min, and not 1 min 60 s.
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def thin(count: int, *, to: int) -> list[int]:
    """Return at most `to` of the indices below `count`, evenly spread, with the first and the last.

    `to` is at least 2.
    """
    if count <= to:
        return list(range(count))
    return [round(k * (count - 1) / (to - 1)) for k in range(to)]


def command(environment: Mapping[str, Any]) -> str:
    """Return the command as one would type it again; empty if it was not recorded."""
    words: Sequence[str] = environment.get("command") or []
    # The first word is the path of the script on the machine of the run.
    return visible(shlex.join(["ttt-run", *words[1:]])) if words else ""


def run_sentence(config: Mapping[str, Any], *, tasks: int, scenario: str) -> str:
    """Say in plain words what was run."""
    name = {group: value.get("name", "") for group, value in config.items() if isinstance(value, Mapping)}
    adapter, optimizer = config["adapter"], config["optimizer"]
    what = "task" if tasks == 1 else "tasks, one after another"
    fast = "no fast weights" if name["adapter"] == "none" else f"fast weights {name['adapter']}"
    if "reset" in adapter:
        fast += " (never reset)" if adapter["reset"] == "never" else f" (reset for each {adapter['reset']})"
    base = "from random weights" if name["base"] == "none" else f"after base {name['base']}"
    if "steps" in config["base"]:
        base += f" ({config['base']['steps']} steps)"
    rate = f" at learning rate {optimizer['lr']:g}" if "lr" in optimizer else ""
    text = (
        f"Model {name['model']} with {fast} learned {tasks} {what} ({name['task']} of source {name['source']}, "
        f"{scenario}-incremental), {base}, with strategy {name['strategy']} and optimizer {name['optimizer']}{rate}; "
        f"seed {config['seed']}."
    )
    return visible(text)
