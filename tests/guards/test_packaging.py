"""The shape of the project: what installs, who imports whom, one YAML beside one module."""

from __future__ import annotations

import ast
import json
import tomllib
from pathlib import Path

import pytest
import yaml
from harness import FAST, SMALL
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from ttt.evaluation.evaluate import evaluate
from ttt.run.assemble import assemble
from ttt.training.train import train

ROOT = Path(__file__).parents[2]
FOLDERS = {"ttt": ROOT / "ttt", "ttt.cli": ROOT / "cli", "ttt.tasks": ROOT / "tasks", "ttt.kernels": ROOT / "kernels"}
# Who may import whom: kernels <- ttt <- tasks <- cli. tasks may use only the stream's nouns.
MAY_IMPORT = {
    "ttt.kernels": {"ttt.kernels"},
    "ttt": {"ttt.kernels", "ttt"},
    "ttt.tasks": {"ttt.tasks", "ttt.stream"},
    "ttt.cli": {"ttt.kernels", "ttt", "ttt.cli"},
}
YAMLS = sorted(path for path in (ROOT / "conf").glob("*/*.yaml") if path.parent.name != "experiment")


def test_packages_are_the_folders():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {"ttt.conf"}
    for name, folder in FOLDERS.items():
        folders.add(name)
        folders |= {f"{name}.{path.parent.name}" for path in folder.glob("*/__init__.py")}
    assert set(settings["packages"]) == folders


def layer(module: str) -> str:
    return next((name for name in ("ttt.kernels", "ttt.tasks", "ttt.cli") if module.startswith(name)), "ttt")


@pytest.mark.parametrize("name", FOLDERS)
def test_imports_point_one_way(name):
    for path in FOLDERS[name].rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in modules:
                if module.split(".")[0] != "ttt":
                    continue
                allowed = MAY_IMPORT[name]
                assert layer(module) in allowed or module in allowed, f"{path} imports {module}"


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_yaml_mirrors_a_module(path):
    content = yaml.safe_load(path.read_text())
    if "_target_" not in content:
        # Other values for an option beside it.
        assert (path.parent / f"{content['defaults'][0]}.yaml").is_file()
        return
    module = content["_target_"].rsplit(".", 1)[0]
    if path.parent.name != "trainer":
        assert content["name"] == path.stem
        assert module.rsplit(".", 1)[1] == path.stem.replace("-", "_")


# What an option needs beside the small run's settings.
OWN = {
    "task/recall-sequence": ["task.distances=[2]", "task.facts=[2]"],
    "task/label-sequence": ["task.example_len=4"],
    "source/mnist": ["task.seq_len=50"],
    "source/text": ["source.path=texts"],
    "source/hf": ["source.path=rows.jsonl", "source.text_column=body", "source.class_column=kind"],
}


VECTORS = ["model=mlp", "source=digits", "task=stationary", "adapter=none", "base=none"]


REWARDED = ("reward-sequence", "rule-world", "star-graph", "arithmetic", "prompt_pool", "soft_prompt", "reward")


def choices(path: Path) -> list[str]:
    group, option = path.parent.name, path.stem
    # Any source has enough for a stream without a shift.
    picked = [
        f"{group}={option}",
        *(["task=stationary"] if group == "source" else []),
        *OWN.get(f"{group}/{option}", []),
    ]
    small = [o for o in SMALL if not o.startswith(f"{group}=")]
    if option == "mlp":
        return [*(o for o in small if not o.startswith(("model.", "source=", "task.held"))), *VECTORS]
    if option in REWARDED:
        kept = [o for o in small if not o.startswith(("source=", "task.held", "task.seq_len"))]
        source = option if group == "source" else "rule-world"
        told = ["task=reward-sequence", f"source={source}", "objective=reward", "base.steps=1", "base.warmup=1"]
        return [*kept, *told, picked[0] if group == "adapter" else "adapter=none"]
    if group in ("task", "source") and option not in ("split-sequence", "drift-sequence"):
        small.remove("task.held_out=10")
    if option == "checkpoint":
        picked += ["base.path=weights.safetensors"]
    if option.startswith("pretrain") or group != "base":
        picked += ["base.steps=1", "base.warmup=1"]
    if group != "adapter":
        picked += FAST
    elif "chunk" in yaml.safe_load(path.read_text()):
        picked += ["adapter.chunk=4"]
    return [*small, *picked]


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_yaml_composes_and_runs_a_step(path, tmp_path, monkeypatch):
    if path.parent.name == "logger" and path.stem in ("tensorboard", "trackio"):
        pytest.importorskip(path.stem)
    from safetensors.torch import save_file

    monkeypatch.chdir(tmp_path)
    for name in ("letters", "numbers"):
        (tmp_path / "texts" / name).mkdir(parents=True)
        text = "\n".join(f"{name} {i} {i * i}" for i in range(900))
        (tmp_path / "texts" / name / "a.txt").write_text(text)
        with (tmp_path / "rows.jsonl").open("a") as file:
            file.write(json.dumps({"body": text, "kind": name}) + "\n")
    if path.stem == "checkpoint":
        with initialize_config_module("ttt.conf", version_base="1.3"):
            config = compose("config", overrides=[*SMALL, *FAST, "base=none"])
        plain = assemble(OmegaConf.to_container(config, resolve=True), trusted=[])
        save_file(dict(plain.learner.model.state_dict()), "weights.safetensors")
    with initialize_config_module("ttt.conf", version_base="1.3"):
        config = compose("config", overrides=choices(path))
    assembly = assemble(OmegaConf.to_container(config, resolve=True), trusted=[])
    fabric = assembly.settings.fabric()
    engine = assembly.engine(fabric, assembly.base_weights(fabric, lambda event: None))
    (progress,) = train(engine, assembly.stream.tasks[0], recipe=assembly.recipe, steps=1, report_every=1)
    # Rewards that are all equal are a loss of zero.
    assert progress.loss > 0 or progress.watched["zero_variance"] == 1
    scores = evaluate(engine, [assembly.stream.tasks[0].evaluation()], recipe=assembly.recipe)
    assert scores["fast"]["loss"][0] > 0


@pytest.mark.parametrize("path", sorted((ROOT / "conf" / "experiment").glob("*.yaml")), ids=lambda path: path.stem)
@pytest.mark.parametrize("adapter", ["none", "mlp_fast"])
def test_every_experiment_composes(path, adapter):
    with initialize_config_module("ttt.conf", version_base="1.3"):
        config = compose("config", overrides=[f"experiment={path.stem}", f"adapter={adapter}", "logger=none"])
    # What eight hundred tasks are made of is seen in five.
    config.task.num_tasks = config.task.num_tasks and min(config.task.num_tasks, 5)
    config = OmegaConf.to_container(config, resolve=True)
    refused = {"mlp": "reads no tokens", "reward": "use adapter=prompt_pool or none"}
    why = refused.get(config["model"]["name"]) or refused.get(config["objective"]["name"])
    if why and adapter != "none":
        with pytest.raises(ValueError, match=why):
            assemble(config, trusted=[])
    else:
        assemble(config, trusted=[])


def test_no_file_or_function_grows_out_of_hand():
    for folder in FOLDERS.values():
        for path in folder.rglob("*.py"):
            source = path.read_text()
            assert source.count("\n") <= 250, path
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.FunctionDef):
                    assert node.end_lineno - node.lineno < 45, f"{path}: {node.name}"
                    assert node.args.kwarg is None, f"{path}: {node.name}"
