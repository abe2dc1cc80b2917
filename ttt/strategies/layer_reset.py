"""`layer_reset`: as each task but the first begins, some layers forget what they have learned.

    theta_l <- theta_0,l                          to: start
    theta_l <- mean_l + std_l * N(0, 1)           to: fresh; mean and std of the tensor at the start

After Zhou et al. 2022 (fortuitous forgetting, arXiv 2202.00155) and Nikishin et al. 2022 (primacy
bias, arXiv 2205.07802). The optimizer's moments of these weights go too. Memory: one copy of the
weights that are reset. Cost: nothing at a step, one copy between tasks. Neither grows with the
number of tasks.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ttt.config.messages import show, suggest
from ttt.learner import Engine, Learner
from ttt.models.units import HasUnits, hidden_units
from ttt.strategies.base import Strategy
from ttt.strategies.shared import AtLeastOne, check_tasks, generator, list_from_state, list_state
from ttt.stream import Stream


class LayerReset(Strategy):
    """Arguments are explained in conf/strategy/layer_reset.yaml."""

    runs_on = "ddp"

    def __init__(self, *, name: str, layers: list[str] | None, last: AtLeastOne, to: Literal["start", "fresh"]) -> None:
        super().__init__(name=name)
        if layers == []:
            raise ValueError("strategy.layers=[]: must name at least one layer (null: the last ones)")
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
        """Return the weights to reset, by name: those of the chosen layers that are learned."""
        # The dot keeps layers.1 from choosing layers.10.
        prefixes = [f"{prefix}." for prefix in self._prefixes(model)]
        return {
            name: parameter
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and any(f"{name}.".startswith(prefix) for prefix in prefixes)
        }

    def _prefixes(self, model: nn.Module) -> list[str]:
        """Return the names of the chosen layers. Raises ValueError for one that the model lacks."""
        if self._only is None:
            layers = from_the_output(model)
            if not layers:
                raise ValueError("strategy.layers=null: the last layers of this model are not known; name them")
            if self._last > len(layers):
                raise ValueError(f"strategy.last={self._last}: must be at most {len(layers)}, the model's layers")
            return layers[: self._last]
        names = [name for name, module in model.named_modules() if name and any(True for _ in module.parameters())]
        for prefix in self._only:
            if prefix not in names and prefix not in dict(model.named_parameters()):
                typed = f"strategy.layers={show(self._only)}"
                raise ValueError(f"{typed}: the model has no {prefix}; {suggest(prefix, names)}")
        return self._only

    @torch.no_grad()
    def begin_task(self, engine: Engine, index: int) -> None:
        if index == 0:
            return
        # On the CPU, so that all devices draw the same weights.
        random = generator(self._stream, index)
        for name, parameter, start in zip(self._names, self._reset, self._start, strict=True):
            parameter.copy_(start if self._to == "start" else redrawn(name, start, random))
            # Moments of the old weights would push the new ones on.
            engine.optimizer.state.pop(parameter, None)

    def state(self) -> dict[str, Tensor]:
        return list_state("start", self._start)

    def restore(self, state: dict[str, Tensor]) -> None:
        self._start = list_from_state("start", state, like=self._reset)


def from_the_output(model: nn.Module) -> list[str]:
    """Return the names of the layers, the last one first.

    Of an `mlp` its linear layers, head first; of other models the MLPs of the blocks.
    """
    if isinstance(model, HasUnits):
        return [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][::-1]
    # Without a transformer's output matrix: tied to the embedding, it is the input as well.
    return [layer.name for layer in hidden_units(model)][::-1]


def redrawn(name: str, start: Tensor, random: torch.Generator) -> Tensor:
    """Return new random values for a weight or a bias, and `start` itself for anything else."""
    # What an adapter puts beside them (step sizes, filters) has a form that no draw would give.
    if name.rpartition(".")[2] not in ("weight", "bias"):
        return start
    noise = torch.randn(start.shape, generator=random).to(start)
    return start.mean() + start.std(correction=0) * noise
