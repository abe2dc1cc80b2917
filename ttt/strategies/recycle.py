"""Hidden units that begin anew: what continual_backprop and redo share.

    into the unit     std(W at the start of the stream) * N(0, 1); biases 0
    out of the unit   0, in W and in fast weights that add to W: the model loses what the unit gave
    moments           0 for all of these numbers, whatever the optimizer

Adam counts its steps for a whole matrix, so the first step of a new number is up to
(1 - beta1) / sqrt(1 - beta2) of its learning rate (3.2 at 0.9, 0.999). New units of one layer read
nothing from new ones of the layer before. Of adapters that read a batch chunk by chunk (sgd_fast,
lora_fast, prompt_fast), only the last chunk is seen.
Shapes: K units of a layer, N tokens, F all units of a layer.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim import Optimizer

from ttt.learner import Engine, Learner
from ttt.models.units import hear_training, hidden_units
from ttt.strategies.base import Strategy
from ttt.strategies.shared import generator, list_from_state, list_state
from ttt.stream import Stream


class Recycling(Strategy):
    """Watches the hidden units and renews some of them; subclasses say which ones, and when."""

    def begin(self, engine: Engine, stream: Stream) -> None:
        # Imported here: adapters need the kernels, and a wrong argument should not wait for them.
        from ttt.adapters.base import additive

        self._stream = stream
        self.layers = hidden_units(engine.learner.model)
        self.heard = hear_training(self.layers)
        self._fast = {id(weight): key for weight, key in additive(engine.learner.adapter)}
        # For each layer, the spread of each matrix that feeds it. That of the start, because the
        # present one has grown with training and would make new units too large.
        self._spread = [torch.stack([linear.weight.detach().std().cpu() for linear in x.incoming]) for x in self.layers]
        self.steps = self.renewed = 0

    def check(self, learner: Learner, stream: Stream, *, parts: int) -> None:
        layers = hidden_units(learner.model)
        if not layers:
            raise ValueError(f"strategy={self.name}: the model has no hidden units; it needs gated MLPs, or model=mlp")
        for layer in layers:
            weights = [*(linear.weight for linear in layer.incoming), layer.weight_out]
            if not all(weight.requires_grad for weight in weights):
                raise ValueError(f"strategy={self.name}: weights of {layer.name} are not learned, units cannot be new")

    @torch.no_grad()
    def renew(self, engine: Engine, chosen: Mapping[int, Tensor]) -> None:
        """Let units begin anew; `chosen` maps the number of a layer to its units [K]."""
        optimizer: Optimizer = engine.optimizer
        for number, units in chosen.items():
            random = generator(self._stream, self.steps, number)
            for linear, std in zip(self.layers[number].incoming, self._spread[number], strict=True):
                units_K = units.to(linear.weight.device)
                # The numbers are drawn on the CPU, so that all devices get the same weights.
                fresh = std * torch.randn(len(units_K), linear.in_features, generator=random)
                linear.weight[units_K] = fresh.to(linear.weight)
                forget(optimizer, linear.weight, units_K, dim=0)
                if linear.bias is not None:
                    linear.bias[units_K] = 0
                    forget(optimizer, linear.bias, units_K, dim=0)
        # In a second loop, after all that comes in: one layer's way out is the next one's way in.
        for number, units in chosen.items():
            weight = self.layers[number].weight_out
            units_K = units.to(weight.device)
            weight[:, units_K] = 0
            forget(optimizer, weight, units_K, dim=1)
            self._clear_fast(engine, weight, units_K)
            self.renewed += len(units_K)

    def _clear_fast(self, engine: Engine, weight: Tensor, units_K: Tensor) -> None:
        """Erase what was written under the keys of these units."""
        if id(weight) not in self._fast:
            return
        prefix, fast = self._fast[id(weight)].rpartition(".")[0], engine.learner.fast
        for name, x in fast.items():
            # Every state of the layer that has a number for each unit, momentum included.
            if name.startswith(f"{prefix}.") and x.shape[-1] == weight.shape[1]:
                fast[name] = x.index_fill(-1, units_K, 0)

    def state(self) -> dict[str, Tensor]:
        counts = {"steps": torch.tensor(self.steps), "renewed": torch.tensor(self.renewed)}
        return counts | list_state("spread", self._spread)

    def restore(self, state: dict[str, Tensor]) -> None:
        self.steps, self.renewed = int(state["steps"]), int(state["renewed"])
        self._spread = list_from_state("spread", state, like=self._spread)


def activity(h_NF: Tensor) -> Tensor:
    """Return the mean |h| of each unit over tokens, [F] in fp32."""
    return sizes(h_NF) / h_NF.shape[0]


def sizes(x_NF: Tensor) -> Tensor:
    """Return the sum of absolute values of each column, [F] in fp32."""
    # On a CPU this takes a tenth of the time of torch's own 1-norm over rows.
    return x_NF.abs().sum(0, dtype=torch.float32)


def forget(optimizer: Optimizer, parameter: Tensor, units_K: Tensor, *, dim: int) -> None:
    """Zero the optimizer's moments of some rows (dim 0) or columns (dim 1), factored ones too."""
    for x in optimizer.state.get(parameter, {}).values():
        # A factored moment lacks one dimension: it is zeroed only where it has these units.
        if isinstance(x, Tensor) and x.dim() == parameter.dim() and x.shape[dim] == parameter.shape[dim]:
            x.index_fill_(dim, units_K, 0)
