"""What does not fit is refused in one line that names the key, before anything is trained."""

from __future__ import annotations

import re

import pytest
from harness import FAST, TINY, run_here
from strategy_jobs import ENVIRONMENT, MLP, NANO, PENALTIES, STRATEGIES, TOKENS, config_of, make

from ttt.run import assemble as assembling
from ttt.run.assemble import assemble

DRIFT = (*TOKENS, "task=drift-sequence")
LORA = STRATEGIES["lora_task-each"]
# A job, and what is typed with it; the refusal names the last word.
REFUSED = [
    *((MLP, f"strategy={name}", "strategy.coefficient=-1") for name in (*PENALTIES, "lwf", "olora")),
    (MLP, "strategy=l2", "strategy.coefficient=inf"),
    (MLP, "strategy=l2", "strategy.coefficient=nan"),
    (MLP, "strategy=l2", "strategy.coefficient=much"),
    (NANO, "strategy=distill", "strategy.coefficient=inf"),
    (MLP, "strategy=ewc", "strategy.samples=0"),
    (MLP, "strategy=mas", "strategy.samples=0"),
    (MLP, "strategy=ewc", "strategy.fisher=samples"),
    (MLP, "strategy=ewc", "strategy.labels=models"),
    (MLP, "strategy=mas", "strategy.per=batches"),
    (MLP, "strategy=online_ewc", "strategy.gamma=2"),
    (MLP, "strategy=si", "strategy.xi=0"),
    (MLP, "strategy=shrink_perturb", "strategy.shrink=1.1"),
    (MLP, "strategy=shrink_perturb", "strategy.perturb=-1"),
    (MLP, "strategy=shrink_perturb", "strategy.every=steps"),
    (MLP, "strategy=layer_reset", "strategy.to=beginning"),
    (MLP, "strategy=layer_reset", "strategy.layers=[]"),
    (MLP, "strategy=layer_reset", 'strategy.layers=["heads"]'),
    (MLP, "strategy=layer_reset", "strategy.last=4"),
    (MLP, "strategy=layer_reset", "strategy.last=0"),
    (MLP, "strategy=replay", "strategy.size=0"),
    (MLP, "strategy=der", "strategy.rows=0"),
    (MLP, "strategy=replay", "strategy.balance=clas"),
    (MLP, "strategy=der", "strategy.alpha=-1"),
    (MLP, "strategy=der", "strategy.beta=-1"),
    (MLP, "strategy=lwf", "strategy.temperature=0"),
    (NANO, "strategy=distill", "strategy.temperature=-2"),
    (MLP, "strategy=continual_backprop", "strategy.replacement_rate=-1"),
    (MLP, "strategy=continual_backprop", "strategy.maturity=-1"),
    (MLP, "strategy=continual_backprop", "strategy.decay=1"),
    (MLP, "strategy=redo", "strategy.every=0"),
    (MLP, "strategy=redo", "strategy.tau=1"),
    (MLP, "strategy=lora_task", "strategy.per=tsk"),
    (MLP, "strategy=lora_task", "strategy.rank=0"),
    (MLP, "strategy=lora_task", "strategy.alpha=0"),
    (MLP, "strategy=lora_task", "strategy.layers=[]"),
    (MLP, "strategy=lora_task", 'strategy.layers=["hed"]'),
    (NANO, "strategy=consolidate", "strategy.share=2"),
    (NANO, "strategy=consolidate", "strategy.rank=0"),
    (NANO, "strategy=consolidate", "strategy.every=tsk"),
    # Refusals that take the stream, the model or the devices to know.
    (MLP, "strategy=consolidate", "adapter=none"),
    (NANO, "strategy=consolidate", "adapter.reset=sequence"),
    (TOKENS, "strategy=distill", "adapter=none"),
    (NANO, *LORA, "optimizer=muon"),
    (TOKENS, "strategy=replay", "trainer.accumulate=2", "strategy.rows=3"),
    (TOKENS, "strategy=der", "trainer.accumulate=2"),
    (DRIFT, "strategy=replay", "strategy.balance=task"),
    (DRIFT, "strategy=naive", "optimizer.reset=task"),
    ((*TOKENS, "source=digits", "task.seq_len=140", "task.held_out=null"), "strategy=replay", "strategy.balance=class"),
    (MLP, "model.widths=[]", "strategy=continual_backprop"),
    (MLP, *LORA, "strategy@also=redo"),
    (MLP, *LORA, "strategy@also=olora"),
    (MLP, "strategy=replay", "strategy@also=der"),
    (MLP, "strategy=joint", "strategy@also=cumulative"),
    (MLP, "strategy=joint", "strategy@also=replay"),
    (MLP, "strategy=olora", "strategy@also=l2"),
    (MLP, "strategy=l2", "strategy@also=l2"),
    ((*NANO, "adapter.reset=task"), "also.every=step", "strategy=frozen", "strategy@also=consolidate"),
    (MLP, "strategy=l2_init", "strategy@also=layer_reset", "also.last=4"),
    (MLP, "strategy=l2_init", "strategy@also=layer_reset", "also.last=0"),
    (MLP, "strategy=l2_init", "strategy@also=layer_reset", "also.to=beginning"),
    (MLP, "strategy=l2_init", "strategy@also=lora_task", 'also.layers=["hed"]'),
    (MLP, "strategy=layer_reset", "strategy@also=l2_init", "strategy.last=4"),
    (DRIFT, "strategy=l2_init", "strategy@also=replay", "also.balance=task"),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: " ".join(case[-2:]))
