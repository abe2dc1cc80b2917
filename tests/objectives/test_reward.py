"""objective=reward, with and without prompts: real runs of the real thing, small."""

from __future__ import annotations

import json
import math
from itertools import product
from pathlib import Path

import pytest
import torch
from harness import only_run, run_apart, run_here
from policies import ALONE, POOL, RULES

from ttt.cli.benches.assembled import assembly_of
from ttt.devices.one_device import OneDevice
from ttt.evaluation.evaluate import evaluate
from ttt.evaluation.rewards import divergence, score
from ttt.learner import Engine, slow_hash
from ttt.objectives.reward import Reward, matched
from ttt.prompts.rollouts import Rollouts, sample_answers
from ttt.results import catalogue
from ttt.run.loop import begin_task
from ttt.training.recipe import Recipe
from ttt.training.train import loss_of, train


def made(*overrides: str) -> tuple[Engine, list, Recipe]:
    assembly = assembly_of(*RULES, *overrides)
    engine = assembly.engine(OneDevice(torch.device("cpu"), precision="32-true"), None)
    return engine, list(assembly.stream.tasks), assembly.recipe


def objective_of(recipe: Recipe) -> Reward:
    assert isinstance(recipe.objective, Reward)
    return recipe.objective


def steps(engine: Engine, recipe: Recipe, task, number: int) -> list:
    return list(train(engine, task, recipe=recipe, steps=number, report_every=1))


@pytest.mark.parametrize(("adapter", "temperature"), [(POOL, 1.0), (ALONE, 1.0), (ALONE, 0.5)])
def test_the_slow_step_is_the_policy_gradient_written_out(adapter, temperature):
    """A loop over rollouts, problems and tokens, from the formula; the same random numbers."""
    engine, tasks, recipe = made(
        *adapter, "objective.rollouts=4", "objective.cycle.fast_budget=0", f"objective.temperature={temperature}"
    )
    learner, objective = engine.learner, objective_of(recipe)
    batch = tasks[0].batch(0)
    rewards = [float(hash_of(i)) for i in range(16)]
    asked: list[Rollouts] = []

    def rigged(learner, batch, problem_R, prompt_RP):
        """Rewards that are mixed, for the model knows nothing yet."""
        found = Reward.play(objective, learner, batch, problem_R, prompt_RP)
        asked.append(Rollouts(*(vars(found) | {"reward_R": torch.tensor(rewards)}).values()))
        return asked[-1]

    objective.play = rigged
    loss_of(learner, recipe, batch, step=0).backward()
    (rollouts,) = asked
    found = torch.cat([p.grad.flatten() for p in learner.model.parameters()])
    learner.zero_grad()
    rows, layout = rollouts.rows(batch, objective.layout), objective.layout
    logp = (learner.model(rows)[:, -layout.answer_len :] / temperature).log_softmax(-1)
    sampled = logp.gather(2, rollouts.answer_RA[..., None])[..., 0]
    torch.testing.assert_close(rollouts.logp_RA, sampled.detach(), atol=1e-4, rtol=0)
    losses = []
    for problem in range(4):
        own = [i for i in range(16) if int(rollouts.problem_R[i]) == problem]
        r = torch.tensor([rewards[i] for i in own])
        if r.std(unbiased=False) == 0:
            continue
        a = (r - r.mean()) / r.std(unbiased=False)
        each = []
        for i, advantage in zip(own, a, strict=True):
            tokens = [logp[i, t, rollouts.answer_RA[i, t]] for t in range(layout.answer_len)]
            each.append(-advantage * sum(tokens) / len(tokens))
        losses.append(sum(each) / len(each))
    assert len(losses) > 0
    (sum(losses) / len(losses)).backward()
    expected = torch.cat([p.grad.flatten() for p in learner.model.parameters()])
    assert float(expected.norm()) > 0
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-3)


def hash_of(i: int) -> bool:
    return (i * 2654435761 >> 7) % 3 == 0


def test_without_a_reward_nothing_moves():
    engine, tasks, recipe = made(*ALONE, "optimizer=sgd", "optimizer.lr=1.0")
    objective = objective_of(recipe)
    play = objective.play
    objective.play = lambda *given: nothing(play(*given))
    before = slow_hash(engine.learner.model)
    steps(engine, recipe, tasks[0], 2)
    assert slow_hash(engine.learner.model) == before


