"""`layer_reset`: as each task but the first begins, some layers forget what they learned; the others keep it.

    theta_l <- theta_0,l                          to: start
    theta_l <- mean_l + std_l * N(0, 1)           to: fresh; mean and std over the tensor at the start

After Zhou et al. 2022 (fortuitous forgetting, arXiv 2202.00155) and Nikishin et al. 2022 (primacy bias, arXiv
2205.07802). What the optimizer remembers of these weights goes too. Memory: the reset weights once; cost: nothing at a
step, one copy between tasks. Neither grows with the number of tasks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ttt.config.messages import show, suggest
from ttt.learner import Engine, Learner
from ttt.models.units import HasUnits, hidden_units
from ttt.strategies.base import Strategy
from ttt.strategies.quadratic import numbered, placed
from ttt.strategies.shared import check_choice, check_tasks, generator
from ttt.stream import Stream

TO = ("start", "fresh")


class LayerReset(Strategy):
    """Arguments are explained in conf/strategy/layer_reset.yaml."""

    runs_on = "ddp"

    def __init__(self, *, name: str, layers: list[str] | None, last: int, to: str) -> None:
        super().__init__(name=name)
        if layers == []:
            raise ValueError("strategy.layers=[]: must name at least one layer (null: the last ones)")
        check_choice(to, argument="to", allowed=TO)
        self._only, self._last, self._to = layers, last, to

    def check(self, learner: Learner, stream: Stream, *, parts: int) -> None:
        check_tasks(stream, name=self.name)
        prefixes = self._prefixes(learner.model)
        if not self._chosen(learner.model):
            raise ValueError(f"strategy={self.name}: none of the weights of {', '.join(prefixes)} are learned")

    def begin(self, engine: Engine, stream: Stream) -> None:
        self._stream = stream
        chosen = self._chosen(engine.learner.model)
        self._names, self._reset = list(chosen), list(chosen.values())
        self._start = [parameter.detach().clone() for parameter in self._reset]

    def _chosen(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """The weights that are reset, by name: those of the chosen layers that are learned."""
        prefixes = [f"{prefix}." for prefix in self._prefixes(model)]
        return {
            name: parameter
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and any(f"{name}.".startswith(prefix) for prefix in prefixes)
        }

    def _prefixes(self, model: nn.Module) -> list[str]:
        """Raises ValueError for layers that the model does not have."""
        if self._only is None:
            found = from_the_output(model)
            if not found:
                raise ValueError("strategy.layers=null: the model has no layers that are known; name them")
            if not 1 <= self._last <= len(found):
                raise ValueError(f"strategy.last={self._last}: must lie between 1 and the model's {len(found)} layers")
            return found[: self._last]
        names = [name for name, module in model.named_modules() if name and any(True for _ in module.parameters())]
        for prefix in self._only:
            if prefix not in names and prefix not in dict(model.named_parameters()):
                asked = f"strategy.layers={show(self._only)}"
                raise ValueError(f"{asked}: the model has no {prefix}; {suggest(prefix, names)}")
        return self._only

    @torch.no_grad()
    def begin_task(self, engine: Engine, index: int) -> None:
        if index == 0:
            return
        random = generator(self._stream, index)
        for name, parameter, start in zip(self._names, self._reset, self._start, strict=True):
            parameter.copy_(start if self._to == "start" else redrawn(name, start, random))
            engine.optimizer.state.pop(parameter, None)

    def state(self) -> dict[str, Tensor]:
        return numbered("start", self._start)

    def restore(self, state: dict[str, Tensor]) -> None:
        self._start = placed("start", state, like=self._reset)


def from_the_output(model: nn.Module) -> list[str]:
    """Layers by name, the last one first: linear layers of an `mlp` (its head first), else the MLPs of the blocks.

    A transformer's output matrix is no layer of its own: tied to the embedding, it is the input as well.
    """
    if isinstance(model, HasUnits):
        return [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][::-1]
    return [layer.name for layer in hidden_units(model)][::-1]


def redrawn(name: str, start: Tensor, random: torch.Generator) -> Tensor:
    """New weights and biases; what an adapter put beside them has a form that no draw gives: it is as at the start."""
    if name.rpartition(".")[2] not in ("weight", "bias"):
        return start
    noise = torch.randn(start.shape, generator=random).to(start)
    return start.mean() + start.std(correction=0) * noise
