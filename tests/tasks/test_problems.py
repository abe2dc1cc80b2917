"""Problems with a verifiable answer: rules, verifiers, what a prompt can say and what it cannot."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from harness import SMALL, only_run, run_here
from hydra import compose, initialize_config_module
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from ttt.compare.runs import read_run
from ttt.config.build import build
from ttt.run.assemble import assemble
from ttt.stream import IGNORE, whole_rows
from ttt.tasks.machinery.problems import NAMES, Problems
from ttt.tasks.star_graph import PARENT, REVERSE, WALK, StarGraph

# Three sizes each: the default, the smallest, an odd one.
TYPED = {
    "rule-world": ((), ("source.items=2",), ("source.items=5",)),
    "arithmetic": ((), ("source.digits=1", "source.modulus=7"), ("source.digits=3", "source.modulus=365")),
    "star-graph": (
        (),
        ("source.deg=1", "source.path=2", "source.nodes=8", "source.hops=1"),
        ("source.deg=5", "source.path=5", "source.nodes=40", "source.hops=3"),
    ),
}
SIZED = [(name, typed) for name, sizes in TYPED.items() for typed in sizes]
# Where one would look for the other words of a row.
WORDS = ("source=recall", "task.held_out=10", "task.seq_len=16", "model.window=4")
MADE: dict[tuple, object] = {}


def composed(*typed: str) -> dict:
    small = [word for word in SMALL if word not in WORDS and not word.startswith("task.")]
    plain = ["task=reward-sequence", "adapter=none", "model.window=null"]
    with initialize_config_module("ttt.conf", version_base="1.3"):
        config = compose("config", overrides=[*small, *plain, *typed])
    return OmegaConf.to_container(config, resolve=True)


def source_of(name: str, *typed: str):
    """A source as one would type it; made once, for it never changes."""
    if (name, typed) not in MADE:
        config = composed(f"source={name}", *typed)["source"]
        MADE[name, typed] = build(config, group="source", given={}, trusted=[])
    return MADE[name, typed]


def stream_of(*typed: str, seed: int = 0, base_seed: int = 0):
    config = composed("task.num_tasks=4", "task.steps_per_task=3", "task.eval_sequences=8", *typed)
    task, source = (build(config[group], group=group, given={}, trusted=[]) for group in ("task", "source"))
    return task.build(source, seed=seed, base_seed=base_seed)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def same(a, b) -> bool:
    return torch.equal(a.tokens_BT, b.tokens_BT) and torch.equal(a.targets_BT, b.targets_BT)


def some(source) -> list[int]:
    return rng().permutation(source.num_classes)[:12].tolist()


@pytest.mark.parametrize(("name", "typed"), SIZED)
def test_rows_are_laid_out_as_the_layout_says(name, typed):
    source = source_of(name, *typed)
    assert isinstance(source, Problems)
    layout = source.layout
    drawn = [source.problems(index, rows=9, rng=rng(1)) for index in some(source)]
    for batch in (*drawn, source.lessons(rows=9, rng=rng(2)), source.skills(rows=9, rng=rng(3))):
        assert batch.tokens_BT.shape == (9, source.length)
        assert batch.targets_BT.shape == (9, source.length)
        window = torch.cat([batch.tokens_BT, batch.targets_BT[:, -1:]], 1)
        assert 0 <= window.min() <= window.max() < source.vocab_size
        scored = batch.targets_BT != IGNORE
        assert scored.sum(1).tolist() == [layout.answer_len] * 9
        # A slip in an answer is also what the next token is predicted from.
        assert torch.equal(window[:, 1:][scored], batch.targets_BT[scored])
        parts = [batch.tokens_BT[:, : layout.prompt_len], layout.questions(batch), layout.answers(batch)]
        assert torch.equal(torch.cat(parts, 1), window)
        assert set(parts[0].flatten().tolist()) <= set(layout.words)
        assert not set(torch.cat(parts[1:], 1).flatten().tolist()) & set(layout.words)
    for batch in drawn:
        # The prompt is the same in every row, so nothing of an answer can be in it.
        assert batch.tokens_BT[:, : layout.prompt_len].unique(dim=0).tolist() == [list(layout.seed_prompt)]


@pytest.mark.parametrize(("name", "typed"), SIZED)
def test_what_is_drawn_is_a_pure_function_of_the_generator(name, typed):
    source = source_of(name, *typed)
    again = build(composed(f"source={name}", *typed)["source"], group="source", given={}, trusted=[])
    assert source.fingerprint == again.fingerprint
    draws = [lambda s, r, c=index: s.problems(c, rows=6, rng=r) for index in some(source)]
    for draw in (*draws, lambda s, r: s.lessons(rows=6, rng=r), lambda s, r: s.skills(rows=6, rng=r)):
        assert same(draw(source, rng(1)), draw(again, rng(1)))
        assert not same(draw(source, rng(1)), draw(source, rng(2)))


@pytest.mark.parametrize(("name", "typed"), SIZED)
def test_a_verifier_takes_true_answers_and_no_changed_token(name, typed):
    source = source_of(name, *typed)
    for index in some(source):
        batch = source.problems(index, rows=7, rng=rng(index))
        right = source.layout.answers(batch)
        reward = source.layout.verify(batch, right)
        assert reward.dtype == torch.float32
        assert reward.tolist() == [1.0] * 7
        for place, token in itertools.product(range(right.shape[1]), range(source.vocab_size)):
            changed = right.clone()
            changed[:, place] = token
            expected = (right[:, place] == token).float()
            assert torch.equal(source.layout.verify(batch, changed), expected)


def hand_made(edges: list[tuple[int, int]], ends: tuple[int, int], answer: list[int], source):
    question = [
        *itertools.chain(*((*edge, source.mark(";")) for edge in edges)),
        source.mark(":"),
        *ends,
        source.mark("="),
    ]
    window = np.array([[*source.layout.seed_prompt, *question, *answer]])
    targets = window[:, 1:].copy()
    targets[:, : -len(answer)] = IGNORE
    return whole_rows(window[:, :-1], targets)


#       5 -> 2 -> 9, 5 -> 0 -> 7, 5 -> 4 -> 1
EDGES = [(0, 7), (5, 2), (4, 1), (5, 0), (2, 9), (5, 4)]


@pytest.mark.parametrize(
    ("right", "answer", "reward"),
    [
        ([5, 0, 7], [5, 0, 7], 1),
        # The other branch; a jump; a node twice; back where the way on is asked for; words and marks.
        ([5, 0, 7], [5, 2, 9], 0),
        ([5, 0, 7], [5, 2, 7], 0),
        ([5, 0, 7], [5, 5, 7], 0),
        ([5, 0, 7], [7, 0, 5], 0),
        ([5, 0, 7], [5, 20, 7], 0),
        ([5, 0, 7], [5, 16, 7], 0),
        ([7, 0, 5], [7, 0, 5], 1),
        ([7, 0, 5], [5, 0, 7], 0),
        # The right answer only tells where the way begins and ends; what lies between is looked up in the question.
        ([5, 3, 7], [5, 0, 7], 1),
        ([5, 3, 7], [5, 3, 7], 0),
    ],
)
def test_a_way_is_checked_against_the_edges(right, answer, reward):
    source = source_of("star-graph", "source.deg=3", "source.nodes=16")
    batch = hand_made(EDGES, (5, 7), right, source)
    assert source.layout.verify(batch, torch.tensor([answer])).tolist() == [reward]


@pytest.mark.parametrize(
    ("prompt", "ends", "said"),
    [
        ("walk null", (5, 7), [5, 0, 7]),
        ("null walk", (5, 7), [5, 0, 7]),
        ("walk reverse", (5, 7), [7, 0, 5]),
        ("reverse walk", (5, 7), [7, 0, 5]),
        ("null reverse", (5, 7), [7, 5, "end"]),
        ("parent null", (0, 7), [5, 0, 7]),
        ("parent null", (5, 0), [5, 0, "end"]),
        ("child null", (5, 0), [5, 0, 7]),
        ("child null", (5, 7), [5, 7, "end"]),
        # Of its three children the centre has no one child.
        ("reverse child", (5, 0), [0, 5, "end"]),
        ("parent walk", (0, 7), [5, 0, 7]),
        ("walk walk", (4, 1), [4, 1, "end"]),
        # A name that nothing in the graph has.
        ("walk null", (5, 12), [IGNORE] * 3),
        ("null null", (5, 7), [IGNORE] * 3),
    ],
)
def test_what_prompts_say_about_a_graph(prompt, ends, said):
    source = source_of("star-graph", "source.deg=3", "source.nodes=16")
    question = source.layout.questions(hand_made(EDGES, ends, [0, 0, 0], source))
    expected = [source.mark(node) if isinstance(node, str) else node for node in said]
    assert source.layout.means(source.layout.parse(prompt), question).tolist() == [expected]


@pytest.mark.parametrize(
    ("name", "prompt", "question", "said"),
    [
        ("rule-world", "reverse null", "3 1 4 2", "2 4 1 3"),
        ("rule-world", "null rotate", "3 1 4 2", "1 4 2 3"),
        ("rule-world", "swap-pairs null", "3 1 4 2", "1 3 2 4"),
        ("rule-world", "sort null", "3 1 4 2", "1 2 3 4"),
        ("rule-world", "one-up null", "3 9 4 2", "4 0 5 3"),
        ("rule-world", "three-up null", "3 9 4 2", "6 2 7 5"),
        ("rule-world", "nine-minus null", "3 9 4 2", "6 0 5 7"),
        ("rule-world", "swap-halves null", "3 1 4 2", "4 2 3 1"),
        ("rule-world", "sort one-up", "9 1 4 2", "2 3 5 0"),
        ("rule-world", "one-up sort", "9 1 4 2", "0 2 3 5"),
        # The ones first: 18 and 25.
        ("arithmetic", "plus null", "8 1 5 2", "3 4"),
        ("arithmetic", "minus null", "8 1 5 2", "3 9"),
        ("arithmetic", "times null", "8 1 5 2", "0 5"),
        ("arithmetic", "carryless null", "8 1 5 2", "3 3"),
        ("arithmetic", "exchange null", "8 1 5 2", "5 2"),
        ("arithmetic", "double null", "8 1 5 2", "6 3"),
        ("arithmetic", "next null", "9 9 5 2", "0 0"),
        ("arithmetic", "larger null", "8 1 5 2", "5 2"),
        ("arithmetic", "exchange minus", "8 1 5 2", "7 0"),
        ("arithmetic", "plus double", "8 1 5 2", "6 8"),
        ("arithmetic", "null null", "8 1 5 2", f"{IGNORE} {IGNORE}"),
    ],
)
def test_what_prompts_say_about_digits(name, prompt, question, said):
    source = source_of(name)
    tokens = torch.tensor([[*map(int, question.split()), source.mark("=")]])
    assert source.layout.means(source.layout.parse(prompt), tokens).tolist() == [[*map(int, said.split())]]


def test_an_odd_row_keeps_its_middle_or_last_digit():
    source = source_of("rule-world", "source.items=5")
    tokens = torch.tensor([[0, 1, 2, 3, 4, source.mark("=")]])
    said = {w: source.layout.means(source.layout.parse(f"{w} null"), tokens).tolist()[0] for w in source.instructions}
    assert said["swap-halves"] == [3, 4, 2, 0, 1]
    assert said["swap-pairs"] == [1, 0, 3, 2, 4]


def prompts(source) -> list[tuple[int, ...]]:
    return list(itertools.product(source.layout.words, repeat=source.layout.prompt_len))


def every_row() -> torch.Tensor:
    """All questions of four digits."""
    mark = source_of("rule-world").mark("=")
    return torch.tensor([[*digits, mark] for digits in itertools.product(range(10), repeat=4)])


def test_no_prompt_expresses_a_task_of_rule_world():
    """Over all 10,000 questions: every class against every prompt, and every class against every other."""
    source, question = source_of("rule-world"), every_row()
    said = {prompt: source.layout.means(prompt, question) for prompt in prompts(source)[1:]}
    said[source.layout.seed_prompt] = question[:, :4]
    known = {x.numpy().tobytes() for x in said.values()}
    answers = set()
    for program, part in source.classes:
        prompt = tuple(source.layout.words[1 + word] for word in program) + source.layout.seed_prompt[len(program) :]
        _, right = source.hide(part, question.numpy(), said[prompt].numpy())
        answers.add(right.tobytes())
    assert len(answers) == source.num_classes
    assert not answers & known


def test_the_best_prompt_is_right_where_no_swapped_digit_is():
    """0.8 ** 4 of the rows of every task of one instruction that permutes places or digits."""
    source = source_of("rule-world")
    batches = {index: source.problems(index, rows=4000, rng=rng(index)) for index in source.choose(1)[::37]}
    for index, batch in batches.items():
        shares = {
            p: source.layout.verify(batch, source.layout.means(p, source.layout.questions(batch))).mean()
            for p in prompts(source)
        }
        (word,), _ = source.classes[index]
        best = max(shares, key=shares.__getitem__)
        assert shares[best] == shares[source.layout.words[1 + word], source.layout.seed_prompt[0]]
        # Four standard errors.
        assert float(shares[best]) == pytest.approx(0.41, abs=0.032)
        assert shares[source.layout.seed_prompt] == 0


@pytest.mark.parametrize(("name", "typed"), SIZED)
def test_no_prompt_is_always_right(name, typed):
    source = source_of(name, *typed)
    for index in some(source):
        batch = source.problems(index, rows=600, rng=rng(index))
        question = source.layout.questions(batch)
        for prompt in prompts(source):
            assert source.layout.verify(batch, source.layout.means(prompt, question)).mean() < 1


def test_classes_are_counted():
    counts = {name: [len(source_of(name).choose(ops)) for ops in (1, 2)] for name in NAMES}
    # Of 64 programs of two instructions of rule-world 32 are new.
    assert counts == {"rule-world": [360, 1440], "star-graph": [45, 45], "arithmetic": [360, 2025]}
    for name in NAMES:
        source = source_of(name)
        assert len({source.class_name(index) for index in range(source.num_classes)}) == source.num_classes
        assert source.families() == [[index] for index in range(source.num_classes)]
        assert all(len(source.classes[index][0]) == 2 for index in source.choose(2))
        with pytest.raises(ValueError, match=f"^task.ops=3: source={name} has tasks of 1 or 2 hidden instructions$"):
            source.choose(3)


def test_a_digit_that_never_comes_is_in_no_class():
    """Modulo 7 there is no 8, and to swap it with 9 would be no rule of its own."""
    source = source_of("arithmetic", "source.digits=1", "source.modulus=7")
    assert {digit for _, part in source.classes for digit in source.pairs[part]} == set(range(10))
    assert not [part for _, part in source.classes if min(source.pairs[part]) > 6]


@pytest.mark.parametrize("name", NAMES)
def test_lessons_teach_words_and_nothing_of_a_task(name):
    """Without noise a lesson is what its prompt says, whatever stands in the prompt."""
    source = source_of(name, "source.noise=0", "source.shown=1")
    batch = source.lessons(rows=400, rng=rng())
    question, right = source.layout.questions(batch), source.layout.answers(batch)
    for row, prompt in enumerate(map(tuple, batch.tokens_BT[:, : source.layout.prompt_len].tolist())):
        assert torch.equal(source.layout.means(prompt, question[row : row + 1])[0], right[row])
    alone = (batch.tokens_BT[:, :2] == source.layout.seed_prompt[0]).sum(1)
    assert set(alone.tolist()) == {0, 1}
    assert alone.float().mean() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_noise_and_silence_of_lessons(name):
    source, told = source_of(name), source_of(name, "source.noise=0", "source.shown=1")
    # The same draws, with and without.
    batch, clean = (s.lessons(rows=4000, rng=rng(3)) for s in (source, told))
    silent = (batch.tokens_BT[:, :2] == source.layout.seed_prompt[0]).all(1)
    assert torch.equal(batch.tokens_BT[~silent][:, :2], clean.tokens_BT[~silent][:, :2])
    assert silent.float().mean() == pytest.approx(0.35, abs=4 * (0.35 * 0.65 / 4000) ** 0.5)
    slips = (source.layout.answers(batch) != source.layout.answers(clean)).float()
    assert torch.equal(source.layout.questions(batch), source.layout.questions(clean))
    # A symbol may replace itself.
    assert 0.2 * (1 - 1 / len(source.symbols)) - 0.02 < slips.mean() < 0.22


@pytest.mark.parametrize("name", NAMES)
def test_skills_are_each_instruction_by_itself(name):
    source = source_of(name)
    batch = source.skills(rows=64, rng=rng())
    said = [source.layout.text(prompt) for prompt in batch.tokens_BT[:, :2].tolist()]
    expected = {f"{w} null" for w in source.instructions} | {f"null {w}" for w in source.instructions}
    assert {text: said.count(text) for text in said} == dict.fromkeys(expected, 64 // len(expected))
    for row, text in enumerate(said):
        means = source.layout.means(source.layout.parse(text), source.layout.questions(batch)[row : row + 1])
        assert torch.equal(means[0], source.layout.answers(batch)[row])


@settings(deadline=None)
@given(st.sampled_from(NAMES), st.data())
def test_a_prompt_is_read_as_it_was_written(name, data):
    layout = source_of(name).layout
    prompt = tuple(data.draw(st.sampled_from(list(layout.words))) for _ in range(layout.prompt_len))
    assert layout.parse(layout.text(prompt)) == prompt


def test_a_prompt_that_is_none_is_refused():
    layout = source_of("rule-world").layout
    for text, message in (("null", "must be 2 words"), ("null revers", "'revers' is none of null, reverse, rotate")):
        with pytest.raises(ValueError, match=message):
            layout.parse(text)


@settings(deadline=None)
@given(st.integers(1, 4), st.integers(2, 6), st.integers(0, 10**6), st.booleans())
def test_graphs_are_stars(deg, path, seed, lesson):
    nodes = max(8, deg * (path - 1) + 1)
    source = StarGraph(name="star-graph", noise=0.2, shown=0.65, deg=deg, path=path, nodes=nodes, hops=1)
    question = source.ask(3, rng=rng(seed), lesson=lesson)
    for row in question:
        edges = row[:-4].reshape(-1, 3)[:, :2].tolist()
        assert len({child for _, child in edges}) == len(edges) == deg * (path - 1)
        (centre,) = {parent for parent, _ in edges} - {child for _, child in edges}
        below = {child: parent for parent, child in edges}
        leaves = set(below) - set(below.values())
        assert len(leaves) == deg
        first, goal = row[-3:-1].tolist()
        if lesson:
            assert below[goal] == first
        else:
            assert (first, goal in leaves) == (centre, True)
        way = [goal]
        while way[-1] != first:
            way.append(below[way[-1]])
        assert len(way) == (2 if lesson else path)
    for program in ((WALK,), (WALK, REVERSE), (REVERSE, WALK)):
        walked = source.obey(np.tile([*program, -1][:2], (3, 1)), question)[2]
        assert walked.tolist()[: len(way)] == (way[::-1] if program == (WALK,) else way)
    grown = source.obey(np.full((3, 2), PARENT), question)[2].tolist()
    assert grown[0] == below.get(below.get(first, first), below.get(first, first))


def test_half_of_the_goals_go_by_other_names():
    source = source_of("star-graph")
    for index in some(source):
        batch = source.problems(index, rows=1000, rng=rng(index))
        question, right = source.layout.questions(batch), source.layout.answers(batch)
        goal = right[:, 0] if len(source.classes[index][0]) == 2 else right[:, -1]
        assert (question[:, -2] != goal).float().mean() == pytest.approx(0.5, abs=0.07)


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_of_hidden_rules(name):
    made, again, other = (stream_of(f"source={name}", seed=seed) for seed in (0, 0, 1))
    assert made.layout is not None
    assert (made.scenario, made.seq_len) == ("domain", made.tasks[0].batch(0).tokens_BT.shape[1])
    assert made.base.fingerprint == again.base.fingerprint == other.base.fingerprint
    assert stream_of(f"source={name}", base_seed=1).base.fingerprint != made.base.fingerprint
    assert len({task.name for task in made.tasks}) == 4
    assert len(made.base.batch(0).tokens_BT) == 128
    for a, b in zip([made.base, *made.tasks], [again.base, *again.tasks], strict=True):
        assert (a.name, a.fingerprint) == (b.name, b.fingerprint)
        late = a.batch(7)
        assert not same(a.batch(1), late)
        assert same(b.batch(7), late)
        assert len(a.evaluation().tokens_BT) == 8
    assert {task.name for task in made.tasks} != {task.name for task in other.tasks}


def test_a_task_is_measured_on_the_same_problems_in_every_run():
    every = [stream_of("source=star-graph", "task.num_tasks=45", seed=seed) for seed in (0, 1)]
    first, second = ({task.name: task for task in made.tasks} for made in every)
    assert first.keys() == second.keys()
    for name, task in first.items():
        assert same(task.evaluation(), second[name].evaluation())
        assert not same(task.batch(0), second[name].batch(0))


def test_boundaries_are_announced_only_where_one_says_so():
    quiet, told = (
        stream_of("source=rule-world", *typed, "task.revisits=1") for typed in ((), ("task.announced=true",))
    )
    assert [phase.announced for phase in quiet.phases] == [False] * 8
    assert [phase.announced for phase in told.phases] == [True] * 8
    assert not same(quiet.phases[0].batch(0), quiet.phases[4].batch(0))
    blurred = stream_of("source=rule-world", "task.blur=0.3")
    assert blurred.phases[0].batch(0).tokens_BT.shape == (16, 10)


REFUSED = [
    (("source=rule-world", "source.items=1"), "source.items=1: must be at least 2"),
    (("source=rule-world", "source.noise=1.5"), "source.noise=1.5: must lie between 0 and 1"),
    (("source=rule-world", "source.shown=-1"), "source.shown=-1.0: must lie between 0 and 1"),
    (("source=arithmetic", "source.digits=0"), "source.digits=0: must lie between 1 and 9"),
    (("source=arithmetic", "source.modulus=101"), "source.modulus=101: must lie between 2 and 100, or be null"),
    (("source=star-graph", "source.deg=0"), "source.deg=0: must be at least 1"),
    (("source=star-graph", "source.path=1"), "source.path=1: must be at least 2"),
    (
        ("source=star-graph", "source.deg=4", "source.nodes=8"),
        "source.nodes=8: must be at least 9; a graph has 9 nodes",
    ),
    (("source=star-graph", "source.hops=3"), "source.hops=3: chains of source.path=3 have 2 edges"),
    (("source=rule-world", "task.ops=0"), "task.ops=0: must be at least 1"),
    (("source=rule-world", "task.ops=3"), "task.ops=3: source=rule-world has tasks of 1 or 2 hidden instructions"),
    (("source=rule-world", "task.base_batch=0"), "task.base_batch=0: must be at least 1"),
    (("source=rule-world", "task.num_tasks=361"), "task.num_tasks=361: source=rule-world has 360 with task.ops=1"),
    (("source=rule-world", "task.scenario=class"), "task.scenario=class: all tasks have the same outputs; allowed: do"),
    (("source=rule-world", "task.examples=3"), "task.examples=3: a row of reward-sequence is one problem; use null"),
    (("source=rule-world", "task.eval_sequences=all"), "task.eval_sequences=all: problems are made up as they are"),
    (("source=rule-world", "task.steps_per_task=one-pass"), "task.steps_per_task=one-pass: problems are made up as"),
    (("source=star-graph", "task.seq_len=19"), "task.seq_len=19: a problem of source=star-graph takes 20 tokens"),
    (
        ("source=languages",),
        "task=reward-sequence: source=languages has no problems with a verifiable answer; "
        "use source=rule-world, star-graph or arithmetic",
    ),
]


@pytest.mark.parametrize(("typed", "message"), REFUSED, ids=lambda x: " ".join(x) if isinstance(x, tuple) else "")
def test_what_cannot_be_is_refused_in_one_line(typed, message):
    with pytest.raises(ValueError, match=r"^(task|source)") as error:
        stream_of(*typed)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("typed", ["", "task.steps_per_task=one-pass", "task.eval_sequences=all"])
def test_other_streams_say_where_problems_belong(typed):
    config = composed("task=split-sequence", "source=rule-world", *([typed] if typed else []))
    with pytest.raises(ValueError, match=r"^source=rule-world: holds problems .*; use task=reward-sequence$"):
        assemble(config, trusted=[])


def test_preview_shows_problems(tmp_path):
    typed = ("task=reward-sequence", "source=rule-world", "base=none", "adapter=none", "task.num_tasks=2")
    outcome = run_here(["--preview", *typed], tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    (line,) = [line for line in outcome.out.splitlines() if line.startswith("stream ")]
    assert line == "stream   reward-sequence of rule-world: 2 tasks, domain-incremental"
    assert outcome.out.count("null null ") == 2


def test_a_stream_of_problems_is_learned_by_imitation(tmp_path):
    small = [word for word in SMALL if word not in WORDS]
    typed = ("task=reward-sequence", "source=rule-world", "adapter=none", "model.window=null", "task.ops=1")
    outcome = run_here([*small, *typed, "base.steps=5", "base.warmup=1"], tmp_path)
    assert outcome.code == 0, outcome.err
    run = read_run(only_run(tmp_path))
    assert len(run.results.rows) == 4
    assert np.isfinite(run.results.matrix("slow", "loss")).all()