def nothing(found: Rollouts) -> Rollouts:
    return Rollouts(found.problem_R, found.prompt_RP, found.answer_RA, found.logp_RA, torch.zeros_like(found.reward_R))


def test_a_reward_for_one_token_is_learned():
    """The answer that begins with a 7 pays: a task of one step, learned within seconds."""
    engine, tasks, recipe = made(*ALONE, "optimizer.lr=1e-2", "objective.rollouts=16")
    objective = objective_of(recipe)
    play = objective.play

    def sevens(*given):
        found = play(*given)
        return Rollouts(found.problem_R, found.prompt_RP, found.answer_RA, found.logp_RA, is_seven(found))

    objective.play = sevens
    paid = [progress.watched["reward"] for progress in steps(engine, recipe, tasks[0], 40)]
    assert sum(paid[:5]) / 5 < 0.4
    assert sum(paid[-5:]) / 5 > 0.9


def is_seven(found: Rollouts) -> torch.Tensor:
    return (found.answer_RA[:, 0] == 7).float()


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_sampling_with_a_cache_is_sampling_without(temperature):
    engine, tasks, recipe = made(*ALONE)
    model, layout, batch = engine.learner.model, objective_of(recipe).layout, tasks[0].batch(0)
    asked = torch.cat([batch.tokens_BT[:, : layout.prompt_len], layout.questions(batch)], 1)
    torch.manual_seed(3)
    answer, logp = sample_answers(lambda x, cache: model(x, cache=cache), asked, length=4, temperature=temperature)
    torch.manual_seed(3)
    row, logps = asked, []
    for _ in range(4):
        said = (model(row)[:, -1] / temperature).log_softmax(-1)
        token = torch.multinomial(said.exp(), 1)
        row, logps = torch.cat([row, token], 1), [*logps, said.gather(1, token)]
    assert torch.equal(answer, row[:, asked.shape[1] :])
    torch.testing.assert_close(logp, torch.cat(logps, 1), atol=1e-5, rtol=0)


def test_the_greedy_reward_is_that_of_greedy_answers_and_the_expected_one_is_exact():
    engine, tasks, recipe = made(*ALONE)
    learner, layout = engine.learner, objective_of(recipe).layout
    batch = tasks[0].evaluation()
    # A model that knows something: a few steps of imitation.
    for step in range(60):
        lesson = tasks[0].batch(step)
        engine.optimizer.zero_grad()
        learner.likelihood(lesson, step).backward()
        engine.optimizer.step()
    with torch.no_grad():
        found = score(learner.model(batch.tokens_BT), batch, layout)
    asked = torch.cat([batch.tokens_BT[:, : layout.prompt_len], layout.questions(batch)], 1)
    answer, _ = sample_answers(lambda x, cache: learner.model(x, cache=cache), asked, length=4, temperature=0)
    assert found["reward"] == pytest.approx(float(layout.verify(batch, answer).float().mean()))
    torch.manual_seed(0)
    drawn = []
    for _ in range(50):
        answer, _ = sample_answers(lambda x, c: learner.model(x, cache=c), asked, length=4, temperature=1.0)
        drawn.append(float(layout.verify(batch, answer).float().mean()))
    assert found["success"] == pytest.approx(sum(drawn) / 50, abs=0.05)


def test_divergence_from_the_base_is_zero_at_the_base_and_grows():
    engine, tasks, recipe = made(*ALONE, "optimizer.lr=1e-2")
    objective, batch = objective_of(recipe), tasks[0].evaluation()
    asked = batch.tokens_BT[:, : batch.tokens_BT.shape[1] + 1 - objective.layout.answer_len]
    before = torch.get_rng_state()
    assert divergence(engine.learner, objective, asked) == pytest.approx(0, abs=1e-6)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.no_grad():
        engine.learner.model.embed_tokens.weight.mul_(3.0)
    assert divergence(engine.learner, objective, asked) > 0.01


