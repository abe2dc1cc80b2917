"""Images as tokens: real data, patches by hand, pictures on the screen, refusals."""

from __future__ import annotations

import hashlib
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sources import build_source, shared_source, table_of

from ttt.tasks import digits, mnist
from ttt.tasks.machinery.images import patches, read_parquet


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
    chosen = np.random.default_rng(0).permutation(count)[:2000]
    flat = pixels[chosen].reshape(len(chosen), -1).astype(np.float32)
    squares = (flat**2).sum(1)
    distance = squares[:, None] + squares - 2 * flat @ flat.T
    np.fill_diagonal(distance, np.inf)
    assert (labels[chosen][distance.argmin(1)] == labels[chosen]).mean() > 0.9


def test_tokens_still_tell_the_classes_apart():
    """Quantised images keep what matters: the nearest train image mostly has the same label."""
    source = shared_source("source=digits")
    table = table_of(source)
    grey = (table[:, :-1, None] // 4 ** np.arange(4) % 4).reshape(len(table), -1).astype(np.float32)
    train, held_out = source._flat, np.concatenate(source._eval)
    distance = (grey[train] ** 2).sum(1) - 2 * grey[held_out] @ grey[train].T
    nearest = table[train[distance.argmin(1)], -1]
    assert (nearest == table[held_out, -1]).mean() > 0.9


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


def test_pictures():
    """The first digit looks as in the docstring; packed digits stand side by side."""
    source = shared_source("source=digits")
    first = table_of(source)[0]
    lines = source.show(first).split("\n")
    assert lines[-1] == "digit 0"
    assert all(line in digits.__doc__ for line in lines)
    packed = source.take(source.units(np.arange(10), length=118)[:7][None], length=118).tokens_BT[0].numpy()
    bands = source.show(packed).split("\n\n")
    assert len(bands) == 2
    assert bands[0].split("\n")[-1].split("digit ")[1:] == ["0           "] * 3 + ["0"]
    assert max(map(len, source.show(packed).split("\n"))) <= 80
    # The last label is only a target, so the third digit of the second band has none.
    assert bands[1].split("\n")[-1].count("digit") == 2
    # A digit that is cut off is shown as far as it goes.
    half = source.show(first[:8]).split("\n")
    assert half[:4] == lines[:4]
    assert not "".join(half[4:]).strip()


def test_pictures_show_permuted_data_too():
    """Positions may be permuted, symbols renamed, and labels stand where an image should be."""
    source = shared_source("source=digits")
    bright = source.show(np.full(17, 255)).split("\n")
    assert bright == ["█" * 16] * 8 + ["??"]
    assert source.show(np.full(16, source.labels[0])).split("\n")[0] == "?" * 16
    example = table_of(source)[0]
    reversed_example = example.copy()
    reversed_example[:16] = example[:16][::-1]
    shades = [sorted(source.show(tokens).replace("\n", "").replace(" ", "")) for tokens in (example, reversed_example)]
    assert shades[0] == shades[1]


@pytest.mark.parametrize(
    ("changes", "typed"),
    [
        ({"eval_share": 0.0}, r"eval_share=0\.0: "),
        ({"eval_share": 1e-6}, r"eval_share=1e-06: 'digit 0' of digits has no eval example"),
        ({"eval_share": 1 - 1e-6}, r"eval_share=0\.999999: 'digit 0' of digits has no train example"),
        ({"patch": 3}, r"patch=3: .* 1, 2, 4, 8"),
        ({"patch": 0}, "patch=0: "),
        ({"levels": 1}, "levels=1: "),
        ({"patch": 4}, r"patch=4 with source\.levels=4: 4294967296 .* 4096"),
        ({"levels": 9}, r"patch=2 with source\.levels=9: 6561 "),
    ],
)
def test_impossible_digits_are_refused_in_one_line(changes, typed):
    with pytest.raises(ValueError, match=rf"^source\.{typed}") as error:
        build_source("source=digits", **changes)
    assert "\n" not in str(error.value)
