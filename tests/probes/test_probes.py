"""What ttt-probe measures, against the closed form where there is one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from ttt.adapters.none import NoAdapter
from ttt.learner import Learner
from ttt.probes.activations import KEYS, RATIOS, TARGETS, draw_prompts, probe_activations, written_values
from ttt.probes.induction import CASES, Case, SyntheticSizes, Trial, minus_earlier_mean, read_write, standing, synthetic
from ttt.probes.state import bits_of, by_position, effective_rank, key_numbers
from ttt.stream import IGNORE, Batch

LM, SAME = Case("next token", "raw", 0.0), Case("reconstruction", "raw", 0.0)


def test_orthogonal_words_are_exact():
    """With orthogonal keys and embeddings only the planted word moves, by an exact amount."""
    tokens_T = torch.tensor([3, 4, 0, 1, 5, 3, 6, 2, 0])
    trial = Trial(3 * torch.eye(8), 2 * torch.eye(8), torch.zeros(8), tokens_T, planted=2)
    assert trial.measure(LM) == {
        **{"v": 36.0, "predicted": 36.0, "others_mean": 0.0, "others_sd": 0.0},
        **{"z": math.inf, "argmax": 1.0, "k": 0.0},
    }
    measured = trial.measure(SAME)
    assert (measured["v"], measured["k"], measured["predicted"], measured["argmax"]) == (0.0, 36.0, 0.0, 0.0)


def test_read_is_the_write_that_is_built():
    rng = torch.Generator().manual_seed(0)
    z_BTF = torch.randn(3, 11, 5, generator=rng, dtype=torch.float64)
    value_BTD = torch.randn(3, 11, 4, generator=rng, dtype=torch.float64)
    query_B = torch.tensor([10, 7, 3])
    read_BD = read_write(z_BTF, value_BTD=value_BTD, query_B=query_B)
    for b, n in enumerate(query_B):
        write_DF = sum(torch.outer(value_BTD[b, t], z_BTF[b, t]) for t in range(n - 1))
        torch.testing.assert_close(read_BD[b], write_DF @ z_BTF[b, n])
    centred_BTF = minus_earlier_mean(z_BTF)
    torch.testing.assert_close(centred_BTF[:, 0], z_BTF[:, 0])
    for t in range(1, 11):
        torch.testing.assert_close(centred_BTF[:, t], z_BTF[:, t] - z_BTF[:, :t].mean(1))


def test_standing_against_numpy():
    logit_BV = torch.tensor([[1.0, 5.0, 2.0, 2.5], [4.0, 3.0, 2.0, 0.0]], dtype=torch.float64)
    at = standing(logit_BV, torch.tensor([1, 2]))
    assert at.rank_B.tolist() == [1, 3]
    for b, word in enumerate((1, 2)):
        others = np.delete(logit_BV[b].numpy(), word)
        assert float(at.z_B[b]) == pytest.approx((logit_BV[b, word] - others.mean()) / others.std(ddof=1))


def test_the_theorem_holds_where_its_assumptions_do():
    rows = synthetic(SyntheticSizes(trials=24, width=256, mlp_width=512, vocab=500, tokens=128, seed=0))
    assert [(row["target"], row["keys"], row["mean"]) for row in rows] == [tuple(case) for case in CASES]
    for row in rows:
        assert row["as_predicted"] or not row["assumed"], row
    by_case = {Case(row["target"], row["keys"], row["mean"]): row for row in rows}
    assert by_case[LM]["argmax"] == 1.0
    assert by_case[LM]["v"] == pytest.approx(1, abs=0.1)
    assert by_case[SAME]["k"] == pytest.approx(1, abs=0.1)
    broken = by_case[Case("next token", "raw", 1.0)]
    assert broken["z"] < 3
    assert not broken["as_predicted"]


def test_prompts_are_planted_where_they_say():
    prompts = draw_prompts(200, length=30, vocab=9, seed=1)
    assert prompts.tokens_BT.min() == 0
    assert prompts.tokens_BT.max() == 8
    assert (prompts.k_B != prompts.v_B).all()
    for tokens_T, planted, query, k, v in zip(*prompts, strict=True):
        assert (tokens_T == k).nonzero().flatten().tolist() == [planted, query]
        assert (tokens_T == v).nonzero().flatten().tolist() == [planted + 1]
        assert planted + 1 < 10
        assert query >= 20
    shuffled_BTD = written_values(torch.arange(9.0)[:, None], prompts, rng=torch.Generator().manual_seed(0))["shuffled"]
    for b, n in enumerate(prompts.query_B):
        written = prompts.tokens_BT[b, 1:n].sort().values.tolist()
        assert shuffled_BTD[b, : n - 1, 0].sort().values.tolist() == written
    with pytest.raises(ValueError, match=r"8 tokens.* 9 words"):
        draw_prompts(2, length=8, vocab=9, seed=0)


class Linear(nn.Module):
    """One down-projection between a key for each word and the unembedding.

    Nothing comes after the MLP, so the lens is exact.
    """

    def __init__(self, *, vocab, width, mlp_width):
        super().__init__()
        self.embed_tokens = nn.Embedding(vocab, width)
        self.keys = nn.Embedding(vocab, mlp_width)
        # A gated MLP by its matrices; only the down-projection is used.
        self.mlp = nn.Module()
        self.mlp.gate_proj, self.mlp.up_proj = (nn.Linear(width, mlp_width, bias=False) for _ in range(2))
        self.mlp.down_proj = nn.Linear(mlp_width, width, bias=False)

    def get_input_embeddings(self):
        return self.embed_tokens

    def forward(self, tokens_BT, *, segment_BT=None, cache=None):
        return self.mlp.down_proj(self.keys(tokens_BT)) @ self.embed_tokens.weight.T


def test_a_linear_model_does_what_the_lens_says():
    torch.manual_seed(0)
    model = Linear(vocab=120, width=128, mlp_width=256)
    learner = Learner(model, adapter=NoAdapter(name="none"), optimizer=None)
    prompts = draw_prompts(40, length=30, vocab=120, seed=0)
    tables = probe_activations(learner, prompts, true_prompts=40, seed=0)
    rows = {(row["keys"], row["target"], row["ratio"]): row for row in tables["rows"]}
    assert len(rows) == len(KEYS) * len(TARGETS) * (1 + len(RATIOS))
    for keys in KEYS:
        lens = {target: rows[keys, target, None] for target in TARGETS}
        assert lens["next token"]["z_v"] > 8
        assert lens["next token"]["argmax_v"] == 1.0
        assert lens["reconstruction"]["z_k"] > 8
        # Controls: the right word is nothing special, except that the earlier mean at v* contains
        # the key of k* and makes the two repel each other.
        assert abs(lens["shuffled"]["z_v"]) < 4 * lens["shuffled"]["z_v_se"]
        drift = -1.5 if keys == "earlier mean" else 0
        assert abs(lens["reconstruction"]["z_v"] - drift) < 4 * lens["reconstruction"]["z_v_se"]
        for ratio in RATIOS:
            for target in TARGETS:
                true = rows[keys, target, ratio]
                assert true["z_v"] == pytest.approx(lens[target]["z_v"], rel=1e-2, abs=1e-2)
            ten = rows[keys, "next token", ratio]["v"] / rows[keys, "next token", RATIOS[0]]["v"]
            assert ten == pytest.approx(ratio / RATIOS[0], rel=1e-2)
    raw, unit = (next(row for row in tables["keys"] if row["keys"] == keys) for keys in ("raw", "unit length"))
    assert [raw["c_align"], unit["c_align"]] == pytest.approx([1, 1])
    assert raw["collision"] == pytest.approx(math.sqrt(2 / math.pi / 256), rel=0.1)


def test_effective_rank_of_known_matrices():
    assert float(effective_rank(torch.eye(7))) == pytest.approx(7)
    assert float(effective_rank(torch.outer(torch.arange(1.0, 5), torch.ones(6)))) == pytest.approx(1, abs=1e-4)
    assert float(effective_rank(torch.zeros(3, 4))) == 0
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    both = effective_rank(torch.stack([torch.diag(torch.tensor([3.0, 1.0])), torch.eye(2)]))
    assert both.tolist() == pytest.approx([math.exp(entropy), 2])


def test_alignment_and_collision():
    z_BTF = torch.tensor([[[1.0, 0], [2.0, 0], [0, -1.0], [3.0, 3.0]]])
    numbers = key_numbers(z_BTF, torch.tensor([[5, 5, 6, 7]]))
    assert numbers["alignment"] == pytest.approx(1)
    # Pairs of different words: 0 twice (with the third), 1/sqrt 2 three times (with the fourth).
    assert numbers["collision"] == pytest.approx(3 * math.sqrt(0.5) / 5)


def test_bits_by_position():
    targets_BT = torch.tensor([[1, IGNORE, 0, 1], [0, IGNORE, 1, 1]])
    batch = Batch(targets_BT.clamp(min=0), targets_BT, torch.zeros_like(targets_BT))
    slow_BT = bits_of(torch.zeros(2, 4, 2), batch)
    assert slow_BT.isnan().tolist() == [[False, True, False, False]] * 2
    fast_BT = slow_BT.clone()
    fast_BT[:, 3] = torch.tensor([0.5, 0.25])
    rows = by_position({"slow": slow_BT, "fast": fast_BT})
    assert [row["fast_gain"] for row in rows] == pytest.approx([0, math.nan, 0, -0.625], nan_ok=True)
    assert rows[3]["fast_gain_se"] == pytest.approx(0.125)
