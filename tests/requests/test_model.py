"""A run as lm-eval's model, against lm-eval's own model of a pretrained one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from assembling import assembled
from pretrained_runs import QUICK, tiny_pretrained

pytest.importorskip("lm_eval")
# lm-eval and what it imports warn of their own future.
pytestmark = pytest.mark.filterwarnings("ignore")

PAIRS = [
    ("def f(x):\n    return", " x + 1"),
    ("def f(x):\n    return ", "x"),
    ("def f(x):\n    return", " y"),
    ("", "The end."),
    ("<|endoftext|>The café is", " open; the end."),
]
QUESTIONS = [
    ("The café is", {"until": ["\n", "e"], "max_gen_toks": 12}),
    ("def f", {"until": ["\n", "e"], "max_gen_toks": 12}),
    ("Ça va", {"max_new_tokens": 5, "do_sample": False, "until": "."}),
]
TEXTS = [("The café is open; the end. " * 9,), ("Ça va",), ("",)]


def requests_of(items):
    return [SimpleNamespace(args=item) for item in items]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tiny_pretrained(tmp_path_factory.mktemp("model") / "tiny")
    words = '{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}'
    (folder / "tokenizer_config.json").write_text(words)
    return folder


def model_of(folder, *, write=False, rows=1, positions=40, adapter="none", words=()):
    from ttt.requests.codec import codec_of
    from ttt.requests.model import RunModel
    from ttt.requests.respondent import Respondent

    assembly = assembled(*QUICK, f"model.name={folder}", f"adapter={adapter}", *words)
    codec = codec_of(assembly.source, assembly.config, ends=())
    respondent = Respondent(assembly.learner.eval(), write, rows=rows)
    return RunModel(respondent, codec, positions=positions, seed=0, progress=lambda line: None)


@pytest.fixture(scope="module")
def plain(folder):
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(folder), dtype="float32", device="cpu", max_length=40)


@pytest.mark.parametrize("rows", [1, 3])
def test_without_writes_it_answers_as_the_plain_model(folder, plain, rows):
    model = model_of(folder, rows=rows)
    scores = model.loglikelihood(requests_of(PAIRS), disable_tqdm=True)
    expected = plain.loglikelihood(requests_of(PAIRS), disable_tqdm=True)
    assert [greedy for _, greedy in scores] == [greedy for _, greedy in expected]
    assert [nats for nats, _ in scores] == pytest.approx([nats for nats, _ in expected], abs=1e-3)
    texts = model.loglikelihood_rolling(requests_of(TEXTS))
    assert texts == pytest.approx(plain.loglikelihood_rolling(requests_of(TEXTS), disable_tqdm=True), abs=1e-3)
    answers = model.generate_until(requests_of(QUESTIONS))
    assert answers == plain.generate_until(requests_of(QUESTIONS), disable_tqdm=True)
    assert model.requests > len(PAIRS) + len(TEXTS) + len(QUESTIONS)


def test_writes_change_answers_and_leave_nothing(folder):
    words = ("adapter.chunk=4", "adapter.layers=null")
    slow, fast = (model_of(folder, write=write, adapter="mlp_fast", words=words) for write in (False, True))
    pairs = requests_of(PAIRS)
    first = fast.loglikelihood(pairs, disable_tqdm=True)
    assert first == fast.loglikelihood(pairs, disable_tqdm=True)
    assert first != slow.loglikelihood(pairs, disable_tqdm=True)


@pytest.mark.parametrize("kind", ["loglikelihood", "generate_until"])
def test_a_request_beyond_the_positions_is_refused(folder, kind):
    model = model_of(folder)
    item = ("The café " * 40, " is") if kind == "loglikelihood" else ("The café", {"max_gen_toks": 99})
    with pytest.raises(ValueError, match="40 positions"):
        getattr(model, kind)(requests_of([item]))


def test_answers_that_are_not_written_so_are_refused(folder):
    with pytest.raises(ValueError, match="num_beams"):
        model_of(folder).generate_until(requests_of([("The", {"num_beams": 4})]))
