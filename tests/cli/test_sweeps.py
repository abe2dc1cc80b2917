"""Sweeps and studies: what is typed becomes these runs, whoever runs them, and every run comes out the same."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import TINY, run_apart, run_here, start
from rich.console import Console

from ttt.cli.runs.check import arguments, check_command, compose_run
from ttt.cli.sweeps.job import Job, reason
from ttt.cli.sweeps.overview import Overview, doing, span
from ttt.cli.sweeps.study import expand
from ttt.cli.sweeps.sweep import count_jobs, split
from ttt.results import catalogue
from ttt.results.saved import from_json
from ttt.results.scores import REWARDED
from ttt.results.tuning import direction, known_metrics, obeys_continual_rule
from ttt.storage.files import write_json

# One process makes the costly fixtures once.
pytestmark = pytest.mark.xdist_group("sweeps")

ROOT = Path(__file__).parents[2]
STUDIES = {path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml") if "\nstudy:" in path.read_text()}
# Long enough for the default chunk of mlp_fast, which a sweep over adapters cannot set.
SMALLEST = [*(o for o in TINY if not o.startswith("task.seq_len")), "task.seq_len=36", "base=none", "task.num_tasks=1"]
SMALLEST = [o for o in SMALLEST if not o.startswith("base.")]
# With optimizer.lr=1e30 it fails.
SGD = [*SMALLEST, "task.steps_per_task=6", "optimizer=sgd", "optimizer.clip=null"]


def runs(*words: str) -> list[list[str]]:
    (typed,) = expand(arguments(["-m", *words]))
    check_command(typed)
    return split(typed.overrides)


def folders(where: Path) -> dict[str, bytes]:
    return {str(p.relative_to(where)): p.read_bytes() for p in sorted(where.glob("outputs/*/*/*/results.json"))}


def last_sweep(where: Path) -> Path:
    return max(where.glob("outputs/sweeps/*"))


def test_seeds_are_one_word_for_the_first_so_many():
    assert runs("seeds=3") == [["seed=0"], ["seed=1"], ["seed=2"]]
    assert runs("seeds=1", "adapter=none") == [["seed=0", "adapter=none"]]
    assert len(runs("experiment=recall", "adapter=none,mlp_fast", "seeds=5")) == 10
    # With a launcher too: it is Hydra's own word by then.
    assert "seed=0,1" in expand(arguments(["-m", "hydra/launcher=joblib", "seeds=2"]))[0].overrides


def test_ranges_and_lists_are_hydras_own():
    assert runs("seed=range(5)") == [[f"seed={k}"] for k in range(5)]
    assert runs("task.num_tasks=range(2,5)") == [[f"task.num_tasks={k}"] for k in (2, 3, 4)]
    assert runs("optimizer.lr=1e-4,3e-4") == [["optimizer.lr=0.0001"], ["optimizer.lr=0.0003"]]
    assert len(runs("adapter=none,mlp_fast", "optimizer=adamw,sgd", "seeds=3")) == 12


WRONG = [
    (["-m", "seeds=0"], "seeds=0: must be a number of at least 1"),
    (["-m", "seeds=a"], "seeds=a: must be a number of at least 1"),
    (["-m", "seeds="], "seeds=: must be a number of at least 1"),
    (["seeds=3"], "seeds=3: several runs are a sweep, which needs -m"),
    (["-m", "seeds=3", "seed=1"], "seeds=3: says which seeds there are, and so does seed=; type one of them"),
    (["-m", "seeds=2", "hydra/sweeper=optuna"], "seeds=2: a sweeper would search for the best seed"),
    (["sweep.jobs=0"], "sweep.jobs=0: must be auto or a number of at least 1"),
    (["-m", "seeds=2", "sweep.jobs=many"], "sweep.jobs=many: must be auto or a number of at least 1"),
    (["-m", "seeds=2", "sweep.max_failures=0"], "sweep.max_failures=0: must be null or a number of at least 1"),
    (["-m", "seeds=2", "hydra/launcher=jobib"], "hydra/launcher=jobib: unknown; did you mean joblib?"),
    (["hydra/launcher=joblib"], "hydra/launcher=joblib: is for a sweep, which needs -m"),
    (["-m", "hydra/launcher=joblib", "hydra.launcher.n_job=2"], "hydra.launcher.n_job=2: no 'n_job' in hydra.launcher"),
    (["-m", "hydra/launcher=joblib", "adapter=mlpfast"], "adapter=mlpfast: unknown; did you mean mlp_fast?"),
    (["-m", "optimizer.lr=interval(1e-4,1e-3)"], "optimizer.lr=interval(1e-4,1e-3): an interval is searched by"),
    (["-m", "seeds=2", "sweep.objective=fast/los/avg_final"], "sweep.objective=fast/los/avg_final: no such metric"),
    (["-m", "experiment=frontir", "seeds=2"], "experiment=frontir: unknown; did you mean frontier?"),
    (["--study", "frontir"], "--study frontir: unknown; did you mean frontier?"),
    (["--study", "recall", "experiment=recall"], "--study recall: is an experiment by itself"),
    (["study=[a]"], "study=[a]: a study stands in experiment/NAME.yaml"),
    (["--dry-run"], "--dry-run: shows what a sweep would do, so it goes with -m or --study"),
    (["-m", "--preview", "seeds=2"], "-m goes with neither --cfg, --info nor --preview"),
    (["-m", "seeds=2", "hydra/launcher=joblib", "optimizer.lr=2", "a b"], "cannot be read as name=value pairs"),
]


@pytest.mark.parametrize(("args", "message"), WRONG, ids=lambda value: value[-1] if isinstance(value, list) else "")
def test_wrong_words(args, message, tmp_path):
    outcome = run_here(args, tmp_path)
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.err.startswith("ttt-run: ")
    assert outcome.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_what_is_not_installed_is_named_with_its_extra(tmp_path, monkeypatch):
    for word, extra in (("hydra/launcher=ray", "ray"), ("hydra/sweeper=optuna", "optuna")):
        with monkeypatch.context() as patch:
            # As if nobody had installed it, where somebody has.
            patch.setattr("hydra.core.config_store.ConfigStore.list", without(word.partition("=")[2]))
            outcome = run_here(["-m", word, "optimizer.lr=1e-3,1e-4"], tmp_path)
        assert outcome.err == f'ttt-run: {word}: not installed; pip install "ttt[{extra}]"\n'
        assert outcome.code == 2
    assert not list(tmp_path.iterdir())


def without(name: str):
    from hydra.core.config_store import ConfigStore

    real = ConfigStore.list

    def listed(self, path):
        return [file for file in real(self, path) if file != f"{name}.yaml"]

    return listed


@pytest.fixture(scope="module")
def grid(tmp_path_factory) -> Path:
    """Two runs by `-m`, typed as a user does."""
    where = tmp_path_factory.mktemp("grid")
    shown = run_here(["-m", "--dry-run", *SGD, "optimizer.lr=0.1", "adapter=none,mlp_fast", "seeds=1"], where)
    (where / "dry.txt").write_text(shown.out)
    assert (shown.code, list(where.glob("outputs"))) == (0, []), shown.err
    outcome = run_apart(
        ["-m", *SGD, "optimizer.lr=0.1", "adapter=none,mlp_fast", "seeds=1", "trainer.threads=auto"], where
    )
    assert outcome.code == 0, outcome.out
    (where / "out.txt").write_text(outcome.out)
    return where


def test_a_sweep_says_what_it_did_and_how_to_compare_it(grid):
    lines = (grid / "out.txt").read_text().splitlines()
    assert lines[0].startswith("2 runs, ")
    # Labels hold what tells the runs apart, and nothing else.
    assert [line.split(" (")[0] for line in sorted(lines[1:-1])] == [
        "[1/2] adapter=none: done",
        "[2/2] adapter=mlp_fast: done",
    ]
    assert lines[-1].startswith("2 of 2 runs done, in ")
    assert lines[-1].endswith("; compare: ttt-compare outputs/split-sequence")
    assert not any("\x1b" in line for line in lines)


def test_a_dry_run_names_the_folders_that_the_sweep_then_makes(grid):
    shown = (grid / "dry.txt").read_text()
    assert shown.endswith("2 runs: 0 done, 2 to do\n")
    for name in folders(grid):
        assert f"{Path(name).parent} (new)" in shown


def test_a_dry_run_knows_what_is_done_and_finds_collisions(grid):
    typed = ["-m", "--dry-run", *SGD, "optimizer.lr=0.1"]
    outcome = run_here([*typed, "adapter=none,mlp_fast", "seeds=2"], grid)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.count("(done)") == 2
    assert outcome.out.endswith("4 runs: 2 done, 2 to do\n")
    outcome = run_here([*typed, "adapter=none", "trainer.report_every=1,2"], grid)
    assert outcome.code == 2
    assert "(the same folder as [1])" in outcome.out
    assert outcome.err.startswith("ttt-run: 1 of 2 combinations have the folder of another")
    outcome = run_here([*typed, "adapter=none", "optimizer.lr=1e-3,-1"], grid)
    assert outcome.code == 2
    assert "optimizer.lr=-1" in outcome.out
    assert len(folders(grid)) == 2


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_a_launcher_gives_the_same_bytes_and_goes_on_after_a_failure(launcher, grid, tmp_path):
    typed = ["-m", *SGD, "adapter=mlp_fast", "optimizer.lr=1e30,0.1", "seed=0", "trainer.threads=auto"]
    outcome = run_apart([*typed, f"hydra/launcher={launcher}"], tmp_path)
    assert outcome.code == 1
    assert outcome.err == "1 of 2 runs did not finish; the same command runs those again\n"
    assert outcome.out.startswith(f"2 runs by hydra/launcher={launcher}")
    assert "optimizer.lr=1e+30: FAILED with exit code 76: " in outcome.out
    assert "optimizer.lr=0.1: done" in outcome.out
    assert "1 of 2 runs done, 1 failed, in " in outcome.out
    (found,) = folders(tmp_path).items()
    assert found in folders(grid).items()


def test_typed_again_nothing_runs_again(grid):
    before = {path: path.stat().st_mtime_ns for path in grid.glob("outputs/*/*/*/*")}
    outcome = run_here(["-m", *SGD, "optimizer.lr=0.1", "adapter=none", "seeds=1"], grid)
    assert outcome.code == 0
    assert "[1/1] run: done before (" in outcome.out
    assert "1 of 1 runs done (1 of them before)" in outcome.out
    assert before == {path: path.stat().st_mtime_ns for path in grid.glob("outputs/*/*/*/*")}


def test_after_so_many_failures_no_further_run_starts(tmp_path):
    outcome = run_here(
        ["-m", *SGD, "adapter=none", "optimizer.lr=1e30", "seeds=4", "sweep.jobs=1", "sweep.max_failures=1"], tmp_path
    )
    assert outcome.code == 1
    assert outcome.out.count("FAILED with exit code 76: ") == 1
    assert outcome.out.count("not started: 1 runs had failed") == 3
    assert "0 of 4 runs done, 1 failed" in outcome.out
    assert outcome.err == "4 of 4 runs did not finish; the same command runs those again\n"


def test_a_terminated_sweep_leaves_no_run_behind(tmp_path):
    process = start(
        ["-m", *SMALLEST, "adapter=none", "task.steps_per_task=100000", "seeds=3", "sweep.jobs=2"], tmp_path
    )
    while len(list(tmp_path.glob("outputs/*/*/*/metrics.jsonl"))) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "stopped; the same command goes on from here" in out
    jobs = [json.loads(path.read_text()) for path in last_sweep(tmp_path).glob("*.json")]
    assert [(job["status"], job["code"], job["reason"]) for job in jobs] == [("stopped", 143, "terminated")] * 2
    for job in jobs:
        with pytest.raises(ProcessLookupError):
            os.kill(job["pid"], 0)
    statuses = [json.loads(path.read_text())["status"] for path in tmp_path.glob("outputs/*/*/seed*/status.json")]
    assert statuses == ["requeue", "requeue"]


def test_a_terminal_shows_what_runs(tmp_path):
    """On a real terminal of 80 columns: the overview is drawn, and no line is wider."""
    near, far = pty.openpty()
    environment = os.environ | {"PYTHONSAFEPATH": "1", "COLUMNS": "80", "LINES": "24", "TERM": "xterm"}
    command = [sys.executable, "-m", "ttt.cli.run", "-m", *SMALLEST, "adapter=none", "seeds=2", "sweep.jobs=1"]
    process = subprocess.Popen(command, cwd=tmp_path, stdin=far, stdout=far, stderr=far, env=environment)
    os.close(far)
    shown = b""
    while True:
        try:
            piece = os.read(near, 4096)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(near)
    assert process.wait() == 0
    text = shown.decode()
    assert "0 done, 0 failed, 1 running, 1 waiting; time left unknown" in text
    assert "1 done, 0 failed, 1 running, 0 waiting; about " in text
    assert "[2/2] seed=1: done (" in text


def test_the_overview_reads_what_a_run_is_doing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = Job(number=3, overrides=["adapter=none", "trainer.threads=1", "seed=2"], pid=1)
    assert doing(tmp_path, job) == "starting"
    (tmp_path / "0003.log").write_text("stream   a of b\nfiles    outputs/run\n")
    assert doing(tmp_path, job) == "base"
    (tmp_path / "outputs" / "run").mkdir(parents=True)
    journal = tmp_path / "outputs" / "run" / "metrics.jsonl"
    row = {"event": "evaluated", "row": 0}
    step = {"event": "trained", "task": 2, "task_name": "afr", "task_step": 10, "task_steps": 30, "loss": 2.5}
    journal.write_text(f"{json.dumps(row)}\n")
    assert doing(tmp_path, job) == "measured before the stream"
    journal.write_text(f'{json.dumps(row)}\n{json.dumps(step)}\n{{"half')
    assert doing(tmp_path, job) == "task 2 afr: step 10/30, 2.50 bits"
    # Four runs of 60 s each, one done, one begun a moment ago: three minutes to go.
    write_json(tmp_path / "0003.json", vars(job) | {"started": time.time()})
    write_json(tmp_path / "0001.json", vars(Job(1, ["adapter=none", "seed=0"], status="done", seconds=60.0)))
    overview = Overview(tmp_path, total=4, varied={"seed"})
    console = Console(width=80, height=24)
    overview._look()
    with console.capture() as captured:
        console.print(overview._picture())
    lines = captured.get().splitlines()
    assert lines[0].endswith("1 done, 0 failed, 1 running, 2 waiting; about 3 min left")
    assert lines[1].split() == ["[3]", "seed=2", "0", "s", "task", "2", "afr:", "step", "10/30,", "2.50", "bits"]
    assert max(map(len, lines)) <= 80


def test_times_as_one_says_them():
    assert [span(x) for x in (0.4, 89, 91, 3600, 10_000)] == ["0 s", "89 s", "2 min", "60 min", "2 h 47 min"]


def test_the_reason_is_what_a_run_says_not_its_hint():
    assert reason("task 1\nttt-run: stopped: loss is nan\nttt-run: see outputs/x\n") == "loss is nan"
    assert reason("Traceback\n  File\nValueError: no\n\n") == "ValueError: no"
    assert reason("") == "no output"


def test_as_many_runs_as_cores_and_fewer_where_each_takes_several():
    cores = os.cpu_count() or 1
    assert count_jobs("auto", accelerator="cpu", devices="auto") == cores
    assert count_jobs("auto", accelerator="cpu", devices=cores * 2) == 1
    assert count_jobs("auto", accelerator="cuda", devices="auto") == 1
    assert count_jobs(7, accelerator="cpu", devices=2) == 7


def test_every_study_is_a_sweep_that_fits():
    assert {"frontier", "recall", "plasticity", "no-shift", "permuted-digits", "recall-distance"} <= STUDIES
    for name in STUDIES:
        combinations = [run for typed in expand(arguments(["--study", name])) for run in split(typed.overrides)]
        assert len(combinations) >= 2
        for run in (combinations[0], combinations[-1]):
            assert compose_run(run, config_dir=None)["output_dir"] == f"outputs/{name}"


def test_what_is_typed_beside_a_study_wins():
    (typed,) = expand(arguments(["--study", "resets", "seed=7", "optimizer.lr=1e-3", "output_dir=elsewhere"]))
    assert split(typed.overrides) == [
        ["experiment=resets", f"adapter.reset={reset}", "seed=7", "optimizer.lr=0.001", "output_dir=elsewhere"]
        for reset in ("sequence", "never")
    ]
    assert len(split(expand(arguments(["--study", "resets", "seeds=2"]))[0].overrides)) == 12


def test_a_study_of_several_sweeps_runs_one_after_another(tmp_path):
    """One sweep may name what another has no setting for."""
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "two.yaml").write_text(
        "# @package _global_\nstudy:\n  - [optimizer=sgd, optimizer.momentum=0.5]\n  - [optimizer=adam, 'seed=0,1']\n"
    )
    typed = ["--config-dir=mine", "--study", "two", *SMALLEST]
    outcome = run_here([*typed, "--dry-run"], tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.count("outputs/two/") == 3
    assert "-sgd/seed0-" in outcome.out
    assert "-adam/seed1-" in outcome.out


def test_a_study_of_ones_own_is_run_by_name(tmp_path):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "pair.yaml").write_text(
        '# @package _global_\nstudy: ["adapter=none,mlp_fast"]\ntask:\n  num_tasks: 2\n'
    )
    typed = ["--config-dir=mine", "--study", "pair", *(o for o in SMALLEST if not o.startswith("task.num_tasks"))]
    (tmp_path / "mine" / "experiment" / "none.yaml").write_text("# @package _global_\nseed: 3\n")
    outcome = run_here(["--config-dir=mine", "--study", "none"], tmp_path)
    assert outcome.err.startswith("ttt-run: --study none: experiment/none.yaml lists no overrides under study")
    outcome = run_here([*typed, "--dry-run"], tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    assert "adapter=mlp_fast: outputs/pair/split-sequence/mlp_fast-naive-adamw/seed0-" in outcome.out
    assert outcome.out.endswith("2 runs: 0 done, 2 to do\n")


def test_a_study_is_no_part_of_what_a_run_is(tmp_path):
    """The same numbers, typed as a study or not: the same folder."""
    small = [*(o for o in TINY if not o.startswith(("source=", "task.seq_len="))), "task.seq_len=36"]
    out = [
        run_here(["-m", "--dry-run", *small, "output_dir=outputs", *words], tmp_path).out
        for words in (["--study", "recall", "seeds=1", "optimizer.lr=1e-3"],
                      ["experiment=recall", "adapter=none,mlp_fast", "optimizer.lr=1e-3", "seed=0"],
                      ["source=recall", "adapter=none,mlp_fast", "optimizer.lr=1e-3", "task.steps_per_task=3"])
    ]  # fmt: skip
    names = [sorted(word for word in text.split() if "/seed0-" in word) for text in out]
    assert len(names[0]) == 2
    assert names[0] == names[1] == names[2]


def test_make_study_runs_a_study_and_writes_its_page():
    done = subprocess.run(
        ["make", "-n", "-o", ".venv/ready", "study", "NAME=frontier"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ".venv/bin/ttt-run --study frontier" in done.stdout
    assert ".venv/bin/ttt-report outputs/frontier -o outputs/frontier/report.html" in done.stdout
    without_name = subprocess.run(
        ["make", "-o", ".venv/ready", "study"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert without_name.returncode == 2
    # Below another make, it also says which folder it is in.
    (line,) = (line for line in without_name.stdout.splitlines() if "one of " in line)
    assert set(line.partition("one of ")[2].split()) == STUDIES


def test_the_continual_rule_allows_only_what_the_current_task_tells():
    assert obeys_continual_rule("fast/loss/avg_learning")
    for metric in ("fast/loss/avg_final", "slow/accuracy/forgetting_max_seen", "fast/loss/avg_before", "x"):
        assert not obeys_continual_rule(metric)


def test_a_search_goes_where_its_metric_is_better():
    assert direction("fast/loss/avg_learning") == "minimize"
    assert direction("fast/accuracy/avg_learning") == "maximize"
    assert direction("fast/accuracy/forgetting_max_seen") == "minimize"
    assert direction("slow/loss/bwt_gem") == "maximize"
    with pytest.raises(ValueError, match=r"did you mean fast/loss/avg_learning\?"):
        direction("fast/loss/avg_lerning")


def test_the_known_metrics_are_those_of_a_run(grid):
    content = next(iter(folders(grid).values()))
    # Beside these a run knows those of what it also measured: diagnostics, references. Prompts and rewards it has none.
    rewarded = {name for name in known_metrics() if name.startswith("archived/") or name.split("/")[1] in REWARDED}
    assert "archived/success/avg_learning" in rewarded
    assert set(known_metrics()) - rewarded <= set(catalogue.metrics(from_json(json.loads(content))))


def test_a_search_minimises_its_objective(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    search = ["-m", *SMALLEST, "adapter=none", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=3",
              "optimizer.lr=interval(1e-4,1e-1)", "hydra.sweeper.sampler.seed=1"]  # fmt: skip
    outcome = run_here([*search, "hydra.sweeper.direction=maximize"], tmp_path)
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert "sweep.objective=fast/loss/avg_learning has to be minimized" in outcome.err
    outcome = run_apart(search, tmp_path)
    assert outcome.code == 0, outcome
    values = {
        json.loads(path.read_text())["metrics"]["fast/loss/avg_learning"]
        for path in tmp_path.glob("outputs/*/*/*/results.json")
    }
    assert len(values) == 3
    assert f"fast/loss/avg_learning {min(values):.4f}" in outcome.out
    assert "say so" not in outcome.out
    outcome = run_apart([*search, "sweep.objective=fast/loss/avg_final"], tmp_path)
    assert "fast/loss/avg_final is not known from the current task alone" in outcome.out
