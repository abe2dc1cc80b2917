"""Labelled examples: packed by hand, train apart from eval by content, labels that only content gives away."""

from __future__ import annotations

import gzip
import hashlib
import socket
import struct
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_module
from hypothesis import given, settings
from hypothesis import strategies as st

from ttt.config.build import build
from ttt.stream import IGNORE
from ttt.tasks import digits, mnist
from ttt.tasks.digits import Digits
from ttt.tasks.machinery.examples import Examples, Labelled
from ttt.tasks.machinery.images import patches, read_parquet
from ttt.tasks.mnist import Mnist, as_rows, fetch

ALL = np.arange(10)


@dataclass(kw_only=True, eq=False)
class Tiny(Examples):
    """Two tokens an example; `content` tells its class: 3 * class and up."""

    given: Labelled

    def read(self) -> Labelled:
        return self.given

    def show(self, tokens):
        return " ".join(map(str, tokens))


def tiny(tokens, classes, *, eval_share=0.5, is_eval=None):
    table = Labelled(np.array(tokens), np.array(classes), ["a", "b"], 10, is_eval)
    return Tiny(name="tiny", eval_share=eval_share, given=table)


@pytest.fixture(scope="module")
def sources(cache):
    return {"digits": make_digits(), "mnist": make_mnist(cache)}


AS_TOKENS = {"read_as": "tokens", "pad": 0, "standardise": False}


def make_digits(**options):
    return Digits(name="digits", **(AS_TOKENS | {"eval_share": 0.2, "patch": 2, "levels": 4} | options))


def make_mnist(cache, **options):
    arguments = {"eval_share": 0.2, "patch": 2, "levels": 4, "path": None, "side": 14, "cache_dir": str(cache)}
    return Mnist(name="mnist", **(AS_TOKENS | arguments | options))


def split_examples(batch, length):
    """Contents [N, L] and labels [N] of all examples whose label is a target."""
    window = np.concatenate([batch.tokens_BT.numpy(), batch.targets_BT.numpy()[:, -1:]], axis=1)
    examples = window.reshape(-1, length + 1)
    return examples[:, :-1], examples[:, -1]


def every(source):
    """All examples: content, then the label."""
    return np.column_stack([source._contents, source._targets_N]).astype(np.int32)


def contents(source, parts):
    return {every(source)[i, :-1].tobytes() for part in parts for i in part}


def test_packing_by_hand():
    source = tiny([[0, 1], [2, 3], [4, 5], [6, 7]], [0, 0, 1, 1])
    batch = source.take(np.array([[2, 0]]), length=5)
    assert batch.tokens_BT.tolist() == [[4, 5, 11, 0, 1]]
    assert batch.targets_BT.tolist() == [[IGNORE, 11, IGNORE, IGNORE, 10]]
    assert batch.segment_BT.tolist() == [[0, 0, 0, 0, 0]]
    assert [source.per_row(length=n) for n in (2, 4, 5, 7, 8)] == [1, 1, 2, 2, 3]
    assert (source.vocab_size, source.example_len) == (12, 2)
    assert (source.symbols, source.labels) == (range(10), range(10, 12))


@settings(deadline=None)
@given(length=st.integers(2, 40), rows=st.integers(1, 6), seed=st.integers(0, 9))
def test_a_row_fits_and_only_labels_are_scored(length, rows, seed):
    source = tiny([[0, 1], [2, 3], [4, 5], [6, 7]], [0, 0, 1, 1])
    classes = np.array([1, 0])
    for batch in (
        source.draw(classes, rows=rows, length=length, rng=np.random.default_rng(seed)),
        source.evaluation(classes, rows=rows, length=length),
    ):
        fit = source.per_row(length=length)
        assert batch.tokens_BT.shape == (rows, 3 * fit - 1)
        assert batch.tokens_BT.shape[1] <= length
        scored = batch.targets_BT != IGNORE
        assert scored.sum() == rows * fit
        assert (batch.targets_BT[scored] >= 10).all()
        # Every scored target stands right behind its content.
        assert (batch.targets_BT[:, :-1][~scored[:, :-1]] == IGNORE).all()
        assert (batch.tokens_BT[:, 1:][scored[:, :-1]] == batch.targets_BT[:, :-1][scored[:, :-1]]).all()


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_content_is_a_pure_function(name, sources, cache):
    one = sources[name]
    two = make_digits() if name == "digits" else make_mnist(cache)
    assert one.fingerprint == two.fingerprint
    first = one.draw(ALL, rows=3, length=256, rng=np.random.default_rng(5))
    again = two.draw(ALL, rows=3, length=256, rng=np.random.default_rng(5))
    other = two.draw(ALL, rows=3, length=256, rng=np.random.default_rng(6))
    assert all((a == b).all() for a, b in zip(first[:3], again[:3], strict=True))
    assert not (first.tokens_BT == other.tokens_BT).all()
    evals = [s.evaluation(ALL[::-1] if s is two else ALL, rows=4, length=256) for s in (one, two)]
    assert (evals[0].tokens_BT == evals[1].tokens_BT).all()


