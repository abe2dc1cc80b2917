"""The pool of prompts: read bit for bit as the plain model, searched within its budget, and truly by its rewards."""

from __future__ import annotations

import importlib.util
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from safetensors.torch import load, save
from toy_prompts import ARGUMENTS, LAYOUT, PLACES, SEED, VOCAB, World, make, overlap, problems, words

from ttt.adapters.evolving import Evolving
from ttt.config.build import build
from ttt.config.code_hash import code_hash
from ttt.config.identity import base_adapter
from ttt.devices.collective import merges_lanes
from ttt.learner import Learner, Reader
from ttt.models.nano import Nano
from ttt.optimizers.adamw import AdamW
from ttt.prompts.evolve import Pool
from ttt.strategies.naive import Naive
from ttt.stream import Layout

HIDDEN, OTHER = words(1, 2, 3), words(4, 4, 5)
BATCH = problems(HIDDEN, rows=16)


def learner_of(**options) -> Learner:
    torch.manual_seed(0)
    length = BATCH.tokens_BT.shape[1]
    model = Nano(
        name="nano", vocab_size=VOCAB, seq_len=length, layers=2, width=16, heads=2, mlp_width=24, window=5,
        rope_base=10000.0,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(5)
    optimizer = AdamW(name="adamw", lr=1e-3, beta1=0.9, beta2=0.95, weight_decay=0.0, clip=1.0)
    return Learner(model, adapter=make(**options), optimizer=optimizer, strategy=Naive(name="naive"))


def holding(learner, *numbers):
    return learner.adapter.holding(torch.tensor(words(*numbers)))


def behind(prompt, batch=BATCH):
    tokens_BT = batch.tokens_BT.clone()
    tokens_BT[:, :PLACES] = torch.tensor(prompt)
    return batch._replace(tokens_BT=tokens_BT)


def plain(learner, batch):
    return learner.model(batch.tokens_BT, segment_BT=batch.segment_BT)


# Reading.


@pytest.mark.parametrize("write", [True, False])
def test_nothing_written_is_the_plain_model_bit_for_bit(write):
    learner = learner_of()
    logits, after = learner(BATCH, learner.adapter.initial(), write=write)
    assert torch.equal(logits, plain(learner, BATCH))
    assert not any(x.any() for x in after.values())


@pytest.mark.parametrize("write", [True, False])
def test_the_best_prompt_stands_where_the_seed_prompt_stood(write):
    learner, state = learner_of(), holding(learner_of(), 1, 2, 3)
    before = BATCH.tokens_BT.clone()
    logits, after = learner(BATCH, state, write=write)
    assert torch.equal(logits, plain(learner, behind(HIDDEN)))
    assert not torch.equal(logits, plain(learner, BATCH))
    # Neither the batch nor the state was touched.
    assert torch.equal(BATCH.tokens_BT, before)
    assert all(torch.equal(after[name], x) for name, x in state.items())


def test_rows_with_a_prompt_of_their_own_keep_it():
    learner, mixed = learner_of(), BATCH.tokens_BT.clone()
    mixed[0, :PLACES], mixed[1, 1] = torch.tensor(OTHER), words(5)[0]
    batch = BATCH._replace(tokens_BT=mixed)
    told = learner.adapter.with_prompt(mixed, holding(learner, 1, 2, 3))
    assert torch.equal(told[:2], mixed[:2])
    assert torch.equal(told[2:], behind(HIDDEN).tokens_BT[2:])
    logits, _ = learner(batch, holding(learner, 1, 2, 3))
    assert torch.equal(logits, plain(learner, batch._replace(tokens_BT=told)))


@pytest.mark.parametrize("changed", [PLACES, PLACES + 2, BATCH.tokens_BT.shape[1] - 1])
def test_no_leak(changed):
    """Changing a token behind the prompt leaves the scores of all earlier positions equal, bit for bit."""
    learner, other = learner_of(), BATCH.tokens_BT.clone()
    other[:, changed] = (other[:, changed] + 1) % VOCAB
    state = holding(learner, 1, 2, 3)
    logits = [learner(batch, state)[0] for batch in (BATCH, BATCH._replace(tokens_BT=other))]
    assert torch.equal(logits[0][:, :changed], logits[1][:, :changed])
    assert not torch.equal(logits[0][:, changed:], logits[1][:, changed:])


def test_no_leak_of_targets():
    """What is right in a row does not show in its scores, whatever prompt it is read with."""
    learner = learner_of()
    blind = BATCH._replace(targets_BT=torch.full_like(BATCH.targets_BT, -100))
    state = holding(learner, 1, 2, 3)
    assert torch.equal(learner(BATCH, state)[0], learner(blind, state)[0])


def test_rows_of_a_batch_do_not_touch():
    learner = learner_of().double()
    state = holding(learner, 1, 2, 3)
    both, _ = learner(BATCH, state)
    for row in (0, 7):
        alone, _ = learner(BATCH.rows(row, row + 1), state)
        torch.testing.assert_close(both[row : row + 1], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pieces", [[9], [3, 1, 1, 1, 1, 1, 1], [5, 4]])
def test_reading_in_pieces_is_reading_at_once(pieces):
    learner = learner_of().double()
    state = holding(learner, 1, 2, 3)
    whole, _ = learner(BATCH, state)
    reader, read, at = Reader(learner, state=state), [], 0
    for n in pieces:
        read.append(reader.read(BATCH.tokens_BT[:, at : at + n]))
        exported, reader, at = reader.export(), Reader(learner), at + n
        reader.restore(exported)
    assert at == BATCH.tokens_BT.shape[1]
    torch.testing.assert_close(torch.cat(read, 1), whole.detach(), rtol=1e-5, atol=1e-6)


def test_only_the_first_piece_holds_a_prompt():
    """The seed prompt in the middle of a row is a word like others."""
    learner = learner_of()
    reader, unprompted = Reader(learner, state=holding(learner, 1, 2, 3)), Reader(learner)
    reader.read(BATCH.tokens_BT)
    unprompted.read(behind(HIDDEN).tokens_BT)
    again = torch.tensor([SEED] * 16)
    assert torch.equal(reader.read(again), unprompted.read(again))


def test_half_a_prompt_is_no_prompt():
    learner = learner_of()
    few = BATCH.tokens_BT[:, : PLACES - 1]
    assert torch.equal(learner.adapter.with_prompt(few, learner.adapter.initial()), few)
    with pytest.raises(AssertionError, match="whole prompt"):
        learner.adapter.with_prompt(few, holding(learner, 1, 2, 3))


# States.


def test_a_state_is_zero_before_anything_is_written():
    pool = make()
    state = pool.initial()
    assert isinstance(pool, Evolving)
    assert {x.dtype for x in state.values()} == {torch.float32}
    assert all(len(x) == 1 and not x.any() for x in state.values())
    assert pool.emitted(state).tolist() == [list(SEED)] * 4
    assert merges_lanes(pool)


@pytest.mark.parametrize(("reset", "kept"), [("task", 0), ("never", 1)])
def test_lifetimes(reset, kept):
    learner = learner_of(reset=reset)
    found = learner.adapter.evolve(learner.fast, World(BATCH, overlap(HIDDEN)), BATCH, budget=200)
    learner.fast = learner.adapter.carry(found.state)
    assert int(learner.fast["age"]) == 1
    learner.begin_task()
    assert int(any(x.any() for x in learner.fast.values())) == kept


@pytest.mark.parametrize(
    ("numbers", "size"), [(range(20, 26), 6), (range(0, 3000, 500), 6), ([150_000, 7, 99_999], 3)], ids=str
)
def test_words_survive_floats_and_files(numbers, size):
    """Token ids of any size, as differences in float32, written to a file and read again."""
    names = [f"t{n}" for n in numbers]
    layout = Layout((numbers[-1], numbers[0]), 2, list(numbers), names, LAYOUT.verify, LAYOUT.means)
    pool = make(layout=layout)
    prompts = [(a, b) for a in numbers for b in numbers][:size]
    state = pool._state_of(Pool(prompts, torch.rand(size, 12), [2, 0, 1]))
    again = load(save(state))
    assert pool._prompts(again) == [prompts[2], prompts[0], prompts[1], *prompts[3:]]
    # K = 4 of three: the first again.
    assert pool.emitted(again).tolist() == [list(prompts[n]) for n in (2, 0, 1, 2)]
    assert pool.emitted(again).dtype == torch.int64


def test_lanes_may_differ():
    """Rows that belong to no lane of the stream are read from nothing written, beside those that do."""
    learner = learner_of()
    learner.adapter.reset = "task"
    state = learner.lanes(holding(learner, 1, 2, 3), 10, of=16)
    told = learner.adapter.with_prompt(BATCH.tokens_BT, state)
    assert torch.equal(told[:10], behind(HIDDEN).tokens_BT[:10])
    assert torch.equal(told[10:], BATCH.tokens_BT[10:])
    assert all(len(x) == 1 for x in learner.adapter.carry(state).values())


def test_rounds_are_counted():
    pool, world = make(), World(BATCH, overlap(HIDDEN))
    assert [int(part.state["age"]) for part in rounds(pool, world, 3)] == [1, 2, 3]
    assert int(pool.holding(torch.tensor(OTHER))["age"]) == 0


def test_one_prompt_held_is_the_one_in_use():
    pool = make()
    state = pool.holding(torch.tensor(OTHER))
    assert pool.emitted(state).tolist() == [list(OTHER)] * 4
    assert torch.equal(pool.with_prompt(BATCH.tokens_BT, state), behind(OTHER).tokens_BT)
    numbers = pool.diagnostics(state)
    assert (numbers["pool"], numbers["emitted"], numbers["words_changed"]) == (1, 1, 1)
    assert numbers["best_record"] != numbers["best_record"]


def test_diagnostics_of_a_state_by_hand():
    pool = make(emit=2, pool=4, problems=5)
    score_NV = torch.tensor([[1.0, 1, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0]])
    prompts = [words(1, 0, 3), words(0, 2, 0), SEED]
    state = pool._state_of(Pool(prompts, score_NV, [0, 1]))
    expected = {"pool": 3, "frontier": 2, "emitted": 2, "best_record": 0.75, "words_changed": 2 / 3, "rounds": 0}
    assert pool.diagnostics(state) == pytest.approx(expected)
    fresh = pool.diagnostics(pool.initial())
    assert (fresh["pool"], fresh["emitted"], fresh["words_changed"], fresh["rounds"]) == (1, 1, 0, 0)
    # Nothing was scored yet.
    assert fresh["best_record"] != fresh["best_record"]


# Search.


def rounds(pool, world, count, *, budget=200, state=None, batch=BATCH):
    """States after each round, and what they used."""
    found, state = [], pool.initial() if state is None else state
    for _ in range(count):
        found.append(pool.evolve(state, world, batch, budget=budget))
        state = pool.carry(found[-1].state)
    return found


def best(pool, state):
    return tuple(pool.emitted(state)[0].tolist())


@given(
    emit=st.integers(1, 5),
    larger=st.integers(0, 5),
    proposals=st.integers(1, 4),
    minibatch=st.integers(1, 20),
    problems_=st.integers(1, 20),
    budget=st.integers(0, 150),
    rows=st.integers(1, 16),
    search=st.sampled_from(["pool", "pool", "gepa"]),
    proposer=st.sampled_from(["mutate", "informed"]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_a_round_stays_within_its_budget(
    emit, larger, proposals, minibatch, problems_, budget, rows, search, proposer, seed
):
    if search == "gepa" and importlib.util.find_spec("gepa") is None:
        search = "pool"
    torch.manual_seed(seed)
    batch = BATCH.rows(0, rows)
    pool = make(
        emit=emit, pool=emit + larger, proposals=proposals, minibatch=minibatch, problems=problems_, search=search,
        proposer=proposer,
    )  # fmt: skip
    world, state, before = World(batch, overlap(HIDDEN)), pool.initial(), 0
    for _ in range(3):
        found = pool.evolve(state, world, batch, budget=budget)
        assert found.used == world.played - before <= budget
        # Some of it is used wherever there is some, and else nothing changes.
        assert (found.used > 0) == (budget > 0)
        assert budget or not any(x.any() for x in found.state.values())
        before, state = world.played, pool.carry(found.state)
        check_state(pool, state, emit=emit, size=emit + larger)


def check_state(pool, state, *, emit, size):
    assert {name: x.shape for name, x in state.items()} == {name: x.shape for name, x in pool.initial().items()}
    assert all(x.dtype == torch.float32 and not x.requires_grad for x in state.values())
    assert int(state["size"]) <= size
    prompts = pool._prompts(state)
    assert len(set(prompts)) == len(prompts)
    assert {word for prompt in prompts for word in prompt} <= set(LAYOUT.words)
    assert len(pool.emitted(state)) == emit
    assert {tuple(prompt) for prompt in pool.emitted(state).tolist()} <= set(prompts)


def test_a_full_round_costs_what_the_settings_say():
    """And asks for the rollouts of a stage at once."""
    torch.manual_seed(0)
    pool, world = make(proposer="mutate", accept="equal"), World(BATCH, lambda prompt, problem: 0.0)
    found = rounds(pool, world, 6, budget=10_000)
    for number, part in enumerate(found):
        new = int(part.state["size"]) - (int(found[number - 1].state["size"]) if number else 1)
        if new == 3:
            known = int(found[number - 1].state["size"]) if number else 1
            # The seed prompt is in the pool here, whose prompts are all equal.
            assert part.used == known * 12 + 3 * 4 + 3 * 4 + 3 * 12
    assert int(found[-1].state["size"]) == 8
    assert max(part.used for part in found) <= 9 * 12 + 3 * (2 * 4 + 12)
    assert len(world.calls) <= 4 * 6
    assert all(len(call) >= 4 for call in world.calls)


def test_a_budget_below_the_pool_scores_the_best_of_it():
    pool = make(proposer="callable", propose="toy_prompts:same")
    prompts = [words(n, 0, 0) for n in range(1, 6)]
    state = pool._state_of(Pool(prompts, torch.zeros(5, 12), [4, 0]))
    world = World(BATCH, lambda prompt, problem: 0.0)
    (found,) = rounds(pool, world, 1, state=state, budget=3)
    assert world.calls == [[(0, prompts[4]), (0, prompts[0]), (0, prompts[1])]]
    assert pool._prompts(found.state) == [prompts[4], prompts[0], prompts[1]]


def test_a_small_budget_is_spread():
    """First fewer proposals, then fewer problems; none changes nothing."""
    pool = make()
    cases = ((200, 12, 3), (33, 12, 1), (32, 12, 1), (31, 11, 1), (18, 5, 1), (10, 1, 1), (9, 9, 0))
    for budget, scored, tried in cases:
        torch.manual_seed(0)
        world = World(BATCH, lambda prompt, problem: 0.0)
        found = pool.evolve(pool.initial(), world, BATCH, budget=budget)
        assert int(found.state["problems"]) == len(world.calls[0]) == scored, budget
        assert sum(len(call) for call in world.calls[1:2]) == 4 * tried, budget
    world = World(BATCH, lambda prompt, problem: 0.0)
    found = pool.evolve(pool.initial(), world, BATCH, budget=0)
    assert (found.used, len(found.rollouts.reward_R), world.calls) == (0, 0, [])
    assert not any(x.any() for x in found.state.values())


KINDS = [("mutate", "pool"), ("informed", "pool"), ("random", "pool"), ("mutate", "gepa"), ("informed", "gepa")]


@pytest.mark.parametrize(("proposer", "search"), KINDS)
def test_a_seed_decides_all_and_a_round_can_be_resumed(proposer, search):
    if search == "gepa":
        pytest.importorskip("gepa")

    def chance(prompt, problem):
        """Never sure, so that rewards stay random."""
        return 0.5 * overlap(HIDDEN)(prompt, problem)

    def run(seed, *, stop=None):
        torch.manual_seed(seed)
        pool, world = make(search=search, proposer=proposer), World(BATCH, chance)
        state = rounds(pool, world, 2)[-1].state
        if stop:
            # As after a restart: the state and torch's generator from a file, everything else anew.
            saved = save(state | {"rng": torch.get_rng_state()})
            torch.rand(17)
            state = load(saved)
            torch.set_rng_state(state.pop("rng"))
            pool, world = make(search=search, proposer=proposer), World(BATCH, chance)
        return rounds(pool, world, 3, state=state)[-1]

    whole = run(0)
    for again in (run(0), run(0, stop=True)):
        assert all(torch.equal(again.state[name], x) for name, x in whole.state.items())
        assert torch.equal(again.rollouts.reward_R, whole.rollouts.reward_R)
    assert any(not torch.equal(run(1).state[name], x) for name, x in whole.state.items())


def true_chance(proposer, *, seed, count, search="pool"):
    """How often the prompt that is ranked first is truly right, after some rounds."""
    torch.manual_seed(seed)
    pool, chance = make(proposer=proposer, search=search), overlap(HIDDEN)
    return chance(best(pool, rounds(pool, World(BATCH, chance), count)[-1].state), 0)


def test_the_pool_improves_and_knowledge_makes_it_faster():
    reached = {name: [true_chance(name, seed=seed, count=4) for seed in range(12)] for name in ("mutate", "informed")}
    means = {name: sum(found) / len(found) for name, found in reached.items()}
    assert means["informed"] > 0.9
    assert 0.3 < means["mutate"] < means["informed"] - 0.2
    late = [true_chance("mutate", seed=seed, count=40) for seed in range(4)]
    assert sum(late) / 4 > 0.9


def test_scores_are_of_now():
    """The landscape turns over: what was best is worthless, what was worthless is best; nothing new is proposed."""
    pool = make(proposer="callable", propose="toy_prompts:same")
    score_NV = torch.tensor([[1.0] * 12, [0.0] * 12])
    state = pool._state_of(Pool([HIDDEN, OTHER], score_NV, [0, 1]))
    assert best(pool, state) == HIDDEN
    (found,) = rounds(pool, World(BATCH, lambda prompt, problem: float(prompt == OTHER)), 1, state=state)
    assert best(pool, found.state) == OTHER
    known = pool._prompts(found.state)
    record = {prompt: float(found.state["record"][0, n].mean()) for n, prompt in enumerate(known)}
    assert record == {OTHER: 1.0, HIDDEN: 0.0, SEED: 0.0}


def test_the_seed_prompt_stays_a_candidate():
    """It left the pool of one, and comes back when it is best."""
    pool = make(emit=1, pool=1, proposer="callable", propose="toy_prompts:same")
    state = pool.holding(torch.tensor(OTHER))
    (found,) = rounds(pool, World(BATCH, lambda prompt, problem: float(prompt == SEED)), 1, state=state)
    assert best(pool, found.state) == SEED
    assert int(found.state["size"]) == 1


def test_a_pool_of_specialists_is_put_to_use_as_a_cover():
    """Each prompt solves problems of its own: K = 3 are the best one and the two that add most."""
    solved = {words(1, 0, 0): range(0, 6), words(2, 0, 0): range(0, 5), words(3, 0, 0): range(6, 10),
              words(4, 0, 0): range(10, 12)}  # fmt: skip
    pool = make(emit=3, proposer="callable", propose="toy_prompts:same")
    state = pool._state_of(Pool(list(solved), torch.zeros(4, 12), [3, 2, 1]))
    world = World(BATCH, lambda prompt, problem: float(problem in solved.get(prompt, ())))
    (found,) = rounds(pool, world, 1, state=state)
    assert [tuple(p) for p in pool.emitted(found.state).tolist()] == [words(1, 0, 0), words(3, 0, 0), words(4, 0, 0)]
    # The one that another outdoes is carried, behind the frontier; the seed prompt comes last.
    assert set(pool._prompts(found.state)[3:]) == {words(2, 0, 0), SEED}
    assert pool.diagnostics(found.state)["frontier"] == 3


@pytest.mark.parametrize(("accept", "accepted"), [("improvement", 0), ("equal", 1)])
def test_a_child_as_good_as_its_parent(accept, accepted):
    pool = make(proposer="callable", propose="toy_prompts:towards_five", accept=accept)
    (found,) = rounds(pool, World(BATCH, lambda prompt, problem: 0.0), 1)
    assert int(found.state["size"]) == 1 + accepted


def test_who_makes_no_mistake_is_left_alone():
    pool = make(proposer="callable", propose="toy_prompts:towards_five", accept="equal")
    world = World(BATCH, lambda prompt, problem: 1.0)
    (found,) = rounds(pool, world, 1)
    assert int(found.state["size"]) == 1
    assert found.used == 12 + 3 * 4


def test_a_child_is_tried_on_the_problems_of_its_parent():
    pool = make(proposals=2, proposer="callable", propose="toy_prompts:towards_five")
    world = World(BATCH, lambda prompt, problem: float(prompt != SEED))
    torch.manual_seed(0)
    rounds(pool, world, 1)
    scored, parents, children, accepted = world.calls
    assert [row for row, _ in scored] == list(range(12))
    assert {prompt for _, prompt in parents} == {SEED}
    # Both parents lead to the same child, which is tried once.
    assert [row for row, _ in children] == [row for row, _ in parents][:4]
    assert len({row for row, _ in children}) == 4
    assert {prompt for _, prompt in children} == {words(5, 0, 0)}
    assert [row for row, _ in accepted] == list(range(12))


def test_rollouts_are_handed_on_of_prompts_in_use_only():
    torch.manual_seed(0)
    pool, state = make(emit=2, proposer="informed"), None
    for _ in range(5):
        world = World(BATCH, overlap(HIDDEN))
        (found,) = rounds(pool, world, 1, state=state)
        state = found.state
        in_use = {tuple(prompt) for prompt in pool.emitted(found.state).tolist()}
        made = [tuple(prompt) for prompt in found.rollouts.prompt_RP.tolist()]
        assert set(made) == in_use
        # All that was played under them in this round, and nothing else.
        played = [pair for call in world.calls for pair in call]
        assert sorted(zip(found.rollouts.problem_R.tolist(), made, strict=True)) == sorted(
            pair for pair in played if pair[1] in in_use
        )
        right_RA = LAYOUT.answers(BATCH)[found.rollouts.problem_R]
        assert torch.equal((found.rollouts.answer_RA == right_RA).all(1).float(), found.rollouts.reward_R)


def test_random_prompts_are_not_selected():
    torch.manual_seed(0)
    pool, world = make(proposer="random"), World(BATCH, overlap(HIDDEN))
    found = rounds(pool, world, 50, budget=0)
    assert world.calls == []
    assert {part.used for part in found} == {0}
    drawn = torch.stack([pool.emitted(part.state) for part in found])
    assert len(drawn.flatten(0, 1).unique(dim=0)) > 100
    # Every word as often as any other: 100 each, with a standard deviation of 9.
    assert (drawn.flatten().bincount()[LAYOUT.words[0] :] - 100).abs().max() < 40
    assert len(found[-1].rollouts.reward_R) == 0
    assert found[-1].rollouts.prompt_RP.shape == (0, PLACES)


# gepa.


def test_gepa_searches_and_says_nothing(capsys):
    pytest.importorskip("gepa")
    torch.manual_seed(0)
    pool, world = make(search="gepa", proposer="informed"), World(BATCH, overlap(HIDDEN))
    found = rounds(pool, world, 4, budget=160)
    # Proposals do change candidates: the trap of an adapter without `propose_new_texts`.
    assert len(pool._prompts(found[0].state)) > 1
    assert best(pool, found[-1].state) == HIDDEN
    assert capsys.readouterr() == ("", "")
    # The budget is spent, but for what one more proposal might have cost.
    assert all(160 - (2 * 4 + 12) < part.used <= 160 for part in found)


def test_gepa_starts_from_the_best_prompt_scored_anew():
    pytest.importorskip("gepa")
    pool = make(search="gepa", proposer="callable", propose="toy_prompts:same")
    state = pool._state_of(Pool([OTHER, HIDDEN], torch.tensor([[0.0] * 12, [1.0] * 12]), [1, 0]))
    world = World(BATCH, lambda prompt, problem: 0.0)
    (found,) = rounds(pool, world, 1, state=state)
    assert {prompt for _, prompt in world.calls[0]} == {HIDDEN}
    assert pool._prompts(found.state) == [HIDDEN]
    assert float(found.state["record"].sum()) == 0


def test_what_fails_inside_gepa_is_not_swallowed():
    pytest.importorskip("gepa")
    pool, world = make(search="gepa"), World(BATCH, lambda prompt, problem: 0.0)

    def broken(prompt, records):
        raise IndexError("a mistake of ours")

    pool._propose = broken
    with pytest.raises(IndexError, match="of ours"):
        pool.evolve(pool.initial(), world, BATCH, budget=100)


# Settings.

WRONG = [
    ({"layout": None}, "adapter=prompt_pool: searches for prompts, and the rows of this task hold none; "
                       "use task=reward-sequence"),
    ({"reset": "sequence"}, "adapter.reset=sequence: "),
    ({"reset": "tasks"}, "adapter.reset=tasks: unknown; did you mean task? allowed: never, task"),
    ({"emit": 0}, "adapter.emit=0: must be at least 1"),
    ({"pool": 0}, "adapter.pool=0: must be at least 1"),
    ({"proposals": -1}, "adapter.proposals=-1: must be at least 1"),
    ({"minibatch": 0}, "adapter.minibatch=0: must be at least 1"),
    ({"problems": 0}, "adapter.problems=0: must be at least 1"),
    ({"emit": 9}, "adapter.emit=9: must not exceed adapter.pool=8"),
    ({"proposer": "mutant"}, "adapter.proposer=mutant: unknown; did you mean mutate? allowed: callable, informed, mu"),
    ({"search": "gega"}, "adapter.search=gega: unknown; did you mean gepa? allowed: gepa, pool"),
    ({"accept": "better"}, "adapter.accept=better: unknown; allowed: equal, improvement"),
    ({"proposer": "callable"}, "adapter.proposer=callable: needs adapter.propose=package.module:function"),
    ({"propose": "toy_prompts:same"}, "adapter.proposer=mutate: takes no adapter.propose"),
    ({"proposer": "callable", "propose": "no_such:f"}, "adapter.propose=no_such:f: cannot be imported: No module"),
    ({"proposer": "random", "search": "gepa"}, "adapter.search=gepa: proposer=random searches for nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), WRONG, ids=lambda x: str(x)[:40])
def test_what_does_not_fit_is_said_in_a_line(options, message):
    with pytest.raises(ValueError, match=r"^adapter") as error:
        make(**options)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("ttt.prompts.settings.find_spec", lambda name: None)
    make()
    with pytest.raises(ValueError, match=r'adapter\.search=gepa: gepa is not installed: pip install "ttt\[gepa\]"'):
        make(search="gepa")


def from_yaml():
    content = OmegaConf.load(Path(str(files("ttt.conf"))) / "adapter" / "prompt_pool.yaml")
    return OmegaConf.to_container(content, resolve=True)


def test_the_yaml_builds_it():
    config = from_yaml()
    arguments = set(ARGUMENTS) - {"layout"}
    assert set(config) - {"_target_", "base"} == arguments
    own = {name: value for name, value in config.items() if name != "base"}
    pool = build(own, group="adapter", given={}, trusted=[], offered={"layout": LAYOUT})
    assert pool.emitted(pool.initial()).shape == (4, PLACES)
    with pytest.raises(ValueError, match=r"^adapter=prompt_pool: "):
        build(own, group="adapter", given={}, trusted=[], offered={"layout": None})


def test_a_base_is_that_of_no_adapter_whatever_the_search():
    """By its settings, and by the code that it depends on."""
    assert base_adapter(from_yaml()) == base_adapter(from_yaml() | {"pool": 3, "proposer": "informed"})
    assert base_adapter(from_yaml())["name"] == "none"


def test_a_base_does_not_depend_on_how_prompts_are_searched(monkeypatch):
    read, real = [], Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or real(path))
    code_hash()
    assert read
    assert not [path for path in read if path.parent.name == "prompts"]