def test_modes_are_weights_times_prompts():
    """slow: learned weights, seed prompt; fast: base weights, found prompt; carried: both; archived: a task's own.

    The decomposition of the paper; and evaluation changes nothing.
    """
    engine, tasks, recipe = made(*POOL, "optimizer.lr=1e-2")
    learner, objective = engine.learner, objective_of(recipe)
    layout = objective.layout
    with torch.no_grad():
        learner.model.embed_tokens.weight.add_(torch.randn_like(learner.model.embed_tokens.weight) * 0.5)
    word = next(word for word in layout.words if word not in layout.seed_prompt)
    prompt = torch.tensor([word, layout.seed_prompt[1]])
    learner.fast = learner.adapter.holding(prompt)
    objective.archive[0] = torch.tensor(layout.seed_prompt)
    before, random = slow_hash(learner.model), torch.get_rng_state()
    batch = tasks[0].evaluation()
    found = evaluate(engine, [batch], recipe=recipe, tasks=[0])
    assert slow_hash(learner.model) == before
    assert torch.equal(torch.get_rng_state(), random)
    rows = batch.tokens_BT.clone()
    rows[:, :2] = prompt
    own = {name: x.detach() for name, x in learner.model.named_parameters()}
    for mode, weights, tokens in (
        ("slow", own, batch.tokens_BT),
        ("fast", objective.base, rows),
        ("carried", own, rows),
        ("archived", own, batch.tokens_BT),
    ):
        with torch.no_grad():
            said = torch.func.functional_call(learner.model, weights, (tokens,))
        assert found[mode]["success"][0] == pytest.approx(score(said, batch, layout)["success"], abs=1e-6), mode
    assert found["fast"]["kl"][0] == pytest.approx(0, abs=1e-6)
    assert found["slow"]["kl"][0] > 0
    assert math.isnan(found["carried"]["kl_words"][0])
    assert found["slow"]["kl_words"][0] > 0


