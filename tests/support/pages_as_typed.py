"""What a reader of the docs types, in the order of each page, and what of it is not run and why."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from documents import ROOT, blocks, pages

# A log of what was typed once, and reasons: nobody types them again.
UNTYPED = ("docs/decisions.md", "docs/log.md")
# How a line of code begins that is typed in a shell; in indented blocks stands output, too.
SHELL = re.compile(r"(ttt-\w+|make|python3?|pip|npm|apt|cat|torchrun|eval|mlflow)\s")
# What a line must hold to be run in seconds: `ttt-run` alone trains a model of full size.
QUICK = r"--help|--preview|--dry-run|--completion|clean|base\.steps=60\b"
# Lines that are not run, and why: the first pattern that matches.
SKIPPED = {
    r"\.\.\.": "has words that the reader fills in",
    r"\$SLURM|hydra/launcher|^torchrun": "needs a cluster",
    r"^make ": "installs, or takes minutes; `make run` and `make test` run at every change",
    r"^(pip|npm|apt) ": "installs from a network",
    r"OWNER/NAME|model=hf": "needs the hub of Hugging Face, or a model from there",
    r"smollm2": "needs `make smollm2`",
    r"^mlflow|wandb|logger=mlflow|logger\.mode|sync ": "needs a tracker or its server",
    r"ttt-eval": "needs lm-eval and what it downloads",
    r"optuna": "needs an extra",
    r"fish": "needs another shell",
    r"fashion-mnist": "needs a data set that is installed by itself",
    r"outputs/(fst|in-place-dispute|hsu-split-mnist|adapters|claim|plasticity|online-permuted|recall-distance|reward-sequence)\b":
        "reads the runs of a study, which take hours",
    r"--study|experiment=": "is a study: hours",
    r"^ttt-run -m(?!.*--dry-run)": "is a sweep of full size: an hour or more",
    rf"^ttt-run (?!.*({QUICK}))": "is a run of full size: minutes",
    r"adapter=mine\b": "is about a part of the reader's own",
    r"ttt-bench": "measures this computer for minutes",
    r"^python tests/torture": "takes minutes to hours",
    r"ttt-probe (induction|causality adapter)": "trains a base of full size: minutes",
}  # fmt: skip


@dataclass(frozen=True)
class Typed:
    """A line for a shell, or a block of Python, of a page. `skipped`: why it is not run."""

    page: Path
    line: int
    language: str
    text: str
    skipped: str = ""

    @property
    def short(self) -> str:
        words = " ".join(self.text.split())
        return words if len(words) < 90 else f"{words[:87]}..."


def typed_pages() -> list[Path]:
    """The pages that are followed."""
    return [page for page in pages() if page.relative_to(ROOT).as_posix() not in UNTYPED]


def typed_on(page: Path) -> Iterator[Typed]:
    """What is typed on a page, in order."""
    text = page.read_text()
    for block in blocks(text):
        if block.title or block.language not in ("", "bash", "python"):
            continue
        if block.language == "python" or (not block.language and re.match(r"(import|from) ", block.text)):
            yield Typed(page, _line(text, block.text.splitlines()[0]), "python", block.text)
            continue
        for line in block.text.replace("\\\n", " ").splitlines():
            command = re.sub(r"\s+#\s.*", "", line).strip()
            if SHELL.match(f"{command} "):
                yield Typed(page, _line(text, command.split("  ")[0]), "bash", command, why_skipped(command))


def files_on(page: Path) -> Iterator[tuple[str, str]]:
    """The name and the text of each file that a page shows whole."""
    for block in blocks(page.read_text()):
        if block.title:
            yield block.title, block.text


def why_skipped(command: str) -> str:
    """The reason why a command is not run; empty where it is."""
    return next((reason for pattern, reason in SKIPPED.items() if re.search(pattern, command)), "")


def _line(text: str, first: str) -> int:
    return text[: text.index(first)].count("\n") + 1
