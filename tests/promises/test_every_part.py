"""Every part of the project keeps what parts promise; a few of them in each run of the tests.

make promises     all parts (about ten minutes on one core)
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ttt.cli.bench import shipped_options
from ttt.cli.checks.tiny import tiny_config
from ttt.promises import GROUPS
from ttt.promises.parts import promises_of, rule
from ttt.promises.runs import TinyRun

REWARD = ("task=reward-sequence", "source=rule-world", "objective=reward")
# Sources that are drawn from by a task alone, so that the promises are those of the task.
PROBLEMS = ("source=arithmetic", "source=rule-world", "source=star-graph")
# What a part cannot do without; PLACE stands for a folder with a file of each kind.
NEEDS = {
    "adapter=prompt_pool": REWARD,
    "adapter=soft_prompt": REWARD,
    "model=mlp": ("source=digits", "adapter=none"),
    **{part: ("task=reward-sequence", "objective=reward") for part in PROBLEMS},
    "source=csv": ("source.path=PLACE/rows.csv", "source.text=text", "source.label=label"),
    "source=hf": ("source.path=PLACE/rows.jsonl", "source.text_column=text", "source.class_column=label"),
    "source=hf-examples": ("source.path=PLACE/rows.jsonl", "source.text=text", "source.label=label"),
    "task=reward-sequence": REWARD[1:],
    "source=text": ("source.path=PLACE/texts",),
}
# Weights that are not here, and files that come with a package of the system.
ELSEWHERE = {"model=hf", "model=smollm2", "source=fashion-mnist", "source=sotu"}
FEW = {"adapter=lora_fast", "strategy=si", "task=drift-sequence", "source=automata", "model=nano", "optimizer=muon"}
PARTS = [f"{group}={name}" for group in GROUPS for name in shipped_options(group)]


@pytest.fixture(scope="session")
def place(tmp_path_factory) -> Path:
    """A folder with texts of four classes, as files of each kind."""
    folder = tmp_path_factory.mktemp("place")
    rows = [{"text": f"row {i} of {'abcd'[i % 4]} " * 9, "label": "abcd"[i % 4]} for i in range(400)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "rows.csv").write_text("text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in rows))
    for label in "abcd":
        (folder / "texts" / label).mkdir(parents=True)
        text = "\n".join(row["text"] for row in rows if row["label"] == label)
        (folder / "texts" / label / "a.txt").write_text(text)
    return folder


@pytest.mark.parametrize(
    "part", [part if part in FEW else pytest.param(part, marks=pytest.mark.every_part) for part in PARTS]
)
def test_promises_are_kept(part, place):
    if part in ELSEWHERE:
        pytest.skip("its weights or files are not part of the project")
    torch.set_num_threads(1)
    needs = [word.replace("PLACE", str(place)) for word in NEEDS.get(part, ())]
    run = TinyRun(tiny_config([part, *needs], config_dir=None))
    group = "task" if part in PROBLEMS else part.partition("=")[0]
    rulings = {words: rule(judge, trusted=[]) for words, judge in promises_of(group, run).items()}
    assert {words: ruling.why for words, ruling in rulings.items() if ruling.holds is False} == {}
    assert any(ruling.holds for ruling in rulings.values())


def test_the_lists_name_parts():
    assert {*NEEDS, *ELSEWHERE, *FEW} <= set(PARTS)