def test_the_split_is_part_of_the_fingerprint():
    assert len({make_digits(eval_share=share).fingerprint for share in (0.2, 0.21, 0.3)}) == 3
    assert make_digits(levels=3).fingerprint != make_digits(levels=4).fingerprint


@pytest.mark.parametrize(
    "options", [{}, {"levels": 2}, {"levels": 3}, {"side": 7, "patch": 1}, {"side": 7, "patch": 1, "levels": 2}]
)
def test_no_content_stands_in_both_parts(options, cache):
    source = make_mnist(cache, **options)
    assert not contents(source, source._train) & contents(source, source._eval)
    held_out = source.rows["eval examples"] + source.rows.get("left out of eval, equal to a train example", 0)
    assert held_out == 2000
    if options.get("side") == 7:
        assert held_out > source.rows["eval examples"]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), min_size=8, max_size=40), st.randoms())
def test_twins_are_left_out_of_eval(pairs, random):
    tokens = np.array([[a, a] for a, _ in pairs])
    classes = np.array([c for _, c in pairs])
    is_eval = np.array([random.random() < 0.5 for _ in pairs])
    train = {row.tobytes() for row in tokens[~is_eval]}
    fresh = [is_eval[n] and row.tobytes() not in train for n, row in enumerate(tokens)]
    if not all((classes[part] == c).any() for part in (~is_eval, np.array(fresh)) for c in (0, 1)):
        with pytest.raises(ValueError, match=r"source\.eval_share=0\.5: '[ab]' of tiny has no (train|eval) example"):
            tiny(tokens, classes, is_eval=is_eval)
        return
    source = tiny(tokens, classes, is_eval=is_eval)
    assert not contents(source, source._train) & contents(source, source._eval)
    twins = is_eval.sum() - np.sum(fresh)
    assert source.rows.get("left out of eval, equal to a train example", 0) == twins


@pytest.mark.parametrize("name", ["digits", "mnist"])
@pytest.mark.parametrize("classes", [[3], [0, 1, 2, 3, 4], list(range(10))])
def test_draws_are_train_and_evaluation_is_eval(name, classes, sources):
    source, classes = sources[name], np.array(classes)
    train = contents(source, [source._train[c] for c in classes])
    held_out = contents(source, [source._eval[c] for c in classes])
    drawn, labels = split_examples(source.draw(classes, rows=20, length=256, rng=np.random.default_rng(0)),
                                   source.example_len)  # fmt: skip
    assert {row.astype(np.int32).tobytes() for row in drawn} <= train
    assert set(labels - source.labels.start) <= set(classes)
    shown, labels = split_examples(source.evaluation(classes, rows=20, length=256), source.example_len)
    assert {row.astype(np.int32).tobytes() for row in shown} <= held_out
    # Classes evenly: they differ by at most one example.
    counts = np.bincount(labels - source.labels.start, minlength=10)[classes]
    assert counts.max() - counts.min() <= 1
    assert counts.sum() == len(labels)


