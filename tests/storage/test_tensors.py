"""Files of tensors: the library that defines their format reads back what was written."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from ttt.storage.files import write_new
from ttt.storage.tensors import DTYPES, file_parts

GRID = torch.arange(24.0).view(4, 6)
VIEWS = {
    "scalar": torch.tensor(3.5),
    "none": torch.empty(0),
    "no rows": torch.empty(0, 3, dtype=torch.int64),
    "across": GRID.T,
    "a corner": GRID[1:3, 2:5],
    # As strategies draw rows: one number that lies with a stride.
    "one of three": torch.arange(3)[::3],
    "repeated": torch.ones(3, 1, dtype=torch.bool).expand(3, 4),
    "ünï/kode.weight": GRID,
    "the same again": GRID,
    "learned": torch.nn.Parameter(torch.ones(2, 2)),
}


def written(tensors, folder):
    """Write a file; return it, once its hash has been compared."""
    digest = write_new(folder / "x.safetensors", file_parts(tensors))
    assert digest == hashlib.sha256((folder / "x.safetensors").read_bytes()).hexdigest()
    return folder / "x.safetensors"


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, x in theirs.items():
        assert (ours[name].shape, ours[name].dtype) == (x.shape, x.dtype)
        assert torch.equal(ours[name], x)


def test_whatever_way_numbers_lie_in_memory(tmp_path):
    assert_same(load_file(written(VIEWS, tmp_path)), VIEWS)
    assert_same(load_file(written({}, tmp_path)), {})


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_type_lies_as_the_library_writes_it(dtype, tmp_path):
    x = torch.arange(256).to(torch.uint8).view(-1, 32)
    x = x % 2 == 0 if dtype == torch.bool else x.view(dtype)
    ours = written({"x": x, "a byte": torch.ones(1, dtype=torch.uint8)}, tmp_path)
    read = load_file(ours)["x"]
    # By their bytes: among them are some that mean NaN.
    assert read.dtype == dtype
    assert torch.equal(read.view(torch.uint8), x.view(torch.uint8))
    save_file({"x": x}, tmp_path / "theirs")
    assert header_of(ours)["x"]["dtype"] == header_of(tmp_path / "theirs")["x"]["dtype"]


def header_of(file):
    data = file.read_bytes()
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


def test_each_tensor_begins_at_a_multiple_of_the_size_of_its_numbers(tmp_path):
    kinds = (torch.uint8, torch.bool, torch.bfloat16, torch.float32, torch.int64, torch.uint8)
    tensors = {f"{i}": torch.ones(2 * i + 1, dtype=dtype) for i, dtype in enumerate(kinds)}
    file = written(tensors, tmp_path)
    start = 8 + int.from_bytes(file.read_bytes()[:8], "little")
    for name, entry in header_of(file).items():
        assert (start + entry["data_offsets"][0]) % tensors[name].itemsize == 0


def test_what_was_written_can_still_be_resized():
    """FSDP frees the parameters that it puts together; numpy would hold on to them."""
    x = torch.ones(4)
    list(file_parts({"x": x}))
    x.untyped_storage().resize_(0)
