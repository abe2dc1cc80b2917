"""Plasticity diagnostics of one model at one moment: tensors in, numbers out.

H [n, m]: activations of m units on n tokens. Report with each value the layer, n, whether H is
taken before or after the nonlinearity, and whether it is centred; keep the probe tokens fixed for
the whole stream. All computation is in fp64 for any input. The rank of a zero matrix is 0. NaN
where there is nothing to measure; ranks and shares also where a number is not finite. These
diagnostics explain and do not replace the main question, whether a new task is still learned
(learning_slope, plasticity_gap_fresh).
Shapes: N tokens, M units, K = min(N, M), V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

NAN = float("nan")


def dormant_tau(layers: Sequence[Tensor], *, tau: float) -> float:
    """Return the share of units with s_k <= tau, pooled over all layers [n, m]. NaN without units.

    s_k = mean_x |h_k(x)| divided by its mean over the units of the layer. Source: tau-dormant of
    ReDo (Sokar et al. 2023); report tau. All units of a layer without any activity are dormant.
    """
    scores = []
    for h_NM in layers:
        # The clamp turns 0 / 0 of a silent layer into 0, which is dormant.
        activity_M = h_NM.double().abs().mean(0)
        scores.append(activity_M / activity_M.mean().clamp(min=torch.finfo(torch.float64).tiny))
    return _share([score <= tau for score in scores], of=layers)


def dead_zero(layers: Sequence[Tensor]) -> float:
    """Return the share of units that are 0 on every token, pooled over layers [n, m].

    Source: Dohare et al. 2024. With SiLU or GELU it is about 0 by construction.
    """
    return _share([(h_NM == 0).all(0) for h_NM in layers], of=layers)


def ranks(h_NM: Tensor) -> dict[str, float]:
    """Return all ranks from one decomposition, which costs n m min(n, m): probe with few tokens."""
    sigma_K = singular_values(h_NM)
    # The precision of the input, not of the computation: the input was rounded before.
    eps = torch.finfo(h_NM.dtype if h_NM.is_floating_point() else torch.float64).eps
    return {
        "erank": erank(sigma_K),
        "stable_rank": stable_rank(sigma_K),
        "rank99_sum": rank99_sum(sigma_K),
        "rank99_sq": rank99_sq(sigma_K),
        "rank_num": rank_num(sigma_K, floor=eps * max(h_NM.shape)),
    }


def singular_values(h_NM: Tensor) -> Tensor:
    """Return sigma_i / sigma_1 in fp64, descending.

    Zeros for a zero matrix; an empty tensor where H is empty or holds a number that is not finite.
    """
    assert h_NM.dim() == 2, f"a matrix has two dimensions, not {h_NM.dim()}"
    h_NM = h_NM.detach().double()
    largest = h_NM.abs().max() if h_NM.numel() else h_NM.new_tensor(NAN)
    if not torch.isfinite(largest):
        return h_NM.new_empty(0)
    if largest == 0:
        return h_NM.new_zeros(min(h_NM.shape))
    # Scaled before and after, so that squares neither overflow nor vanish.
    sigma_K = torch.linalg.svdvals(h_NM / largest)
    return sigma_K / sigma_K[0]


def erank(sigma_K: Tensor) -> float:
    """exp(-sum p_k ln p_k), p_k = sigma_k / sum sigma: effective rank, from 1 to the rank.

    Source: Roy & Vetterli 2007.
    """
    # entr(p) = -p ln p, and 0 at p = 0.
    return _rank(sigma_K, torch.special.entr(sigma_K / sigma_K.sum()).sum().exp())


def stable_rank(sigma_K: Tensor) -> float:
    """|H|_F^2 / |H|_2^2 = sum sigma^2 / sigma_1^2: stable rank, from 1 to the rank.

    Dohare et al. 2024 use the name for another quantity, rank99_sum.
    """
    return _rank(sigma_K, (sigma_K / sigma_K[:1]).square().sum())


def rank99_sum(sigma_K: Tensor) -> float:
    """min k such that sum_{i<=k} sigma_i >= 0.99 sum sigma: srank with delta = 0.01.

    Source: Kumar et al. 2021.
    """
    return _rank(sigma_K, _holding(sigma_K, 0.99))


def rank99_sq(sigma_K: Tensor) -> float:
    """min k such that sum_{i<=k} sigma_i^2 >= 0.99 sum sigma^2: approximate rank.

    Source: arXiv 1909.12255.
    """
    return _rank(sigma_K, _holding(sigma_K.square(), 0.99))


def rank_num(sigma_K: Tensor, *, floor: float) -> float:
    """#{sigma_i > floor sigma_1}: the numerical rank.

    numpy takes floor = eps max(n, m) with the eps of the dtype. Without a floor, as in Dohare et
    al. 2024, rounding noise counts as rank.
    """
    return _rank(sigma_K, (sigma_K > floor * sigma_K[:1]).sum())


def weight_l2(tensors: Iterable[Tensor]) -> float:
    """|theta|_2 over all tensors together; NaN without numbers."""
    total, count = _squares(tensors)
    return math.sqrt(total) if count else NAN


def weight_rms(tensors: Iterable[Tensor]) -> float:
    """|theta|_2 / sqrt(count), comparable between layers of different size; NaN without numbers."""
    total, count = _squares(tensors)
    return math.sqrt(total / count) if count else NAN


def grad_l2(gradients: Iterable[Tensor | None]) -> float:
    """|grad loss|_2 over all gradients together, before clipping.

    Take the gradients on the fixed probe batch: on training batches the norm changes with the data.
    None (a parameter that the loss does not depend on) counts as 0; NaN where all are None.
    """
    return weight_l2(gradient for gradient in gradients if gradient is not None)


def kl_bits(base_logits: Tensor, logits: Tensor, *, scored: Tensor) -> float:
    """mean over scored tokens of KL(base || now) = sum_v p_base log2(p_base / p_now), in bits.

    It measures drift from the base, on the base distribution. logits [..., V], `scored` [...] of
    bool. An output that does not compete has a logit of -inf and adds nothing; where only `now` has
    it, the divergence is infinite. NaN where nothing is scored.
    """
    assert base_logits.shape == logits.shape
    assert scored.shape == logits.shape[:-1]
    # In fp64: the difference between nearly equal distributions is lost in fp32.
    log_base, log_now = (x.detach()[scored].double().log_softmax(-1) for x in (base_logits, logits))
    if not len(log_base):
        return NAN
    base = log_base.exp()
    # 0 log 0 = 0, and rounding may leave a mean just below zero.
    terms = torch.where(base == 0, base, base * (log_base - log_now))
    return float(terms.sum(-1).mean().clamp(min=0)) / math.log(2)


def _share(flags: Sequence[Tensor], *, of: Sequence[Tensor]) -> float:
    """Return the share of true flags over the units of all layers `of`.

    NaN without tokens or units, or where an activation is not finite.
    """
    # A comparison with NaN is false, which would pass for a live unit.
    if not all(len(h_NM) and bool(torch.isfinite(h_NM).all()) for h_NM in of):
        return NAN
    count = sum(len(flag_M) for flag_M in flags)
    return sum(int(flag_M.sum()) for flag_M in flags) / count if count else NAN


def _rank(sigma_K: Tensor, value: Tensor) -> float:
    """Return `value`, but 0 for a zero matrix and NaN without singular values."""
    if not len(sigma_K):
        return NAN
    return float(value) if sigma_K[0] > 0 else 0.0


def _holding(x_K: Tensor, share: float) -> Tensor:
    """Return how many of the first entries of x, which descends, sum to `share` of the total."""
    # A decomposition returns equal values with different last bits, which must not decide.
    enough = share * x_K.sum() * (1 - 1e-12)
    return (x_K.cumsum(0) < enough).sum() + 1


def _squares(tensors: Iterable[Tensor]) -> tuple[float, int]:
    """Return the sum of squares and the number of entries."""
    total, count = 0.0, 0
    for x in tensors:
        # In fp64: squares in fp16 overflow, and a sum in bf16 stops growing at 256.
        total, count = total + float(x.detach().double().square().sum()), count + x.numel()
    return total, count
