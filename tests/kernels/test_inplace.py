"""Fast forms against their definitions: values and all gradients, at odd sizes."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ttt.kernels.chunks import NOTHING_READ, Place, chunk_grid
from ttt.kernels.inplace.gates import group_size
from ttt.kernels.inplace.lean import inplace_lean
from ttt.kernels.inplace.naive import cheapest, inplace_dual, inplace_naive, inplace_scan
from ttt.kernels.inplace.rows import neighbours, row_norm
from ttt.kernels.inplace.steps import Steps, inplace_steps, inplace_steps_naive
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


def outcome(form, inputs: dict[str, Tensor], weight_DF: Tensor | None = None, *, loss: str = "both") -> list[Tensor]:
    """What was read with W0's part, the last state, and the gradient of every input; the loss is of what it says."""
    wanted = [*inputs.values(), *([] if weight_DF is None else [weight_DF])]
    for x in wanted:
        x.grad = None
    read, last = form(inputs["q_BNCF"], **{key: x for key, x in inputs.items() if key != "q_BNCF"})
    weights = torch.linspace(-1, 1, read.numel(), dtype=torch.float64).view_as(read)
    parts = {"read": (read * weights).sum(), "last": last.double().square().sum()}
    (sum(parts.values()) if loss == "both" else parts[loss]).backward()
    return [read, last, *(torch.zeros_like(x) if x.grad is None else x.grad.clone() for x in wanted)]


def with_w0(form, weight_DF: Tensor):
    """A form without W0, and W0 beside it."""

    def run(q_BNCF: Tensor, **others: Tensor) -> tuple[Tensor, Tensor]:
        read, last = form(q_BNCF, **others)
        return read + q_BNCF @ weight_DF.T, last

    return run


@pytest.mark.parametrize("fast", [inplace_scan, inplace_dual])
@given(b=SIZES, n=SIZES, c=SIZES, f=SIZES, d=SIZES, seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_fast_forms_equal_the_definition(fast, b, n, c, f, d, seed):
    inputs = memory_inputs(seed, b, n, c, f, d)
    for expected, got in zip(outcome(inplace_naive, inputs), outcome(fast, inputs), strict=True):
        # States are fp32 by contract, so agreement is to fp32.
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4, check_dtype=False)


