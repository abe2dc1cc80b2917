"""Tensors as the bytes of a safetensors file, one at a time: a model is not copied as a whole.

8 bytes     the length of the header
header      {"w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}
the rest    the numbers, tensor after tensor
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

# What the format calls the types that its reader knows.
DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e4m3fnuz: "F8_E4M3FNUZ",
    torch.float8_e5m2: "F8_E5M2", torch.float8_e5m2fnuz: "F8_E5M2FNUZ",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint64: "U64", torch.uint32: "U32", torch.uint16: "U16", torch.uint8: "U8",
    torch.bool: "BOOL", torch.complex64: "C64",
}  # fmt: skip


def file_parts(tensors: Mapping[str, Tensor]) -> Iterator[memoryview | bytes]:
    """The bytes of a file of these tensors, in order."""
    # Those of wide numbers first: so each begins at a multiple of its size, however it is read.
    names = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
    header, end = {}, 0
    for name in names:
        x, start = tensors[name], end
        end += x.numel() * x.itemsize
        header[name] = {"dtype": DTYPES[x.dtype], "shape": list(x.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in names:
        yield _numbers(tensors[name])


def _numbers(x: Tensor) -> memoryview:
    """The bytes of a tensor."""
    # A copy: a storage that numpy has seen can no longer be resized, and FSDP resizes those that it
    # puts together.
    x = x.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
    return x.view(-1).view(torch.uint8).numpy().data
