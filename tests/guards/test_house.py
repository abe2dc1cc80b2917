"""The rules of the house: rooms on floors, arrows that point down, no circles, files and functions of a size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from house import LIGHT, House, room_of

HOUSE = House(Path(__file__).resolve().parents[2])
# What breaks the rules today. Nothing may be added; at the end it is empty.
KNOWN = json.loads((Path(__file__).parent / "violations.json").read_text())


def test_the_house_keeps_its_rules():
    broken = [f"loose: {name}" for name in HOUSE.loose()]
    broken += [f"upward: {arrow}" for arrow in HOUSE.upward()]
    broken += [f"circle: {' '.join(group)}" for group in HOUSE.circles()]
    assert broken == KNOWN


# Imports modules one by one and prints the heavy packages that each of them was the first to load.
IMPORTS = """
import importlib, json, sys
loaded = {}
for module in sys.argv[2:]:
    before = set(sys.modules)
    importlib.import_module(module)
    heavy = [name for name in sys.argv[1].split(",") if name in sys.modules and name not in before]
    loaded |= {module: heavy} if heavy else {}
print(json.dumps(loaded))
"""


def test_comparisons_and_reports_load_no_torch():
    """A comparison of a thousand runs appears at once, and its table needs neither pictures nor trackers."""
    heavy = ("torch", "lightning", "hydra", "wandb", "matplotlib", "scipy")
    modules = ["ttt.cli.compare", *(module for module in HOUSE.files if room_of(module) in LIGHT)]
    command = [sys.executable, "-c", IMPORTS, ",".join(heavy), *modules]
    loaded = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert "ttt.cli.compare" not in loaded
    assert {package for packages in loaded.values() for package in packages} <= {"matplotlib", "scipy"}