@pytest.mark.parametrize("adapter", [POOL, ALONE])
def test_a_run_that_was_stopped_in_the_middle_of_a_cycle_goes_on_bit_exactly(adapter, tmp_path: Path, monkeypatch):
    """4 steps a task, 3 a cycle: the first task ends inside one."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole = run_here([*RULES, *adapter], tmp_path / "whole")
    assert whole.code == 0, whole.err

    from ttt.run import loop

    first = loop.measure_row
    with monkeypatch.context() as patch:
        patch.setattr(loop, "measure_row", lambda session: stop() if len(session.results.rows) == 2 else first(session))
        assert run_here([*RULES, *adapter], tmp_path / "parts").code != 0
    again = run_here([*RULES, *adapter], tmp_path / "parts")
    assert again.code == 0, again.err
    results = [(only_run(tmp_path / name) / "results.json").read_bytes() for name in ("whole", "parts")]
    assert results[0] == results[1]


def stop():
    raise RuntimeError("the machine fails")


def test_a_run_says_what_it_earned_and_spent(tmp_path: Path):
    # A bonus on entropy: also answers that earn nothing are read again.
    outcome = run_here([*RULES, *POOL, "objective.entropy=0.01"], tmp_path)
    assert outcome.code == 0, outcome.err
    folder = only_run(tmp_path)
    trained = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    last = [event for event in trained if event["event"] == "trained"][-1]["terms"]
    # 8 steps of 4 problems of 8 rollouts; rounds before steps 1, 4 and 7.
    assert last["rollouts"] == 8 * 32
    assert last["rounds"] == 3
    assert 0 < last["fast_rollouts"] <= 3 * 160
    assert last["logp_gap"] < 1e-4
    assert last["entropy"] > 0
    assert 0 <= last["zero_variance"] <= 1
    results = json.loads((folder / "results.json").read_text())
    assert list(results["rows"][0]["scores"]) == ["slow", "fast", "carried", "archived"]
    assert "reward" in results["rows"][0]["scores"]["slow"]
    assert "reward, greedy" in outcome.out


def test_chance_is_the_runs_own():
    """Equal seeds are equal, other seeds are not, though both begin from one base."""

    def rewards(seed: int) -> list[float]:
        engine, tasks, recipe = made(*POOL, f"seed={seed}", "base.seed=0", "optimizer.lr=1e-2")
        return [p.watched["entropy"] for p in steps(engine, recipe, tasks[0], 3)]

    assert rewards(1) == rewards(1) != rewards(2)


def test_problems_without_a_signal_are_not_read_again_and_change_nothing():
    """The gradient is that of all rows: those of problems whose answers earned the same have none."""
    engine, tasks, recipe = made(*ALONE)
    objective, learner, batch = objective_of(recipe), engine.learner, tasks[0].batch(0)
    prompts = objective.prompts(learner)
    rollouts = objective._rollouts(learner, batch, prompts, None)
    reward_R = torch.zeros(len(rollouts.reward_R))
    # Of the four problems the first has a signal, the second earns everything.
    reward_R[0], reward_R[8:16] = 1.0, 1.0
    rollouts = Rollouts(*(vars(rollouts) | {"reward_R": reward_R}).values())
    read = []
    plain = objective._logp
    objective._logp = lambda learner, batch, found: read.append(len(found.reward_R)) or plain(learner, batch, found)
    found = torch.autograd.grad(objective._rewarded(learner, batch, rollouts), list(learner.model.parameters()))
    assert read == [8]
    advantage_R = torch.zeros(32)
    advantage_R[:8] = (reward_R[:8] - 1 / 8) / reward_R[:8].std(correction=0)
    logp_RA = plain(learner, batch, rollouts).gather(2, rollouts.answer_RA[..., None])[..., 0]
    expected = torch.autograd.grad(-(advantage_R[:, None] * logp_RA)[:8].mean(), list(learner.model.parameters()))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    nothing = Rollouts(*(vars(rollouts) | {"reward_R": torch.zeros(32)}).values())
    zero = torch.autograd.grad(objective._rewarded(learner, batch, nothing), list(learner.model.parameters()))
    assert read == [8]
    assert all(not bool(x.any()) for x in zero)


def test_frozen_is_prompt_optimisation_alone():
    engine, tasks, recipe = made(*POOL, "strategy=frozen")
    before = slow_hash(engine.learner.model)
    told = steps(engine, recipe, tasks[0], 4)
    assert slow_hash(engine.learner.model) == before
    assert told[-1].terms["rounds"] == 2
    # Answers for a step that moves nothing are neither given nor paid for.
    assert told[-1].terms["rollouts"] == 0
    assert told[-1].terms["fast_rollouts"] > 0


def test_rounds_end_where_the_cycle_says_so():
    engine, tasks, recipe = made(*POOL, "objective.cycle.rounds=1")
    assert steps(engine, recipe, tasks[0], 8)[-1].terms["rounds"] == 1


def test_rollouts_of_the_search_are_used_again():
    plain, tasks, recipe = made(*POOL, "objective.reuse=false")
    saving, _, saving_recipe = made(*POOL, "objective.reuse=true")
    first, second = (
        steps(engine, own, tasks[0], 1)[0].terms for engine, own in ((plain, recipe), (saving, saving_recipe))
    )
    assert second["rollouts"] < first["rollouts"] == 32
    assert second["fast_rollouts"] == first["fast_rollouts"]


def test_matching_takes_each_rollout_once():
    seed = torch.zeros(3, 2, dtype=torch.long)
    rest = (torch.zeros(3, 1, dtype=torch.long), torch.zeros(3, 1), torch.zeros(3))
    stock = Rollouts(torch.tensor([0, 0, 1]), seed, *rest)
    old, missing = matched(torch.tensor([0, 0, 0, 2]), torch.zeros(4, 2, dtype=torch.long), stock)
    assert sorted(old) == [0, 1]
    assert missing == [2, 3]


def test_distillation_moves_the_bare_model_towards_the_prompted_one():
    engine, tasks, recipe = made(*POOL, "objective.learn_from=prompt", "objective.cycle.rounds=0", "optimizer.lr=3e-3")
    learner, layout = engine.learner, objective_of(recipe).layout
    with torch.no_grad():
        for parameter in learner.model.parameters():
            parameter.mul_(5.0)
    words = [word for word in layout.words if word not in layout.seed_prompt]
    learner.fast = learner.adapter.holding(torch.tensor(words[:2]))
    losses = [progress.loss for progress in steps(engine, recipe, tasks[0], 30)]
    assert losses[0] > 0.01
    assert sum(losses[-5:]) < sum(losses[:5])


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("objective.rollouts=1",), "objective.rollouts=1: must be at least 2"),
        (("objective.baseline=promt",), "objective.baseline=promt: did you mean prompt?"),
        (("objective.cycle.slow_steps=0",), "objective.cycle.slow_steps=0: must be a number of at least 1"),
        (("+objective.cycle.fastbudget=3",), "objective.cycle.fastbudget=3: unknown; did you mean fast_budget?"),
        (("adapter=mlp_fast", "adapter.chunk=4"), "use adapter=prompt_pool or none"),
        (("adapter=prompt_pool", "objective.rollouts=2"), "adapter.emit=4"),
        (("adapter=prompt_pool", "objective=next_token"), "adapter=prompt_pool: searches for prompts by their reward"),
        (("adapter=prompt_pool", "adapter.reset=task"), "adapter.reset=task: no task is announced; use task.announced"),
        (("optimizer.reset=task",), "optimizer.reset=task: no task is announced"),
        (("objective.entropy=inf",), "objective.entropy=inf: must be a number of at least 0"),
        (("objective.temperature=nan",), "objective.temperature=nan: must be a number above 0"),
        (("objective.learn_from=prompt",), "objective.learn_from=prompt: adapter=none has no prompt to learn from"),
        (
            ("adapter=prompt_pool", "objective.baseline=prompt", "objective.rollouts=7"),
            "objective.baseline=prompt: 4 prompts share objective.rollouts=7",
        ),
        (("objective.cycle=null",), "objective.cycle=null: is a section; set objective.cycle."),
        (("objective.cycle=5",), "objective.cycle=5: is a section"),
        (("objective.reuse=true",), "objective.reuse=true: adapter=none searches for no prompt"),
        (
            ("adapter=prompt_pool", "objective.learn_from=prompt", "objective.kl=0.1"),
            "objective.learn_from=prompt: learns from no reward; use objective.entropy=0 objective.kl=0",
        ),
        (
            ("adapter=soft_prompt", "objective.cycle.fast_budget=3"),
            "objective.cycle.fast_budget=3: a round takes at least 8, none takes 0",
        ),
        (
            ("adapter=prompt_pool", "objective.cycle.fast_budget=9"),
            "objective.cycle.fast_budget=9: a round takes at least 10",
        ),
        (("strategy=ewc",), "strategy=ewc: needs the likelihood of right answers"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(overrides, said, tmp_path: Path):
    outcome = run_here([*RULES, "adapter=none", *overrides], tmp_path)
    assert outcome.code == 2, outcome.err
    assert said in outcome.err, outcome.err
    assert outcome.err.count("\n") == 1, outcome.err
    assert not (tmp_path / "outputs").exists()


def test_a_reward_needs_problems(tmp_path: Path):
    outcome = run_here(["source=recall", "objective=reward", "adapter=none", "logger=none"], tmp_path)
    assert outcome.code == 2, outcome.err
    assert outcome.err.startswith("ttt-run: objective=reward: needs problems with a verifiable answer"), outcome.err


def test_tasks_are_learned_without_a_word_about_their_borders():
    """begin_task is never called: prompts and moments go on."""
    assembly = assembly_of(*RULES, *POOL)
    assert not any(phase.announced for phase in assembly.stream.phases)
    engine = assembly.engine(OneDevice(torch.device("cpu"), precision="32-true"), None)
    begin_task(engine, assembly, 0)
    assert all(not bool(x.any()) for x in engine.learner.fast.values())


def test_every_prompt_is_used_evenly():
    engine, tasks, recipe = made(*POOL, "adapter.emit=4", "objective.rollouts=8", "adapter.proposer=random")
    seen: list[Rollouts] = []
    objective = objective_of(recipe)
    play = objective.play
    objective.play = lambda *given: seen.append(play(*given)) or seen[-1]
    steps(engine, recipe, tasks[0], 1)
    prompts = objective.prompts(engine.learner)
    for problem, prompt in product(range(4), prompts):
        mine = (seen[-1].problem_R == problem) & (seen[-1].prompt_RP == prompt).all(1)
        assert int(mine.sum()) == 2 * int((prompts == prompt).all(1).sum())


def test_a_run_is_looked_at_as_it_is_used(tmp_path: Path):
    """Success with the prompt in use: on the screen, in tables, in the split. A policy alone is used as it is."""
    for adapter in (ALONE, POOL):
        outcome = run_here([*RULES, *adapter], tmp_path)
        assert outcome.code == 0, outcome.err
        assert "R: expected reward of an answer on each task" in outcome.out
        assert ", mode carried;" in outcome.out
        assert ": reward 0.0" in outcome.out
    from ttt.cli.compare import default
    from ttt.compare.frontier import default_axes
    from ttt.compare.groups import group_runs, headline
    from ttt.compare.runs import find_runs, read_run

    runs = [read_run(folder) for folder in find_runs([str(tmp_path)]).done]
    groups = group_runs(runs)
    assert headline(groups) == "carried/success"
    assert default_axes(groups) == ("carried/success/avg_learning", "carried/success/forgetting_max_seen")
    assert "carried/success/avg_final" in default(groups)
    for run in runs:
        found = catalogue.metrics(run.results)
        if run.config["adapter.name"] == "none":
            assert run.results.rows[-1]["scores"]["carried"] == run.results.rows[-1]["scores"]["slow"]
        for quantity in ("success", "loss"):
            harm = [found[f"split/{quantity}/forgetting_{part}"] for part in ("slow", "carried")]
            assert sum(harm) == pytest.approx(found[f"carried/{quantity}/forgetting_at_learn"], abs=1e-12)
            assert f"split/{quantity}/forgetting_read" not in found
            s = -1 if quantity == "loss" else 1
            gained = s * (found[f"carried/{quantity}/avg_final"] - found[f"slow/{quantity}/avg_final"])
            assert found[f"fast_gain/{quantity}/avg_final"] == pytest.approx(gained, abs=1e-12)


def test_prompts_on_the_base_are_read_without_what_a_strategy_keeps_for_a_task(tmp_path: Path):
    kept = ("strategy=lora_task", "strategy.per=task", "task.announced=true", "optimizer.lr=0.05")
    outcome = run_here([*RULES, *POOL, *kept, "objective.cycle.fast_budget=0", "objective.entropy=1"], tmp_path)
    assert outcome.code == 0, outcome.err
    rows = json.loads((only_run(tmp_path) / "results.json").read_text())["rows"]
    # The prompt never changes here, so neither does the base behind it; the learned weights do.
    assert rows[-1]["scores"]["fast"]["loss"] == rows[0]["scores"]["fast"]["loss"]
    assert rows[-1]["scores"]["slow"]["loss"] != rows[0]["scores"]["slow"]["loss"]


def test_a_finished_run_says_when_the_code_of_ones_own_is_another(tmp_path: Path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "asks.py").write_text("def same(candidate, dataset, components):\n    return candidate\n")
    typed = [*RULES, *POOL, "--config-dir", str(mine), "adapter.proposer=callable", "adapter.propose=asks:same"]
    assert run_apart(typed, tmp_path).code == 0
    assert "other code" not in run_apart(typed, tmp_path).out
    (mine / "asks.py").write_text("def same(candidate, dataset, components):\n    return {}\n")
    outcome = run_apart(typed, tmp_path)
    assert "this run is already done" in outcome.out
    assert "it was measured with other code" in outcome.out


def test_what_a_search_looks_for_follows_the_objective():
    from omegaconf import OmegaConf

    from ttt.cli.sweeps.sweep import objective_of as searched

    def config(objective: str, asked: str = "auto"):
        return OmegaConf.create({"objective": {"name": objective}, "sweep": {"objective": asked}})

    assert searched(config("next_token")) == "fast/loss/avg_learning"
    assert searched(config("reward")) == "carried/success/avg_learning"
    assert searched(config("reward", "slow/loss/avg_final")) == "slow/loss/avg_final"
