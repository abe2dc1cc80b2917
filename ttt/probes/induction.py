"""What one write should do to the logits, and the synthetic experiment that shows it.

    context     ... k* v* ... (t*, t*+1)       query      x_n = k*, the right next token is v*
    write       dW = sum over earlier t of v_t z_t^T
    lens        dl_n[w] = e_w^T dW z_n          linear: no later layers, no final norm

In-Place Test-Time Training (arXiv 2604.06169), section 3.3 and appendix A: with v_t = e_{x_{t+1}}
the write raises v* by |e_v*|^2 z_t*.z_n and leaves all others as they are; with v_t = e_{x_t}
(reconstruction) it does not raise v*. Both hold for keys without a common part (assumption A2);
`mean` adds such a part.
Shapes: B prompts, T time (the query included), V vocabulary, D model width, F feed-forward width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

# Ways to prepare keys that remove their common part.
CENTRED = ("true mean", "earlier mean")


class Standing(NamedTuple):
    """How one word of each prompt compares with all others, by the change of their logits.

    `z_B` is the z-score among the other words; `rank_B` counts from 1, the largest.
    """

    value_B: Tensor
    others_mean_B: Tensor
    others_sd_B: Tensor
    z_B: Tensor
    rank_B: Tensor


def standing(logit_BV: Tensor, word_B: Tensor) -> Standing:
    """Compare the logit of `word_B` in each row with the logits of all other words."""
    value_B1 = logit_BV.gather(1, word_B[:, None])
    is_other_BV = torch.ones_like(logit_BV, dtype=torch.bool).scatter(1, word_B[:, None], False)
    # Each row lacks exactly one word, so that the rest is a matrix again.
    others_BX = logit_BV[is_other_BV].view(len(logit_BV), -1)
    mean_B, sd_B = others_BX.mean(1), others_BX.std(1)
    value_B = value_B1.squeeze(1)
    return Standing(value_B, mean_B, sd_B, (value_B - mean_B) / sd_B, 1 + (others_BX > value_B1).sum(1))


def minus_earlier_mean(z_BTF: Tensor) -> Tensor:
    """Return z_t minus the mean of z_0 .. z_{t-1}, which is known at t; z_0 is unchanged."""
    count_T1 = torch.arange(z_BTF.shape[1], device=z_BTF.device, dtype=z_BTF.dtype).clamp(min=1)[:, None]
    # cumsum includes z_t itself, which is subtracted again; at t = 0 the sum is empty.
    return z_BTF - (z_BTF.cumsum(1) - z_BTF) / count_T1


def read_write(z_BTF: Tensor, *, value_BTD: Tensor, query_B: Tensor) -> Tensor:
    """Return dW z_n [B, D] with dW = sum of v_t z_t^T over t < n - 1, without building dW.

    The position t = n - 1 is left out because its next token is the query itself.
    """
    query_BF = z_BTF[torch.arange(len(z_BTF), device=z_BTF.device), query_B]
    # (sum of v_t z_t^T) z_n = sum of v_t (z_t . z_n): T numbers instead of a D x F matrix.
    match_BT = torch.einsum("btf,bf->bt", z_BTF, query_BF)
    written_BT = torch.arange(z_BTF.shape[1], device=z_BTF.device) < query_B[:, None] - 1
    return torch.einsum("bt,btd->bd", match_BT * written_BT, value_BTD)


@dataclass(frozen=True)
class SyntheticSizes:
    """Sizes of the synthetic experiment: `width` is D, `mlp_width` F, `vocab` V.

    `tokens` counts the tokens before the query. Raises ValueError for a size that is too small.
    """

    trials: int
    width: int
    mlp_width: int
    vocab: int
    tokens: int
    seed: int

    def __post_init__(self) -> None:
        # A standard error needs two trials; k*, v* and a spread of the others need four words.
        least = {"trials": 2, "width": 1, "mlp_width": 1, "vocab": 4, "tokens": 6, "seed": 0}
        for name, value in asdict(self).items():
            if value < least[name]:
                raise ValueError(f"--{name.replace('_', '-')} {value}: must be at least {least[name]}")


class Case(NamedTuple):
    """One row of the experiment.

    `target` is "next token" or "reconstruction"; `mean` is the length of the part that all keys
    share. `keys` says how keys are prepared: "raw"; minus the "true mean" over the vocabulary, from
    which tokens are drawn evenly; or minus the "earlier mean", where key and query at t lose the
    mean of the keys at all s < t. This causal estimate makes the key of v* repel that of k* by
    1 / (t* + 1).
    """

    target: str
    keys: str
    mean: float

    @property
    def assumed(self) -> bool:
        """Are the keys free of a common part, as assumption A2 requires?"""
        return self.mean == 0 or self.keys in CENTRED


CASES = tuple(
    Case(target, keys, mean)
    for keys, mean in (("raw", 0.0), ("raw", 0.5), ("raw", 1.0), ("true mean", 1.0), ("earlier mean", 1.0))
    for target in ("next token", "reconstruction")
)


@dataclass(frozen=True)
class Trial:
    """An embedding and a key for each word, a sequence, and the position of k* v* in it."""

    embed_VD: Tensor
    key_VF: Tensor
    common_F: Tensor
    tokens_T: Tensor
    planted: int

    @classmethod
    def draw(cls, sizes: SyntheticSizes, *, index: int) -> Trial:
        """Draw the trial with this index: word 0 is k*, word 1 is v*, no other token is either."""
        state = np.random.SeedSequence([sizes.seed, index]).generate_state(1, np.uint64)[0]
        # A seed of torch is signed: 63 bits of the state fit.
        rng = torch.Generator().manual_seed(int(state >> np.uint64(1)))
        tokens_T = torch.randint(2, sizes.vocab, (sizes.tokens + 1,), generator=rng)
        planted = int(torch.randint(1, max(2, sizes.tokens // 3), (), generator=rng))
        # k* v* in the first third, and k* again at the end as the query.
        tokens_T[planted], tokens_T[planted + 1], tokens_T[-1] = 0, 1, 0
        common_F = torch.randn(sizes.mlp_width, generator=rng)
        # Embeddings and keys have a mean squared length of one, as the theorem assumes.
        return cls(
            embed_VD=torch.randn(sizes.vocab, sizes.width, generator=rng) / sizes.width**0.5,
            key_VF=torch.randn(sizes.vocab, sizes.mlp_width, generator=rng) / sizes.mlp_width**0.5,
            common_F=common_F / common_F.norm(),
            tokens_T=tokens_T,
            planted=planted,
        )

    def keys(self, case: Case) -> Tensor:
        """Return keys [1, T, F] for all positions; the last is that of the query."""
        key_VF = self.key_VF + case.mean * self.common_F
        if case.keys == "true mean":
            key_VF = key_VF - key_VF.mean(0)
        z_1TF = key_VF[self.tokens_T][None]
        return minus_earlier_mean(z_1TF) if case.keys == "earlier mean" else z_1TF

    def predicted(self, case: Case, z_1TF: Tensor) -> float:
        """Return the gain of v* if every write but the planted one averages out."""
        v_D = self.embed_VD[self.tokens_T[self.planted + 1]]
        query_F = z_1TF[0, -1]
        if case.target == "next token":
            return float(v_D @ v_D * (z_1TF[0, self.planted] @ query_F))
        if case.keys == "earlier mean":
            # The earlier mean at v* contains the key of k*, so the two keys repel each other.
            return float(-(v_D @ v_D) * (self.key_VF[self.tokens_T[-1]] @ query_F) / (self.planted + 1))
        return 0.0

    def measure(self, case: Case) -> dict[str, float]:
        """Return the changes of v*, k* and the others, and the theorem's prediction for v*."""
        z_1TF = self.keys(case)
        target_1T = self.tokens_T.roll(-1 if case.target == "next token" else 0)[None]
        query_1 = torch.tensor([len(self.tokens_T) - 1])
        change_1V = read_write(z_1TF, value_BTD=self.embed_VD[target_1T], query_B=query_1) @ self.embed_VD.T
        at_v = standing(change_1V, self.tokens_T[[self.planted + 1]])
        return {
            "v": float(at_v.value_B),
            "predicted": self.predicted(case, z_1TF),
            "others_mean": float(at_v.others_mean_B),
            "others_sd": float(at_v.others_sd_B),
            "z": float(at_v.z_B),
            "argmax": float(at_v.rank_B == 1),
            "k": float(change_1V[0, self.tokens_T[-1]]),
        }


