"""Fast forms against their definitions: values and all gradients, at odd sizes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from ttt.kernels.chunks import chunk_grid
from ttt.kernels.inplace import inplace_dual, inplace_naive, inplace_scan
from ttt.kernels.scan import gated_scan

SIZES = st.integers(min_value=1, max_value=5)


def memory_inputs(seed: int, b: int, n: int, c: int, f: int, d: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    gate_BN = torch.rand(b, n, generator=generator, dtype=torch.float64)
    # Some chunks open a document: their gate is exactly zero.
    gate_BN = torch.where(gate_BN < 0.2, 0.0, gate_BN).requires_grad_()
    return {
        "q_BNCF": draw(b, n, c, f),
        "k_BNCF": draw(b, n, c, f),
        "v_BNCD": draw(b, n, c, d),
        "gate_BN": gate_BN,
        "state_BDF": draw(b, d, f),
    }


@pytest.mark.parametrize("fast", [inplace_scan, inplace_dual])
@given(b=SIZES, n=SIZES, c=SIZES, f=SIZES, d=SIZES, seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_fast_forms_equal_the_definition(fast, b, n, c, f, d, seed):
    inputs = memory_inputs(seed, b, n, c, f, d)
    outcomes = []
    for form in (inplace_naive, fast):
        for x in inputs.values():
            x.grad = None
        q_BNCF = inputs["q_BNCF"]
        read, last = form(q_BNCF, **{key: x for key, x in inputs.items() if key != "q_BNCF"})
        weights = torch.linspace(-1, 1, read.numel(), dtype=torch.float64).view_as(read)
        ((read * weights).sum() + last.double().square().sum()).backward()
        outcomes.append([read, last, *(x.grad.clone() for x in inputs.values())])
    for expected, got in zip(*outcomes, strict=True):
        # States are fp32 by contract, so agreement is to fp32.
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4, check_dtype=False)


def test_state_stays_fp32_under_bf16_inputs():
    inputs = {k: x.detach().bfloat16() for k, x in memory_inputs(0, 2, 3, 4, 5, 3).items()}
    q = inputs.pop("q_BNCF")
    for form in (inplace_naive, inplace_scan, inplace_dual):
        _, last = form(q, **inputs)
        assert last.dtype == torch.float32


def test_scan_by_hand():
    before, last = gated_scan(
        torch.tensor([[1.0, 10.0, 100.0]]), gate_BN=torch.tensor([[1.0, 0.5, 0.0]]), start_BX=torch.tensor([4.0])
    )
    assert before.tolist() == [[4.0, 2.5, 0.0]]
    assert last.tolist() == [100.0]


@given(
    lengths=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=3),
    chunk=st.integers(1, 5),
)
@settings(max_examples=50, deadline=None)
def test_grid_keeps_tokens_and_never_mixes_documents(lengths, chunk):
    total = max(sum(row) for row in lengths)
    rows = [[d for d, size in enumerate(row) for _ in range(size)] for row in lengths]
    rows = [row + [row[-1]] * (total - len(row)) for row in rows]
    segment_BT = torch.tensor(rows)
    grid = chunk_grid(segment_BT, chunk)
    x_BT1 = (torch.arange(segment_BT.numel()).view_as(segment_BT) + 1.0).unsqueeze(-1)
    cells_BNC1 = grid.split(x_BT1)
    assert torch.equal(grid.join(cells_BNC1), x_BT1)
    document_BNC = grid.split((segment_BT + 1).unsqueeze(-1)).squeeze(-1)
    for b, row in enumerate(document_BNC):
        opens = grid.opens_BN.expand(len(rows), -1)[b]
        full = grid.full_BN.expand(len(rows), -1)[b]
        for n, cell in enumerate(row):
            inside = cell[cell > 0]
            assert len(inside.unique()) <= 1
            assert bool(full[n]) == (len(inside) == chunk)
            if len(inside):
                before = [row[m][row[m] > 0] for m in range(n)]
                first = not any(len(x) and x[0] == inside[0] for x in before)
                assert bool(opens[n]) == first


def test_grid_refuses_an_empty_chunk():
    with pytest.raises(ValueError, match="chunk=0"):
        chunk_grid(torch.zeros(1, 4, dtype=torch.long), 0)
