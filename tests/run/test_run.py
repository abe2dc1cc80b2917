"""A whole run: what it measures, what it must not touch, how it stops and goes on."""

from __future__ import annotations

import json
import math
import shutil
import signal
import time

import pytest
import torch
import torch.nn.functional as F
from filelock import FileLock
from harness import FAST, SMALL, TINY, only_run, run_apart, run_here, start
from hydra import compose, initialize_config_module
from lightning import Trainer
from omegaconf import OmegaConf
from torch.utils.data import DataLoader

from ttt.evaluation.evaluate import evaluate
from ttt.learner import Engine, Learner, competing, slow_hash
from ttt.results.events import Waiting
from ttt.run.assemble import Assembly, assemble
from ttt.storage.checkpoint import load
from ttt.strategies.naive import Naive
from ttt.training.lightning import LightningLearner
from ttt.training.train import train


def make(*overrides: str, small: tuple[str, ...] = TINY) -> Assembly:
    with initialize_config_module("ttt.conf", version_base="1.3"):
        config = compose("config", overrides=[*small, *overrides])
    return assemble(OmegaConf.to_container(config, resolve=True), trusted=[])


def engine_of(assembly: Assembly) -> Engine:
    return Engine.build(assembly.settings.fabric(), assembly.learner, assembly.learner.configure_optimizers())


@pytest.mark.parametrize("adapter", [["adapter=none"], [*FAST, "adapter.reset=never"]])
def test_evaluation_only_reads(adapter):
    """Slow weights bit-equal before and after; the carried state too; training bit-equal with and without."""
    hashes = []
    for looks in (False, True):
        assembly = make(*adapter)
        engine = engine_of(assembly)
        evaluations = [task.evaluation() for task in assembly.stream.tasks]
        for task in assembly.stream.tasks:
            for _ in train(engine, task, recipe=assembly.recipe, steps=3, report_every=1):
                if looks:
                    before = slow_hash(engine.learner.model)
                    fast = {name: x.clone() for name, x in engine.learner.fast.items()}
                    evaluate(engine, evaluations, recipe=assembly.recipe)
                    assert slow_hash(engine.learner.model) == before
                    assert all(torch.equal(x, engine.learner.fast[name]) for name, x in fast.items())
        hashes.append(slow_hash(engine.learner.model))
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize(("precision", "dtype"), [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)])
def test_precision_holds_in_training_and_in_evaluation(precision, dtype):
    small = tuple(o for o in TINY if not o.startswith("trainer.precision"))
    assembly = make(*FAST, f"trainer.precision={precision}", small=small)
    engine = engine_of(assembly)
    seen = set()
    hook = assembly.learner.model.layers[0].mlp.gate_proj.register_forward_hook(lambda m, i, out: seen.add(out.dtype))
    list(train(engine, assembly.stream.tasks[0], recipe=assembly.recipe, steps=1, report_every=1))
    assert seen == {dtype}
    seen.clear()
    evaluate(engine, [assembly.stream.tasks[0].evaluation()], recipe=assembly.recipe)
    assert seen == {dtype}
    hook.remove()
    assert {x.dtype for x in assembly.learner.fast.values()} == {torch.float32}


def test_modes_measure_what_they_say():
    """slow ignores writes, carried starts from the stream's state; without a state all three agree."""
    assembly = make(*FAST, "adapter.step=1.0")
    engine = engine_of(assembly)
    evaluations = [task.evaluation() for task in assembly.stream.tasks]
    fresh = evaluate(engine, evaluations, recipe=assembly.recipe)
    assert fresh["carried"] == fresh["fast"] != fresh["slow"]
    engine.learner.fast = {name: torch.randn_like(x) for name, x in engine.learner.fast.items()}
    later = evaluate(engine, evaluations, recipe=assembly.recipe)
    assert later["slow"] == fresh["slow"]
    assert later["fast"] == fresh["fast"]
    assert later["carried"] != fresh["carried"]


def test_without_a_carried_state_there_is_no_carried_mode():
    assembly = make(*FAST, "adapter.reset=sequence")
    engine = engine_of(assembly)
    assert set(evaluate(engine, [assembly.stream.tasks[0].evaluation()], recipe=assembly.recipe)) == {"slow", "fast"}


