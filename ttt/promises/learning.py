"""What models, adapters and optimizers promise about learning: gradients, steps and saved states.

Shapes: B batch (lanes), T time, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ttt.adapters.base import additive
from ttt.adapters.beside import BesideAttention
from ttt.learner import Engine
from ttt.promises.ruling import HOLDS, Ruling, broken, first_broken, not_given, same_scores, same_tensors
from ttt.promises.runs import TinyRun, engine_of, goes_on
from ttt.run.assemble import Assembly
from ttt.storage.checkpoint import optimizer_tensors, restore_optimizer
from ttt.training.finite import NonFiniteError
from ttt.training.train import loss_of, train

PLAIN = {"adapter": {"_target_": "ttt.adapters.none.NoAdapter", "name": "none"}}
# Steps of the slow weights.
STEPS = 4


def resumes(case: TinyRun) -> Ruling:
    """A run goes on after a stop to the bit."""
    return goes_on(case.assembly)


def gradients_reach(case: TinyRun) -> Ruling:
    """Every parameter that is learned has a gradient that is finite and not zero."""
    engine, assembly = _set_up(case)
    # Steps first: what starts at zero may hide what stands before it.
    _step(engine, assembly)
    loss_of(engine.learner, assembly.recipe, assembly.stream.phases[0].batch(0), step=0).backward()
    learned = {name: x for name, x in engine.learner.model.named_parameters() if x.requires_grad}
    if not assembly.recipe.objective.is_plain and not any(
        x.grad is not None and x.grad.any() for x in learned.values()
    ):
        return not_given("no answer earned more than another, so there is nothing to learn from")
    for name, parameter in learned.items():
        if parameter.grad is None:
            return broken(f"{name}: no gradient reaches it")
        if not parameter.grad.isfinite().all() or not parameter.grad.any():
            return broken(f"{name}: its gradient is {'zero' if parameter.grad.isfinite().all() else 'not finite'}")
    return HOLDS


def starts_plain(case: TinyRun) -> Ruling:
    """A new adapter changes no score of the model below it, where it promises that."""
    assembly, plain = case.plain, case.assembly(PLAIN)
    batch, learner = assembly.stream.tasks[0].evaluation(), assembly.learner
    with torch.no_grad():
        # Weights are drawn before an adapter is attached, so both models have the same ones.
        # A model without an adapter has an empty fast state.
        expected_BTV, _ = plain.learner(batch, {})
        logits_BTV, _ = learner(batch, learner.adapter.initial(), write=False)
    ruling = same_scores(logits_BTV, expected_BTV, tolerance=0, where=" before anything is written or learned")
    if ruling.holds or isinstance(learner.adapter, BesideAttention) or additive(learner.adapter):
        return ruling
    return not_given("only memories beside attention and states that add to a matrix promise it")


def steps_finite(case: TinyRun) -> Ruling:
    """Steps move weights, and leave them finite."""
    engine, assembly = _set_up(case)
    before = _weights(engine)
    try:
        _step(engine, assembly)
    except NonFiniteError as error:
        return broken(str(error))
    after = _weights(engine)
    spoiled = next((name for name, x in after.items() if not x.isfinite().all()), None)
    if spoiled:
        return broken(f"{spoiled}: not finite after {STEPS} steps")
    # Some weights may rest in a few steps, but not all.
    still = [name for name, x in after.items() if torch.equal(x, before[name])]
    return HOLDS if len(still) < len(after) else broken(f"no weight moves in {STEPS} steps")


def parameters_once(case: TinyRun) -> Ruling:
    """Each parameter that is learned is in one group."""
    engine, _ = _set_up(case)
    names = {id(parameter): name for name, parameter in engine.learner.model.named_parameters()}
    listed = [names.get(id(parameter), "?") for parameter in engine.order]
    wanted = [name for name, parameter in engine.learner.model.named_parameters() if parameter.requires_grad]
    for name in sorted({*wanted, *listed}):
        if listed.count(name) != 1:
            return broken(f"{name}: is in {listed.count(name)} groups of the optimizer")
    return HOLDS


def rate_scales(case: TinyRun) -> Ruling:
    """At a learning rate of zero nothing moves: schedules change `lr` of each group."""
    engine, assembly = _set_up(case)
    before = _weights(engine)
    # Schedules do just this, see `_move` in ttt/training/train.py.
    for group in engine.optimizer.param_groups:
        group["lr"] = 0.0
    _step(engine, assembly)
    return same_tensors(_weights(engine), before, where=" at a learning rate of 0")


def state_restored(case: TinyRun) -> Ruling:
    """With its tensors restored an optimizer goes on to the same weights and tensors."""
    first, assembly = _set_up(case)
    _step(first, assembly)
    second, other = _set_up(case)
    # The weights too: both go on from the same place.
    second.learner.model.load_state_dict(first.learner.model.state_dict())
    # Copies, as a checkpoint holds them: the two optimizers must not share a tensor.
    saved = {name: x.clone() for name, x in optimizer_tensors(first.optimizer, first.order).items()}
    restore_optimizer(second.optimizer, saved, second.order)
    _step(first, assembly)
    _step(second, other)
    states = [optimizer_tensors(engine.optimizer, engine.order) for engine in (second, first)]
    return first_broken(
        same_tensors(_weights(second), _weights(first), where=" after its state was restored"),
        same_tensors(*states, where=" of the optimizer after its state was restored"),
    )


def _set_up(case: TinyRun) -> tuple[Engine, Assembly]:
    assembly = case.assembly()
    return engine_of(assembly), assembly


def _step(engine: Engine, assembly: Assembly) -> None:
    # Each batch from the same fast state: the optimizer alone is looked at.
    engine.learner.begin_task()
    list(train(engine, assembly.stream.phases[0], recipe=assembly.recipe, steps=STEPS, report_every=STEPS))


def _weights(engine: Engine) -> dict[str, Tensor]:
    return {name: x.detach().clone() for name, x in engine.learner.model.named_parameters() if x.requires_grad}


OF_MODELS = {
    "gradients reach all parameters": gradients_reach,
    "a run goes on after a stop to the bit": resumes,
}
OF_ADAPTERS = {
    "a new adapter changes no score": starts_plain,
    "gradients reach all parameters": gradients_reach,
    "a run goes on after a stop to the bit": resumes,
}
OF_OPTIMIZERS = {
    "steps move weights and stay finite": steps_finite,
    "each parameter is in one group": parameters_once,
    "a rate of zero moves nothing": rate_scales,
    "its state is saved and restored": state_restored,
    "a run goes on after a stop to the bit": resumes,
}
