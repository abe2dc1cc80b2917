"""The chunk grid keeps tokens, never mixes documents and continues where a piece of a row ended."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ttt.kernels.chunks import NOTHING_READ, Place, chunk_grid


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
    """With padding and a cut anywhere, the same chunks open, begin and close."""
    segment_BT = torch.tensor(documents)
    lanes, zeros_B = len(documents), torch.zeros(len(documents), dtype=torch.long)
    whole = chunk_grid(segment_BT, chunk)
    first = chunk_grid(segment_BT[:, :cut], chunk, after=Place(zeros_B, zeros_B + NOTHING_READ), thin=thin)
    second = chunk_grid(segment_BT[:, cut:], chunk, after=first.end, thin=thin)
    for name in ("opens_BN", "begins_BN", "closes_BN"):
        counts = [getattr(grid, name).expand(lanes, -1).sum(1) for grid in (first, second, whole)]
        assert torch.equal(counts[0] + counts[1], counts[2])
    if int((segment_BT >= 0).sum()):
        assert torch.equal(second.end.count_B, whole.end.count_B)
    x_BT1 = torch.arange(1.0, 13.0).expand_as(segment_BT)[..., None]
    for grid, span in ((first, slice(cut)), (second, slice(cut, None))):
        part_BT1, real_BT1 = x_BT1[:, span], segment_BT[:, span, None] >= 0
        assert torch.equal(grid.join(grid.split(part_BT1)), part_BT1 * real_BT1)
        assert torch.equal((grid.split(part_BT1) > 0)[..., 0], grid.token_BNC.expand(lanes, -1, -1))


@given(cell=st.integers(0, 4), chunk=st.integers(1, 5), thin=st.booleans())
@settings(deadline=None)
def test_lanes_that_are_alike_have_the_grid_of_any_lanes(cell, chunk, thin):
    """Beside a lane of padding they are not alike, and the grid is found token by token."""
    count_B, document_B = torch.tensor([cell % chunk] * 2 + [0]), torch.tensor([3, 3, 3])
    segment_B1 = torch.tensor([[3], [3], [-1]])
    alike = chunk_grid(segment_B1[:2], chunk, after=Place(count_B[:2], document_B[:2]), thin=thin)
    general = chunk_grid(segment_B1, chunk, after=Place(count_B, document_B), thin=thin)
    assert (alike.size, alike.num_chunks, alike.length) == (general.size, general.num_chunks, general.length)
    for name in ("token_BNC", "opens_BN", "begins_BN", "closes_BN", "slot_BT"):
        assert torch.equal(getattr(alike, name), getattr(general, name)[:2]), name
    assert torch.equal(alike.end.count_B, general.end.count_B[:2])
    assert torch.equal(alike.end.segment_B, general.end.segment_B[:2])