def test_evaluation_covers_evenly_and_repeats_when_it_must():
    source = make_digits()
    size = len(source._eval[3])
    all_of_it, _ = split_examples(source.evaluation(np.array([3]), rows=size, length=16), 16)
    assert len(np.unique(all_of_it, axis=0)) == len(contents(source, [source._eval[3]]))
    twice, _ = split_examples(source.evaluation(np.array([3]), rows=2 * size, length=16), 16)
    _, counts = np.unique(twice, axis=0, return_counts=True)
    assert counts.min() == 2
    few, labels = split_examples(source.evaluation(ALL, rows=4, length=16), 16)
    assert len(few) == len(set(labels)) == 4


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_a_label_cannot_be_read_off_its_place(name, sources):
    """In every place of a row all labels are about as frequent as anywhere; and none follows another."""
    source = sources[name]
    batch = source.evaluation(ALL, rows=400, length=5 * (source.example_len + 1) - 1)
    _, labels = split_examples(batch, source.example_len)
    rows = labels.reshape(400, 5) - source.labels.start
    for place in rows.T:
        assert (np.abs(np.bincount(place, minlength=10) - 40) < 4 * 6).all()
    steps = np.bincount((rows[:, 1:] - rows[:, :-1]).ravel() % 10, minlength=10)
    assert (np.abs(steps - 160) < 4 * 12).all()


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_one_pass_reads_every_train_example_once(name, sources):
    source, classes = sources[name], np.array([7, 2])
    units = source.units(classes, length=256)
    per_row = source.per_row(length=256)
    whole = units[: len(units) // per_row * per_row].reshape(-1, per_row)
    read, labels = split_examples(source.take(whole, length=256), source.example_len)
    expected = every(source)[np.sort(whole.ravel())]
    got = np.column_stack([read, labels])
    assert sorted(map(tuple, got.tolist())) == sorted(map(tuple, expected.tolist()))
    assert len(np.unique(units)) == len(units) == sum(len(source._train[c]) for c in classes)
    assert set(every(source)[units, -1] - source.labels.start) == {7, 2}


def test_data_is_what_its_readme_says():
    readme = (digits.DATA.parent / "README.md").read_text()
    for data in (digits.DATA, mnist.DATA):
        assert hashlib.sha256(data.read_bytes()).hexdigest() in readme


@pytest.mark.parametrize(("module", "count"), [(digits, 1797), (mnist, 10_000)])
def test_labels_fit_their_images(module, count):
    """The nearest of the other images has the same label."""
    pixels, labels = read_parquet(module.DATA, side=module.SIDE)
    assert pixels.shape == (count, module.SIDE, module.SIDE)
    assert pixels.max() == module.WHITE
    chosen = np.random.default_rng(0).permutation(count)[:3000]
    flat = pixels[chosen].reshape(len(chosen), -1).astype(np.float32)
    squares = (flat**2).sum(1)
    distance = squares[:, None] + squares - 2 * flat @ flat.T
    np.fill_diagonal(distance, np.inf)
    assert (labels[chosen][distance.argmin(1)] == labels[chosen]).mean() > 0.9


def test_tokens_still_tell_the_classes_apart(sources):
    """Nearest neighbour on tokens as numbers' digits: quantised images keep what matters."""
    source = sources["digits"]
    grey = every(source)[:, :-1, None] // 4 ** np.arange(4) % 4
    grey = grey.reshape(len(grey), -1).astype(np.float32)
    train, held_out = source._flat, np.concatenate(source._eval)
    distance = (grey[train] ** 2).sum(1) - 2 * grey[held_out] @ grey[train].T
    nearest = every(source)[train[distance.argmin(1)], -1]
    assert (nearest == every(source)[held_out, -1]).mean() > 0.9


@settings(deadline=None)
@given(st.sampled_from([(1, 2), (1, 17), (2, 2), (2, 4), (2, 8), (3, 2)]), st.integers(0, 99))
def test_patches_keep_every_pixel(shape, seed):
    patch, levels = shape
    image = np.random.default_rng(seed).integers(0, levels, size=(2, 6, 6)).astype(np.uint16)
    tokens = patches(image, patch=patch, levels=levels)
    assert tokens.max() < levels ** (patch * patch)
    side = 6 // patch
    for n, y, x in np.ndindex(2, side, side):
        pixels = image[n, y * patch : (y + 1) * patch, x * patch : (x + 1) * patch].ravel()
        assert tokens[n, y * side + x] == reduce(lambda number, pixel: number * levels + int(pixel), pixels, 0)


def test_patches_of_the_docstring():
    image = np.array([[[0, 1, 3, 3], [2, 3, 3, 0], [0, 0, 0, 0], [0, 0, 0, 0]]], dtype=np.uint16)
    assert patches(image, patch=2, levels=4).tolist() == [[27, 252, 0, 0]]


def test_pictures(sources):
    """As in the module's docstring; packed ones side by side; a trailing one as far as it goes."""
    source = sources["digits"]
    lines = source.show(every(source)[0]).split("\n")
    assert lines[-1] == "digit 0"
    assert all(line in digits.__doc__ for line in lines)
    packed = source.take(source.units(ALL, length=118)[:7][None], length=118).tokens_BT[0].numpy()
    bands = source.show(packed).split("\n\n")
    assert len(bands) == 2
    assert bands[0].split("\n")[-1].split("digit ")[1:] == ["0           "] * 3 + ["0"]
    assert max(map(len, source.show(packed).split("\n"))) <= 80
    # The last label is only a target.
    assert bands[1].split("\n")[-1].count("digit") == 2
    half = source.show(every(source)[0][:8]).split("\n")
    assert half[:4] == lines[:4]
    assert not "".join(half[4:]).strip()


def test_pictures_show_what_the_tokens_say(sources):
    """Bent data too: permuted places, renamed symbols, labels where an image should be."""
    source = sources["digits"]
    bright = source.show(np.full(17, 255)).split("\n")
    assert bright == ["█" * 16] * 8 + ["??"]
    assert source.show(np.full(16, source.labels[0])).split("\n")[0] == "?" * 16
    example = every(source)[0].copy()
    example[:16] = example[:16][::-1]
    assert sorted(source.show(example).replace("\n", "").replace(" ", "")) == sorted(
        source.show(every(source)[0]).replace("\n", "").replace(" ", "")
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eval_share": 0.0}, r"source\.eval_share=0\.0: must lie between 0 and 1"),
        ({"eval_share": 1e-6}, r"source\.eval_share=1e-06: 'digit 0' of digits has no eval example"),
        ({"eval_share": 1 - 1e-6}, r"source\.eval_share=0\.999999: 'digit 0' of digits has no train example"),
        ({"patch": 3}, r"source\.patch=3: must divide the side of 8 pixels: 1, 2, 4, 8"),
        ({"patch": 0}, r"source\.patch=0: must divide"),
        ({"levels": 1}, r"source\.levels=1: must be at least 2"),
        ({"patch": 4}, r"source\.patch=4 with source\.levels=4: 4294967296 different patches, at most 4096"),
        ({"levels": 9}, r"source\.patch=2 with source\.levels=9: 6561 different patches"),
    ],
)
def test_impossible_digits_are_refused(options, message):
    with pytest.raises(ValueError, match=message) as error:
        make_digits(**options)
    assert "\n" not in str(error.value)