def test_loss_is_in_bits_per_scored_token():
    """A model that knows nothing needs log2(vocabulary) bits."""
    assembly = make("adapter=none", "base=none", small=SMALL)
    for parameter in assembly.learner.model.parameters():
        torch.nn.init.zeros_(parameter)
    scores = evaluate(engine_of(assembly), [assembly.stream.tasks[0].evaluation()], recipe=assembly.recipe)
    for quantity in ("loss", "loss_early", "loss_late"):
        assert scores["slow"][quantity][0] == pytest.approx(5.0)


def test_same_seed_same_results_other_seed_other_results(tmp_path):
    contents = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        folder = tmp_path / name
        folder.mkdir()
        assert run_here([*TINY, *FAST, f"seed={seed}"], folder).code == 0
        contents.append((only_run(folder) / "results.json").read_bytes())
    assert contents[0] == contents[1] != contents[2]


def test_a_run_writes_what_the_readme_of_outputs_says_and_is_not_run_twice(tmp_path):
    first = run_here([*TINY, *FAST], tmp_path)
    assert first.code == 0
    folder = only_run(tmp_path)
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "config.yaml",
        "environment.json",
        "status.json",
        "metrics.jsonl",
        "results.json",
        "samples.json",
        "checkpoints",
    }
    assert json.loads((folder / "status.json").read_text())["status"] == "done"
    results = json.loads((folder / "results.json").read_text())
    assert [row["columns"] for row in results["rows"]] == [[0, 1, 2]] * 4
    assert all(x is not None for row in results["rows"] for x in row["scores"]["fast"]["accuracy"])
    assert "fast_gain/loss/avg_final" in results["metrics"]
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [e["row"] for e in events if e["event"] == "evaluated"] == [0, 1, 2, 3]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    again = run_here([*TINY, *FAST], tmp_path)
    assert again.code == 0
    assert "already done" in again.out
    assert "forgetting_max_seen" in again.out
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_killed_after_a_task_and_started_again_equals_uninterrupted(tmp_path):
    """kill -9 in the middle of a later task; the same command goes on from the last finished one."""
    job = [*TINY, *FAST, "task.num_tasks=6", "task.steps_per_task=40", "adapter.reset=never", "trainer.report_every=5"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    assert run_here(job, whole).code == 0
    process = start(job, killed)
    deadline = time.monotonic() + 240
    while not list(killed.glob("outputs/*/*/*/checkpoints/task-0003")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    folder = only_run(killed)
    assert json.loads((folder / "status.json").read_text())["status"] == "running"
    assert not (folder / "results.json").exists()
    resumed = run_here(job, killed)
    assert resumed.code == 0
    assert "resuming after task" in resumed.out
    assert (folder / "results.json").read_bytes() == (only_run(whole) / "results.json").read_bytes()
    # Nothing is measured twice in the journal either.
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    keys = [(e["event"], e.get("row"), e["step"]) for e in map(json.loads, lines)]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_says_so_and_can_go_on(tmp_path, number, code):
    job = [*TINY, *FAST, "task.steps_per_task=2000"]
    process = start(job, tmp_path)
    while not list(tmp_path.glob("outputs/*/*/*/checkpoints/task-0000")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "the same command resumes" in err
    assert "Traceback" not in err
    assert json.loads((only_run(tmp_path) / "status.json").read_text())["status"] == "requeue"
    assert not (only_run(tmp_path) / "lock").exists()


def test_a_damaged_checkpoint_is_passed_over(tmp_path):
    assert run_here([*TINY, *FAST], tmp_path).code == 0
    folder = only_run(tmp_path)
    reference = (folder / "results.json").read_bytes()
    newest, older = sorted(folder.glob("checkpoints/task-*"))[::-1]
    blob = newest / "slow.safetensors"
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    with pytest.raises(ValueError, match=r"slow\.safetensors"):
        load(newest)
    load(older)
    (folder / "status.json").unlink()
    (folder / "results.json").unlink()
    again = run_here([*TINY, *FAST], tmp_path)
    assert "passed over a damaged checkpoint" in again.out
    assert (folder / "results.json").read_bytes() == reference


def test_a_folder_in_use_is_refused_and_a_dead_owner_is_not_an_owner(tmp_path):
    job = [*TINY, *FAST, "task.steps_per_task=4000"]
    process = start(job, tmp_path)
    while not list(tmp_path.glob("outputs/*/*/*/lock")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    refused = run_here(job, tmp_path)
    process.kill()
    process.communicate()
    assert refused.code == 2
    assert f"pid {process.pid}" in refused.err
    quick = [*TINY, *FAST]
    assert run_here(quick, tmp_path).code == 0


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    job = [*TINY, "adapter=none", "optimizer=sgd", "optimizer.lr=1e30", "optimizer.clip=null", "trainer.report_every=1"]
    outcome = run_here(job, tmp_path)
    assert outcome.code == 76
    assert "world" in outcome.err
    status = json.loads((only_run(tmp_path) / "status.json").read_text())
    assert status["status"] == "failed"


# Lightning's own deprecations are not ours to mend.
@pytest.mark.filterwarnings("ignore")
def test_a_stock_lightning_trainer_takes_the_same_steps():
    ours, theirs = make(*FAST), make(*FAST)
    engine = engine_of(ours)
    for _ in train(engine, ours.stream.tasks[0], recipe=ours.recipe, steps=3, report_every=1):
        pass
    batches = [theirs.stream.tasks[0].batch(step) for step in range(3)]
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, gradient_clip_val=theirs.learner.optimizer_factory.clip,
    )  # fmt: skip
    trainer.fit(LightningLearner(theirs.learner), DataLoader(batches, batch_size=None))
    assert slow_hash(theirs.learner.model) == slow_hash(ours.learner.model)


def test_base_is_shared_by_seeds_and_lifetimes_and_by_nothing_else(tmp_path):
    def bases() -> set[str]:
        return {path.name for path in (tmp_path / "cache" / "base").glob("*/")}

    job = [*TINY, *FAST, f"cache_dir={tmp_path}/cache"]
    assert run_here(job, tmp_path).code == 0
    before = bases()
    for same in (["seed=3"], ["adapter.reset=never"], ["adapter.carry=lane"], ["optimizer.lr=0.1"]):
        assert run_here([*job, *same], tmp_path).code == 0
    assert bases() == before
    for other in (["adapter.decay=0.5"], ["base.lr=0.001"], ["source.num_keys=5"], ["model.layers=1"]):
        assert run_here([*job, *other], tmp_path).code == 0
    assert len(bases() - before) == 4


def test_a_run_says_that_it_waits_for_a_base_of_another(tmp_path):
    assembly, events = make(*FAST, f"cache_dir={tmp_path}"), []
    fabric = assembly.settings.fabric()
    assert assembly.base_weights(fabric, events.append) is not None
    assert not any(isinstance(event, Waiting) for event in events)
    (lock,) = tmp_path.glob("base/*.lock")
    other = FileLock(lock)
    other.acquire()

    def watch(event):
        events.append(event)
        other.release()

    events.clear()
    assert assembly.base_weights(fabric, watch) is not None
    assert [type(event) for event in events] == [Waiting]


def test_base_from_a_run_or_a_file(tmp_path):
    assert run_here([*TINY, "adapter=none"], tmp_path).code == 0
    folder = only_run(tmp_path)
    trained = load(sorted(folder.glob("checkpoints/task-*"))[-1]).tensors["slow"]
    for path in (folder, sorted(folder.glob("checkpoints/task-*"))[-1] / "slow.safetensors"):
        # A plain model's weights fit under fast weights: those start at their own initial values.
        assembly = make(*FAST, "base=checkpoint", f"base.path={path}", small=SMALL)
        weights = assembly.base_weights(assembly.settings.fabric(), lambda event: None)
        assembly.load(weights)
        have = dict(assembly.learner.model.named_parameters())
        assert all(torch.equal(have[name], tensor) for name, tensor in trained.items())


def test_base_that_does_not_fit_is_refused_and_leaves_no_folder(tmp_path):
    assert run_here([*TINY, "adapter=none", "output_dir=first"], tmp_path).code == 0
    (first,) = tmp_path.glob("first/*/*/seed*")
    outcome = run_here([*SMALL, "adapter=none", "model.width=32", "base=checkpoint", f"base.path={first}"], tmp_path)
    assert outcome.code == 2
    assert "[32, 16]" in outcome.err or "[32, 32]" in outcome.err
    assert not (tmp_path / "outputs").exists()


def test_sweep_makes_one_folder_a_run_and_goes_on_after_a_failure(tmp_path):
    job = ["-m", *TINY, "adapter=none", "optimizer=sgd", "optimizer.clip=null", "optimizer.lr=1e30,0.1", "seed=0,1"]
    outcome = run_apart(job, tmp_path)
    assert outcome.code == 1
    assert outcome.out.count(": done") == 2
    assert outcome.out.count("FAILED with exit code 76") == 2
    assert "2 of 4 runs did not finish" in outcome.err
    statuses = [json.loads(p.read_text())["status"] for p in tmp_path.glob("outputs/*/*/seed*/status.json")]
    assert sorted(statuses) == ["done", "done", "failed", "failed"]


def test_what_cannot_be_measured_is_nan_in_a_run_that_stops_and_goes_on(tmp_path):
    """Recall scores nothing in the first half of a sequence: null in every file, and no obstacle to resuming."""
    small = [o for o in TINY if o not in ("source=recall", "task.held_out=10", "task.seq_len=16")]
    job = [*small, *FAST, "task=recall-sequence", "source=automata", "task.seq_len=32", "task.distances=[8,16]",
           "task.facts=[2]"]  # fmt: skip
    assert run_here(job, tmp_path).code == 0
    folder = only_run(tmp_path)
    results = (folder / "results.json").read_bytes()
    content = json.loads(results)
    assert content["rows"][0]["scores"]["fast"]["loss_early"] == [None, None]
    assert content["metrics"]["fast/loss_early/avg_final"] is None
    assert "fast/loss_early/avg_final" in content["undefined"]
    assert content["metrics"]["fast/loss_late/avg_final"] > 0
    # Forget the last task and the end: the same command goes on from the checkpoint before.
    shutil.rmtree(sorted((folder / "checkpoints").iterdir())[-1])
    (folder / "results.json").unlink()
    (folder / "status.json").write_text(json.dumps({"status": "requeue"}))
    assert run_here(job, tmp_path).code == 0
    assert (folder / "results.json").read_bytes() == results


def test_an_unannounced_stream_never_resets_and_tells_no_strategy(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(Learner, "begin_task", lambda self: told.append("begin"))
    monkeypatch.setattr(Naive, "end_task", lambda self, task, model: told.append("end"))
    assert run_here([*TINY, *FAST, "task=drift-sequence"], tmp_path).code == 0
    assert told == []
    assert run_here([*TINY, *FAST], tmp_path).code == 0
    assert told == ["begin", "end"] * 3


def test_masked_outputs_take_no_part_in_training_or_evaluation(tmp_path):
    """In the task scenario a label of another task gets no gradient, and chance is one of two labels."""
    typed = [o for o in SMALL if o not in ("source=recall", "task.held_out=10", "task.num_tasks=3")]
    typed += ["source=digits", "adapter=none", "base=none", "task.num_tasks=2", "task.classes_per_task=2"]
    losses = {}
    for scenario in ("task", "class"):
        assembly = make(*typed, f"task.scenario={scenario}", small=())
        for parameter in assembly.learner.model.parameters():
            torch.nn.init.zeros_(parameter)
        losses[scenario] = evaluate(
            engine_of(assembly), [assembly.stream.tasks[0].evaluation()], recipe=assembly.recipe
        )["slow"]["loss"][0]
    assert losses == {"task": pytest.approx(1.0), "class": pytest.approx(math.log2(266))}
    batch = make(*typed, "task.scenario=task", small=()).stream.tasks[0].batch(0)
    logits_BTV = torch.zeros(*batch.tokens_BT.shape, 266, requires_grad=True)
    F.cross_entropy(competing(logits_BTV, batch).flatten(0, 1), batch.targets_BT.flatten()).backward()
    touched = logits_BTV.grad.abs().sum((0, 1)).nonzero().flatten()
    assert touched.tolist() == batch.outputs_BV[0].nonzero().flatten().tolist()


def test_a_run_ends_with_a_page_and_samples(tmp_path):
    outcome = run_here([*TINY, *FAST, "report=true"], tmp_path)
    assert outcome.code == 0
    folder = only_run(tmp_path)
    page = (folder / "report.html").read_text()
    assert "report   " in outcome.out
    assert [sample["task"] for sample in json.loads((folder / "samples.json").read_text())]
    assert json.loads((folder / "samples.json").read_text())[0]["task"] in page
    assert list((folder / "plots").glob("*.svg"))
    # A page is no number: with and without it a run is the same one.
    assert run_here([*TINY, *FAST, "report=false"], tmp_path).out.startswith("this run is already done")