def synthetic(sizes: SyntheticSizes, *, progress: Callable[[int], None] = lambda done: None) -> list[dict[str, Any]]:
    """Return a row for each of CASES: means over trials. All cases see the same trials."""
    measured: list[list[dict[str, float]]] = [[] for _ in CASES]
    for index in range(sizes.trials):
        trial = Trial.draw(sizes, index=index)
        for case, measurements in zip(CASES, measured, strict=True):
            measurements.append(trial.measure(case))
        progress(index + 1)
    return [case_row(case, measurements) for case, measurements in zip(CASES, measured, strict=True)]


def case_row(case: Case, measured: list[dict[str, float]]) -> dict[str, Any]:
    """Return means over trials, and whether the theorem held.

    `v_se` is the standard error of v*; `off_se` is its distance to the prediction, in standard
    errors of the difference.
    """
    columns = {name: np.array([row[name] for row in measured]) for name in measured[0]}
    row: dict[str, Any] = {"target": case.target, "keys": case.keys, "mean": case.mean, "assumed": case.assumed}
    row |= {name: float(column.mean()) for name, column in columns.items()}
    error = columns["v"] - columns["predicted"]
    row["v_se"] = standard_error(columns["v"])
    # The error is taken trial by trial, because v* and its prediction move with the draw together:
    # its standard error is smaller than that of v* alone. The bound avoids a division by zero.
    row["off_se"] = float(error.mean()) / max(standard_error(error), 1e-12)
    # The margins are those of the published figures: v* stands far out, or not at all.
    clear = row["z"] > 10 if case.target == "next token" else abs(row["z"]) < 1
    return row | {"within_3_se": abs(row["off_se"]) < 3, "as_predicted": abs(row["off_se"]) < 3 and clear}


def standard_error(values: np.ndarray) -> float:
    """Return the standard error of the mean; NaN for a single value."""
    return float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else float("nan")
