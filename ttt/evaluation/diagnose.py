"""Diagnostics of plasticity and drift, after every phase, on the same few tokens for the whole
stream.

    probe/LAYER/dormant_tau0, dormant_tau0.1, dead_zero
        hidden units of a layer, after its nonlinearity, writes off
    probe/LAYER/erank, stable_rank
        ranks of the same units H [n, m], not centred, n <= RANK_TOKENS
    probe/MATRIX/weight_rms, probe/all/weight_l2
        slow weights
    probe/all/grad_l2
        gradient of the loss as training reads it (mode fast)
    probe/STATE/fast_erank, fast_stable_rank, fast_over_w0
        carried fast matrices, mean over lanes; NaN while they are zero
    drift/MODE/kl_base
        KL(base || now), the forward direction, on the base distribution, in bits per scored token
    drift/MODE/kl_known_NAME
        the same on a text that the model knew before the stream

Formulas and sources: metrics/plasticity.py. It only reads: no parameter, gradient, state or random
number changes. Shapes: B sequences, T time, N tokens, M units, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ttt.adapters.base import OPEN, FastState, Mode
from ttt.learner import Engine, competing, cross_entropy, rooted
from ttt.metrics import plasticity
from ttt.models.units import Units, hidden_units, listening
from ttt.strategies.base import Strategy
from ttt.stream import IGNORE, Batch, Stream, spread

# Tokens of the probe batch, the rows that it has at least where rows are that long, and the tokens
# of a singular value decomposition.
PROBE_TOKENS, ROWS, RANK_TOKENS = 512, 4, 256
# The most numbers that are stored of the base's outputs: with a large vocabulary drift is measured
# on fewer tokens.
DRIFT_NUMBERS = 2**24
# Lanes of a fast matrix that are looked at.
LANES = 4
NAN = float("nan")
# mode -> logits of scored tokens [N, V]
Outputs = dict[Mode, Tensor]


@dataclass(frozen=True)
class Diagnosis:
    """What stays the same over the stream: the tokens, and what the base predicts on them.

    `probe`: a batch of `task` (None: of the base distribution). `base_logits`: mode -> logits of
    its scored tokens [N, V]; empty where there is no base distribution. `texts`: of each text that
    the model knew, a batch and the same.
    """

    strategy: Strategy
    probe: Batch
    task: int | None
    base_logits: Outputs
    texts: Mapping[str, tuple[Batch, Outputs]]

    @classmethod
    def at_base(
        cls, engine: Engine, stream: Stream, *, strategy: Strategy, texts: Mapping[str, Batch] | None = None
    ) -> Diagnosis:
        """Call it while the learner still has the base's weights, all of them on every device."""
        assert not engine.is_sharded

        def part(rows: Batch) -> Batch:
            return beginnings(rows, tokens=PROBE_TOKENS).to(engine.fabric.device)

        probe = part((stream.base or stream.tasks[0]).evaluation())
        parts = {name: part(rows) for name, rows in (texts or {}).items()}
        engine.learner.eval()
        with strategy.evaluating(None):
            base_logits = {} if stream.base is None else outputs_by_mode(engine, probe)
            anchors = {name: (part, outputs_by_mode(engine, part)) for name, part in parts.items()}
        engine.learner.train()
        return cls(strategy, probe, 0 if stream.base is None else None, base_logits, anchors)

    def measure(self, engine: Engine) -> dict[str, float]:
        """Every number by its name."""
        learner = engine.learner
        layers = hidden_units(learner.model)
        learner.eval()
        with self.strategy.evaluating(self.task):
            with torch.no_grad(), listening(layers) as heard:
                slow_BTV = _logits(engine, self.probe, write=False)
            fast_BTV, gradient = self._fast_pass(engine)
        with self.strategy.evaluating(None):
            now = {name: outputs_by_mode(engine, batch) for name, (batch, _) in self.texts.items()}
        learner.train()
        numbers = _of_units({name: h_NM.cpu() for name, h_NM in heard.items()})
        numbers["probe/all/grad_l2"] = gradient
        numbers |= _of_weights(engine)
        if learner.adapter.reset != "sequence":
            numbers |= _of_fast(engine.whole_fast(), layers)
        for mode, base_NV in self.base_logits.items():
            now_NV = outputs(slow_BTV if mode == "slow" else fast_BTV, self.probe)
            numbers[f"drift/{mode}/kl_base"] = _drift(base_NV, now_NV)
        for name, (_, base) in self.texts.items():
            for mode, base_NV in base.items():
                numbers[f"drift/{mode}/kl_known_{name}"] = _drift(base_NV, now[name][mode])
        return numbers

    def _fast_pass(self, engine: Engine) -> tuple[Tensor, float]:
        """Logits in mode fast and the gradient's norm; the parameters' own .grad is not touched."""
        trained = [parameter for parameter in engine.order if parameter.requires_grad]
        with torch.set_grad_enabled(bool(trained)):
            logits_BTV = _logits(engine, self.probe, write=True)
            if not trained:
                return logits_BTV, NAN
            loss = rooted(cross_entropy(logits_BTV, self.probe, reduction="mean"), trained)
            return logits_BTV, plasticity.grad_l2(torch.autograd.grad(loss, trained, allow_unused=True))


