"""Parse and check the arguments of `ttt-probe`; each mistake is one line."""

from __future__ import annotations

import argparse
from pathlib import Path

from ttt.cli.parser import CommandParser
from ttt.config.messages import suggest
from ttt.storage.absent import check_is_run

PROBES = ("causality", "context", "documents", "induction", "slow", "state")
# Defaults of the made-up experiment: the sizes of the published figures
# (docs/results/in-place-theorem.md).
SIZES = {"trials": 64, "width": 512, "mlp_width": 2048, "vocab": 2000, "tokens": 1024}
# Defaults of the experiment with a run.
PROMPTS = {"prompts": 256, "true_prompts": 64}
# Defaults of the recalibration.
TRAINING = {"steps": 100, "lr": 3e-4}
# Rows of each task, or of each class of questions, of which contexts are cut.
CONTEXT = {"sequences": 8}
# Probes that also take overrides, as ttt-run takes them.
COMPOSED = ("causality", "context", "documents")
# Options that each form of the command uses, beside --out and --threads.
ACTS = {
    "induction without a run": {*SIZES, "seed"},
    "induction RUN": {*PROMPTS, "seed", "config_dir"},
    "slow RUN": {*TRAINING, "config_dir"},
    "state RUN": {"config_dir"},
    "causality": {"places", "config_dir"},
    "context": {*CONTEXT, "lengths", "block", "config_dir"},
    "documents": {"config_dir", "foreign"},
}


# The least value of a number.
LEAST = {"threads": 1, "prompts": 2, "true_prompts": 0, "seed": 0, "places": 1, "steps": 1, "block": 1, "sequences": 1}


def options_with_run(argv: list[str], *, about: str) -> argparse.Namespace:
    """Return `probe_options` of a run that is there. Raises ValueError in the user's words."""
    typed = probe_options(argv, about=about)
    if typed.run is not None:
        check_is_run(typed.run)
    return typed


def probe_options(argv: list[str], *, about: str) -> argparse.Namespace:
    """Return the checked arguments. Raises ValueError in the user's words.

    `about` is the description that --help prints.
    """
    parser = probe_parser(about)
    # Options may stand before, between or after the words.
    typed, unknown = parser.parse_known_intermixed_args(argv)
    if typed.probe is None and not unknown:
        raise ValueError(
            "say what to probe: causality, context, induction, slow RUN, or state RUN; see ttt-probe --help"
        )
    if typed.probe is not None and typed.probe not in PROBES:
        raise ValueError(f"{typed.probe}: unknown; {suggest(typed.probe, PROBES)}")
    if unknown:
        options = [max(action.option_strings, key=len) for action in parser._actions if action.option_strings]
        raise ValueError(f"{unknown[0]}: unknown; {suggest(unknown[0], options)}")
    take_words(typed)
    check_options(typed)
    fill_defaults(typed)
    return typed


def take_words(typed: argparse.Namespace) -> None:
    """Tell the run folder from overrides, which only some probes take: `run` and `overrides`."""
    # A word with a = in it may still be a folder's name, if there is such a folder.
    is_named = (
        typed.probe != "documents"
        and len(typed.words) == 1
        and ("=" not in typed.words[0] or Path(typed.words[0]).exists())
    )
    typed.run = Path(typed.words[0]) if is_named else None
    typed.overrides = [] if is_named else typed.words
    if not typed.overrides:
        return
    if typed.probe not in COMPOSED:
        raise ValueError(f"{typed.overrides[-1]}: {typed.probe} takes one run folder")
    for word in typed.overrides:
        if "=" not in word:
            first = "overrides" if typed.probe == "documents" else "one run folder, or overrides"
            raise ValueError(f"{word}: {typed.probe} takes {first} (name=value) as ttt-run takes them")


