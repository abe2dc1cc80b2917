"""What `import ttt` offers: the same runs, numbers and refusals as the commands."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ttt.api.opened import Run, open_run
from ttt.api.start import RunError, run
from ttt.api.table import compare
from ttt.config.messages import UsageError

TINY = ["task=split-sequence", "task.num_tasks=2", "task.steps_per_task=2", "task.seq_len=64", "task.batch_size=4",
        "base.steps=2", "model.width=16", "model.mlp_width=32", "logger=none", "report=false"]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def finished(folder: Path) -> Run:
    return run(*TINY, f"output_dir={folder}", seed=1, progress=False)


def test_import_is_light() -> None:
    code = (
        "import ttt, sys; assert 'torch' not in sys.modules; assert 'hydra' not in sys.modules; print(ttt.__version__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == subprocess.run(
        [sys.executable, "-m", "ttt.cli.run", "--version"], capture_output=True, text=True, check=True
    ).stdout.strip().removeprefix("ttt ")


def test_functions_stay_functions_beside_rooms_of_their_names() -> None:
    code = "import ttt, ttt.run.compose, ttt.compare.table; print(callable(ttt.run), callable(ttt.compare))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]


def test_run_has_the_numbers_of_results_json(finished: Run) -> None:
    written = json.loads((finished.folder / "results.json").read_text())
    assert {name: value for name, value in written["metrics"].items() if value is not None}.items() <= (
        {name: value for name, value in finished.metrics.items() if value == value}.items()
    )
    r = finished.R("fast", "loss")
    assert np.asarray(r).shape == (3, 2)
    assert r.tasks == written["tasks"]
    assert list(r.to_frame().columns) == written["tasks"]
    long = finished.to_frame()
    cell = long[(long["mode"] == "fast") & (long["quantity"] == "loss") & (long["row"] == 2)]["value"].to_list()
    assert cell == pytest.approx(list(r[2]))


def test_same_call_returns_the_finished_run(finished: Run, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (finished.folder / "results.json").stat().st_mtime_ns
    again = run(*TINY, f"output_dir={folder}", seed=1, progress=False)
    assert again.folder == finished.folder
    assert (again.folder / "results.json").stat().st_mtime_ns == before
    assert capsys.readouterr() == ("", "")


def test_opened_run_gives_its_learner(finished: Run) -> None:
    learner = open_run(finished.folder).learner()
    assert sum(p.numel() for p in learner.model.parameters()) > 0


def test_handlers_of_the_process_stay(finished: Run, folder: Path) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    run(*TINY, f"output_dir={folder}", "task.steps_per_task=1", seed=1, progress=False)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_comparison_is_that_of_the_command(finished: Run, folder: Path) -> None:
    table = compare(folder, metrics=["fast/loss/avg_final"])
    typed = [
        sys.executable,
        "-m",
        "ttt.cli.compare",
        str(folder),
        "--metrics",
        "fast/loss/avg_final",
        "--format",
        "csv",
    ]
    done = subprocess.run(typed, capture_output=True, text=True, check=True)
    assert table.to("csv").strip() == done.stdout.strip()
    assert set(table.to_frame()["column"]) == {"fast/loss/avg_final"}
    assert "|" in table._repr_markdown_()


def test_a_string_is_a_list_of_one_and_a_paper_has_names(finished: Run, folder: Path) -> None:
    table = compare(str(folder), metrics="fast/loss/avg_final", where="seed=1")
    assert table.sheet == compare(folder, metrics=["fast/loss/avg_final"], where=["seed=1"]).sheet
    typed = [sys.executable, "-m", "ttt.cli.compare", str(folder), "--where", "seed=1"]
    typed += ["--metrics", "fast/loss/avg_final", "--format", "latex"]
    done = subprocess.run(typed, capture_output=True, text=True, check=True)
    assert table.to("latex").strip() == done.stdout.strip()
    assert "fast/loss/avg_final" not in done.stdout


@pytest.mark.parametrize("word", ["adapter=mlp_fats", "optimizer.lr=-1", "-m", "seed=x"])
def test_refusals_are_usage_errors(word: str) -> None:
    with pytest.raises(UsageError, match=word.partition("=")[0]):
        run(*TINY, word, progress=False)


def test_wrong_questions_are_usage_errors(finished: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="fast"):
        finished.R("fats")
    with pytest.raises(UsageError, match="no such folder"):
        open_run(tmp_path / "nothing")
    with pytest.raises(UsageError, match="no finished run"):
        compare(tmp_path)
    with pytest.raises(UsageError, match="markdown"):
        compare(finished.folder).to("markdwn")


def test_run_that_diverges_says_where_its_files_are(folder: Path) -> None:
    with pytest.raises(RunError) as stopped:
        run(*TINY, f"output_dir={folder}", "optimizer=sgd", "optimizer.lr=1e30", seed=2, progress=False)
    assert stopped.value.code == 76
    assert (stopped.value.folder / "status.json").is_file()
