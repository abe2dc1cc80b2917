"""Plasticity diagnostics of one model at one moment: tensors in, numbers out.

H [n, m]: activations of m units on n tokens. Print beside a value: layer, n, before or after the nonlinearity,
centred or not; keep the probe tokens fixed for the whole stream. Everything is computed in fp64 on any input.
A rank of a zero matrix is 0. NaN where there is nothing to measure; ranks and shares also where a number is not finite.
Unit counts come second: what counts is whether a new task is still learned (learning_slope, plasticity_gap_fresh).
Shapes: N tokens, M units, K = min(N, M), V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

NAN = float("nan")


def dormant_tau(layers: Sequence[Tensor], *, tau: float) -> float:
    """Share of units with s_k <= tau, s_k = mean_x |h_k(x)| / mean over the units of its layer of the same; the units
    of all layers [n, m] are pooled. tau-dormant of ReDo (Sokar et al. 2023); print tau. Layers without any activity
    are dormant as a whole. NaN without units."""
    scores = []
    for h_NM in layers:
        activity_M = h_NM.double().abs().mean(0)
        scores.append(activity_M / activity_M.mean().clamp(min=torch.finfo(torch.float64).tiny))
    return _share([score <= tau for score in scores], of=layers)


def dead_zero(layers: Sequence[Tensor]) -> float:
    """Share of units that are 0 on every token, pooled over layers [n, m] (Dohare et al. 2024). About 0 by nature for
    SiLU and GELU."""
    return _share([(h_NM == 0).all(0) for h_NM in layers], of=layers)


def dormant_rare(layers: Sequence[Tensor], *, below: float = 0.01) -> float:
    """Share of units that differ from 0 on less than `below` of the tokens: "dormant" in the incremental CIFAR of
    Dohare et al. 2024. For ReLU only."""
    return _share([(h_NM != 0).double().mean(0) < below for h_NM in layers], of=layers)


def ranks(h_NM: Tensor) -> dict[str, float]:
    """Every rank below, of one matrix, by one decomposition (n m min(n, m) work: probe with few tokens)."""
    sigma_K = singular_values(h_NM)
    eps = torch.finfo(h_NM.dtype if h_NM.is_floating_point() else torch.float64).eps
    return {
        "erank": erank(sigma_K),
        "stable_rank": stable_rank(sigma_K),
        "rank99_sum": rank99_sum(sigma_K),
        "rank99_sq": rank99_sq(sigma_K),
        "rank_num": rank_num(sigma_K, floor=eps * max(h_NM.shape)),
    }


def singular_values(h_NM: Tensor) -> Tensor:
    """sigma_i / sigma_1 in fp64, descending: squares neither overflow nor vanish. Zeros for a zero matrix, and none
    where a number is not finite or there is no number."""
    assert h_NM.dim() == 2, f"a matrix has two dimensions, not {h_NM.dim()}"
    h_NM = h_NM.detach().double()
    largest = h_NM.abs().max() if h_NM.numel() else h_NM.new_tensor(NAN)
    if not torch.isfinite(largest):
        return h_NM.new_empty(0)
    if largest == 0:
        return h_NM.new_zeros(min(h_NM.shape))
    sigma_K = torch.linalg.svdvals(h_NM / largest)
    return sigma_K / sigma_K[0]


def erank(sigma_K: Tensor) -> float:
    """exp(-sum p_k ln p_k), p_k = sigma_k / sum sigma: effective rank (Roy & Vetterli 2007), between 1 and the rank."""
    return _rank(sigma_K, torch.special.entr(sigma_K / sigma_K.sum()).sum().exp())


def stable_rank(sigma_K: Tensor) -> float:
    """|H|_F^2 / |H|_2^2 = sum sigma^2 / sigma_1^2, between 1 and the rank. Not what Dohare et al. 2024 call so, which
    is rank99_sum."""
    return _rank(sigma_K, (sigma_K / sigma_K[:1]).square().sum())


def rank99_sum(sigma_K: Tensor) -> float:
    """min k such that sum_{i<=k} sigma_i >= 0.99 sum sigma: srank with delta = 0.01 (Kumar et al. 2021)."""
    return _rank(sigma_K, _holding(sigma_K, 0.99))


def rank99_sq(sigma_K: Tensor) -> float:
    """min k such that sum_{i<=k} sigma_i^2 >= 0.99 sum sigma^2: approximate rank (arXiv 1909.12255)."""
    return _rank(sigma_K, _holding(sigma_K.square(), 0.99))


def rank_num(sigma_K: Tensor, *, floor: float) -> float:
    """#{sigma_i > floor sigma_1}: the numerical rank. Numpy's floor is eps max(n, m), eps being the dtype's. Without
    one, float noise counts (Dohare et al. 2024)."""
    return _rank(sigma_K, (sigma_K > floor * sigma_K[:1]).sum())


def weight_l2(tensors: Iterable[Tensor]) -> float:
    """|theta|_2 over all tensors together. NaN without numbers."""
    total, count = _squares(tensors)
    return math.sqrt(total) if count else NAN


def weight_rms(tensors: Iterable[Tensor]) -> float:
    """|theta|_2 / sqrt(count): comparable between layers of different size. NaN without numbers."""
    total, count = _squares(tensors)
    return math.sqrt(total / count) if count else NAN


def weight_mean_abs(tensors: Iterable[Tensor]) -> float:
    """sum |theta| / count: "weight magnitude" of Dohare et al. 2024, who count norms and biases in. NaN without
    numbers."""
    total, count = 0.0, 0
    for x in tensors:
        total, count = total + float(x.detach().double().abs().sum()), count + x.numel()
    return total / count if count else NAN


def grad_l2(gradients: Iterable[Tensor | None]) -> float:
    """|grad loss|_2 over all gradients together, before clipping; on the fixed probe batch, for a training batch mixes
    the data in. None (a parameter without part in the loss) counts as 0; NaN where all are None."""
    return weight_l2(gradient for gradient in gradients if gradient is not None)


def norm_ratio(fast: Tensor, slow: Tensor) -> float:
    """|S|_F / |W0|_F of a fast and a slow matrix, or |Z S^T|_F / |Z W0^T|_F of what is read from them. NaN for a slow
    matrix that is zero."""
    below = weight_l2([slow])
    return weight_l2([fast]) / below if below > 0 else NAN


def kl_bits(base_logits: Tensor, logits: Tensor, *, scored: Tensor) -> float:
    """mean over scored tokens of KL(base || now) = sum_v p_base(v) log2(p_base(v) / p_now(v)), in bits per token.

    The drift from the base, on the base distribution. logits [..., V], `scored` [...] of bool. A logit of -inf (an
    output that does not compete) has no share; where only `now` has it, the divergence is infinite. NaN where
    nothing is scored. In fp64: the difference of nearly equal distributions is lost in fp32.
    """
    assert base_logits.shape == logits.shape
    assert scored.shape == logits.shape[:-1]
    log_base, log_now = (x.detach()[scored].double().log_softmax(-1) for x in (base_logits, logits))
    if not len(log_base):
        return NAN
    base = log_base.exp()
    # 0 log 0 = 0. What rounding leaves below zero is zero.
    terms = torch.where(base == 0, base, base * (log_base - log_now))
    return float(terms.sum(-1).mean().clamp(min=0)) / math.log(2)


def _share(found: Sequence[Tensor], *, of: Sequence[Tensor]) -> float:
    """The share of true ones among units pooled over layers; NaN without tokens or units, or where H is not finite."""
    if not all(len(h_NM) and bool(torch.isfinite(h_NM).all()) for h_NM in of):
        return NAN
    count = sum(len(layer) for layer in found)
    return sum(int(layer.sum()) for layer in found) / count if count else NAN


def _rank(sigma_K: Tensor, value: Tensor) -> float:
    """`value`, but 0 for a zero matrix and NaN for no numbers."""
    if not len(sigma_K):
        return NAN
    return float(value) if sigma_K[0] > 0 else 0.0


def _holding(x_K: Tensor, share: float) -> Tensor:
    """How many of the first of x, which descends, hold that share of its sum."""
    # Equal values are equal but for the last bits of the decomposition: they must not decide.
    enough = share * x_K.sum() * (1 - 1e-12)
    return (x_K.cumsum(0) < enough).sum() + 1


def _squares(tensors: Iterable[Tensor]) -> tuple[float, int]:
    total, count = 0.0, 0
    for x in tensors:
        total, count = total + float(x.detach().double().square().sum()), count + x.numel()
    return total, count