@torch.no_grad()
def outputs_by_mode(engine: Engine, batch: Batch) -> Outputs:
    """mode -> logits of the scored tokens [N, V]."""
    modes: tuple[Mode, ...] = ("slow", "fast")
    return {mode: outputs(_logits(engine, batch, write=mode == "fast"), batch) for mode in modes}


def _logits(engine: Engine, batch: Batch, *, write: bool) -> Tensor:
    """Logits [B, T, V] of a batch, from the initial state."""
    learner = engine.learner
    # Call the learner, not what Fabric wrapped: every device reads the same tokens by itself.
    with engine.fabric.autocast():
        logits_BTV, _ = learner(batch, learner.adapter.initial(), write=write)
    result: Tensor = logits_BTV
    return result


def outputs(logits_BTV: Tensor, batch: Batch) -> Tensor:
    """The logits of the scored tokens [N, V], on the CPU."""
    logits_NV = competing(logits_BTV.detach().float(), batch)[batch.targets_BT != IGNORE]
    return logits_NV[: max(DRIFT_NUMBERS // logits_NV.shape[1], 1)].cpu()


def _drift(base_NV: Tensor, now_NV: Tensor) -> float:
    # `outputs` has dropped the tokens that are not scored.
    return plasticity.kl_bits(base_NV, now_NV, scored=torch.ones(len(base_NV), dtype=torch.bool))


def beginnings(batch: Batch, *, tokens: int) -> Batch:
    """The beginnings of a few rows, evenly spread, that hold this many tokens together.

    Where nothing is scored in beginnings (a label at the end of a long row), as many whole rows, at
    least one.
    """
    length = batch.targets_BT.shape[1]
    for each in (min(length, max(tokens // ROWS, 1)), length):
        rows = len(batch.targets_BT)
        picked = batch.pick(spread(min(max(tokens // each, 1), rows), over=rows))
        if bool((picked.targets_BT[:, :each] != IGNORE).any()):
            break
    return picked._replace(
        tokens_BT=picked.tokens_BT[:, :each],
        targets_BT=picked.targets_BT[:, :each],
        segment_BT=picked.segment_BT[:, :each],
    )


def _of_units(heard: dict[str, Tensor]) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for name, h_NM in heard.items():
        # A decomposition is cubic in the smaller side: thin the tokens evenly.
        sigma_K = plasticity.singular_values(h_NM[:: -(-len(h_NM) // RANK_TOKENS)])
        numbers |= {
            f"probe/{name}/dormant_tau0": plasticity.dormant_tau([h_NM], tau=0.0),
            f"probe/{name}/dormant_tau0.1": plasticity.dormant_tau([h_NM], tau=0.1),
            f"probe/{name}/dead_zero": plasticity.dead_zero([h_NM]),
            f"probe/{name}/erank": plasticity.erank(sigma_K),
            f"probe/{name}/stable_rank": plasticity.stable_rank(sigma_K),
        }
    return numbers


def _of_weights(engine: Engine) -> dict[str, float]:
    weights = dict(engine.learner.model.named_parameters())
    numbers = {f"probe/{name}/weight_rms": plasticity.weight_rms([x]) for name, x in weights.items() if x.dim() > 1}
    return numbers | {"probe/all/weight_l2": plasticity.weight_l2(weights.values())}


def _of_fast(state: FastState, layers: Sequence[Units]) -> dict[str, float]:
    """Ranks of each fast matrix, and its norm over that of the slow matrix W0 to which it belongs.

    W0 is the matrix that reads a layer's units, where the fast one has its shape.
    """
    numbers: dict[str, float] = {}
    for name, x in state.items():
        if name.startswith(OPEN) or x.dim() < 3:
            continue
        each = [_of_matrix(matrix) for matrix in x.flatten(0, -3)[:LANES].float().cpu()]
        for kind in ("erank", "stable_rank"):
            numbers[f"probe/{name}/fast_{kind}"] = _mean([matrix[kind] for matrix in each])
        for layer in layers:
            if name.startswith(f"{layer.name}.") and layer.weight_out.shape == x.shape[-2:]:
                norm = _mean([matrix["norm"] for matrix in each])
                numbers[f"probe/{name}/fast_over_w0"] = norm / (plasticity.weight_l2([layer.weight_out]) or NAN)
    return numbers


def _of_matrix(matrix: Tensor) -> dict[str, float]:
    norm = plasticity.weight_l2([matrix])
    # A matrix in which nothing was written has no rank to speak of.
    sigma_K = plasticity.singular_values(matrix) if norm > 0 else matrix.new_empty(0)
    return {
        "norm": norm if norm > 0 else NAN,
        "erank": plasticity.erank(sigma_K),
        "stable_rank": plasticity.stable_rank(sigma_K),
    }


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else NAN
