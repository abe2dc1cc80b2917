"""What one write should do to the logits, and the synthetic experiment that shows it.

    context     ... k* v* ... (t*, t*+1)       query      x_n = k*, the right next token is v*
    write       dW = sum over earlier t of v_t z_t^T
    lens        dl_n[w] = e_w^T dW z_n          linear: no later layers, no final norm

In-Place Test-Time Training (arXiv 2604.06169), section 3.3 and appendix A: with v_t = e_{x_{t+1}} the write
raises v* by |e_v*|^2 z_t*.z_n and leaves all others; with v_t = e_{x_t} (reconstruction) it does not raise v*.
Both hold for keys without a common part (assumption A2): `mean` adds one.
Shapes: B prompts, T time (the query included), V vocabulary, D model width, F feed-forward width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

CENTRED = ("true mean", "earlier mean")


class Standing(NamedTuple):
    """How one word of each prompt stands among all others, on a change of logits."""

    value_B: Tensor
    others_mean_B: Tensor
    others_sd_B: Tensor
    z_B: Tensor
    rank_B: Tensor


def standing(logit_BV: Tensor, word_B: Tensor) -> Standing:
    """`rank` counts from 1, the largest."""
    value_B1 = logit_BV.gather(1, word_B[:, None])
    is_other_BV = torch.ones_like(logit_BV, dtype=torch.bool).scatter(1, word_B[:, None], False)
    others_BX = logit_BV[is_other_BV].view(len(logit_BV), -1)
    mean_B, sd_B = others_BX.mean(1), others_BX.std(1)
    value_B = value_B1.squeeze(1)
    return Standing(value_B, mean_B, sd_B, (value_B - mean_B) / sd_B, 1 + (others_BX > value_B1).sum(1))


def minus_earlier_mean(z_BTF: Tensor) -> Tensor:
    """z_t minus the mean of z_0 .. z_{t-1}: what a model can know at t. The first stays as it is."""
    count_T1 = torch.arange(z_BTF.shape[1], device=z_BTF.device, dtype=z_BTF.dtype).clamp(min=1)[:, None]
    return z_BTF - (z_BTF.cumsum(1) - z_BTF) / count_T1


def read_write(z_BTF: Tensor, *, value_BTD: Tensor, query_B: Tensor) -> Tensor:
    """dW z_n [B, D] with dW = sum of v_t z_t^T over t < n - 1, without building dW.

    t = n - 1 is left out: its next token is the query itself.
    """
    query_BF = z_BTF[torch.arange(len(z_BTF), device=z_BTF.device), query_B]
    match_BT = torch.einsum("btf,bf->bt", z_BTF, query_BF)
    written_BT = torch.arange(z_BTF.shape[1], device=z_BTF.device) < query_B[:, None] - 1
    return torch.einsum("bt,btd->bd", match_BT * written_BT, value_BTD)


@dataclass(frozen=True)
class Setting:
    """Sizes of the synthetic experiment: D, F, V, words before the query."""

    trials: int
    width: int
    mlp_width: int
    vocab: int
    tokens: int
    seed: int

    def __post_init__(self) -> None:
        least = {"trials": 2, "width": 1, "mlp_width": 1, "vocab": 4, "tokens": 6, "seed": 0}
        for name, value in asdict(self).items():
            if value < least[name]:
                raise ValueError(f"--{name.replace('_', '-')} {value}: must be at least {least[name]}")


class Case(NamedTuple):
    """`target`: next token | reconstruction. `mean`: length of the part that all keys share.

    `keys`: raw; minus the true mean (over the vocabulary, from which tokens are drawn evenly); minus the
    earlier mean (key and query at t minus the mean of the keys at all s < t: a causal estimate, which makes
    the key of v* repel that of k* by 1 / (t* + 1)).
    """

    target: str
    keys: str
    mean: float

    @property
    def assumed(self) -> bool:
        """Are keys free of a common part, as A2 asks?"""
        return self.mean == 0 or self.keys in CENTRED


CASES = tuple(
    Case(target, keys, mean)
    for keys, mean in (("raw", 0.0), ("raw", 0.5), ("raw", 1.0), ("true mean", 1.0), ("earlier mean", 1.0))
    for target in ("next token", "reconstruction")
)


@dataclass(frozen=True)
class World:
    """One trial: an embedding and a key for each word, a sequence, and where k* v* stand in it."""

    embed_VD: Tensor
    key_VF: Tensor
    common_F: Tensor
    tokens_T: Tensor
    planted: int

    @classmethod
    def draw(cls, setting: Setting, *, trial: int) -> World:
        """Words 0 and 1 are k* and v* (words are exchangeable); no other token is either of them."""
        state = np.random.SeedSequence([setting.seed, trial]).generate_state(1, np.uint64)[0]
        rng = torch.Generator().manual_seed(int(state >> np.uint64(1)))
        tokens_T = torch.randint(2, setting.vocab, (setting.tokens + 1,), generator=rng)
        planted = int(torch.randint(1, max(2, setting.tokens // 3), (), generator=rng))
        tokens_T[planted], tokens_T[planted + 1], tokens_T[-1] = 0, 1, 0
        common_F = torch.randn(setting.mlp_width, generator=rng)
        return cls(
            embed_VD=torch.randn(setting.vocab, setting.width, generator=rng) / setting.width**0.5,
            key_VF=torch.randn(setting.vocab, setting.mlp_width, generator=rng) / setting.mlp_width**0.5,
            common_F=common_F / common_F.norm(),
            tokens_T=tokens_T,
            planted=planted,
        )

    def keys(self, case: Case) -> Tensor:
        """[1, T, F]: a key for every position, the query's last."""
        key_VF = self.key_VF + case.mean * self.common_F
        if case.keys == "true mean":
            key_VF = key_VF - key_VF.mean(0)
        z_1TF = key_VF[self.tokens_T][None]
        return minus_earlier_mean(z_1TF) if case.keys == "earlier mean" else z_1TF

    def predicted(self, case: Case, z_1TF: Tensor) -> float:
        """What v* gains if every write but the planted one averages out."""
        v_D = self.embed_VD[self.tokens_T[self.planted + 1]]
        query_F = z_1TF[0, -1]
        if case.target == "next token":
            return float(v_D @ v_D * (z_1TF[0, self.planted] @ query_F))
        if case.keys == "earlier mean":
            # The mean taken from the key of v* holds that of k*, so the two keys repel each other a little.
            return float(-(v_D @ v_D) * (self.key_VF[self.tokens_T[-1]] @ query_F) / (self.planted + 1))
        return 0.0

    def measure(self, case: Case) -> dict[str, float]:
        """What the write of this sequence does to v*, k* and the others, and what the theorem says of v*."""
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


