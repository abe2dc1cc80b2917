"""Running text by class: pure, read once in a pass, and no eval window was trained on."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from sources import build_source, shared_source
from texts import every_class, parts_of

from ttt.tasks import tables
from ttt.tasks.machinery import spans

EMBEDDED = ["languages", "code", "prose", "tables", "corpora"]


@pytest.fixture(params=EMBEDDED)
def source(request):
    return shared_source(f"source={request.param}")


def test_a_batch_is_a_pure_function_of_its_key(source):
    classes = every_class(source)[1:]

    def draw(key):
        return source.draw(classes, rows=8, length=40, rng=np.random.default_rng(key))

    assert torch.equal(draw(1).tokens_BT, draw(1).tokens_BT)
    assert not torch.equal(draw(1).tokens_BT, draw(2).tokens_BT)
    assert draw(1).tokens_BT.shape == draw(1).segment_BT.shape == (8, 40)
    first, second = (source.evaluation(classes, rows=8, length=40) for _ in range(2))
    assert torch.equal(first.tokens_BT, second.tokens_BT)


def test_windows_lie_inside_their_part(source):
    """Drawn windows and the token after stand in a train part, eval windows in one clean run."""
    rng = np.random.default_rng(0)
    for c in rng.choice(every_class(source), 5, replace=False):
        train, runs = parts_of(source)[c]
        drawn = source.draw(np.array([c]), rows=200, length=100, rng=rng)
        held_out = source.evaluation(np.array([c]), rows=50, length=100)
        for batch, homes in ((drawn, [train]), (held_out, runs)):
            homes = [home.tobytes() for home in homes]
            assert torch.equal(batch.tokens_BT[:, 1:], batch.targets_BT[:, :-1])
            for tokens, targets in zip(batch.tokens_BT.tolist(), batch.targets_BT.tolist(), strict=True):
                assert any(bytes([*tokens, targets[-1]]) in home for home in homes)


def test_no_text_for_evaluation_was_trained_on(source):
    """No 128 bytes of an eval run are in any train part: exact for a sample, by hashes for all."""
    trains, runs = zip(*parts_of(source), strict=True)
    train_spans = spans.span_hashes(trains)
    assert not any(len(spans.repeats(run, train_spans)) for runs_of_class in runs for run in runs_of_class)
    everywhere = b"\0".join(train.tobytes() for train in trains)
    batch = source.evaluation(every_class(source), rows=100, length=spans.SPAN)
    assert not any(bytes(tokens) in everywhere for tokens in batch.tokens_BT.tolist())


def test_one_pass_reads_every_unit_once(source):
    length, classes = 100, every_class(source)[::3]
    units = source.units(classes, length=length)
    assert source.per_row(length=length) == 1
    assert len(np.unique(units)) == len(units)
    parts = parts_of(source)
    # In another order than they stand in, as a stream would.
    order = np.random.default_rng(0).permutation(len(units))
    batch = source.take(units[order][:, None], length=length)
    read = np.empty((len(units), length), np.uint8)
    read[order] = batch.tokens_BT.numpy()
    expected = [parts[c][0][: (len(parts[c][0]) - 1) // length * length].reshape(-1, length) for c in classes]
    assert (read == np.concatenate(expected)).all()
    assert torch.equal(batch.tokens_BT[:, 1:], batch.targets_BT[:, :-1])


def test_a_source_describes_itself(source):
    classes = every_class(source)
    assert sorted(c for family in source.families() for c in family) == classes.tolist()
    assert len({source.class_name(c) for c in classes}) == len(classes) == source.rows["classes"]
    trains, runs = zip(*parts_of(source), strict=True)
    assert source.rows["train tokens"] == sum(map(len, trains))
    assert source.rows["eval tokens"] == sum(len(run) for runs_of_class in runs for run in runs_of_class)
    assert (source.vocab_size, source.symbols, source.labels, source.example_len) == (256, range(256), range(0), None)
    assert np.isnan(source.entropy(classes))


def test_evaluation_is_even_over_classes(source):
    """Many rows hold all classes alike, but for one row; few rows hold some, from first to last."""
    runs_of = [b"\0".join(run.tobytes() for run in runs) for _, runs in parts_of(source)]
    classes = every_class(source)[-4:]
    few = source.evaluation(classes, rows=2, length=64)
    assert bytes(few.tokens_BT[0].tolist()) in runs_of[classes[0]]
    assert bytes(few.tokens_BT[1].tolist()) in runs_of[classes[-1]]
    many = source.evaluation(classes, rows=10, length=64)
    class_B = np.repeat(classes, [3, 3, 2, 2])
    assert all(bytes(row) in runs_of[c] for row, c in zip(many.tokens_BT.tolist(), class_B, strict=True))


def test_too_long_a_sequence_is_refused(source):
    classes, parts = every_class(source), parts_of(source)
    sizes = [len(train) for train, _ in parts]
    smallest = int(np.argmin(sizes))
    length = sizes[smallest]
    for refuse in (
        lambda: source.draw(classes, rows=1, length=length, rng=np.random.default_rng(0)),
        lambda: source.units(classes, length=length),
    ):
        with pytest.raises(ValueError, match=rf"^task\.seq_len={length}: .*train part.*{length - 1} ") as error:
            refuse()
        assert "\n" not in str(error.value)
    source.draw(np.array([smallest]), rows=9, length=length - 1, rng=np.random.default_rng(0))
    longest = max(len(run) for run in parts[smallest][1])
    with pytest.raises(ValueError, match=rf"^task\.seq_len={longest}: .*eval part.*{longest - 1} "):
        source.evaluation(np.array([smallest]), rows=1, length=longest)
    window = source.evaluation(np.array([smallest]), rows=1, length=longest - 1)
    assert window.tokens_BT.shape == (1, longest - 1)


@pytest.mark.parametrize("name", ["prose", "tables"])
def test_content_alone_decides_the_fingerprint(name, tmp_path):
    fingerprint = shared_source(f"source={name}").fingerprint
    assert build_source(f"source={name}", cache_dir=str(tmp_path)).fingerprint == fingerprint
    assert build_source(f"source={name}", eval_share=0.3).fingerprint != fingerprint


@pytest.mark.parametrize("eval_share", [0, 1, 1.5, -0.1])
def test_impossible_shares_are_refused(eval_share):
    with pytest.raises(ValueError, match=rf"^source\.eval_share={eval_share}: "):
        build_source("source=prose", eval_share=eval_share)


def digest(batch):
    return hashlib.sha256(batch.tokens_BT.numpy().tobytes() + batch.targets_BT.numpy().tobytes()).hexdigest()[:16]


def test_languages_are_what_they_were():
    """Batches are those of the first version, for classes without a hole in their eval part."""
    source = shared_source("source=languages")
    assert (source.rows["classes"], source.rows["classes left out"], len(source.families())) == (522, 10, 432)
    rng = np.random.default_rng([0, 2, 7])
    assert digest(source.draw(np.arange(522), rows=16, length=256, rng=rng)) == "3568805fc3884a60"
    rng = np.random.default_rng([1])
    assert digest(source.draw(np.arange(10, 30), rows=4, length=33, rng=rng)) == "d0a661abe51d8f1b"
    some = np.arange(0, 600, 100)
    assert digest(source.evaluation(some, rows=16, length=256)) == "e137d794ad852ec8"
    assert digest(source.evaluation(some, rows=4, length=64)) == "4559ac1215711478"
    assert digest(source.evaluation(some[:1], rows=5, length=128)) == "1a05229693d99c41"


def test_relatives_are_found():
    source = shared_source("source=languages")
    names = [sorted(source.class_name(c).split()[0] for c in family) for family in source.families()]
    family_of = {code: family for family in names for code in family}
    assert "hrv" in family_of["bos_latn"]
    assert "cmn_hant" in family_of["cmn_hans"]
    assert family_of["eng"] == ["eng"]


def test_code_is_the_library_of_this_python():
    source = shared_source("source=code")
    names = [source.class_name(c) for c in every_class(source)]
    assert 60 <= len(names) <= 120
    assert {"json", "argparse", "asyncio"} <= set(names)
    assert not {"test", "site-packages", "encodings", "pydoc_data", "this"} & set(names)
    import argparse

    train = parts_of(source)[names.index("argparse")][0]
    assert Path(argparse.__file__).read_bytes().startswith(train.tobytes())


def test_tables_are_what_their_readme_says():
    source = shared_source("source=tables")
    assert hashlib.sha256(tables.DATA.read_bytes()).hexdigest() in (tables.DATA.parent / "README.md").read_text()
    names = ["breast_cancer", "diabetes", "digits", "iris", "wine"]
    assert [source.class_name(c) for c in every_class(source)] == names
    for train, _ in parts_of(source):
        lines = train.tobytes().decode().splitlines()
        assert len({line.count(",") for line in lines}) == 1


def test_prose_does_not_repeat_itself():
    """Topics that are passages of others are left out, so that eval parts lose hardly anything."""
    source = shared_source("source=prose")
    whole = sum(len(train) for train, _ in parts_of(source)) + source.rows["eval tokens"]
    assert source.rows["eval tokens"] / whole == pytest.approx(0.2, abs=0.02)
    assert {"short topics", "types", "strings"} <= {source.class_name(c) for c in every_class(source)}


def test_classes_below_the_typed_size_are_left_out():
    every, large = shared_source("source=code"), build_source("source=code", least_bytes=150_000)
    sizes = {every.class_name(c): sum(map(len, [train, *runs])) for c, (train, runs) in enumerate(parts_of(every))}
    names = {large.class_name(c) for c in every_class(large)}
    assert {"asyncio", "email"} <= names < set(sizes)
    assert all(len(train) > 0.7 * 150_000 for train, _ in parts_of(large))
    with pytest.raises(ValueError, match=r"^source=tables: no class has 9000000 bytes"):
        build_source("source=tables", least_bytes=9_000_000)


def test_code_of_installed_packages():
    source = build_source("source=code", packages=["yaml", "hydra"])
    assert [source.class_name(c) for c in every_class(source)] == ["yaml", "hydra"]
    import yaml

    text = parts_of(source)[0][0].tobytes().decode()
    assert text.startswith(Path(yaml.__file__).read_text())
    with pytest.raises(ValueError, match=r"^source\.packages=\[nunpy\]: .*did you mean numpy\?"):
        build_source("source=code", packages=["nunpy"])