def test_what_does_not_fit_is_refused_in_one_line(case):
    job, *typed = case
    with pytest.raises(ValueError, match=re.escape(typed[-1])) as refusal:
        make(*job, *typed)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "name",
    [
        "l2",
        "ewc",
        "online_ewc",
        "si",
        "mas",
        "lwf",
        "independent",
        "layer_reset",
        "lora_task-each",
        "olora",
        "consolidate",
    ],
)  # fmt: skip
def test_a_stream_without_boundaries_is_refused_by_those_that_need_them(name):
    with pytest.raises(ValueError, match=f"^{STRATEGIES[name][0]}: needs tasks"):
        make(*NANO, "task=drift-sequence", *STRATEGIES[name])


def test_perturbing_needs_boundaries_only_where_it_waits_for_tasks():
    job = (*DRIFT, "strategy=shrink_perturb")
    make(*job)
    with pytest.raises(ValueError, match=r"^strategy=shrink_perturb: needs tasks"):
        make(*job, "strategy.every=task")


@pytest.mark.parametrize(
    "typed",
    [
        # Refused by an annotation, by a strategy that sees the model, and by the second of two.
        ["strategy=ewc", "strategy.coefficient=-1"],
        ["strategy=layer_reset", "strategy.last=4"],
        [*LORA, "strategy@also=redo"],
    ],
)
def test_a_user_reads_one_line_and_finds_no_folder(typed, tmp_path):
    outcome = run_here([*MLP, *typed], tmp_path)
    assert outcome.code == 2
    (line,) = outcome.err.strip().splitlines()
    assert typed[-1] in line
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("typed", [["strategy=naive"], ["strategy=replay"], ["strategy=olora", "strategy@also=l2"]])
def test_a_run_is_assembled_from_one_network(typed, monkeypatch):
    """Strategies refuse by looking at the learner, without another one to try things on."""
    built, build = [], assembling.build_learner
    monkeypatch.setattr(assembling, "build_learner", lambda *a, **k: built.append(1) or build(*a, **k))
    if "strategy@also=l2" in typed:
        with pytest.raises(ValueError, match="also=l2"):
            assemble(config_of(*TINY, *FAST, *typed), trusted=[])
        assert not built
        return
    assemble(config_of(*TINY, *FAST, *typed), trusted=[])
    assert len(built) == 1


def test_an_optimizer_that_cannot_serve_the_model_is_refused_before_a_base_is_trained():
    job = ["source=digits", "model=mlp", "model.widths=[]", "adapter=none", "task.num_tasks=2", "optimizer=muon"]
    with pytest.raises(ValueError, match="optimizer=muon"):
        assemble(config_of(*ENVIRONMENT, *job, "base=pretrain", "task.classes_per_task=2"), trusted=[])
