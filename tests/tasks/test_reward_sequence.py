"""Streams of hidden rules: purity, evaluation, boundaries, refusals, a run by imitation."""

from __future__ import annotations

import numpy as np
import pytest
from harness import SMALL, only_run, run_here
from hidden_rules import same, stream_of

from ttt.compare.runs import read_run
from ttt.run.assemble import assemble
from ttt.run.compose import compose_run
from ttt.tasks.machinery.problems import NAMES

# Small runs of another stream set these too.
OTHER_STREAM = ("source=recall", "task.held_out=10", "task.seq_len=16", "model.window=4")
SMALL_MODEL = [word for word in SMALL if word not in OTHER_STREAM]
RULES = ("task=reward-sequence", "source=rule-world", "adapter=none")


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_of_hidden_rules(name):
    stream, again, other = (stream_of(f"source={name}", seed=seed) for seed in (0, 0, 1))
    assert stream.layout is not None
    assert (stream.scenario, stream.seq_len) == ("domain", stream.tasks[0].batch(0).tokens_BT.shape[1])
    assert stream.base.fingerprint == again.base.fingerprint == other.base.fingerprint
    assert stream_of(f"source={name}", base_seed=1).base.fingerprint != stream.base.fingerprint
    assert len({task.name for task in stream.tasks}) == 4
    assert len(stream.base.batch(0).tokens_BT) == 128
    for a, b in zip([stream.base, *stream.tasks], [again.base, *again.tasks], strict=True):
        assert (a.name, a.fingerprint) == (b.name, b.fingerprint)
        late = a.batch(7)
        assert not same(a.batch(1), late)
        assert same(b.batch(7), late)
        assert len(a.evaluation().tokens_BT) == 8
    assert {task.name for task in stream.tasks} != {task.name for task in other.tasks}


def test_a_task_is_measured_on_the_same_problems_in_every_run():
    streams = [stream_of("source=star-graph", "task.num_tasks=45", seed=seed) for seed in (0, 1)]
    first, second = ({task.name: task for task in stream.tasks} for stream in streams)
    assert first.keys() == second.keys()
    for name, task in first.items():
        assert same(task.evaluation(), second[name].evaluation())
        assert not same(task.batch(0), second[name].batch(0))


def test_boundaries_are_announced_only_on_request():
    typed = ("source=rule-world", "task.revisits=1")
    quiet, announced = stream_of(*typed), stream_of(*typed, "task.announced=true")
    assert [phase.announced for phase in quiet.phases] == [False] * 8
    assert [phase.announced for phase in announced.phases] == [True] * 8
    assert not same(quiet.phases[0].batch(0), quiet.phases[4].batch(0))
    blurred = stream_of("source=rule-world", "task.blur=0.3")
    assert blurred.phases[0].batch(0).tokens_BT.shape == (16, 10)


REFUSED = [
    ("source.items=1", ()),
    ("source.noise=1.5", ()),
    ("source.shown=-1", ()),
    ("source.digits=0", ("source=arithmetic",)),
    ("source.digits=10", ("source=arithmetic",)),
    ("source.modulus=1", ("source=arithmetic",)),
    ("source.modulus=101", ("source=arithmetic",)),
    ("source.deg=0", ("source=star-graph",)),
    ("source.path=1", ("source=star-graph",)),
    ("source.nodes=8", ("source=star-graph", "source.deg=4")),
    ("source.hops=0", ("source=star-graph",)),
    ("source.hops=3", ("source=star-graph",)),
    ("task.ops=0", ()),
    ("task.ops=3", ()),
    ("task.base_batch=0", ()),
    ("task.num_tasks=361", ()),
    ("task.scenario=class", ()),
    ("task.examples=3", ()),
    ("task.eval_sequences=all", ()),
    ("task.steps_per_task=one-pass", ()),
    ("task.seq_len=19", ("source=star-graph",)),
]


@pytest.mark.parametrize(("typed", "others"), REFUSED, ids=lambda x: x if isinstance(x, str) else " ".join(x))
def test_impossible_settings_are_refused_in_one_line(typed, others):
    with pytest.raises(ValueError, match=f"^{typed}: ") as error:
        stream_of("source=rule-world", *others, typed)
    assert "\n" not in str(error.value)


def test_a_source_without_problems_is_refused():
    with pytest.raises(ValueError, match=r"^task=reward-sequence: source=recall .*source=rule-world, star-graph"):
        stream_of("source=recall")


@pytest.mark.parametrize("typed", ["task.steps_per_task=3", "task.steps_per_task=one-pass", "task.eval_sequences=all"])
def test_other_streams_say_where_problems_belong(typed):
    words = [*SMALL_MODEL, "task=split-sequence", "source=rule-world", "adapter=none", "model.window=null", typed]
    with pytest.raises(ValueError, match=r"^source=rule-world: .*task=reward-sequence$"):
        assemble(compose_run(words), trusted=[])


def test_preview_shows_problems(tmp_path):
    outcome = run_here(["--preview", *RULES, "base=none", "task.num_tasks=2"], tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    (line,) = [line for line in outcome.out.splitlines() if line.startswith("stream ")]
    assert line == "stream   reward-sequence of rule-world: 2 tasks, domain-incremental"
    assert outcome.out.count("null null ") == 2


def test_a_stream_of_problems_is_learned_by_imitation(tmp_path):
    typed = (*RULES, "model.window=null", "task.ops=1", "base.steps=5", "base.warmup=1")
    outcome = run_here([*SMALL_MODEL, *typed], tmp_path)
    assert outcome.code == 0, outcome.err
    run = read_run(only_run(tmp_path))
    assert len(run.results.rows) == 4
    assert np.isfinite(run.results.matrix("slow", "loss")).all()
