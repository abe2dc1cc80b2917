"""Words that belong to another command, or stand in another order: one line with the right command."""

from __future__ import annotations

import subprocess
import sys

import pytest
from commands import assert_refused, typed
from harness import run_here

from ttt.cli import bench, check, export, probe

# What is typed behind ttt-run, and the command that its refusal names.
RUN = [
    (["compare", "outputs"], "did you mean ttt-compare outputs?"),
    (["run", "seed=1"], "did you mean ttt-run seed=1?"),
    (["help"], "did you mean ttt-run --help?"),
    (["adapter:mlp_fast"], "did you mean adapter=mlp_fast?"),
    (["adapter", "mlp_fast"], "did you mean adapter=mlp_fast?"),
    (["--adapter=mlp_fast"], "did you mean adapter=mlp_fast?"),
    (["config-dir=mine"], "did you mean --config-dir=mine?"),
    (["soruce=text"], "did you mean source=text?"),
    (["--seeds", "3"], "--seeds 3: "),
]
# What is typed behind other commands, and what their refusal names.
OTHERS = [
    (bench.main, ["ttt-bench"], ["what"]),
    (bench.main, ["ttt-bench", "harnes"], ["harnes: ", "did you mean harness?"]),
    (bench.main, ["ttt-bench", "kernels", "--rouds", "3"], ["did you mean --rounds?"]),
    (export.main, ["ttt-export", "RUN"], ["--to"]),
    (export.main, ["ttt-export", "nowhere", "--to", "x"], ["nowhere: no such folder"]),
    (probe.main, ["ttt-probe", "causality", "nowhere"], ["nowhere: no such folder"]),
    (check.main, ["ttt-check", "adapter"], ["adapter: must be GROUP=NAME"]),
    (check.main, ["ttt-check", "adpter=none"], ["did you mean adapter?"]),
]


@pytest.mark.parametrize(("words", "command"), RUN, ids=[" ".join(words) for words, _ in RUN])
def test_ttt_run_names_the_right_command(words, command, tmp_path):
    assert_refused(run_here(words, tmp_path), command)


@pytest.mark.parametrize(("main", "words", "parts"), OTHERS, ids=[" ".join(words) for _, words, _ in OTHERS])
def test_other_commands_refuse_in_one_line(main, words, parts, tmp_path):
    outcome = typed(main, *words, cwd=tmp_path)
    assert_refused(outcome, *parts)
    assert outcome.err.startswith(f"{words[0]}: ")


@pytest.mark.parametrize("words", [["probe", "causality", "nowhere"], ["export", "nowhere", "--to", "x"], ["check"]])
def test_a_wrong_word_does_not_wait_for_torch(words, tmp_path):
    name, *arguments = words
    code = f"import sys; sys.argv = ['ttt-{name}', *{arguments}]\nfrom ttt.cli.{name} import main\n"
    code += "try: main()\nexcept SystemExit as stop: sys.exit(10 * ('torch' in sys.modules) + stop.code)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
