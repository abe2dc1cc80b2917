"""The gated scan and the products between cells agree with numbers by hand."""

from __future__ import annotations

import torch

from ttt.kernels.scan import gated_scan, products_between


def test_scan_by_hand():
    before, last = gated_scan(
        torch.tensor([[1.0, 10.0, 100.0]]), gate_BN=torch.tensor([[1.0, 0.5, 0.0]]), start_BX=torch.tensor([4.0])
    )
    assert before.tolist() == [[4.0, 2.5, 0.0]]
    assert last.tolist() == [100.0]


def test_products_by_hand():
    products = products_between(torch.tensor([5.0, 2.0, 0.0, 3.0]))
    assert products.tolist() == [[1, 0, 0, 0], [2, 1, 0, 0], [0, 0, 1, 0], [0, 0, 3, 1]]