def synthetic(setting: Setting, *, progress: Callable[[int], None] = lambda trial: None) -> list[dict[str, Any]]:
    """A row for each of CASES: means over trials. All cases see the same draws."""
    trials: list[list[dict[str, float]]] = [[] for _ in CASES]
    for trial in range(setting.trials):
        world = World.draw(setting, trial=trial)
        for case, measured in zip(CASES, trials, strict=True):
            measured.append(world.measure(case))
        progress(trial + 1)
    return [summarize(case, measured) for case, measured in zip(CASES, trials, strict=True)]


def summarize(case: Case, measured: list[dict[str, float]]) -> dict[str, Any]:
    """Means, `v_se`, the distance of v* to its prediction in standard errors, and whether the theorem held."""
    columns = {name: np.array([row[name] for row in measured]) for name in measured[0]}
    row: dict[str, Any] = {"target": case.target, "keys": case.keys, "mean": case.mean, "assumed": case.assumed}
    row |= {name: float(column.mean()) for name, column in columns.items()}
    error = columns["v"] - columns["predicted"]
    row["v_se"] = standard_error(columns["v"])
    # Of the difference, trial by trial: sharper than that of v* alone, as both move with the draw.
    row["off_se"] = float(error.mean()) / max(standard_error(error), 1e-12)
    clear = row["z"] > 10 if case.target == "next token" else abs(row["z"]) < 1
    return row | {"within_3_se": abs(row["off_se"]) < 3, "as_predicted": abs(row["off_se"]) < 3 and clear}


def standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else float("nan")
