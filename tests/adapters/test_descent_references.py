"""Adapters that take gradient steps, against plain loops over chunks with torch.func.

Shapes: V vocabulary, D model width, X any.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from descent_loops import inner_of, reference_of
from reference_loops import PACKED, PLAIN, close, packed
from tiny_adapters import make
from torch import Tensor

from ttt.learner import Learner
from ttt.stream import Batch


def outer(logits_XV: Tensor, batch: Batch) -> Tensor:
    """The mean loss of all tokens without padding, lane after lane."""
    return F.cross_entropy(logits_XV, batch.targets_BT[batch.segment_BT >= 0])


DESCENTS = [
    ("sgd_fast", {"share": 1.0, "clip": 1.5}),
    ("sgd_fast", {"share": 0.5, "clip": 1.0, "reset": "task"}),
    ("sgd_fast", {"share": 1.0, "clip": None, "decay": 1.0}),
    ("lora_fast", {"scale": 2.0}),
    ("lora_fast", {"scale": 0.5, "clip": 0.5, "reset": "task"}),
    ("prompt_fast", {}),
    ("prompt_fast", {"clip": 0.5, "reset": "task", "vectors": 2}),
]


@pytest.mark.parametrize(("window", "segment_BT"), [(1, PACKED), (5, PLAIN), (None, PACKED)], ids=["1", "5", "full"])
@pytest.mark.parametrize(("adapter", "options"), DESCENTS)
@torch.no_grad()
def test_descent_chunk_by_chunk(adapter, options, window, segment_BT):
    learner, batch = make(adapter, window=window, **options), packed(6, segment_BT)
    inner, initial = inner_of(learner, options), learner.adapter.initial()
    want_XV, lanes = reference_of(learner, options).read(batch, initial, inner)
    if inner.clip is not None:
        norms = [float(sum(g.square().sum() for g in grad.values())) ** 0.5 for grad in inner.taken]
        assert min(norms) < inner.clip < max(norms)
    got_BTV, after = learner(batch, initial)
    # The inner loss is computed in fp32.
    close(got_BTV[segment_BT >= 0], want_XV, rtol=1e-4, atol=1e-5)
    for row, fast in enumerate(lanes):
        for name, x in fast.items():
            close(after[name][row], x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("share", "blocks"), [(1.0, [0, 1]), (0.51, [0, 1]), (0.5, [1]), (0.1, [1])])
def test_the_last_blocks_take_sgd_steps(share, blocks):
    matrices = ("gate_proj", "up_proj", "down_proj")
    names = {f"layers.{i}.mlp.{matrix}.weight" for i in blocks for matrix in matrices}
    assert set(make("sgd_fast", share=share).adapter.initial()) == names


def backward(adapter: str, options: dict[str, object], batch: Batch) -> Learner:
    """A learner with the gradients of the outer loss in its parameters."""
    learner = make(adapter, **options)
    logits_BTV, _ = learner(batch, learner.adapter.initial())
    outer(logits_BTV[batch.segment_BT >= 0], batch).backward()
    return learner


@pytest.mark.parametrize("second_order", [False, True])
@pytest.mark.parametrize(("adapter", "options"), DESCENTS)
def test_slow_weights_through_the_steps(adapter, options, second_order):
    """Compare the gradient of every slow weight and of the step size.

    In first order inner gradients are constants, in second order they are not.
    """
    options, batch = options | {"second_order": second_order}, packed(6, PACKED)
    learner = backward(adapter, options, batch)
    reference, inner = reference_of(learner, options), inner_of(learner, options)
    loss = outer(reference.read(batch, learner.adapter.initial(), inner)[0], batch)
    slow = dict(reference.plain.named_parameters()) | reference.brought
    *grads, step_grad = torch.autograd.grad(loss, [*slow.values(), inner.step])
    close(learner.model.descent.log_step.grad, step_grad * inner.step, rtol=1e-4, atol=1e-6)
    for name, grad in zip(slow, grads, strict=True):
        close(learner.model.get_parameter(name).grad, grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("adapter", ["sgd_fast", "lora_fast", "prompt_fast"])
def test_first_order_is_not_second_order(adapter):
    learners = [backward(adapter, {"second_order": x}, packed(6, PLAIN)) for x in (False, True)]
    first_VD, second_VD = (learner.model.embed_tokens.weight.grad for learner in learners)
    assert (first_VD - second_VD).norm() > 1e-2 * first_VD.norm()


@pytest.mark.parametrize(("adapter", "options"), DESCENTS)
def test_the_learned_step_size(adapter, options):
    """The first-order gradient is a difference of losses with the inner gradients held fixed."""
    batch, losses, by = packed(6, PLAIN), [], 1e-4
    learner = backward(adapter, options, batch)
    reference, inner, initial = (
        reference_of(learner, options),
        inner_of(learner, options),
        learner.adapter.initial(),
    )
    with torch.no_grad():
        reference.read(batch, initial, inner)
        for sign in (1, -1):
            moved = replace(inner, step=inner.step * math.exp(sign * by), replay=True, taken=list(inner.taken))
            losses.append(outer(reference.read(batch, initial, moved)[0], batch))
    slope = (losses[0] - losses[1]) / (2 * by)
    assert abs(slope) > 1e-3
    close(learner.model.descent.log_step.grad, slope, rtol=1e-4, atol=1e-6)
