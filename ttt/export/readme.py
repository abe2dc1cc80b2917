"""What an exported folder says about itself to whoever finds it."""

from __future__ import annotations

from ttt.config.version import VERSION
from ttt.models.pretrained import Pretrained
from ttt.run.open import OpenedRun

WHOLE = """    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained("FOLDER")"""
UPDATES = """    from peft import AutoPeftModelForCausalLM
    model = AutoPeftModelForCausalLM.from_pretrained("FOLDER")"""
TEXT = """# {name}, {adapter}

Written by ttt-export {version} from a run of `{name}` that learned {learned} phases of `task={task}` with
`strategy={strategy}` and `adapter={adapter}`: {folder}

The slow weights, without fast weights:

{opens}

With fast weights (`fast_weights.json` and `fast_weights.safetensors`), which are written while it reads:

    from pathlib import Path
    from ttt.export.export import open_exported
    learner = open_exported(Path("FOLDER"))
"""


def readme(run: OpenedRun, which: Pretrained, *, is_whole: bool) -> str:
    """Return the README.md of an exported run; `is_whole`: does it hold more than updates?"""
    text = TEXT.format(
        name=which.name,
        version=VERSION,
        learned=run.learned,
        task=run.config["task"]["name"],
        strategy=run.config["strategy"]["name"],
        adapter=run.adapter,
        folder=run.folder.path,
        opens=WHOLE if is_whole else UPDATES,
    )
    window = run.config["model"]["window"]
    if window is None:
        return text
    return f"{text}\nIt learned with attention to the last {window} tokens; transformers by itself does not limit it.\n"
