"""What adapters and models promise about what they return: scores of every token, named states.

    initial()      {"S": zeros [1, D, D]}                        fp32, one lane for all rows
    read(...)      scores [B, T, V], {"S": [B, D, D], "open.k": ...}
    carry(state)   {"S": [1 or B, D, D]}                         detached, the open chunk ended

Shapes: B batch (lanes), T time, V vocabulary, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ttt.adapters.base import OPEN, FastState, additive, passes_logits
from ttt.learner import scored_logits
from ttt.probes.checks import TOLERANCE
from ttt.promises.ruling import HOLDS, Ruling, broken, not_given, same_scores
from ttt.promises.runs import TinyRun
from ttt.stream import IGNORE, Batch

# Spread of the numbers in a state that stands for one that was written.
SPREAD = 0.05


def scores_vocabulary(case: TinyRun) -> Ruling:
    """A position has a finite score for every token of the vocabulary."""
    batch, learner = _batch(case), case.plain.learner
    with torch.no_grad():
        answer = learner.adapter.read(learner.model, batch, learner.adapter.initial(), write=True)
    why = _of_answer(answer, batch, case)
    if why:
        return broken(why)
    return HOLDS if answer[0].isfinite().all() else broken("a score is not finite")


def adapter_shapes(case: TinyRun) -> Ruling:
    """Scores and states have the names and shapes on which all else is built."""
    batch, learner = _batch(case), case.plain.learner
    start, rows = learner.adapter.initial(), len(batch.tokens_BT)
    why = _of_state(start, start, lanes=(1,))
    if why:
        return broken(f"initial(): {why}")
    for write in (False, True):
        answer = learner.adapter.read(learner.model, batch, learner.adapter.initial(), write=write)
        why = _of_answer(answer, batch, case)
        if why:
            return broken(f"read(write={write}): {why}")
        # Names of an open chunk may join, and end with the batch.
        closed = {name: x for name, x in answer[1].items() if not name.startswith(OPEN)}
        why = _of_state(closed, start, lanes=(1, rows))
        if why:
            return broken(f"read(write={write}): {why}")
        carried = learner.adapter.carry(answer[1])
        why = _of_state(carried, start, lanes=(1, rows)) or _attached(carried)
        if why:
            return broken(f"carry(state): {why}")
    return HOLDS


def starts_zero(case: TinyRun) -> Ruling:
    """States are fp32, and zero at the start: a state without writes is known by its numbers."""
    batch, learner = _batch(case), case.plain.learner
    if not learner.adapter.initial():
        return not_given("it has no fast weights")
    with torch.no_grad():
        after = learner(batch, learner.adapter.initial())[1]
    # The initial state once more: it must not remember what was read.
    states = {"initial()": learner.adapter.initial(), "read": after, "carry": learner.adapter.carry(after)}
    for what, state in states.items():
        for name, x in state.items():
            if x.dtype != torch.float32 and not name.startswith(OPEN):
                return broken(f"{what}: {name} is {x.dtype}, not torch.float32")
            if what == "initial()" and x.any():
                return broken(f"{what}: {name} is not zero, its largest number is {float(x.abs().max()):.2g}")
    return HOLDS


def scored_alone(case: TinyRun) -> Ruling:
    """Where the model computes scores of some positions only, these are those of the whole."""
    learner = case.plain.learner
    if not learner.leaves_out:
        return not_given("it computes the scores of all positions")
    batch, start = _thinned(case), learner.adapter.initial()
    with torch.no_grad():
        whole_BTV, alone_NV = (learner(batch, start, scored=scored)[0] for scored in (False, True))
    return _same_scored(alone_NV, whole_BTV, batch)


def passes_on(case: TinyRun) -> Ruling:
    """An adapter with `passes_logits` does not mind a model that computes some scores only."""
    learner = case.plain.learner
    if not passes_logits(learner.adapter):
        return not_given("passes_logits is False")
    batch, start = _thinned(case), learner.adapter.initial()
    scored_BT = batch.targets_BT != IGNORE
    with torch.no_grad():
        whole_BTV = learner(batch, start)[0]
        # In place of a model with `logits_at`: few models have it.
        hook = learner.model.register_forward_hook(lambda model, read, logits_BTV: logits_BTV[scored_BT])
        try:
            alone_NV = learner(batch, start)[0]
        finally:
            hook.remove()
    return _same_scored(alone_NV, whole_BTV, batch)


def _thinned(case: TinyRun) -> Batch:
    """A batch of which every third position is scored."""
    batch = _batch(case)
    targets_BT = torch.full_like(batch.targets_BT, IGNORE)
    targets_BT[:, 1::3] = 0
    return batch._replace(targets_BT=targets_BT, outputs_BV=None)


def _same_scored(alone_NV: Tensor, whole_BTV: Tensor, batch: Batch) -> Ruling:
    expected_NV = scored_logits(whole_BTV, batch)
    if alone_NV.shape != expected_NV.shape:
        return broken(f"the scores of {len(expected_NV)} positions alone have the shape {list(alone_NV.shape)}")
    return same_scores(alone_NV[None], expected_NV[None], tolerance=TOLERANCE, where=" where few are scored")


def adds(case: TinyRun) -> Ruling:
    """A state that adds to slow matrices reads as a model with W0 + S does."""
    learner, batch = case.assembly().learner, _batch(case)
    pairs, start = additive(learner.adapter), learner.adapter.initial()
    if not pairs:
        return not_given("its state adds to no matrix")
    generator, state = torch.Generator().manual_seed(0), dict(start)
    for weight, name in pairs:
        if name not in start or start[name].shape[1:] != weight.shape:
            shape = list(start[name].shape) if name in start else "none"
            return broken(f"additive(): {name}: for a matrix {list(weight.shape)} the state is {shape}")
        state[name] = SPREAD * torch.randn(start[name].shape, generator=generator)
    with torch.no_grad():
        expected_BTV = learner(batch, state, write=False)[0]
        for weight, name in pairs:
            weight.add_(state[name][0])
        logits_BTV = learner(batch, start, write=False)[0]
    return same_scores(logits_BTV, expected_BTV, tolerance=TOLERANCE, where=" with the state added to its matrices")


def describes(case: TinyRun) -> Ruling:
    """Its states have diagnostics by name, and how it computes is said in words."""
    adapter = case.plain.learner.adapter
    numbers: Any = adapter.diagnostics(adapter.initial())
    if not isinstance(numbers, Mapping) or not all(isinstance(x, float | int) for x in numbers.values()):
        return broken(f"diagnostics(state) returns {numbers!r:.60}, not numbers by name")
    words: Any = adapter.executor(length=case.plain.stream.seq_len, dtype=torch.float32)
    return HOLDS if isinstance(words, str) and words else broken(f"executor(...) returns {words!r:.60}, not words")


def _batch(case: TinyRun) -> Batch:
    return case.plain.stream.tasks[0].evaluation()


def _of_answer(answer: Any, batch: Batch, case: TinyRun) -> str:
    """What is wrong with scores and state as `read` returned them; empty where nothing is."""
    if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], Tensor)):
        return f"returns {type(answer).__name__}, not scores and a state"
    expected = [*batch.targets_BT.shape, case.plain.stream.vocab_size]
    shape = list(answer[0].shape)
    return "" if shape == expected else f"scores have the shape {shape}, not {expected}"


def _of_state(state: Any, start: FastState, *, lanes: tuple[int, ...]) -> str:
    """What is wrong with the names and shapes of a state; empty where nothing is."""
    if not isinstance(state, Mapping):
        return f"the state is {type(state).__name__}, not named tensors"
    for name in sorted(state.keys() ^ start.keys()):
        return f"{name} is {'a new name' if name in state else 'missing'}; initial() has {', '.join(start) or 'none'}"
    for name, x in state.items():
        if name.startswith(OPEN):
            return f"{name} belongs to an open chunk, which ends with the batch"
        if not isinstance(x, Tensor):
            return f"{name} is {type(x).__name__}, not a tensor"
        if not x.dim() or len(x) not in lanes or x.shape[1:] != start[name].shape[1:]:
            lane = " or ".join(map(str, dict.fromkeys(lanes)))
            rest = ", ".join(["", *map(str, start[name].shape[1:])]) if state is not start else ", ..."
            return f"{name} has the shape {list(x.shape)}, not [{lane}{rest}]"
    return ""


def _attached(state: FastState) -> str:
    names = [name for name, x in state.items() if x.requires_grad]
    return f"{names[0]} is not detached from the graph" if names else ""


# What all else is built on, so that nothing else is tried where it is broken.
OF_MODELS = {"every token of the vocabulary has a score": scores_vocabulary}
OF_ADAPTERS = {"scores and states have their shapes": adapter_shapes}
# What follows.
AFTER_MODELS = {"scored positions alone have the same scores": scored_alone}
AFTER_ADAPTERS = {
    "states are fp32 and zero at the start": starts_zero,
    "a state that adds to a matrix reads as the sum": adds,
    "scores are passed on where it says so": passes_on,
    "it says how it computes": describes,
}