@given(
    b=SIZES,
    n=st.integers(1, 25),
    c=SIZES,
    block=st.integers(1, 6),
    shared=st.booleans(),
    fp32=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_lean_form_equals_the_definition(b, n, c, block, shared, fp32, seed):
    """Blocks of every size, W0 read with the state or apart, gates of the lanes alike or not, many groups.

    A state in another precision than the tokens' is what half precision has: products are made in batches.
    """
    inputs = memory_inputs(seed, b, n, c, 3, 4)
    if fp32:
        inputs["state_BDF"] = inputs["state_BDF"].detach().float().requires_grad_()
    if shared:
        inputs["gate_BN"] = inputs["gate_BN"].detach()[:1].requires_grad_()
    weight_DF = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    expected = outcome(with_w0(inplace_naive, weight_DF), inputs, weight_DF)
    # The same with a gate that is no plain number, as on a GPU: its gradient makes the difference.
    apart = outcome(with_w0(partial(inplace_lean, block=block), weight_DF), inputs, weight_DF)
    folded = outcome(partial(inplace_lean, weight_DF=weight_DF), inputs, weight_DF)
    for form in (apart, folded):
        for x, y in zip(form, expected, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4, check_dtype=False)


@given(
    n=st.integers(1, 25),
    block=st.integers(1, 6),
    lanes=st.integers(1, 2),
    folded=st.booleans(),
    fp32=st.booleans(),
    tokens=st.sampled_from([2, 5]),
    loss=st.sampled_from(["both", "read", "last"]),
    seed=st.integers(0, 99),
)
@settings(max_examples=80, deadline=None)
def test_lean_form_with_queries_as_keys_and_fixed_gates(n, block, lanes, folded, fp32, tokens, loss, seed):
    """As the adapter calls it: gates are constants, a key is its query, and no loss need read the last state."""
    inputs = memory_inputs(seed, 2, n, tokens, 3, 4)
    if fp32:
        inputs["state_BDF"] = inputs["state_BDF"].detach().float().requires_grad_()
    gate_BN = inputs.pop("gate_BN").detach()[:lanes]
    del inputs["k_BNCF"]
    weight_DF = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()

    def tied(form):
        return lambda q_BNCF, **others: form(q_BNCF, k_BNCF=q_BNCF, gate_BN=gate_BN, **others)

    apart = with_w0(partial(inplace_lean, block=block), weight_DF)
    lean = partial(inplace_lean, weight_DF=weight_DF) if folded else apart
    forms = (with_w0(inplace_naive, weight_DF), lean)
    expected, got = (outcome(tied(form), inputs, weight_DF, loss=loss) for form in forms)
    for x, y in zip(got, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4, check_dtype=False)


@pytest.mark.parametrize(("chunks", "block"), [(3, 1), (11, 1), (7, 3)])
def test_the_backward_pass_written_by_hand_is_the_derivative(chunks, block):
    """Finite differences, in float64."""
    inputs = memory_inputs(5, 2, chunks, 2, 3, 2)
    inputs = {name: x.detach().requires_grad_() for name, x in inputs.items()}
    inputs["gate_BN"] = (0.3 + 0.7 * torch.rand(2, chunks, dtype=torch.float64)).requires_grad_()
    names = list(inputs)

    def run(*values: Tensor) -> tuple[Tensor, Tensor]:
        named = dict(zip(names, values, strict=True))
        return inplace_lean(named.pop("q_BNCF"), **named, block=block)

    assert torch.autograd.gradcheck(run, tuple(inputs.values()))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_lean_form_keeps_few_states(dtype):
    """What is saved for the backward pass is a few states, not one a chunk."""
    chunks = 64
    inputs = {name: x.detach().to(dtype) for name, x in memory_inputs(0, 1, chunks, 1, 16, 16).items()}
    inputs["v_BNCD"].requires_grad_()
    read, _ = inplace_lean(inputs.pop("q_BNCF"), **inputs)
    states = [x for x in read.grad_fn.saved_tensors if x is not None and x.shape == (1, 16, 16)]
    assert len(states) == chunks // group_size(chunks) == 8


def test_the_cost_model_picks_what_was_measured_to_be_quickest():
    """Sizes of `ttt-bench kernels`: chunks, chunk, D and F, and the block that is quickest in half precision."""
    for chunks, chunk, width, mlp_width, block in (
        (8, 32, 96, 256, 8),
        (32, 64, 256, 688, 6),
        (16, 128, 512, 1536, 5),
        (64, 128, 128, 384, 1),
        (1, 32, 96, 256, 1),
    ):
        size = {"chunk": chunk, "width": width, "mlp_width": mlp_width}
        choice = cheapest(chunks, **size, dtype=torch.bfloat16)
        assert (choice.block, choice.folded) == (block, False)
        choice = cheapest(chunks, **size, dtype=torch.float32)
        assert (choice.block, choice.folded) == (1, True)


@given(b=SIZES, n=st.integers(1, 12), c=SIZES, pull=st.booleans(), limit=st.booleans(), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_steps_equal_the_definition(b, n, c, pull, limit, seed):
    """Error correction, momentum, clipping and chunks that are not full; many groups of chunks."""
    inputs = {name: x.detach() for name, x in memory_inputs(seed, b, n, c, 3, 2).items()}
    generator = torch.Generator().manual_seed(seed)
    full_BN, hold_BN = (torch.rand(b, n, generator=generator) < p for p in (0.7, 0.8))
    bound = torch.tensor(1.5, dtype=torch.float64) if limit else None
    steps = Steps(inputs.pop("gate_BN"), hold_BN.double(), full_BN, 0.6, bound)
    start = inputs.pop("state_BDF")
    pull_BNC = torch.rand(b, n, c, generator=generator, dtype=torch.float64) / 4 if pull else None
    wanted = [x for x in (*inputs.values(), start, pull_BNC) if x is not None]
    outcomes = []
    for form in (inplace_steps_naive, inplace_steps):
        for x in wanted:
            x.requires_grad_()
        others = {key: x for key, x in inputs.items() if key != "q_BNCF"}
        read, last = form(inputs["q_BNCF"], **others, pull_BNC=pull_BNC, steps=steps, state=(start, start / 2))
        weights = torch.linspace(-1, 1, read.numel(), dtype=torch.float64).view_as(read)
        loss = (read * weights).sum() + last[0].square().sum() + last[1].sum()
        grads = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
        outcomes.append([read, *last, *grads])
    for got, expected in zip(*outcomes, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-8)


def test_state_stays_fp32_under_bf16_inputs():
    inputs = {k: x.detach().bfloat16() for k, x in memory_inputs(0, 2, 3, 4, 5, 3).items()}
    q = inputs.pop("q_BNCF")
    for form in (inplace_naive, inplace_scan, inplace_dual, inplace_lean, partial(inplace_lean, block=2)):
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
        full = grid.closes_BN.expand(len(rows), -1)[b]
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


@given(
    documents=st.lists(st.lists(st.integers(-1, 3), min_size=12, max_size=12), min_size=1, max_size=3),
    cut=st.integers(1, 11),
    chunk=st.integers(1, 5),
    thin=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_a_grid_goes_on_where_the_one_before_it_stopped(documents, cut, chunk, thin):
    """Padding anywhere, a cut anywhere: the same chunks open, begin and close, and the end is the same."""
    segment_BT = torch.tensor(documents)
    nothing_B = torch.zeros(len(documents), dtype=torch.long)
    whole = chunk_grid(segment_BT, chunk)
    first = chunk_grid(segment_BT[:, :cut], chunk, after=Place(nothing_B, nothing_B + NOTHING_READ), thin=thin)
    second = chunk_grid(segment_BT[:, cut:], chunk, after=first.end, thin=thin)
    for name in ("opens_BN", "begins_BN", "closes_BN"):
        one, two, both = (getattr(g, name).expand(len(documents), -1).sum(1) for g in (first, second, whole))
        assert torch.equal(one + two, both)
    if int((segment_BT >= 0).sum()):
        assert torch.equal(second.end.count_B, whole.end.count_B)
    x_BT1 = torch.arange(1.0, 13.0).expand_as(segment_BT)[..., None]
    for grid, part in ((first, x_BT1[:, :cut]), (second, x_BT1[:, cut:])):
        real_BT1 = (segment_BT[:, :cut] if grid is first else segment_BT[:, cut:])[..., None] >= 0
        assert torch.equal(grid.join(grid.split(part)), part * real_BT1)
        assert torch.equal((grid.split(part) > 0)[..., 0], grid.token_BNC.expand(len(documents), -1, -1))


@given(n=SIZES, c=st.integers(1, 7), d=SIZES, taps=st.sampled_from([1, 3, 5]), seed=st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_the_convolution_stays_in_its_chunk(n, c, d, taps, seed):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((n, c, d), (taps, d))
    x_NCD, conv_OD = (torch.randn(*s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes)
    plain_NCD = torch.nn.functional.conv1d(x_NCD.mT, conv_OD.T[:, None], padding=taps // 2, groups=d).mT
    assert_equal_with_gradients(neighbours(x_NCD, conv_OD), plain_NCD, [x_NCD, conv_OD])


def test_row_norm_is_the_norm():
    x_NCF = torch.randn(3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert_equal_with_gradients(row_norm(x_NCF), x_NCF.norm(dim=-1, keepdim=True), [x_NCF])
    zeros_NCF = torch.zeros(1, 2, 3, requires_grad=True)
    row_norm(zeros_NCF).sum().backward()
    assert not zeros_NCF.grad.any()
    assert row_norm(x_NCF.bfloat16()).dtype == torch.float32


def assert_equal_with_gradients(got: Tensor, expected: Tensor, inputs: list[Tensor]) -> None:
    torch.testing.assert_close(got, expected)
    weights = torch.linspace(-1, 1, got.numel(), dtype=got.dtype).view_as(got)
    for x, y in zip(*(torch.autograd.grad((out * weights).sum(), inputs) for out in (got, expected)), strict=True):
        torch.testing.assert_close(x, y)
