"""MNIST from a folder with the four original files and from the hub: content, split, damage."""

from __future__ import annotations

import gzip
import socket
import struct
from pathlib import Path

import numpy as np
import pytest
from sources import build_source, examples_of, table_of

from ttt.tasks import mnist

# Every pixel is a token: what a source holds can be compared with what a file holds.
PIXELS = {"side": 28, "patch": 1, "levels": 256}


def idx(array, magic):
    return struct.pack(f">{1 + array.ndim}i", magic, *array.shape) + array.astype(np.uint8).tobytes()


def original(folder: Path, *, compressed=()) -> dict[str, np.ndarray]:
    """Write the four files, with 40 and 20 images, and return the images of each part."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    images = {}
    for part, count in (("train", 40), ("t10k", 20)):
        images[part] = rng.integers(0, 256, size=(count, 28, 28))
        files = {
            f"{part}-images-idx3-ubyte": idx(images[part], 0x803),
            f"{part}-labels-idx1-ubyte": idx(np.arange(count) % 10, 0x801),
        }
        for name, content in files.items():
            if part in compressed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)
    return images


@pytest.mark.parametrize("compressed", [(), ("train",), ("train", "t10k")])
def test_the_original_files_bring_their_own_split(compressed, tmp_path):
    images = original(tmp_path / "mnist", compressed=compressed)
    source = build_source("source=mnist", path=str(tmp_path / "mnist"), **PIXELS)
    assert source.rows == {"classes": 10, "train examples": 40, "eval examples": 20}
    first = source.take(source._train[3][:1][None], length=28 * 28)
    assert (first.tokens_BT.reshape(28, 28).numpy() == images["train"][3]).all()
    assert first.targets_BT[0, -1] == 256 + 3
    shown, labels = examples_of(source.evaluation(np.array([4]), rows=2, length=28 * 28), 28 * 28)
    assert {row.tobytes() for row in shown} == {images["t10k"][n].tobytes() for n in (4, 14)}
    assert set(labels) == {256 + 4}


def test_images_are_averaged_down(tmp_path):
    images = original(tmp_path / "mnist")
    source = build_source("source=mnist", path=str(tmp_path / "mnist"), **(PIXELS | {"side": 7}))
    tokens = source.take(source._train[3][:1][None], length=49).tokens_BT.reshape(7, 7).numpy()
    assert (tokens == images["train"][3].reshape(7, 4, 7, 4).mean((1, 3)).astype(int)).all()


def damage(folder: Path, kind: str) -> None:
    images, labels = folder / "t10k-images-idx3-ubyte", folder / "t10k-labels-idx1-ubyte"
    if kind == "missing":
        labels.unlink()
    elif kind == "truncated":
        images.write_bytes(images.read_bytes()[:-1])
    elif kind == "short":
        images.write_bytes(b"\0\0")
    elif kind == "swapped":
        images.write_bytes(labels.read_bytes())
    elif kind == "not gzip":
        images.rename(images.with_name(images.name + ".gz"))
    elif kind == "cut gzip":
        content = gzip.compress(images.read_bytes())
        images.unlink()
        images.with_name(images.name + ".gz").write_bytes(content[: len(content) // 2])
    elif kind == "letters":
        labels.write_bytes(idx(np.arange(20), 0x801))
    elif kind == "fewer labels":
        labels.write_bytes(idx(np.arange(10), 0x801))
    elif kind == "large":
        images.write_bytes(idx(np.zeros((20, 32, 32)), 0x803))


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("missing", "no t10k-labels-idx1-ubyte"),
        ("truncated", "t10k-images-idx3-ubyte"),
        ("short", "t10k-images-idx3-ubyte"),
        ("swapped", "0x801, not 0x803"),
        ("not gzip", r"t10k-images-idx3-ubyte\.gz"),
        ("cut gzip", r"t10k-images-idx3-ubyte\.gz"),
        ("letters", "labels, 0 to 9"),
        ("fewer labels", "t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte"),
        ("large", "28 x 28 pixels"),
    ],
)
def test_damaged_files_are_refused_in_one_line(kind, named, tmp_path):
    folder = tmp_path / "mnist"
    original(folder)
    damage(folder, kind)
    with pytest.raises(ValueError, match=rf"^source\.path={folder}: .*{named}") as error:
        build_source("source=mnist", path=str(folder))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("argument", "value"), [("side", 10), ("path", "nowhere")])
def test_wrong_sides_and_folders_are_refused(argument, value):
    with pytest.raises(ValueError, match=rf"^source\.{argument}={value}: "):
        build_source("source=mnist", **{argument: value})


def test_without_a_network_the_hub_is_refused_at_once(tmp_path, monkeypatch):
    from huggingface_hub import constants

    with pytest.raises(ValueError, match=r"^source\.path=hub: .*source\.path=null") as error:
        build_source("source=mnist", path="hub")
    assert "\n" not in str(error.value)

    def unreachable(address, timeout):
        raise TimeoutError

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "create_connection", unreachable)
    with pytest.raises(ValueError, match=r"^source\.path=hub: .*ConnectionError"):
        mnist.fetch(str(tmp_path))


def test_images_of_the_hub_are_read_as_they_are(tmp_path, monkeypatch):
    """A data set with the hub's columns is built here; the second opening needs no hub."""
    import datasets

    pixels = np.random.default_rng(0).integers(0, 256, size=(40, 28, 28)).astype(np.uint8)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(num_classes=10)})
    images = datasets.Dataset.from_dict({"image": list(pixels), "label": [n % 10 for n in range(40)]}, features)
    rows = list(mnist.hub_rows(images, is_eval=True))
    assert [np.frombuffer(row["pixels"], np.uint8).reshape(28, 28).tolist() for row in rows] == pixels.tolist()
    parts = {"train": images.select(range(20)), "test": images.select(range(20, 40))}
    monkeypatch.setattr(mnist, "fetch", lambda cache_dir: parts)
    changes = PIXELS | {"path": "hub", "cache_dir": str(tmp_path)}
    first = build_source("source=mnist", **changes)
    assert first.rows == {"classes": 10, "train examples": 20, "eval examples": 20}
    assert (table_of(first)[3, :-1].reshape(28, 28) == pixels[3]).all()
    monkeypatch.undo()
    assert build_source("source=mnist", **changes).fingerprint == first.fingerprint
