"""The shape of the project: which packages install, and one YAML beside one module."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
import yaml
from assembling import assembled, config_of, without
from harness import FAST, SMALL
from pretrained_runs import tiny_pretrained
from safetensors.torch import save_file
from vectors import VECTORS

from ttt.evaluation.evaluate import evaluate
from ttt.run.assemble import assemble
from ttt.training.train import train

ROOT = Path(__file__).parents[2]
FOLDERS = {"ttt": ROOT / "ttt", "ttt.cli": ROOT / "cli", "ttt.tasks": ROOT / "tasks", "ttt.kernels": ROOT / "kernels"}
EXPERIMENTS = sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml"))
YAMLS = sorted(path for path in (ROOT / "conf").glob("*/*.yaml") if path.parent.name != "experiment")


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def test_packages_are_the_folders():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {"ttt.conf"}
    for name, folder in FOLDERS.items():
        folders.add(name)
        folders |= {f"{name}.{path.parent.name}" for path in folder.glob("*/__init__.py")}
    assert set(settings["packages"]) == folders


@pytest.mark.parametrize("path", YAMLS, ids=name_of)
def test_a_yaml_mirrors_a_module(path):
    content = yaml.safe_load(path.read_text())
    # A file that also changes other groups has its section under its name.
    section = content.get(path.parent.name, content)
    if "_target_" not in section:
        # Other values for an option beside it.
        assert (path.parent / f"{content['defaults'][0]}.yaml").is_file()
        return
    content = section
    module = content["_target_"].rsplit(".", 1)[0]
    if path.parent.name != "trainer":
        assert content["name"] in (path.stem, "???")
        assert module.rsplit(".", 1)[1] == path.stem.replace("-", "_")


# What an option needs beside the small run's settings.
NEEDS = {
    "adapter/ttt_ntp": ["adapter.prompt=8"],
    "adapter/wide": ["adapter.like.chunk=4"],
    "source/csv": ["source.path=examples.jsonl", "source.text=body", "source.label=kind"],
    "source/hf-examples": ["source.path=examples.jsonl", "source.text=body", "source.label=kind"],
    "source/fashion-mnist": ["source.path=null", "task.seq_len=50"],
    "source/sotu": ["source.path=speeches", "source.years=1"],
    "source/needle": ["task.seq_len=300"],
    "source/mqar": ["source.pairs=[2,3]"],
    "task/curriculum": ["task.num_tasks=1"],
    "task/recall-sequence": ["task.distances=[2]", "task.facts=[2]"],
    "task/label-sequence": ["task.example_len=4"],
    "source/mnist": ["task.seq_len=50"],
    "source/text": ["source.path=texts"],
    "source/hf": ["source.path=rows.jsonl", "source.text_column=body", "source.class_column=kind"],
    "base/checkpoint": ["base.path=weights.safetensors"],
}
# What needs a model that was published with weights; a tiny one stands for the one of a package.
PRETRAINED = ("model/hf", "model/smollm2", "base/pretrained")
SHORT_BASE = ["base.steps=1", "base.warmup=1"]
REWARDED = ("reward-sequence", "rule-world", "star-graph", "arithmetic", "prompt_pool", "soft_prompt", "reward")


def small_run(path: Path) -> list[str]:
    """Return the overrides of the smallest run with the option of a YAML."""
    group, option = path.parent.name, path.stem
    small = without(SMALL, f"{group}=")
    if name_of(path) in PRETRAINED:
        return [*without(tuple(small), "model."), "model=hf", "model.name=published", *FAST]
    if option == "mlp":
        return [*without(tuple(small), "model.", "source=", "task.held"), *vectors()]
    if option in REWARDED:
        return [*without(tuple(small), "source=", "task.held", "task.seq_len"), *rewarded(group, option)]
    # Any source has enough for a stream without a shift.
    words = [f"{group}={option}", *(["task=stationary"] if group == "source" else []), *NEEDS.get(name_of(path), [])]
    if group in ("task", "source") and option not in ("split-sequence", "drift-sequence"):
        small.remove("task.held_out=10")
    if option.startswith("pretrain") or group != "base":
        words += SHORT_BASE
    if group != "adapter":
        words += FAST
    elif "chunk" in yaml.safe_load(path.read_text()):
        words += ["adapter.chunk=4"]
    return [*small, *words]


def vectors() -> list[str]:
    model = [word for word in VECTORS if word.startswith(("model=", "source=", "adapter=", "base="))]
    return [*model, "task=stationary"]


def rewarded(group: str, option: str) -> list[str]:
    source = option if group == "source" else "rule-world"
    adapter = f"adapter={option if group == 'adapter' else 'none'}"
    return ["task=reward-sequence", f"source={source}", "objective=reward", adapter, *SHORT_BASE]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A folder with everything that an option may read."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("letters", "numbers"):
        (folder / "texts" / name).mkdir(parents=True)
        text = "\n".join(f"{name} {i} {i * i}" for i in range(900))
        (folder / "texts" / name / "a.txt").write_text(text)
        with (folder / "rows.jsonl").open("a") as file:
            file.write(json.dumps({"body": text, "kind": name}) + "\n")
        with (folder / "examples.jsonl").open("a") as file:
            file.writelines(json.dumps({"body": f"{i} {name}", "kind": name}) + "\n" for i in range(20))
        (folder / "speeches").mkdir(exist_ok=True)
        (folder / "speeches" / f"{1790 + len(name)}_{name}.txt").write_text(text)
    tiny_pretrained(folder / "published")
    weights = assembled(*SMALL, *FAST, "base=none").learner.model.state_dict()
    save_file(dict(weights), folder / "weights.safetensors")
    return folder


@pytest.mark.parametrize("path", YAMLS, ids=name_of)
def test_every_yaml_composes_and_runs_a_step(path, data, monkeypatch):
    if path.parent.name == "logger" and path.stem in ("tensorboard", "trackio", "mlflow"):
        pytest.importorskip(path.stem)
    monkeypatch.chdir(data)
    assembly = assembled(*small_run(path))
    fabric = assembly.settings.fabric()
    engine = assembly.engine(fabric, assembly.base_weights(fabric, lambda event: None))
    task = assembly.stream.tasks[0]
    (progress,) = train(engine, task, recipe=assembly.recipe, steps=1, report_every=1)
    # Rewards that are all equal are a loss of zero.
    assert progress.loss > 0 or progress.watched["zero_variance"] == 1
    scores = evaluate(engine, [task.evaluation()], recipe=assembly.recipe)
    assert scores["fast"]["loss"][0] > 0


# What has no place for fast weights beside the layers, and what its refusal names.
REFUSES = {"mlp": "model=mlp", "reward": "adapter=prompt_pool"}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_assembles_with_fast_weights_or_refuses_them(name, tmp_path):
    typed = [f"experiment={name}", "adapter=mlp_fast", "logger=none"]
    config = config_of(*typed)
    if config["model"].get("tokenizer") == "model":
        pytest.importorskip("transformers")
        # The packaged one takes minutes to unpack.
        config = config_of(*typed, "model=hf", f"model.name={tiny_pretrained(tmp_path)}")
    # What eight hundred tasks are made of is seen in five.
    if config["task"]["num_tasks"]:
        config["task"]["num_tasks"] = min(config["task"]["num_tasks"], 5)
    named = REFUSES.get(config["model"]["name"]) or REFUSES.get(config["objective"]["name"])
    if named:
        with pytest.raises(ValueError, match=named):
            assemble(config, trusted=[])
        config["adapter"] = yaml.safe_load((ROOT / "conf" / "adapter" / "none.yaml").read_text())
    assemble(config, trusted=[])
