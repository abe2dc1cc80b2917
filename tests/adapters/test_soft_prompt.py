"""Soft prompts: read as the plain model with vectors added, trained by the policy gradient and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from harness import only_run, run_here
from policies import RULES
from toy_prompts import LAYOUT

from ttt.adapters.evolving import Evolving
from ttt.adapters.soft_prompt import SoftPrompt
from ttt.cli.benches.assembled import assembly_of
from ttt.config.build import build
from ttt.config.identity import base_adapter
from ttt.devices.one_device import OneDevice
from ttt.evaluation.evaluate import evaluate
from ttt.evaluation.rewards import asked, divergence, score
from ttt.kernels import policy
from ttt.learner import Engine, Reader, slow_hash
from ttt.learner.engine import merges_lanes
from ttt.objectives.policy_loss import policy_loss as lesson
from ttt.objectives.reward import Reward
from ttt.prompts.gradient import BETA1, BETA2, EPS, Ascent
from ttt.prompts.rollouts import Play, Rollouts, evenly, sample_answers
from ttt.prompts.vectors import predict
from ttt.stream import Batch
from ttt.training.recipe import Recipe
from ttt.training.train import train

SOFT = (
    "adapter=soft_prompt",
    "adapter.emit=4",
    "adapter.problems=2",
    "adapter.steps=2",
    "objective.cycle.slow_steps=3",
)
# Rollouts of a round: 2 steps of 2 problems of 8.
ROUND = 32


def made(*overrides: str, adapter: tuple[str, ...] = SOFT, size: float = 8.0) -> tuple[Engine, list, Recipe]:
    """Slow weights so large that answers depend on what is read."""
    assembly = assembly_of(*RULES, *adapter, *overrides)
    engine = assembly.engine(OneDevice(torch.device("cpu"), precision="32-true"), None)
    with torch.no_grad():
        for parameter in engine.learner.model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(size)
    assembly.recipe.objective.begin(engine.learner)
    return engine, list(assembly.stream.tasks), assembly.recipe


def reward_of(recipe: Recipe) -> Reward:
    assert isinstance(recipe.objective, Reward)
    return recipe.objective


def soft_of(engine: Engine) -> SoftPrompt:
    assert isinstance(engine.learner.adapter, SoftPrompt)
    return engine.learner.adapter


def some(engine: Engine, *, seed: int = 0) -> torch.Tensor:
    """[K, P, D]"""
    like = soft_of(engine).initial()["prompt"][0]
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))


def pays(recipe: Recipe, wanted: Callable[[Rollouts], torch.Tensor]) -> list[Rollouts]:
    """From now on that is the reward; what is played."""
    objective, played = reward_of(recipe), []
    play = objective.play

    def rigged(*given):
        found = play(*given)
        played.append(replace(found, reward_R=wanted(found).float()))
        return played[-1]

    objective.play = rigged
    return played


def is_low(found: Rollouts) -> torch.Tensor:
    """Some half of all answers."""
    return found.answer_RA[:, 0] % 2 == 0


def steps(engine: Engine, recipe: Recipe, task, number: int) -> list:
    return list(train(engine, task, recipe=recipe, steps=number, report_every=1))


# Reading.


@pytest.mark.parametrize("window", ["null", "4"])
def test_nothing_written_is_the_plain_model_bit_for_bit(window):
    """A whole row, and the tokens one by one from the first, also where a window is shorter than a row."""
    engine, tasks, recipe = made(f"model.window={window}")
    learner, batch = engine.learner, tasks[0].evaluation()
    state = learner.adapter.initial()
    plain = learner.model(batch.tokens_BT, segment_BT=batch.segment_BT)
    assert torch.equal(learner(batch, state, write=True)[0], plain)
    zeros = state["prompt"][0, [0] * len(batch.tokens_BT)]
    bare = learner.model(batch.tokens_BT)
    assert torch.equal(predict(learner.model, batch.tokens_BT, zeros), bare)
    reader = Reader(learner)
    one_by_one = torch.cat([reader.read(batch.tokens_BT[:, t : t + 1]) for t in range(batch.tokens_BT.shape[1])], 1)
    torch.testing.assert_close(one_by_one, plain.detach(), rtol=1e-4, atol=1e-5)


def test_vectors_stand_on_top_of_the_seed_prompt():
    """Against the plain model, for which the summed embeddings are words."""
    engine, tasks, recipe = made()
    learner, batch, prompt = engine.learner, tasks[0].evaluation(), some(engine)[0]
    state = learner.adapter.holding(prompt)
    before = batch.tokens_BT.clone()
    logits, after = learner(batch, state)
    with torch.no_grad():
        x = learner.model.embed_tokens(batch.tokens_BT)
        x[:, : prompt.shape[0]] += prompt
        table = torch.cat([x.flatten(0, 1), learner.model.embed_tokens.weight])
    assert not torch.allclose(logits, learner.model(batch.tokens_BT))
    # The sums as words of their own.
    own = torch.arange(x.shape[0] * x.shape[1]).view(x.shape[:2])
    weights = dict(learner.model.named_parameters()) | {"embed_tokens.weight": table}
    wide = torch.func.functional_call(learner.model, weights, (own,), {"segment_BT": batch.segment_BT})
    torch.testing.assert_close(logits, wide[..., own.numel() :], rtol=1e-5, atol=1e-5)
    assert torch.equal(batch.tokens_BT, before)
    assert all(torch.equal(after[name], y) for name, y in state.items())


@pytest.mark.parametrize("pieces", [[3, 1, 1, 1, 1, 1, 1, 1], [7, 1, 1, 1], [2, 8]])
def test_reading_in_pieces_is_reading_at_once(pieces):
    """The prompt stands in the first piece; behind it tokens are read one by one."""
    engine, tasks, recipe = made()
    learner, batch = engine.learner.double(), tasks[0].evaluation()
    state = {name: x.double() for name, x in learner.adapter.holding(some(engine)[1]).items()}
    whole, _ = learner(batch, state)
    assert sum(pieces) == batch.tokens_BT.shape[1]
    reader, read, at = Reader(learner, state=state), [], 0
    for n in pieces:
        read.append(reader.read(batch.tokens_BT[:, at : at + n]))
        exported, reader, at = reader.export(), Reader(learner), at + n
        reader.restore(exported)
    torch.testing.assert_close(torch.cat(read, 1), whole.detach(), rtol=1e-5, atol=1e-6)


def test_half_a_prompt_is_no_prompt():
    engine, tasks, recipe = made()
    few = tasks[0].evaluation().tokens_BT[:, :1]
    with pytest.raises(AssertionError, match="whole prompt"):
        Reader(engine.learner, state=engine.learner.adapter.holding(some(engine)[0])).read(few)


def test_rows_with_a_prompt_of_their_own_keep_it():
    engine, tasks, recipe = made()
    learner, batch = engine.learner, tasks[0].evaluation()
    batch.tokens_BT[0, 0] = next(w for w in reward_of(recipe).layout.words if w != batch.tokens_BT[0, 0])
    logits, _ = learner(batch, learner.adapter.holding(some(engine)[0]))
    plain = learner.model(batch.tokens_BT, segment_BT=batch.segment_BT)
    assert torch.equal(logits[0], plain[0])
    assert not torch.equal(logits[1], plain[1])


def test_sampling_behind_vectors_is_sampling_without_a_cache():
    """Each row behind its own; and log-probabilities are those that training computes again."""
    engine, tasks, recipe = made("objective.entropy=0.01")
    model, layout, batch = engine.learner.model, reward_of(recipe).layout, tasks[0].batch(0)
    first = batch.tokens_BT[:, : batch.tokens_BT.shape[1] + 1 - layout.answer_len]
    # Twice the same question under other vectors.
    row = first[[0, 0, 1, 2]]
    added = some(engine)
    torch.manual_seed(3)
    answer, logp = sample_answers(
        lambda x, cache: predict(model, x, added, cache=cache), row, length=4, temperature=1.0, alike=False
    )
    torch.manual_seed(3)
    logps = []
    for _ in range(4):
        said = predict(model, row, added)[:, -1].log_softmax(-1)
        token = torch.multinomial(said.exp(), 1)
        row, logps = torch.cat([row, token], 1), [*logps, said.gather(1, token)]
    assert torch.equal(answer, row[:, first.shape[1] :])
    torch.testing.assert_close(logp, torch.cat(logps, 1).detach(), atol=1e-4, rtol=0)
    assert not torch.allclose(logp[0], logp[1])
    # A bonus on entropy: every answer is read again.
    assert steps(engine, recipe, tasks[0], 2)[-1].watched["logp_gap"] < 1e-4


# States.


def test_a_state_is_zero_before_anything_is_written():
    engine, _, recipe = made()
    adapter = soft_of(engine)
    state = adapter.initial()
    assert isinstance(adapter, Evolving)
    assert {x.dtype for x in state.values()} == {torch.float32}
    assert all(len(x) == 1 and not x.any() for x in state.values())
    assert adapter.emitted(state).shape == (4, 2, 16)
    assert merges_lanes(adapter)
    assert base_adapter({"name": "soft_prompt", "base": "none"})["name"] == "none"


def test_diagnostics_by_hand():
    engine, _, recipe = made("adapter.emit=2")
    adapter = soft_of(engine)
    fresh = adapter.diagnostics(adapter.initial())
    assert (fresh["norm"], fresh["distance"], fresh["steps"]) == (0, 0, 0)
    assert fresh["best_record"] != fresh["best_record"]
    state = adapter.initial()
    state["prompt"][0, 0, 0, 0], state["record"][0, 0], state["steps"][0] = 3.0, 0.5, 7
    unit = float(engine.learner.model.embed_tokens.weight.detach().std()) * 4
    told = adapter.diagnostics(state)
    # 3 in one of 2 x 2 vectors; both prompts differ in one vector of two.
    assert told == pytest.approx({"norm": 0.75 / unit, "distance": 1.5 / unit, "best_record": 0.5, "steps": 7})


@pytest.mark.parametrize(("reset", "kept"), [("task", False), ("never", True)])
def test_lifetimes(reset, kept):
    engine, tasks, recipe = made(f"adapter.reset={reset}", "task.announced=true")
    steps(engine, recipe, tasks[0], 1)
    assert engine.learner.fast["prompt"].any()
    engine.learner.begin_task()
    assert bool(engine.learner.fast["prompt"].any()) == kept


# A round.


def toy(values: torch.Tensor, *, group: int = 4) -> tuple[Play, list[Rollouts]]:
    """Answers of one token of two, which the first number of a prompt makes likely; the second token pays."""
    played: list[Rollouts] = []

    def logp(prompt_RPD: torch.Tensor) -> torch.Tensor:
        said_R = (prompt_RPD.flatten(1) * values).sum(1)
        return torch.stack([-said_R, said_R], 1).log_softmax(-1)

    def answer(problem_R, prompt_RPD):
        said = logp(prompt_RPD.detach())
        token = torch.multinomial(said.exp(), 1)
        played.append(Rollouts(problem_R, prompt_RPD, token, said.gather(1, token), token[:, 0].float()))
        return played[-1]

    def loss(found: Rollouts) -> torch.Tensor:
        def read(found: Rollouts) -> torch.Tensor:
            return logp(found.prompt_RP)[:, None]

        return lesson(found, read, baseline="problem", clip=4.0, read_all=True).value

    return Play(answer, loss, group), played


def test_a_step_is_the_gradient_written_out():
    """A loop over rollouts, from the formula; then Adam by hand; two steps, ranked by what the prompts earned."""
    torch.manual_seed(1)
    engine, tasks, recipe = made("adapter.emit=2", "adapter.step=0.01", "adapter.problems=3", "adapter.steps=2")
    adapter, batch = soft_of(engine), tasks[0].batch(0)
    values = torch.linspace(-1, 1, 32)
    start = 0.05 * some(engine)[:2]
    state = adapter.initial() | {"prompt": start[None]}
    play, played = toy(values)
    after = adapter.evolve(state, play, batch, budget=1000)
    assert after.used == 2 * 3 * 4
    prompt, first, second = start, torch.zeros_like(start), torch.zeros_like(start)
    earned = [0.0, 0.0]
    for number, found in enumerate(played, start=1):
        gradient, mixed = torch.zeros_like(start), 0
        for problem in found.problem_R.unique():
            own = [i for i in range(12) if found.problem_R[i] == problem]
            r = found.reward_R[own]
            for i in own:
                earned[(i % 4) // 2] += float(found.reward_R[i])
            if r.std(unbiased=False) == 0:
                continue
            mixed += 1
            advantage = (r - r.mean()) / r.std(unbiased=False)
            for i, a in zip(own, advantage, strict=True):
                k = (i % 4) // 2
                said = (prompt[k].flatten() * values).sum()
                p = torch.stack([-said, said]).softmax(0)
                # d log p(y) / d said = sign - (p1 - p0)
                slope = (2.0 * found.answer_RA[i, 0] - 1) - (p[1] - p[0])
                gradient[k] -= float(a) * slope * values.view(2, 16) / 4
        assert mixed > 0
        gradient /= mixed
        first, second = BETA1 * first + (1 - BETA1) * gradient, BETA2 * second + (1 - BETA2) * gradient**2
        step = first / (1 - BETA1**number) / ((second / (1 - BETA2**number)).sqrt() + EPS)
        prompt = prompt - 0.01 * step
    order = [0, 1] if earned[0] >= earned[1] else [1, 0]
    torch.testing.assert_close(after.state["prompt"][0], prompt[order], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(after.state["first"][0], first[order], rtol=1e-3, atol=1e-5)
    assert after.state["record"][0].tolist() == pytest.approx([earned[k] / 12 for k in order])
    assert float(after.state["steps"]) == 2


@pytest.mark.parametrize("baseline", ["problem", "prompt"])
def test_the_loss_of_a_round_is_that_of_a_slow_step(baseline):
    """By autograd through the real model, the formula written by hand; a reward that depends on the answer."""
    engine, tasks, recipe = made("adapter.emit=2", "objective.rollouts=4", f"objective.baseline={baseline}")
    learner, objective, batch = engine.learner, reward_of(recipe), tasks[0].batch(0)
    pays(recipe, is_low)
    prompt = some(engine)[:2]
    seen: list[tuple[Rollouts, torch.Tensor]] = []

    def evolve(state, play, batch, *, budget):
        leaf = prompt.clone().requires_grad_()
        problem_R, lane_R = evenly(torch.tensor([0, 3]), group=play.group, prompts=2)
        found = play(problem_R, leaf[lane_R])
        seen.append((found, *torch.autograd.grad(play.loss(found), leaf)))
        raise StopIteration

    learner.adapter.evolve = evolve
    torch.manual_seed(0)
    with pytest.raises(StopIteration):
        objective._search(learner, batch)
    found, gradient = seen[0]
    leaf, layout, losses = prompt.clone().requires_grad_(), objective.layout, []
    groups = [[0, 1, 2, 3], [4, 5, 6, 7]] if baseline == "problem" else [[0, 1], [2, 3], [4, 5], [6, 7]]
    for own in groups:
        r = found.reward_R[own]
        if r.std(unbiased=False) == 0:
            continue
        each = []
        for i, a in zip(own, (r - r.mean()) / r.std(unbiased=False), strict=True):
            row = torch.cat([batch.tokens_BT[found.problem_R[i], :-3], found.answer_RA[i, :-1]])
            x = predict(learner.model, row[None], leaf[(i % 4) // 2][None])[0, -layout.answer_len :].log_softmax(-1)
            each.append(-a * x.gather(1, found.answer_RA[i][:, None]).mean())
        losses.append(sum(each) / len(each))
    assert losses
    (sum(losses) / len(losses)).backward()
    assert float(leaf.grad.norm()) > 0
    torch.testing.assert_close(gradient, leaf.grad, rtol=1e-3, atol=1e-6)


def test_a_round_moves_prompts_and_a_slow_step_the_weights():
    engine, tasks, recipe = made("objective.cycle.slow_steps=2", "optimizer=sgd", "optimizer.lr=1.0")
    learner, objective = engine.learner, reward_of(recipe)
    pays(recipe, is_low)
    slow = slow_hash(learner.model)
    objective._search(learner, tasks[0].batch(0))
    assert slow_hash(learner.model) == slow
    assert all(parameter.grad is None for parameter in learner.model.parameters())
    prompts = learner.fast["prompt"]
    assert prompts.any()
    assert len(prompts[0].flatten(1).unique(dim=0)) == 4
    objective._counts["steps"] += 1
    steps(engine, recipe, tasks[0], 1)
    assert slow_hash(learner.model) != slow
    assert torch.equal(learner.fast["prompt"], prompts)
    # The next cycle begins.
    steps(engine, recipe, tasks[0], 1)
    assert not torch.equal(learner.fast["prompt"], prompts)
    assert not learner.fast["prompt"].requires_grad


def test_without_a_reward_prompts_stay_where_they_began():
    engine, tasks, recipe = made("adapter.steps=2")
    pays(recipe, lambda found: torch.zeros(len(found.reward_R)))
    steps(engine, recipe, tasks[0], 1)
    started = engine.learner.fast["prompt"]
    assert started.any()
    steps(engine, recipe, tasks[0], 3)
    assert torch.equal(engine.learner.fast["prompt"], started)


def test_starts_are_small_and_drawn_in_the_round():
    engine, tasks, recipe = made("adapter.spread=0.2", "adapter.step=1e-9")
    embedding = engine.learner.model.embed_tokens.weight.detach()
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        found.append(
            soft_of(engine).evolve(soft_of(engine).initial(), toy(torch.ones(32))[0], tasks[0].batch(0), budget=99)
        )
    assert float(found[0].state["prompt"].std() / embedding.std()) == pytest.approx(0.2, rel=0.2)
    assert not torch.equal(found[0].state["prompt"], found[1].state["prompt"])


def test_a_budget_is_kept_and_counted():
    ascent = Ascent(emit=2, step=0.1, steps=5, problems=4, spread=0.1)
    for budget, expected in (
        (0, (0, 0)),
        (7, (0, 0)),
        (8, (1, 1)),
        (31, (1, 3)),
        (32, (1, 4)),
        (95, (2, 4)),
        (999, (5, 4)),
    ):
        assert ascent.fit(rows=16, group=8, budget=budget) == expected, budget
    assert ascent.fit(rows=3, group=8, budget=50) == (2, 3)
    engine, tasks, recipe = made("objective.cycle.fast_budget=31")
    played = pays(recipe, is_low)
    (told,) = steps(engine, recipe, tasks[0], 1)
    # One step of two problems of eight, then the slow step on four.
    assert [len(found.reward_R) for found in played] == [16, 32]
    assert (told.terms["fast_rollouts"], told.terms["rollouts"], told.terms["rounds"]) == (16, 32, 1)


def test_without_a_budget_nothing_happens():
    """Not even a random number is drawn: it is reinforcement learning alone."""
    with_, tasks, recipe = made("objective.cycle.fast_budget=0")
    without, _ = made(adapter=("adapter=none",))
    for engine in (with_, without):
        pays(recipe, is_low)
        torch.manual_seed(0)
        steps(engine, recipe, tasks[0], 4)
    assert not any(x.any() for x in with_.learner.fast.values())
    torch.testing.assert_close(
        with_.learner.model.embed_tokens.weight, without.learner.model.embed_tokens.weight, rtol=1e-3, atol=1e-5
    )


def test_every_prompt_is_used_evenly():
    engine, tasks, recipe = made()
    played = pays(recipe, is_low)
    steps(engine, recipe, tasks[0], 1)
    *fast, slow = played
    assert [len(found.reward_R) for found in fast] == [16, 16]
    prompts = reward_of(recipe).prompts(engine.learner)
    for found, each in ((slow, prompts), (fast[0], fast[0].prompt_RP.detach().flatten(1).unique(dim=0))):
        for problem in found.problem_R.unique():
            for prompt in each:
                mine = (found.problem_R == problem) & (found.prompt_RP.flatten(1) == prompt.flatten()).all(1)
                assert int(mine.sum()) == 2
    assert slow.problem_R.unique().tolist() == [0, 1, 2, 3]
    # Each step of a round asks other problems.
    assert [found.problem_R.unique().tolist() for found in fast] == [[0, 1], [2, 3]]


class Constant:
    """A task whose one right answer, the last token of a row, is always a 7."""

    name = "sevens"

    def __init__(self, task) -> None:
        self._task = task

    def batch(self, step: int) -> Batch:
        return right(self._task.batch(step))

    def evaluation(self) -> Batch:
        return right(self._task.evaluation())


def right(batch: Batch) -> Batch:
    targets_BT = batch.targets_BT.clone()
    targets_BT[:, -1] = 7
    return batch._replace(targets_BT=targets_BT)


def test_prompts_alone_learn_what_pays():
    """Weights frozen: in mode fast success rises, in mode slow nothing changes. By gradient on the right answer itself
    0.39 can be reached here."""
    fast = ("objective.cycle.slow_steps=1", "adapter.problems=4", "adapter.step=0.05", "adapter.steps=5")
    engine, tasks, recipe = made("strategy=frozen", *fast, size=16.0)
    objective, task = reward_of(recipe), Constant(tasks[0])
    verify = lambda batch, answer_BA: answer_BA[:, 0] == 7  # noqa: E731
    objective.layout = engine.learner.adapter._layout = replace(objective.layout, answer_len=1, verify=verify)
    before, slow = evaluate(engine, [task.evaluation()], recipe=recipe, tasks=[0]), slow_hash(engine.learner.model)
    steps(engine, recipe, task, 30)
    after = evaluate(engine, [task.evaluation()], recipe=recipe, tasks=[0])
    assert slow_hash(engine.learner.model) == slow
    assert before["fast"]["success"] == before["slow"]["success"] == after["slow"]["success"]
    assert before["fast"]["success"][0] < 0.05
    assert after["fast"]["success"][0] > 0.1
    # The best of the last round stands first.
    assert engine.learner.fast["record"][0].diff().max() <= 0


def test_modes_are_weights_times_prompts():
    engine, tasks, recipe = made()
    learner, objective = engine.learner, reward_of(recipe)
    layout, batch = objective.layout, tasks[0].evaluation()
    with torch.no_grad():
        learner.model.embed_tokens.weight.add_(torch.randn_like(learner.model.embed_tokens.weight) * 0.1)
    prompts = some(engine)
    learner.fast = learner.adapter.initial() | {"prompt": prompts[None]}
    objective.archive[0] = prompts[2]
    before, random = slow_hash(learner.model), torch.get_rng_state()
    found = evaluate(engine, [batch], recipe=recipe, tasks=[0])
    assert slow_hash(learner.model) == before
    assert torch.equal(torch.get_rng_state(), random)
    own = {name: x.detach() for name, x in learner.model.named_parameters()}
    for mode, weights, prompt in (
        ("slow", own, torch.zeros_like(prompts[0])),
        ("fast", objective.base, prompts[0]),
        ("carried", own, prompts[0]),
        ("archived", own, prompts[2]),
    ):
        added = prompt.expand(len(batch.tokens_BT), -1, -1)
        with torch.no_grad():
            said = predict(learner.model, batch.tokens_BT, added, weights=weights)
        assert found[mode]["success"][0] == pytest.approx(score(said, batch, layout)["success"], rel=1e-4), mode
    # Policy and base behind the same prompt; each prompt has a distance of its own.
    far = [found[mode]["kl"][0] for mode in ("slow", "carried", "archived")]
    assert min(far) > 0
    assert len(set(far)) == 3
    assert found["fast"]["kl"][0] == 0
    assert found["slow"]["kl_words"][0] > 0


def test_divergence_behind_a_prompt_is_that_of_the_formula():
    engine, tasks, recipe = made()
    learner, objective, batch = engine.learner, reward_of(recipe), tasks[0].evaluation()
    state = learner.adapter.holding(some(engine)[0])
    assert divergence(learner, objective, *asked(learner, batch, state, objective.layout)) == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        learner.model.embed_tokens.weight.mul_(1.2)
    tokens, added = asked(learner, batch, state, objective.layout)
    length = objective.layout.answer_len
    torch.manual_seed(1234)
    answer, _ = sample_answers(
        lambda x, c: predict(learner.model, x, added, cache=c), tokens, length=length, temperature=1.0, alike=False
    )
    rows = torch.cat([tokens, answer[:, :-1]], 1)
    own, base = (
        predict(learner.model, rows, added, weights=w)[:, -length:].detach().log_softmax(-1)
        for w in (None, objective.base)
    )
    expected = float(policy.kl(own, base).mean()) / 0.6931471805599453
    assert divergence(learner, objective, tokens, added) == pytest.approx(expected, rel=1e-4)
    assert expected > 0


def test_distillation_moves_the_bare_model_towards_the_prompted_one():
    engine, tasks, recipe = made("objective.learn_from=prompt", "objective.cycle.rounds=0", "optimizer.lr=3e-3")
    learner = engine.learner
    learner.fast = learner.adapter.holding(some(engine)[0])
    losses = [progress.loss for progress in steps(engine, recipe, tasks[0], 30)]
    assert losses[0] > 0.01
    assert sum(losses[-5:]) < sum(losses[:5])


# Whole runs.


def test_a_run_that_was_stopped_in_the_middle_of_a_cycle_goes_on_bit_exactly(tmp_path: Path, monkeypatch):
    """4 steps a task, 3 a cycle: the first task ends inside one. Moments, archive and chance are in the checkpoint."""
    from ttt.run import loop

    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    play = Reward.play

    def mixed(*given):
        found = play(*given)
        return replace(found, reward_R=is_low(found).float())

    monkeypatch.setattr(Reward, "play", mixed)
    whole = run_here([*RULES, *SOFT], tmp_path / "whole")
    assert whole.code == 0, whole.err
    first = loop.measure_row
    with monkeypatch.context() as patch:
        patch.setattr(loop, "measure_row", lambda session: stop() if len(session.results.rows) == 2 else first(session))
        assert run_here([*RULES, *SOFT], tmp_path / "parts").code != 0
    again = run_here([*RULES, *SOFT], tmp_path / "parts")
    assert again.code == 0, again.err
    results = [(only_run(tmp_path / name) / "results.json").read_bytes() for name in ("whole", "parts")]
    assert results[0] == results[1]
    last = [only_run(tmp_path / name) / "checkpoints" / "task-0002" for name in ("whole", "parts")]
    for group in ("fast", "slow", "objective"):
        assert (last[0] / f"{group}.safetensors").read_bytes() == (last[1] / f"{group}.safetensors").read_bytes()


def stop():
    raise RuntimeError("the machine fails")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"emit": 0}, "adapter.emit=0: "),
        ({"step": 0.0}, "adapter.step=0.0: "),
        ({"step": -0.1}, "adapter.step=-0.1: "),
        ({"step": float("nan")}, "adapter.step=NaN: "),
        ({"steps": 0}, "adapter.steps=0: "),
        ({"problems": 0}, "adapter.problems=0: "),
        ({"spread": 0.0}, "adapter.spread=0.0: "),
        ({"reset": "sequence"}, "adapter.reset=sequence: "),
        ({"reset": "tasks"}, "adapter.reset=tasks: "),
        ({"layout": None}, "adapter=soft_prompt: "),
    ],
)
def test_what_does_not_fit_is_said_in_a_line(options, said):
    config = {
        "_target_": "ttt.adapters.soft_prompt.SoftPrompt",
        "name": "soft_prompt", "reset": "never", "emit": 4, "step": 0.1, "steps": 2, "problems": 2, "spread": 0.1,
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"^adapter") as error:
        build(config, group="adapter", given={"layout": LAYOUT} | options, trusted=[])
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


IMAGES = ("model=mlp", "source=digits", "task=permuted-sequence", "task.permute=positions", "base=none", "logger=none")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            (*RULES, *SOFT, "objective.rollouts=2"),
            "adapter.emit=4: each prompt in use answers each problem; ",
        ),
        ((*RULES, *SOFT, "adapter.step=-1"), "adapter.step=-1: "),
        ((*RULES, *SOFT, "adapter.reset=task"), "adapter.reset=task: no task is announced"),
        (
            (*RULES, SOFT[0], "objective=next_token"),
            "adapter=soft_prompt: searches for prompts by their reward; ",
        ),
        (
            (*RULES, *SOFT, "objective.reuse=true"),
            "objective.reuse=true: adapter=soft_prompt moves its prompts",
        ),
        ((*IMAGES, SOFT[0]), "adapter=soft_prompt: model=mlp reads no tokens"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(args, said, tmp_path: Path):
    outcome = run_here(args, tmp_path)
    assert outcome.code == 2, outcome.err
    assert outcome.err.startswith(f"ttt-run: {said}"), outcome.err
    assert outcome.err.count("\n") == 1, outcome.err
    assert not (tmp_path / "outputs").exists()


def test_a_model_without_a_table_of_embeddings_is_refused():
    engine, _, recipe = made()

    class Reads(torch.nn.Module):
        def get_input_embeddings(self):
            return torch.nn.Linear(2, 2)

    with pytest.raises(ValueError, match="adapter=soft_prompt: adds to embeddings, and Reads has no table of them"):
        soft_of(engine).attach(Reads())
