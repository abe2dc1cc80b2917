"""The commands of ttt, and what each is for."""

from __future__ import annotations

from ttt.config.version import VERSION

COMMANDS = {
    "ttt-run": "train a model on a stream of tasks; measure what it learns and what it forgets",
    "ttt-compare": "many runs as one table: means over seeds, intervals, paired differences",
    "ttt-report": "one run, or many, as a page",
    "ttt-probe": "look into a run or a model: causality, fast weights, documents",
    "ttt-stream": "read text that goes on with a model that learns while it reads; bits per byte over time",
    "ttt-eval": "tasks of lm-eval (RULER, multiple choice, your own), with fast weights written while reading",
    "ttt-check": "does a part of your own keep what adapters, strategies, data and models promise?",
    "ttt-bench": "what the harness and its kernels cost, measured here",
    "ttt-export": "a run's pretrained model as a Hugging Face folder",
}


def version_line() -> str:
    """What `--version` prints."""
    return f"ttt {VERSION}"


def listing() -> str:
    """What `python -m ttt` prints."""
    lines = [f"  {name:<13}{purpose}" for name, purpose in COMMANDS.items()]
    return "\n".join([f"{version_line()}: does this model keep learning, and what does it forget?", "", *lines, "",
                      "Each explains itself with --help. From Python: import ttt; help(ttt)."])  # fmt: skip
