"""Which runs the claims compare: settings, baselines and fresh networks."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fake_policies import changed, policy_run

from ttt.claims.fst import PROBE, SINGLE, STREAM, claims, claims_about
from ttt.claims.settings import settings_of

GOOD, WEAK = [0, 0.5, 1, 1], [0, 0, 0, 0.1]
# A method that learns each task from the base has to know where tasks begin.
ANEW = {"strategy__name": "independent", "task__announced": True}


@pytest.fixture
def fst(tmp_path):
    return policy_run(tmp_path / "fst", adapter="prompt_pool", success=GOOD)


@pytest.fixture
def alone(tmp_path):
    return policy_run(tmp_path / "alone", adapter="none", success=GOOD)


def test_the_baseline_is_the_one_that_learns_most_and_bases_set_no_method_apart(tmp_path, fst, alone):
    weak = policy_run(tmp_path / "weak", adapter="none", success=WEAK)
    strong = changed(alone, objective__kl=0.05)
    assert len(settings_of([fst, weak, strong])) == 1
    (against,) = {words[2] for words, _ in claims([fst, weak, strong]).rows}
    # Its name holds only what sets it apart from the method.
    assert against == "adapter=none, objective.kl=0.05"


def test_controls_are_no_baselines_and_stand_beside_a_search_that_sees_as_much(tmp_path, fst, alone):
    def control(name, success, **keys):
        return changed(policy_run(tmp_path / name, adapter="none", success=success), **keys)

    # Both learn more than the baseline; neither is learning alone.
    described = control("described", GOOD, task__prompt="rule")
    imitation = control("imitation", GOOD, objective__learn_from="answers")
    weak = changed(policy_run(tmp_path / "weak", adapter="none", success=WEAK), task__prompt="seed")
    pools = [replace(changed(fst, adapter__proposer=name), folder=fst.folder) for name in ("mutate", "informed")]
    rows = {(words[1], words[2]) for words, _ in claims([weak, described, imitation, *pools]).rows}
    (baseline,) = {other for method, other in rows if "task.prompt=rule" in method}
    against = {
        name: {other for method, other in rows if f"proposer={name}" in method} for name in ("mutate", "informed")
    }
    assert against["mutate"] == {other for other in against["mutate"] if "learn_from=answers" not in other}
    assert len(against["mutate"]) == 1
    assert len(against["informed"]) == 2
    assert any("learn_from=answers" in other for other in against["informed"])
    assert "rule" not in baseline
    assert "answers" not in baseline


def test_a_seed_on_two_bases_is_refused_with_a_way_to_pick(alone):
    twice = [replace(changed(alone, base__seed=base), folder=alone.folder / str(base)) for base in (3, 4)]
    with pytest.raises(ValueError, match=r"seed 0.* 3 and 4.*--where base\.seed=3"):
        settings_of(twice)


def test_only_equal_bases_are_compared(fst, alone):
    assert len(claims([fst, alone]).rows) == len(SINGLE)
    for keys in ({"base__seed": 7}, {"base__steps": 7}, {"model__width": 8}, {"task__ops": 2}):
        with pytest.raises(ValueError, match=r"--claims: .*adapter=none"):
            claims([fst, changed(alone, **keys)])
    # The words of a setting hold what tells it from the others.
    shorter = [changed(run, base__steps=7) for run in (fst, alone)]
    assert any(words[0].endswith(" base.steps=7") for words, _ in claims([fst, alone, *shorter]).rows)


def test_the_claims_depend_on_the_tasks_and_on_when_prompts_are_used(fst):
    def claims_of(**keys):
        (setting,) = settings_of([changed(fst, **keys)])
        (method,) = setting.methods
        return claims_about(method)

    first_alone = {"adapter__reset": "task", "objective__cycle__rounds": 3}
    assert (len(SINGLE), len(STREAM), len(PROBE)) == (19, 12, 2)
    assert claims_of() is SINGLE
    assert claims_of(task__num_tasks=2) is STREAM
    # Announced tasks alone make no probe: prompts must be gone when the second task comes.
    assert claims_of(task__num_tasks=2, task__announced=True) is STREAM
    assert claims_of(task__num_tasks=2, **first_alone) is PROBE
    assert claims_of(task__num_tasks=10, **first_alone) is STREAM


def fresh_of(setting, settings):
    """folder of a method -> folders of the fresh networks that it is compared with"""
    folders = {}
    for method in setting.methods:
        (run,) = method.runs.values()
        others = [other for fresh in setting.fresh(method, settings) for other in fresh.runs.values()]
        folders[run.folder.parent.name] = [other.folder.parent.name for other in others if other is not run]
    return folders


def test_a_fresh_network_knows_its_tasks_and_is_compared_all_the_same(tmp_path, fst, alone):
    def fresh_run(name, adapter, **keys):
        return changed(policy_run(tmp_path / name, adapter=adapter, success=[0, 1, 1, 1]), **ANEW, **keys)

    fresh = fresh_run("fresh", "none")
    helped = fresh_run("helped", "prompt_pool", adapter__reset="task")
    other = fresh_run("other", "prompt_pool", adapter__proposer="random")
    settings = settings_of([alone, fst, fresh, helped, other])
    (unannounced,) = [setting for setting in settings if not setting.same["task.announced"]]
    # Each method is compared with a fresh network that has its prompts, searched for in its way.
    assert fresh_of(unannounced, settings) == {"alone": ["fresh"], "fst": ["helped"]}
    # On other tasks it is no fresh network of these.
    settings = settings_of([alone, fst, changed(fresh, task__ops=2)])
    (same_tasks,) = [setting for setting in settings if setting.same["task.ops"] == 1]
    assert fresh_of(same_tasks, settings) == {"alone": [], "fst": []}


def test_a_task_that_is_learned_without_prompts_has_a_fresh_network_without(tmp_path):
    def two(folder, adapter, **keys):
        run = policy_run(tmp_path / folder, adapter=adapter, success=GOOD)
        return changed(run, task__num_tasks=2, **keys)

    probed = two("probed", "prompt_pool", adapter__reset="task", objective__cycle__rounds=25)
    fresh = two("fresh", "none", strategy__name="independent")
    settings = settings_of([probed, two("stream", "prompt_pool"), two("alone", "none"), fresh])
    folders = fresh_of(settings[0], settings)
    assert folders.pop("fresh") == []
    assert folders == {"probed": ["fresh"], "stream": [], "alone": ["fresh"]}
