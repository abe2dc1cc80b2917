"""What a source says of the kinds of its classes, on the way to the tasks and into results."""

from __future__ import annotations

import numpy as np
import pytest
from small_streams import build_stream
from sources import shared_source
from texts import every_class

from ttt.results.results import Results
from ttt.stream import Tagged
from ttt.tasks.languages import script_of
from ttt.tasks.machinery.cut import SourceView
from ttt.tasks.machinery.drawn import DrawnTask, Sizes


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("Φύλλα δέντρων 1948, UN", "Greek"),
        ("सभी मनुष्यों को", "Devanagari"),
        ("すべての人間は", "Japanese"),
        ("人人生而自由", "Han"),
        ("ᎾᏂᎥᎢ ᎨᎦᏓᏙᎳᏍᏗ", "Cherokee"),
        ("ᐃᓄᓕᒫᑦ", "Canadian Syllabics"),
        ("มนุษย์ทั้งหลาย", "Thai"),
        ("1948 -", "None"),
    ],
)
def test_scripts_by_most_letters(text, script):
    assert script_of(text) == script


def test_languages_say_their_script():
    source = shared_source("source=languages")
    assert isinstance(source, Tagged)
    scripts = {source.class_name(c).split()[0]: source.tags(c)["script"] for c in every_class(source)[:40]}
    assert set(scripts.values()) >= {"Latin", "Han"}
    tokens = shared_source("source=languages", "source.tokenizer=bpe-1024")
    assert [tokens.tags(c)["script"] for c in every_class(tokens)[:40]] == list(scripts.values())


def test_a_part_of_a_corpus_adds_its_name():
    joined, languages = shared_source("source=corpora"), shared_source("source=languages")
    assert joined.tags(3) == {"part": "languages", **languages.tags(3)}
    assert joined.tags(int(every_class(joined)[-1])) == {"part": "tables"}


class Shapes:
    """A source of two classes of one colour and two shapes; the third class has no colour."""

    def tags(self, index):
        return [{"colour": "red", "shape": "round"}, {"colour": "red", "shape": "flat"}, {"shape": "flat"}][index]


class Untagged:
    pass


@pytest.mark.parametrize(
    ("classes", "tags"),
    [
        ([0], {"colour": "red", "shape": "round"}),
        ([0, 1], {"colour": "red", "shape": "mixed"}),
        ([1, 2], {"colour": "mixed", "shape": "flat"}),
    ],
)
def test_a_task_has_the_tags_that_its_classes_share(classes, tags, monkeypatch):
    monkeypatch.setattr("ttt.tasks.machinery.drawn.fingerprint", lambda batch, evaluation: "")
    sizes = Sizes(batch_size=1, length=4, eval_sequences=1)
    views = [SourceView(source=Shapes(), classes=np.array(classes))]
    assert DrawnTask(views, name="a", key=[0], sizes=sizes).tags == tags
    plain = [SourceView(source=Untagged(), classes=np.array(classes))]
    assert DrawnTask(plain, name="a", key=[0], sizes=sizes).tags == {}


def test_results_take_the_tags_of_the_tasks():
    stream = build_stream("source=languages", "task=split-sequence", "task.num_tasks=3")
    results = Results.of(stream)
    assert [set(tags) for tags in results.tags] == [{"script"}] * 3
    assert Results.of(build_stream("source=digits", "task=split-sequence")).tags[0] == {}
