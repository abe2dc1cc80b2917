"""Numbers and words as a page shows them."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

METRICS = {
    "avg_before": "before the stream",
    "avg_learning": "right after learning",
    "avg_final": "after the whole stream",
    "forgetting_max_seen": "forgetting (+ is harm)",
    "forgetting_at_learn": "forgetting, at learn (+ is harm)",
    "bwt_gem": "backward transfer (+ is gain)",
    "fwt_b_row0": "forward transfer (+ is gain)",
    "learning_slope": "slope of learning (- is harm)",
    "base_forgetting": "base forgotten (+ is harm)",
}
# Those that need reference runs.
PEERS = {
    "plasticity_gap_fresh": "a fresh network learns more (+ is harm)",
    "intransigence_joint_last": "joint training, last task (+ is harm)",
    "score_final": "share of joint training's gain kept",
}
QUANTITIES = {
    "reward": "reward, greedy",
    "success": "reward, expected",
    "kl": "distance from the base",
    "loss": "loss",
    "loss_late": "loss, second half",
    "accuracy": "accuracy",
}
UNITS = {"reward": "share", "success": "share", "kl": "bits per token"}
UNITS |= {"loss": "bits per token", "loss_late": "bits per token", "accuracy": "share"}
# What the modes are, by that in which the model is used.
MODES = {
    "fast": {
        "slow": "fast weights off",
        "fast": "fast weights start empty, written while reading",
        "carried": "from the state that the stream left",
    },
    "carried": {
        "slow": "learned weights, seed prompt",
        "fast": "weights of the base, prompt in use (adapter=none: as learned)",
        "carried": "learned weights, prompt in use",
        "archived": "learned weights, the prompt that was best when the task ended",
    },
}
UNDEFINED = "\u2013"
# Characters of a name that fit below a tick.
TICK = 13


def number(value: float) -> str:
    """Three decimals, none from a thousand on, two digits of what is tiny; a dash for what was not measured."""
    if not math.isfinite(value):
        return UNDEFINED
    if 0 < abs(value) < 0.0005:
        return f"{value:.2g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value + 0.0:.3f}"


def clean(text: str) -> str:
    """Printable: control characters and halves of surrogate pairs as pictures, lines and tabs kept."""
    text = text.encode("utf-8", "replace").decode()
    return "".join(
        chr(0x2400 + ord(c)) if c < " " and c not in "\n\t" else "\ufffd" if "\x7f" <= c < "\xa0" else c for c in text
    )


def tick(name: str) -> str:
    """A name short enough for an axis; matplotlib would read formulas between dollars."""
    name = clean(name).replace("\n", " ")
    name = name if len(name) <= TICK else name[: TICK - 1] + "…"
    return name.replace("$", r"\$")


def duration(seconds: float) -> str:
    """1 h 02 min, 3 min 20 s, 12.3 s."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def thin(count: int, *, to: int) -> list[int]:
    """At most `to` (two or more) of the indices below `count`, evenly, with the first and the last."""
    if count <= to:
        return list(range(count))
    return [round(k * (count - 1) / (to - 1)) for k in range(to)]


def command(environment: Mapping[str, Any]) -> str:
    """As one would type it again; empty where nobody recorded it."""
    words: Sequence[str] = environment.get("command") or []
    return clean(shlex.join(["ttt-run", *words[1:]])) if words else ""


def sentence(config: Mapping[str, Any], *, tasks: int, scenario: str) -> str:
    """What was run, in plain words."""
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
    return clean(text)
