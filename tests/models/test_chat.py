"""The chat template of a model: what stands before an answer, and the answer with its end."""

from __future__ import annotations

import json

import pytest
from pretrained_runs import tiny_pretrained
from tables import sums, write_jsonl
from tokenizers import Tokenizer

from ttt.models.chat import chat_of
from ttt.run.assemble import assemble
from ttt.run.compose import compose_run

END = "<|endoftext|>"
TURNS = "{% for m in messages %}{{ '<|endoftext|>' + m['role'] + ': ' + m['content'] + '<|endoftext|>\n' }}{% endfor %}"
ASKS = "{% if add_generation_prompt %}{{ '<|endoftext|>assistant: ' }}{% endif %}"


def chat_with(template, folder):
    model = tiny_pretrained(folder)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END}
    settings |= {"chat_template": template} if template else {}
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    return model, chat_of({"name": str(model), "tokenizer": "model"}, "/nowhere")()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("chat") / "model"


def test_an_answer_ends_with_its_end_token(folder):
    model, chat = chat_with(TURNS + ASKS, folder)
    decode = Tokenizer.from_file(str(model / "tokenizer.json")).decode
    for system, head in ((None, ""), ("Be brief.", f"{END}system: Be brief.{END}\n")):
        before, after = (decode(x, skip_special_tokens=False) for x in chat.tokens("1 + 1 =", "2", system=system))
        # A space that is one token with the answer belongs to it.
        assert (before + after).replace(f"{END} ", END) == f"{head}{END}user: 1 + 1 ={END}\n{END}assistant: 2{END}"
        assert after.strip() == f"2{END}"


def test_templates_that_cannot_serve(folder):
    assert chat_with(None, folder)[1] is None
    assert chat_of({"name": "nano"}, "/nowhere") is None
    with pytest.raises(ValueError, match=r"source\.chat=false"):
        chat_with(TURNS + "{% if add_generation_prompt %}now{% endif %}", folder)[1].tokens("a", "b", system=None)


@pytest.mark.parametrize(("chat", "refused"), [("auto", False), ("true", True)])
def test_a_model_without_a_template(chat, refused, folder, tmp_path):
    model, _ = chat_with(None, folder)
    table = write_jsonl(tmp_path / "sums.jsonl", sums())
    config = compose_run((
        "model=hf", f"model.name={model}", "source=csv", f"source.path={table}", "source.prompt=q", "source.answer=a",
        f"source.chat={chat}", "task.num_tasks=1", "task.held_out=1", "task.seq_len=64", "adapter=none",
    ))  # fmt: skip
    if refused:
        with pytest.raises(ValueError, match=r"source\.chat=true: the model has no chat template"):
            assemble(config, trusted=[])
    else:
        stream = assemble(config, trusted=[]).stream
        assert END not in stream.show(stream.tasks[0].batch(0).tokens_BT[0, :20].numpy())
