"""Vectors in place of tokens, the plain MLP that reads them, and what moves it: pace, two strategies, one device."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from harness import TINY, run_here
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from ttt.run.assemble import assemble
from ttt.run.loop import begin_task
from ttt.tasks.machinery.passes import PassCache
from ttt.training.pace import Pace, rate_of
from ttt.training.train import train

VECTORS = (
    "model=mlp", "model.widths=[32,16]", "adapter=none", "base=none", "source=digits", "task=permuted-sequence",
    "task.permute=positions", "task.num_tasks=3", "task.batch_size=16", "task.steps_per_task=6",
    "task.eval_sequences=20", "optimizer=sgd", "optimizer.clip=null", "trainer.threads=1", "trainer.precision=32-true",
    "trainer.accelerator=cpu", "logger=none", "report=false",
)  # fmt: skip
SPLIT = ("task=split-sequence", "task.classes_per_task=2", "task.num_tasks=5")


def make(*overrides):
    with initialize_config_module("ttt.conf", version_base="1.3"):
        config = compose("config", overrides=[*VECTORS, *overrides])
    return assemble(OmegaConf.to_container(config, resolve=True), trusted=[])


def split(*overrides):
    kept = [word for word in VECTORS if not word.startswith(("task=", "task.permute", "task.num"))]
    with initialize_config_module("ttt.conf", version_base="1.3"):
        config = compose("config", overrides=[*kept, *SPLIT, *overrides])
    return assemble(OmegaConf.to_container(config, resolve=True), trusted=[])


def engine_of(assembly):
    return assembly.engine(assembly.settings.fabric(), None)


def learn(engine, phase, steps):
    return [progress.loss for progress in train(engine, phase, steps=steps, report_every=1)]


def test_an_image_is_one_position_with_its_label():
    batch = make("task.steps_per_task=one-pass").stream.tasks[0].batch(0)
    assert batch.tokens_BT.shape == (16, 1, 64)
    assert batch.tokens_BT.dtype == torch.float32
    assert 0 <= batch.tokens_BT.min() < batch.tokens_BT.max() <= 1
    assert batch.targets_BT.shape == batch.segment_BT.shape == (16, 1)
    assert batch.num_tokens == 16


@pytest.mark.parametrize("steps", ["one-pass", "7"])
def test_positions_are_permuted_alike_in_every_batch_and_in_evaluation(steps):
    """A permutation keeps what pixels an image has, and puts them elsewhere."""
    mine, plain = (make(f"task.steps_per_task={steps}").stream.tasks[0], make().source)
    every = plain.take(plain.units(np.arange(10), length=1)[:, None], length=1).tokens_BT[:, 0].sort(-1).values
    for batch in (mine.batch(0), mine.batch(1), mine.evaluation()):
        rows = batch.tokens_BT[:, 0]
        assert not torch.equal(rows, rows.sort(-1).values)
    known = {tuple(row.tolist()) for row in every}
    assert all(tuple(row.tolist()) in known for row in mine.batch(0).tokens_BT[:, 0].sort(-1).values)


def test_a_pass_reads_every_train_example_once_and_the_next_in_another_order():
    stream = make("task.steps_per_task=2-pass", "task.batch_size=7").stream
    steps = stream.phases[0].steps // 2
    passes = [
        torch.cat([stream.phases[0].batch(s).tokens_BT[:, 0] for s in range(p * steps, (p + 1) * steps)])
        for p in (0, 1)
    ]
    first, second = ({tuple(row.tolist()) for row in rows} for rows in passes)
    assert len(first) >= len(passes[0]) - 5  # a few images are there twice
    assert len(first & second) >= len(first) - 7  # but for those that fill no batch
    assert not torch.equal(*passes)


def test_all_eval_examples_are_read_once():
    assembly = make("task.eval_sequences=all")
    batch = assembly.stream.tasks[0].evaluation()
    assert len(batch.tokens_BT) == assembly.source.rows["eval examples"]
    assert len({tuple(row.tolist()) for row in batch.tokens_BT[:, 0]}) >= len(batch.tokens_BT) - 5


def test_the_mlp_is_what_one_would_write():
    assembly = make()
    batch, model = assembly.stream.tasks[0].batch(0), assembly.learner.model
    first, second = model.layers
    x = batch.tokens_BT[:, 0]
    expected = model.head(torch.relu(second(torch.relu(first(x)))))
    torch.testing.assert_close(model(batch.tokens_BT)[:, 0], expected)
    loss = assembly.learner.training_step(batch, 0)
    torch.testing.assert_close(loss, F.cross_entropy(expected, batch.targets_BT[:, 0]))


def test_several_examples_in_a_row_do_not_see_each_other():
    assembly = make("task.examples=4")
    batch, model = assembly.stream.tasks[0].batch(0), assembly.learner.model
    assert batch.tokens_BT.shape == (16, 4, 64)
    changed = batch.tokens_BT.clone()
    changed[:, 3] += 1
    torch.testing.assert_close(model(changed)[:, :3], model(batch.tokens_BT)[:, :3])


def test_heads_follow_the_scenario():
    """class: all outputs compete; task: those of the own task; domain: the labels that tasks share."""
    by_class, by_task, by_domain = (split(f"task.scenario={name}").stream.tasks for name in ("class", "task", "domain"))
    assert by_class[1].batch(0).outputs_BV is None
    for task in by_task:
        batch = task.batch(0)
        assert batch.outputs_BV.sum(-1).eq(2).all()
        assert batch.outputs_BV.gather(1, batch.targets_BT).all()
    assert len({tuple(task.batch(0).outputs_BV[0].tolist()) for task in by_task}) == 5
    for task in by_domain:
        batch = task.batch(0)
        assert set(batch.targets_BT.flatten().tolist()) == {0, 1}
        assert batch.outputs_BV[0].tolist() == [True] * 2 + [False] * 8


def test_classes_in_the_order_of_the_source():
    assert [task.name for task in split("task.order=source").stream.tasks][:2] == [
        "digit 0 + digit 1",
        "digit 2 + digit 3",
    ]


def test_padded_and_standardised_pixels():
    plain, padded = make().source, make("source.pad=2", "source.standardise=true").source
    assert (plain.vector_size, padded.vector_size) == (64, 144)
    x = padded.take(padded.units(np.arange(10), length=1)[:, None], length=1).tokens_BT
    assert x.mean().abs() < 0.05
    assert abs(float(x.std()) - 1) < 0.05


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (["model=nano", "source.read_as=vectors"], "source.read_as=vectors: model=nano reads tokens; use model=mlp"),
        (["source=recall", "task=split-sequence"], "model=mlp: reads vectors, source=recall gives tokens"),
        (["adapter=mlp_fast"], "adapter=mlp_fast: model=mlp reads no tokens; use adapter=none"),
        (["task.permute=symbols"], "task.permute=symbols: vectors have no symbols"),
        (["model.activation=rleu"], "model.activation=rleu: unknown; did you mean relu?"),
        (["model.widths=[0]"], "model.widths=[0]: must be a list, each an integer at least 1"),
        (["task.steps_per_task=no-pass"], "task.steps_per_task=no-pass: must be a number of at least 1, or one-pass"),
        (["optimizer.slow_every=0"], "optimizer.slow_every=0: must be at least 1"),
        (["optimizer.slow_every=often"], "optimizer.slow_every=often: must be an integer"),
        (["optimizer.schedule=cosin"], "optimizer.schedule=cosin: must be one of constant, linear, cosine"),
        (["source.pad=-1"], "source.pad=-1: must lie between 0 and"),
        (["strategy@also=naive"], "strategy@also=naive: is strategy=naive again"),
        (["strategy@also=nave"], "strategy@also=nave: unknown; did you mean naive?"),
        (["strategy=joint", "strategy@also=cumulative"], "strategy@also=cumulative: does not go with strategy=joint"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(typed, says, tmp_path):
    keep = [word for word in VECTORS if not any(word.startswith(t.split("=")[0] + "=") for t in typed)]
    if "model=nano" in typed:
        keep = [word for word in keep if not word.startswith("model.")]
    if "task=split-sequence" in typed:
        keep = [word for word in keep if not word.startswith("task.permute")]
    outcome = run_here([*keep, *typed], tmp_path)
    assert outcome.code == 2
    assert outcome.err.startswith(f"ttt-run: {says}")
    assert len(outcome.err.splitlines()) == 1
    assert not (tmp_path / "outputs").exists()


def test_whoever_names_the_model_alone_is_told_a_command_that_works(tmp_path):
    refused = run_here(["model=mlp"], tmp_path)
    (line,) = refused.err.splitlines()
    told = line.partition("this works: ttt-run ")[2].split()
    assert (refused.code, told[0]) == (2, "model=mlp")
    quick = [word for word in VECTORS if word.startswith(("task.steps", "task.eval", "trainer", "logger", "report"))]
    assert run_here([*told, *quick], tmp_path).code == 0


def test_the_slow_weights_step_once_for_several_batches_by_their_mean_gradient():
    """Also where the last batches of a task are fewer."""
    ours, plain = make("optimizer.slow_every=4"), make()
    start = [p.detach().clone() for p in plain.learner.model.parameters()]
    learn(engine_of(ours), ours.stream.phases[0], steps=6)
    model, lr = plain.learner.model, ours.config["optimizer"]["lr"]
    for group in (range(4), range(4, 6)):
        losses = [plain.learner.training_step(plain.stream.phases[0].batch(step), step) for step in group]
        gradients = torch.autograd.grad(torch.stack(losses).mean(), list(model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter -= lr * gradient
    for ours_p, plain_p, before in zip(ours.learner.model.parameters(), model.parameters(), start, strict=True):
        torch.testing.assert_close(ours_p, plain_p)
        assert not torch.equal(ours_p, before)


def test_schedules_by_hand():
    assert [Pace(schedule="linear").factor(step, of=4) for step in range(4)] == [1, 0.75, 0.5, 0.25]
    assert [Pace(schedule="cosine").factor(step, of=2) for step in range(2)] == pytest.approx([1, 0.5])
    assert [Pace(warmup=2, schedule="linear").factor(step, of=4) for step in range(4)] == [0.5, 1, 1, 0.5]
    over_stream = rate_of(Pace(schedule="linear", over="stream"), before=10, steps=10, of=20)
    assert [over_stream(step) for step in (0, 5)] == [0.5, 0.25]
    assert rate_of(Pace(), before=0, steps=1, of=1) is None


def test_a_schedule_is_a_share_of_each_groups_own_rate():
    assembly = make("optimizer=adamw", "optimizer.schedule=linear", "optimizer.lr=0.01")
    engine, phase = engine_of(assembly), assembly.stream.phases[0]
    rate = rate_of(engine.pace, before=0, steps=phase.steps, of=assembly.stream.steps)
    seen = [p.lr for p in train(engine, phase, steps=phase.steps, report_every=1, rate=rate)]
    assert seen == pytest.approx([0.01 * (1 - step / phase.steps) for step in range(phase.steps)])


def test_moments_are_forgotten_at_a_task_if_asked():
    kept, reset = (make("optimizer=adam", f"optimizer.reset={how}") for how in ("never", "task"))
    weights = []
    for assembly in (kept, reset):
        engine = engine_of(assembly)
        learn(engine, assembly.stream.phases[0], steps=3)
        begin_task(engine, 1)
        assert bool(engine.optimizer.state) == (assembly is kept)
        learn(engine, assembly.stream.phases[1], steps=1)
        weights.append(torch.cat([p.detach().flatten() for p in assembly.learner.model.parameters()]))
    assert not torch.equal(*weights)


def test_one_device_computes_what_fabric_does():
    from lightning.fabric import Fabric

    ours, theirs = make("optimizer.clip=0.5"), make("optimizer.clip=0.5")
    engine = engine_of(ours)
    fabric = theirs.engine(Fabric(accelerator="cpu", devices=1), None)
    assert learn(engine, ours.stream.phases[0], 5) == learn(fabric, theirs.stream.phases[0], 5)


def test_vectors_in_a_whole_run(tmp_path):
    outcome = run_here([*VECTORS, "task.steps_per_task=3-pass", "optimizer.lr=0.2", "model.activation=tanh"], tmp_path)
    assert outcome.code == 0, outcome.err
    (samples,) = tmp_path.glob("outputs/*/*/*/samples.json")
    assert "█" in samples.read_text()


def test_what_a_strategy_cannot_serve_is_refused_before_a_base_is_trained(tmp_path):
    small = [*TINY, "adapter=none", "strategy=distill", "base.steps=100000", f"cache_dir={tmp_path / 'cache'}"]
    outcome = run_here(small, tmp_path)
    assert outcome.code == 2
    assert outcome.err.startswith("ttt-run: adapter=none: has no fast weights that strategy=distill could learn from")
    assert not (tmp_path / "cache" / "base").exists()
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("switch", ["report", "references"])
def test_a_switch_is_true_or_false(switch, tmp_path):
    outcome = run_here([*VECTORS, f"{switch}=maybe"], tmp_path)
    assert (outcome.code, outcome.err) == (2, f"ttt-run: {switch}=maybe: must be true or false\n")


def test_passes_are_kept_up_to_a_bound_and_made_anew_alike():
    kept = PassCache(most=2 * 3 * 64)
    tasks = [make(f"seed={seed}", "task.steps_per_task=one-pass").stream.tasks[0] for seed in range(3)]
    made = []

    def batches(task):
        table = task.evaluation().rows(0, 2)
        return kept.find(task, 0) or kept.make(
            task, 0, make=lambda: made.append(task) or table, shuffle=lambda rows: rows.cut(1)
        )

    first = [batches(task)[1].tokens_BT for task in tasks]
    # The bound holds one and a half: the last is at hand, the first was dropped and is made again, the same.
    assert kept.find(tasks[2], 0) is not None
    assert kept.find(tasks[0], 0) is None
    assert torch.equal(batches(tasks[0])[1].tokens_BT, first[0])
    assert made == [*tasks, tasks[0]]
    assert kept.find(tasks[0], 1) is None
