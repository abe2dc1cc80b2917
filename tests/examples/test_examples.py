"""The parts in examples/ run as a user types them, and keep what the project promises."""

from __future__ import annotations

from pathlib import Path

import commands
import pytest
import torch
from documents import ROOT, blocks
from harness import SMALL, only_run, run_here

from ttt.cli import check
from ttt.run.assemble import assemble
from ttt.run.compose import compose_run

EXAMPLES = ROOT / "examples"
NO_SOURCE = [word for word in SMALL if not word.startswith(("source", "task.held_out"))]
HAIKU = ("source=haiku", f"source.folder={EXAMPLES / 'poems'}", "task.num_tasks=2")
# What each part is typed with.
PARTS = {
    "adapter=hebb": [*SMALL, "adapter.heads=2"],
    "strategy=anchor": [*SMALL, "adapter=none"],
    "task=there-and-back": [word for word in SMALL if not word.startswith("task.held_out")] + ["adapter=none"],
    "source=haiku": [*NO_SOURCE, *HAIKU[1:], "adapter=none"],
    "model=gru": [word for word in SMALL if not word.startswith("model")] + ["model.width=8", "adapter=none"],
}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_runs(part, tmp_path):
    typed = list(dict.fromkeys(["--config-dir", str(EXAMPLES), part, *PARTS[part], "base=none"]))
    outcome = run_here(typed, tmp_path)
    assert outcome.code == 0, outcome.err
    assert (only_run(tmp_path) / "results.json").is_file()


@pytest.mark.parametrize("part", PARTS)
def test_a_part_keeps_its_promises(part):
    settings = HAIKU[1:2] if part == "source=haiku" else ()
    outcome = commands.typed(check.main, "ttt-check", part, *settings, "--config-dir", EXAMPLES)
    assert outcome.code == 0, outcome.out + outcome.err


def test_the_tour_of_tasks_comes_back(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    config = compose_run(["task=there-and-back", *PARTS["task=there-and-back"], "base=none"], config_dir=str(EXAMPLES))
    phases = assemble(config, trusted=[EXAMPLES]).stream.phases
    assert [phase.task for phase in phases] == [0, 1, 2, 1, 0]
    # The way back goes on where the way there stopped.
    assert torch.equal(phases[4].batch(0).tokens_BT, phases[0].batch(phases[0].steps).tokens_BT)


def test_what_must_be_typed_is_asked_for(tmp_path):
    typed = ["--config-dir", str(EXAMPLES), "source=haiku", "logger=none"]
    commands.assert_refused(run_here(typed, tmp_path), "source.folder: missing", "source.folder=VALUE (text)")


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs" / "tutorials").glob("your-own-*.md")), ids=lambda page: page.stem
)
def test_the_tutorials_quote_the_examples(page):
    """A block whose title is a file of `mine` is the file of that name here, but for its head."""
    for block in blocks(page.read_text()):
        name = Path(block.title).relative_to("mine") if block.title.startswith("mine/") else None
        if name is not None:
            assert block.text.strip() in (EXAMPLES / name).read_text(), name