def test_a_row_too_short_for_an_example_is_refused(sources):
    with pytest.raises(ValueError, match=r"task\.seq_len=15: .*source=digits \(16 tokens and its label\)"):
        sources["digits"].draw(ALL, rows=1, length=15, rng=np.random.default_rng(0))


def idx(array, magic):
    return struct.pack(f">{1 + array.ndim}i", magic, *array.shape) + array.astype(np.uint8).tobytes()


def original(folder: Path, *, compressed=()) -> dict[str, np.ndarray]:
    """The four files, small, and what is in them."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    held = {}
    for part, count in (("train", 40), ("t10k", 20)):
        held[part] = rng.integers(0, 256, size=(count, 28, 28))
        files = {
            f"{part}-images-idx3-ubyte": idx(held[part], 0x803),
            f"{part}-labels-idx1-ubyte": idx(np.arange(count) % 10, 0x801),
        }
        for name, content in files.items():
            if part in compressed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)
    return held


@pytest.mark.parametrize("compressed", [(), ("train",), ("train", "t10k")])
def test_the_original_files_bring_their_own_split(compressed, tmp_path, cache):
    held = original(tmp_path / "mnist", compressed=compressed)
    source = make_mnist(cache, path=str(tmp_path / "mnist"), side=28, patch=1, levels=256)
    assert source.rows == {"classes": 10, "train examples": 40, "eval examples": 20}
    first = source.take(source._train[3][:1][None], length=28 * 28)
    assert (first.tokens_BT.reshape(28, 28).numpy() == held["train"][3]).all()
    assert first.targets_BT[0, -1] == 256 + 3
    shown, labels = split_examples(source.evaluation(np.array([4]), rows=2, length=28 * 28), 28 * 28)
    assert {row.tobytes() for row in shown} == {held["t10k"][n].tobytes() for n in (4, 14)}
    assert set(labels) == {256 + 4}


def test_images_are_averaged_down(tmp_path, cache):
    held = original(tmp_path / "mnist")
    source = make_mnist(cache, path=str(tmp_path / "mnist"), side=7, patch=1, levels=256)
    tokens = source.take(source._train[3][:1][None], length=49).tokens_BT.reshape(7, 7).numpy()
    assert (tokens == held["train"][3].reshape(7, 4, 7, 4).mean((1, 3)).astype(int)).all()


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
    ("kind", "message"),
    [
        ("missing", "has no t10k-labels-idx1-ubyte; give a folder with train-images-idx3-ubyte, "),
        ("truncated", "t10k-images-idx3-ubyte is damaged or no IDX file"),
        ("short", "t10k-images-idx3-ubyte is damaged or no IDX file"),
        ("swapped", "begins with 0x801, not 0x803"),
        ("not gzip", r"t10k-images-idx3-ubyte\.gz is damaged"),
        ("cut gzip", r"t10k-images-idx3-ubyte\.gz is damaged"),
        ("letters", "must hold as many images of 28 x 28 pixels as labels, 0 to 9"),
        ("fewer labels", "must hold as many images"),
        ("large", "must hold as many images"),
    ],
)
def test_wrong_files_are_refused(kind, message, tmp_path, cache):
    original(tmp_path / "mnist")
    damage(tmp_path / "mnist", kind)
    with pytest.raises(ValueError, match=message) as error:
        make_mnist(cache, path=str(tmp_path / "mnist"))
    assert str(error.value).startswith(f"source.path={tmp_path / 'mnist'}: ")
    assert "\n" not in str(error.value)


def test_wrong_sides_and_folders_are_refused(cache):
    with pytest.raises(ValueError, match=r"source\.side=10: must be 28, 14 or 7"):
        make_mnist(cache, side=10)
    with pytest.raises(ValueError, match=r"source\.path=nowhere: no such folder; give a folder with train-images"):
        make_mnist(cache, path="nowhere")


def test_without_a_network_the_hub_is_refused_at_once(cache, monkeypatch):
    from huggingface_hub import constants

    with pytest.raises(ValueError, match=r"source\.path=hub: .*source\.path=null \(10,000 images") as error:
        make_mnist(cache, path="hub")
    assert "\n" not in str(error.value)

    def unreachable(address, timeout):
        raise TimeoutError

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "create_connection", unreachable)
    with pytest.raises(ValueError, match=r"cannot be had \(ConnectionError\)"):
        fetch(str(cache))


def test_images_of_the_hub_are_read_as_they_are(cache, tmp_path, monkeypatch):
    """A data set with the hub's columns, built here; the second opening needs no hub."""
    import datasets

    pixels = np.random.default_rng(0).integers(0, 256, size=(40, 28, 28)).astype(np.uint8)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(num_classes=10)})
    images = datasets.Dataset.from_dict({"image": list(pixels), "label": [n % 10 for n in range(40)]}, features)
    rows = list(as_rows(images, is_eval=True))
    assert [np.frombuffer(row["pixels"], np.uint8).reshape(28, 28).tolist() for row in rows] == pixels.tolist()
    parts = {"train": images.select(range(20)), "test": images.select(range(20, 40))}
    monkeypatch.setattr(mnist, "fetch", lambda cache_dir: parts)
    options = {"path": "hub", "side": 28, "patch": 1, "levels": 256, "cache_dir": str(tmp_path)}
    first = make_mnist(cache, **options)
    assert first.rows == {"classes": 10, "train examples": 20, "eval examples": 20}
    assert (every(first)[3, :-1].reshape(28, 28) == pixels[3]).all()
    monkeypatch.undo()
    assert make_mnist(cache, **options).fingerprint == first.fingerprint


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_yaml_makes_the_source(name, sources, cache):
    with initialize_config_module("ttt.conf", version_base="1.3"):
        config = compose(f"source/{name}", overrides=[f"+cache_dir={cache}"])
    arguments = {key: value for key, value in config["source"].items() if key != "cache_dir"}
    given = {"cache_dir": str(cache)} if "cache_dir" in config["source"] else {}
    source = build(arguments, group="source", given=given, trusted=[])
    assert source.fingerprint == sources[name].fingerprint
    assert np.isnan(source.entropy(ALL))
    assert [source.class_name(c) for (c,) in source.families()] == [f"digit {c}" for c in range(10)]