def probe_parser(about: str = "") -> CommandParser:
    parser = CommandParser("ttt-probe", about=about)
    parser.add_argument("probe", nargs="?", help=" | ".join(PROBES))
    parser.add_argument("words", nargs="*", metavar="RUN", help="a run folder; of causality and context also overrides")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write probe.json and probe.svg")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU (%(default)s)")
    parser.add_argument("--seed", type=int, help="of what `induction` draws (0)")
    count = "of causality: where each sequence is flipped (all that half a minute allows)"
    parser.add_argument("--places", type=int, metavar="N", help=count)
    control = "of documents: each behind the first half of another one, the control"
    parser.add_argument("--foreign", action="store_const", const=True, help=control)
    contexts = parser.add_argument_group("context")
    many = "tokens of contexts, such as 256,512,1024 (once, twice and four times task.seq_len)"
    contexts.add_argument("--lengths", type=lengths_of, metavar="N,N", help=many)
    last = "tokens at the end of running text that are compared (half of the shortest context)"
    contexts.add_argument("--block", type=int, metavar="N", help=last)
    each = f"rows of each task, or of each class of questions ({CONTEXT['sequences']})"
    contexts.add_argument("--sequences", type=int, metavar="N", help=each)
    made_up = parser.add_argument_group("induction, without a run")
    for name, value in SIZES.items():
        made_up.add_argument(option(name), type=int, metavar="N", help=f"({value})")
    with_run = parser.add_argument_group("with a run")
    with_run.add_argument("--prompts", type=int, metavar="N", help=f"of `induction` ({PROMPTS['prompts']})")
    many = f"of these, how many measure true logits, at a pass each ({PROMPTS['true_prompts']})"
    with_run.add_argument("--true-prompts", type=int, metavar="N", help=many)
    with_run.add_argument("--steps", type=int, metavar="K", help=f"of `slow` ({TRAINING['steps']})")
    with_run.add_argument("--lr", type=float, metavar="X", help=f"of `slow` ({TRAINING['lr']:g})")
    with_run.add_argument("--config-dir", type=Path, metavar="FOLDER", help="where modules of your own lie")
    return parser


def check_options(typed: argparse.Namespace) -> None:
    """Raise ValueError for a value out of range, and for an option that would do nothing."""
    if typed.probe in ("slow", "state") and typed.run is None:
        raise ValueError(f"{typed.probe}: needs a run folder: ttt-probe {typed.probe} RUN")
    if typed.probe == "causality" and not (typed.run or typed.overrides):
        raise ValueError("causality: needs a run folder, or overrides: ttt-probe causality adapter=mlp_fast")
    if typed.probe == "context" and not (typed.run or typed.overrides):
        raise ValueError("context: needs a run folder, or overrides: ttt-probe context source=needle adapter=mlp_fast")
    if typed.probe == "documents" and not typed.overrides:
        raise ValueError("documents: needs overrides, such as: ttt-probe documents model=smollm2 adapter.step=0.01,0.1")
    with_run = f"{typed.probe} RUN" if typed.run is not None else "induction without a run"
    form = typed.probe if typed.probe in ACTS else with_run
    # None means not typed: defaults are filled in later, to tell them from what was typed.
    for name in sorted(set().union(*ACTS.values()) - ACTS[form]):
        if getattr(typed, name) is not None:
            raise ValueError(f"{option(name)} {_shown(getattr(typed, name))}: does nothing in {form}")
    if typed.lr is not None and not typed.lr > 0:
        raise ValueError(f"--lr {typed.lr}: must be above 0")
    for name, least in LEAST.items():
        value = getattr(typed, name)
        if value is not None and value < least:
            raise ValueError(f"{option(name)} {value}: must be at least {least}")
    if typed.config_dir is not None and not typed.config_dir.is_dir():
        raise ValueError(f"--config-dir {typed.config_dir}: no such folder")


def fill_defaults(typed: argparse.Namespace) -> None:
    for name, value in {**SIZES, **PROMPTS, **TRAINING, **CONTEXT, "seed": 0}.items():
        if getattr(typed, name) is None:
            setattr(typed, name, value)


def option(name: str) -> str:
    """Return the option that sets `name`: --true-prompts for true_prompts."""
    return f"--{name.replace('_', '-')}"


def lengths_of(text: str) -> list[int]:
    """Return the lengths in `256,512`."""
    try:
        lengths = [int(word) for word in text.split(",")]
    except ValueError:
        lengths = []
    if not lengths or min(lengths) < 2:
        raise argparse.ArgumentTypeError(f"{text}: must be numbers of tokens, at least 2, such as 256,512,1024")
    return lengths


def _shown(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
