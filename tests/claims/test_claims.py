"""The claims of Fast-Slow Training, out of curves written by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from harness import run_here
from test_reward import ALONE, POOL, RULES

from ttt.claims.fst import Sooner, asymptote, claims, cut, later, later_slope, list_of, matched, needed
from ttt.claims.series import Series, at_level, reached
from ttt.claims.settings import settings_of
from ttt.cli.benches.harness import assembly_of
from ttt.compare.runs import Run, flatten
from ttt.results.results import Results

STEPS = [0, 10, 20, 30]
PER_STEP = 100.0


def invented(folder: Path, *, adapter: str, success: list[float], kl: list[float], seed: int = 0, extra: float = 0.0):
    """A run of one task of thirty steps with these curves, in which each step costs PER_STEP + `extra` rollouts."""
    typed = ["task.num_tasks=1", "task.steps_per_task=30", f"seed={seed}", f"adapter={adapter}"]
    config = assembly_of(*RULES, *typed, f"output_dir={folder}").config
    results = Results(
        scenario="domain", tasks=["a"], fingerprints=[f"{seed}"], learned_at=[1], entropy=[math.nan], phases=1
    )
    modes = ("slow", "fast", "carried", "archived") if adapter == "prompt_pool" else ("slow", "fast")
    for step, earned, far in zip(STEPS, success, kl, strict=True):
        # What a mode that is not the run's own says must not matter: it says nonsense.
        own = "carried" if adapter == "prompt_pool" else "slow"
        scores = {
            mode: {
                "success": [earned if mode == own else -1.0],
                "kl": [far if mode == own else 9.0],
                "kl_words": [far / 2],
                "reward": [earned],
            }
            for mode in modes
        }
        if step in (0, 30):
            results.add(columns=[0], scores=scores, base=scores, step=step, current=0 if step else None)
        else:
            results.points.append({"step": step, "columns": [0], "scores": scores})
    path = folder / f"{adapter}-{seed}"
    path.mkdir(parents=True)
    lines = [
        {
            "event": "trained",
            "step": step,
            "terms": {"rollouts": PER_STEP * step, "fast_rollouts": extra * step, "entropy": earned},
        }
        for step, earned in zip(STEPS[1:], success[1:], strict=True)
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    flat = {key: value for key, value in flatten(config).items() if key not in ("seed", "output_dir")}
    return Run(folder=path, seed=seed, config=flat, costs={}, results=results)


def test_a_level_is_reached_on_the_line_between_two_evaluations():
    time, value = np.array([0.0, 10, 20]), np.array([0.0, 0.5, 0.25])
    assert reached(time, value, 0.25) == 5
    assert reached(time, value, 0.5) == 10
    assert reached(time, value, 0.0) == 0
    assert reached(time, value, 0.6) == math.inf
    assert at_level(value, np.array([1.0, 2.0, 9.0]), 0.25) == 1.5
    assert math.isnan(at_level(value, value, 0.6))


def test_steps_and_rollouts_are_those_of_the_whole_run(tmp_path):
    fst = Series(invented(tmp_path, adapter="prompt_pool", success=[0, 1, 1, 1], kl=[0, 1, 1, 1], extra=50))
    alone = Series(invented(tmp_path, adapter="none", success=[0, 0.25, 0.5, 0.75], kl=[0, 1, 2, 3]))
    assert needed(fst, 0.5, rollouts=False) == 5
    assert needed(fst, 0.5, rollouts=True) == 5 * 150
    assert needed(alone, 0.5, rollouts=False) == 20
    # Never reached: the end counts.
    assert needed(alone, 0.9, rollouts=False) == 30
    assert Sooner(0.5, rollouts=False)(fst, alone) == pytest.approx(2)
    assert Sooner(0.5, rollouts=True)(fst, alone) == pytest.approx(math.log2(20 * 100 / (5 * 150)))
    # Neither reaches it: nothing is known, whatever the two spent.
    assert math.isnan(Sooner(1.5, rollouts=True)(fst, alone))
    # The baseline's best, 0.75 at the end.
    assert Sooner(None, rollouts=False)(fst, alone) == pytest.approx(math.log2(30 / 7.5))


def test_success_is_compared_for_equal_rollouts(tmp_path):
    # Twice the rollouts a step: the other's 30 steps pay for 15 of ours.
    fst = Series(invented(tmp_path, adapter="prompt_pool", success=[0, 0.4, 0.8, 1], kl=[0] * 4, extra=PER_STEP))
    alone = Series(invented(tmp_path, adapter="none", success=[0, 0.1, 0.3, 0.5], kl=[0] * 4))
    assert matched(fst, alone) == pytest.approx(0.6 - 0.5)
    assert matched(alone, fst) == pytest.approx(0.5 - 0.6)


def test_drift_is_compared_at_equal_success(tmp_path):
    # At success s the one is 2 s bits away, the other 8 s.
    fst = Series(invented(tmp_path, adapter="prompt_pool", success=[0, 1, 1, 1], kl=[0, 2, 2, 2]))
    alone = Series(invented(tmp_path, adapter="none", success=[0, 0.2, 0.4, 0.5], kl=[0, 1.6, 3.2, 4.0]))
    assert cut(None, "kl")(fst, alone) == pytest.approx(0.75)
    assert cut("slow", "kl_words")(fst, alone) == pytest.approx(0.75)
    # Behind the seed prompt the one is 9 bits away wherever it stands, the other 8 s: at 0.1, ..., 0.5.
    assert cut("slow", "kl")(fst, alone) == pytest.approx(1 - 9 / (8 * 0.3))


def test_verdicts_follow_the_interval(tmp_path):
    runs = []
    for seed in range(4):
        wobble = 0.01 * seed
        runs.append(
            invented(tmp_path, adapter="prompt_pool", success=[0, 0.9 + wobble, 1, 1], kl=[0, 5, 6, 6], seed=seed)
        )
        runs.append(
            invented(
                tmp_path, adapter="none", success=[0, 0.3, 0.6, 1 + 0.1 * (-1) ** seed], kl=[0, 1, 2, 3], seed=seed
            )
        )
    sheet = claims(runs)
    found = {words[3]: words for words, _ in sheet.rows}
    assert found["success 0.5: fewer steps"][-1] == "holds"
    assert found["less drift at equal success, own prompt"][-1] == "does not hold"
    assert found["keeps more base skills"][-1] == "not resolved"
    assert {words[6] for words in found.values()} == {"4"}
    assert " x [" in found["success 0.5: fewer steps"][4]


def test_the_baseline_is_the_one_that_learns_most_and_bases_set_no_method_apart(tmp_path):
    fst = invented(tmp_path / "a", adapter="prompt_pool", success=[0, 0.5, 1, 1], kl=[0, 1, 1, 1])
    weak = invented(tmp_path / "b", adapter="none", success=[0, 0, 0, 0.1], kl=[0, 1, 1, 1])
    strong = invented(tmp_path / "c", adapter="none", success=[0, 0.5, 1, 1], kl=[0, 1, 1, 1])
    strong = Run(strong.folder, 0, {**strong.config, "objective.kl": 0.05}, {}, strong.results)
    assert len(settings_of([fst, weak, strong])) == 1
    (against,) = {words[2] for words, _ in claims([fst, weak, strong]).rows}
    # Only what tells it from the method is said of it.
    assert against == "adapter=none, objective.kl=0.05"


def test_a_seed_on_two_bases_is_refused_and_told_how_to_pick(tmp_path):
    run = invented(tmp_path, adapter="none", success=[0, 0, 0, 1], kl=[0] * 4)
    twice = [Run(run.folder / str(base), 0, {**run.config, "base.seed": base}, {}, run.results) for base in (3, 4)]
    with pytest.raises(ValueError, match=r"seed 0 of one method ran on the bases 3 and 4; .*--where base\.seed=3"):
        settings_of(twice)


def test_only_equal_bases_are_compared(tmp_path):
    fst = invented(tmp_path / "a", adapter="prompt_pool", success=[0, 0.5, 1, 1], kl=[0, 1, 1, 1])
    alone = invented(tmp_path / "b", adapter="none", success=[0, 0, 0.5, 1], kl=[0, 1, 1, 1])

    def other(**changed):
        config = {**alone.config, **{key.replace("__", "."): value for key, value in changed.items()}}
        return Run(alone.folder, 0, config, {}, alone.results)

    assert len(claims([fst, alone]).rows) == 14
    for stranger in (other(base__seed=7), other(base__steps=7), other(model__width=8), other(task__ops=2)):
        with pytest.raises(ValueError, match="on the same tasks, bases and seeds"):
            claims([fst, stranger])
    # What tells settings apart is said.
    shorter = [Run(run.folder, 0, {**run.config, "base.steps": 7}, {}, run.results) for run in (fst, alone)]
    assert {words[0][-13:] for words, _ in claims([fst, alone, *shorter]).rows} >= {" base.steps=7"}


def test_a_level_never_reached_resolves_nothing_for_the_one_that_did_not(tmp_path):
    def runs(folder, *, ours, theirs):
        return [
            invented(
                tmp_path / folder,
                adapter=adapter,
                success=[*success[:-1], success[-1] + 0.001 * seed],
                kl=[0] * 4,
                seed=seed,
                extra=100.0 if adapter == "prompt_pool" else 0.0,
            )
            for seed in range(4)
            for adapter, success in (("prompt_pool", ours), ("none", theirs))
        ]

    # It is ahead from the first step on and stops short of the level, which the other reaches in the end.
    found = {words[3]: words for words, _ in claims(runs("a", ours=[0, 0.8, 0.8, 0.8], theirs=[0, 0, 0, 0.95])).rows}
    assert found["success 0.5: fewer steps"][-1] == "holds"
    assert found["success 0.9: fewer steps"][-1] == "does not hold"
    assert found["success 0.9: fewer steps"][5] == "0, 4 of 4"
    # Late, at twice the rollouts, but the other never does: how many it would take nobody knows.
    found = {words[3]: words for words, _ in claims(runs("b", ours=[0, 0, 0, 0.95], theirs=[0, 0.1, 0.2, 0.3])).rows}
    assert found["success 0.9: fewer rollouts"][4].startswith("0.5")
    assert found["success 0.9: fewer rollouts"][5] == "4, 0 of 4"
    assert found["success 0.9: fewer rollouts"][-1] == "not resolved"


def test_a_best_of_next_to_nothing_is_no_level(tmp_path):
    fst, alone = (
        Series(invented(tmp_path, adapter=adapter, success=success, kl=[0] * 4))
        for adapter, success in (("prompt_pool", [0, 0.5, 1, 1]), ("none", [0.001, 0, 0, 0.04]))
    )
    assert math.isnan(Sooner(None, rollouts=False)(fst, alone))


def test_what_is_asked_depends_on_the_tasks_and_on_when_prompts_are_used(tmp_path):
    run = invented(tmp_path, adapter="prompt_pool", success=[0, 0.5, 1, 1], kl=[0] * 4)

    def asked(**changed):
        config = {**run.config, **{key.replace("__", "."): value for key, value in changed.items()}}
        ((method,),) = [one.methods for one in settings_of([Run(run.folder, 0, config, {}, run.results)])]
        return len(list_of(method))

    single, stream, probe = 14, 9, 2
    assert asked() == single
    assert asked(task__num_tasks=2) == stream
    # Announced tasks alone make no probe: prompts must be gone when the second task comes.
    assert asked(task__num_tasks=2, task__announced=True) == stream
    assert asked(task__num_tasks=2, adapter__reset="task", objective__cycle__rounds=3) == probe
    assert asked(task__num_tasks=10, adapter__reset="task", objective__cycle__rounds=3) == stream


def test_a_fresh_network_is_told_of_its_tasks_and_compared_all_the_same(tmp_path):
    def learns(folder, adapter, success, **changed):
        run = invented(tmp_path / folder, adapter=adapter, success=success, kl=[0] * 4)
        config = {**run.config, **{key.replace("__", "."): value for key, value in changed.items()}}
        return Run(run.folder, 0, config, {}, run.results)

    alone, fst = (learns(name, name, [0, 0.5, 1, 1]) for name in ("none", "prompt_pool"))
    anew = {"strategy__name": "independent", "task__announced": True}
    fresh = learns("fresh", "none", [0, 1, 1, 1], **anew)
    helped = learns("helped", "prompt_pool", [0, 1, 1, 1], **anew, adapter__reset="task")
    other = learns("other", "prompt_pool", [0, 1, 1, 1], **anew, adapter__proposer="random")
    settings = settings_of([alone, fst, fresh, helped, other])
    (told,) = [one for one in settings if not one.same["task.announced"]]
    # Each with the prompts that it has itself, searched for in the same way.
    assert named(told, settings) == {"none": ["fresh"], "prompt_pool": ["helped"]}
    # Its tasks are others: it is no fresh network of these.
    far = Run(fresh.folder, 0, {**fresh.config, "task.ops": 2}, {}, fresh.results)
    settings = settings_of([alone, fst, far])
    (told,) = [one for one in settings if one.same["task.ops"] == 1]
    assert named(told, settings) == {"none": [], "prompt_pool": []}


def named(setting, settings):
    """folder of a method -> those of what is fresh beside it"""
    found = {}
    for method in setting.methods:
        (run,) = method.runs.values()
        fresh = [other for one in setting.fresh(method, settings) for other in one.runs.values()]
        found[run.folder.parent.name] = [other.folder.parent.name for other in fresh if other is not run]
    return found


def test_a_task_that_is_learned_without_prompts_has_a_fresh_network_without(tmp_path):
    def two(folder, adapter, **changed):
        run = invented(tmp_path / folder, adapter=adapter, success=[0, 0.5, 1, 1], kl=[0] * 4)
        config = {**run.config, "task.num_tasks": 2, **{key.replace("__", "."): x for key, x in changed.items()}}
        return Run(run.folder, 0, config, {}, run.results)

    probed = two("probed", "prompt_pool", adapter__reset="task", objective__cycle__rounds=25)
    fresh = two("fresh", "none", strategy__name="independent")
    settings = settings_of([probed, two("stream", "prompt_pool"), two("alone", "none"), fresh])
    found = named(settings[0], settings)
    assert found.pop("fresh") == []
    assert found == {"probed": ["fresh"], "stream": [], "alone": ["fresh"]}


def test_a_run_measured_at_its_ends_only_tells_no_time_to_a_level(tmp_path):
    runs = [invented(tmp_path / x, adapter=x, success=[0, 0.5, 1, 1], kl=[0] * 4) for x in ("prompt_pool", "none")]
    assert Sooner(0.5, rollouts=False)(*map(Series, runs)) == 0
    for run in runs:
        run.results.points.clear()
    assert math.isnan(Sooner(0.5, rollouts=False)(*map(Series, runs)))
    # What they end at does not count the evaluation before learning.
    low = invented(tmp_path / "low", adapter="none", success=[0, 0, 0, 0.25], kl=[0] * 4)
    assert asymptote(Series(runs[0]), Series(low)) == pytest.approx(1 - 0.25 / 3)


def test_the_gap_to_a_fresh_network_is_that_of_later_tasks(tmp_path):
    def learned(*success):
        tasks = list(range(len(success)))
        results = Results(
            scenario="domain",
            tasks=[str(j) for j in tasks],
            fingerprints=[str(j) for j in tasks],
            learned_at=[j + 1 for j in tasks],
            entropy=[math.nan] * len(tasks),
            phases=len(tasks),
        )
        for row in range(len(tasks) + 1):
            # What a task scores at other times than right after it was learned must not matter.
            values = [success[j] if row == j + 1 else 7.0 * row for j in tasks]
            results.add(columns=tasks, scores={"slow": {"success": values}}, base=None, step=row, current=row - 1)
        return Series(Run(tmp_path, 0, {"adapter.name": "none"}, {}, results))

    ours, fresh = learned(0.1, 0.8, 0.6, 0.4), learned(0.9, 0.8, 0.7, 0.6)
    assert later(ours, fresh) == pytest.approx(-0.1)
    assert later_slope(ours, fresh) == pytest.approx(-0.1)
    assert math.isnan(later_slope(learned(0.1, 0.2), learned(0.1, 0.3)))


def test_real_runs_are_compared_and_what_cannot_be_is_one_line(tmp_path):
    for adapter in (ALONE, POOL):
        assert run_here([*RULES, *adapter, "eval.anytime=2", "task.num_tasks=1"], tmp_path).code == 0
    from ttt.compare.runs import find, read_run

    runs = [read_run(folder) for folder in find([str(tmp_path)]).done]
    sheet = claims(runs)
    assert len(sheet.rows) == 14
    # What is compared stands once above its rows.
    ((told, section),) = sheet.sections()
    assert told.startswith("tasks: rule-world ops=1 1 x 4 steps; method: adapter=prompt_pool")
    assert "; against: adapter=none" in told
    assert section.keys[0] == "claim"
    assert [words[0] for words, _ in section.rows] == [words[3] for words, _ in sheet.rows]
    # People read the figure in words; its cell is there for programs.
    assert sheet.for_people().columns == []
    assert "our figure" in sheet.for_people().keys
    assert {one["column"] for one in sheet.records()} == {"figure"}
    with pytest.raises(ValueError, match="--claims: needs runs of objective=reward"):
        claims(runs[:1])
