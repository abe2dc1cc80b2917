"""The claims of Fast-Slow Training as a table: decisions, bounds, and real runs."""

from __future__ import annotations

import pytest
from fake_policies import policy_run
from harness import run_here
from policies import ALONE, POOL, RULES

from ttt.claims.fst import SINGLE, claims
from ttt.compare.runs import find_runs, read_run


def rows_by_claim(runs):
    return {words[3]: words for words, _ in claims(runs).rows}


def test_decisions_follow_the_interval(tmp_path):
    runs = []
    for seed in range(4):
        ours, theirs = [0, 0.9 + 0.01 * seed, 1, 1], [0, 0.3, 0.6, 1 + 0.1 * (-1) ** seed]
        runs.append(policy_run(tmp_path, adapter="prompt_pool", success=ours, kl=[0, 5, 6, 6], seed=seed))
        runs.append(policy_run(tmp_path, adapter="none", success=theirs, kl=[0, 1, 2, 3], seed=seed))
    rows = rows_by_claim(runs)
    assert rows["success 0.5: fewer steps"][-1] == "holds"
    assert rows["less drift at equal success, KL(policy || base), own prompt"][-1] == "does not hold"
    assert rows["keeps more base skills"][-1] == "not resolved"
    assert {words[6] for words in rows.values()} == {"4"}
    assert " x [" in rows["success 0.5: fewer steps"][4]


def test_a_level_never_reached_resolves_nothing_for_the_run_that_did_not(tmp_path):
    def rows(folder, *, ours, theirs):
        return rows_by_claim(
            [
                policy_run(
                    tmp_path / folder,
                    adapter=adapter,
                    success=[*success[:-1], success[-1] + 0.001 * seed],
                    seed=seed,
                    extra=100.0 if adapter == "prompt_pool" else 0.0,
                )
                for seed in range(4)
                for adapter, success in (("prompt_pool", ours), ("none", theirs))
            ]
        )

    # Ours is ahead from the first step on and stops short of 0.9, which the baseline reaches.
    sooner = rows("a", ours=[0, 0.8, 0.8, 0.8], theirs=[0, 0, 0, 0.95])
    assert sooner["success 0.5: fewer steps"][-1] == "holds"
    assert sooner["success 0.9: fewer steps"][-1] == "does not hold"
    assert sooner["success 0.9: fewer steps"][5] == "0, 4 of 4"
    # Ours is late, at twice the rollouts; how many the baseline would need nobody knows.
    later = rows("b", ours=[0, 0, 0, 0.95], theirs=[0, 0.1, 0.2, 0.3])
    assert later["success 0.9: fewer rollouts"][4].startswith("0.5")
    assert later["success 0.9: fewer rollouts"][5] == "4, 0 of 4"
    assert later["success 0.9: fewer rollouts"][-1] == "not resolved"


def test_real_runs_are_compared_and_a_missing_baseline_is_one_line(tmp_path):
    for adapter in (ALONE, POOL):
        assert run_here([*RULES, *adapter, "eval.anytime=2", "task.num_tasks=1"], tmp_path).code == 0
    runs = [read_run(folder) for folder in find_runs([str(tmp_path)]).done]
    sheet = claims(runs)
    assert len(sheet.rows) == len(SINGLE)
    # What is compared stands once above its rows.
    ((head, section),) = sheet.sections()
    assert head.startswith("tasks: rule-world ops=1 1 x 4 steps; method: adapter=prompt_pool")
    assert "; against: adapter=none" in head
    assert section.keys[0] == "claim"
    assert [words[0] for words, _ in section.rows] == [words[3] for words, _ in sheet.rows]
    # People read the number in words; its cell is there for programs.
    assert sheet.for_people().columns == []
    assert "our figure" in sheet.for_people().keys
    assert {record["column"] for record in sheet.records()} == {"figure"}
    with pytest.raises(ValueError, match=r"--claims: .*objective=reward"):
        claims(runs[:1])
