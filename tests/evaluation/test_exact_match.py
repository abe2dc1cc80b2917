"""exact_match against a loop over the runs of scored tokens, and in a run."""

from __future__ import annotations

import json

import torch
from harness import only_run, run_here
from pretrained_runs import tiny_pretrained
from tables import sums, write_jsonl

from ttt.evaluation.tally import exact_answers

TEMPLATE = (
    "{% for message in messages %}{{ '<|endoftext|>' + message['role'] + ': ' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ '<|endoftext|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|endoftext|>assistant: ' }}{% endif %}"
)


def runs(scored):
    """[begin, stop) of every run of scored tokens of a row."""
    edges = [t for t in range(len(scored) + 1) if (t < len(scored) and scored[t]) != (t > 0 and scored[t - 1])]
    return list(zip(edges[::2], edges[1::2], strict=True))


def test_an_answer_is_exact_if_all_of_it_is():
    generator = torch.Generator().manual_seed(0)
    scored_BT = torch.rand(50, 20, generator=generator) < 0.6
    hits_BT = torch.rand(50, 20, generator=generator) < 0.7
    exact_BT, ends_BT = exact_answers(hits_BT, scored_BT)
    for row in range(50):
        answers = runs(scored_BT[row].tolist())
        assert ends_BT[row].nonzero()[:, 0].tolist() == [stop - 1 for _, stop in answers]
        right = [stop - 1 for begin, stop in answers if hits_BT[row, begin:stop].all()]
        assert exact_BT[row].nonzero()[:, 0].tolist() == right


def chatting(folder):
    """A tiny model whose tokenizer has a chat template."""
    model = tiny_pretrained(folder)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>", "chat_template": TEMPLATE}
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    return model


def test_a_run_on_chats(tmp_path):
    model, table = chatting(tmp_path / "model"), write_jsonl(tmp_path / "sums.jsonl", sums())
    typed = [
        "model=hf", f"model.name={model}", "source=csv", f"source.path={table}", "source.prompt=q", "source.answer=a",
        "source.group=kind", "source.chat=true", "source.system=Add.", "task.num_tasks=2", "task.held_out=2",
        "task.steps_per_task=2", "task.batch_size=2", "task.eval_sequences=2", "task.seq_len=96", "adapter=none",
        "eval.diagnostics=false", "report=false", "trainer.threads=1", "trainer.precision=32-true",
        "trainer.accelerator=cpu", "logger=none", f"output_dir={tmp_path}/outputs",
    ]  # fmt: skip
    done = run_here(typed, tmp_path)
    assert done.code == 0, done.err
    assert "Exact match (share of answers)" in done.out
    folder = only_run(tmp_path)
    scores = json.loads((folder / "results.json").read_text())["rows"][-1]["scores"]["slow"]
    assert all(0 <= exact <= 1 for exact in scores["exact_match"])
    shown = json.loads((folder / "samples.json").read_text())[0]["text"]
    # This tokenizer puts a space in front of what follows a special token.
    assert shown.replace("<|endoftext|> ", "<|endoftext|>").startswith("<|endoftext|>system: Add.<|endoftext|>user: ")
