# What there is to do. `make run` and `make test` need nothing but Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help run test check triton bench study adapters streams wheel clean

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

run: .venv/ready  ## install, then the main job: ten languages, fast weights
	$(BIN)/ttt-run task=split-sequence adapter=mlp_fast

test: .venv/ready  ## install, then the tests
	PYTHONSAFEPATH=1 $(BIN)/python -m pytest -n 2

check: .venv/ready links  ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cd .links && ../$(BIN)/mypy --config-file ../pyproject.toml -p ttt

# mypy follows folders, not setuptools: a tree of links in which the package lies as it installs.
links:
	rm -rf .links && mkdir -p .links/ttt
	for item in ttt/*; do ln -s "../../$$item" ".links/$$item"; done
	for folder in cli conf tasks kernels; do ln -s "../../$$folder" ".links/ttt/$$folder"; done

triton: .venv/ready  ## the Triton kernels in its interpreter (installs triton, 200 MB)
	$(BIN)/python -m pip install --quiet "triton>=3.7,<3.8"
	PYTHONSAFEPATH=1 $(BIN)/python -m pytest tests/test_kernels_triton.py

bench: .venv/ready  ## what the harness and the fast weights cost
	$(BIN)/ttt-bench harness
	$(BIN)/ttt-bench kernels
	$(BIN)/ttt-bench adapters
	$(BIN)/ttt-bench data

study: .venv/ready  ## the studies of docs/measurements.md (about an hour on two cores)
	$(BIN)/ttt-run -m adapter=none,mlp_fast optimizer.lr=1e-4,3e-4,1e-3 seed=0,1,2,3,4
	$(BIN)/ttt-run -m adapter.reset=sequence,never optimizer.lr=1e-4,3e-4,1e-3 seed=0,1,2,3,4
	$(BIN)/ttt-compare outputs/split-sequence
	$(BIN)/ttt-run -m experiment=recall output_dir=outputs/recall adapter=none,mlp_fast optimizer.lr=2e-4,1e-3 seed=0,1,2,3,4
	$(BIN)/ttt-compare outputs/recall

adapters: .venv/ready  ## the table of all adapters in docs/measurements.md (about half an hour on two cores)
	$(BIN)/ttt-run -m experiment=adapters seed=0,1 source=recall,languages adapter=none,mlp_fast,delta_fast,titans_fast,ttt_linear,ttt_mlp,lact_fast,lora_fast,sgd_fast,prompt_fast output_dir=outputs/adapters
	$(BIN)/ttt-compare outputs/adapters

streams: .venv/ready  ## the studies of streams in docs/measurements.md (about an hour on two cores)
	$(BIN)/ttt-run -m seed=0,1,2,3,4 experiment=plasticity output_dir=outputs/plasticity
	$(BIN)/ttt-run -m seed=0,1,2 experiment=permuted-digits adapter=none,mlp_fast output_dir=outputs/permuted-digits
	$(BIN)/ttt-run -m seed=0,1,2 task=permuted-sequence source=languages adapter=none,mlp_fast task.seq_len=128 task.batch_size=8 optimizer.lr=1e-3 output_dir=outputs/permuted-languages
	$(BIN)/ttt-run -m seed=0,1 experiment=recall-distance model.window=16,null adapter=none,mlp_fast output_dir=outputs/recall-distance
	$(BIN)/ttt-run -m seed=0,1,2,3,4 experiment=no-shift source=recall,digits adapter=mlp_fast adapter.reset=sequence,task output_dir=outputs/no-shift
	$(BIN)/ttt-run -m seed=0,1 source=automata task.num_tasks=1 base=none adapter=none model.window=null model.width=64 model.mlp_width=192 task.seq_len=128 task.steps_per_task=800 task.eval_sequences=64 optimizer.lr=2e-3 output_dir=outputs/automata
	$(BIN)/ttt-compare outputs/recall-distance --per-task fast/accuracy/before --plot outputs/recall-distance.svg

wheel: .venv/ready  ## build dist/*.whl
	$(BIN)/python -m build --wheel

clean:  ## remove what was built here, but no results
	rm -rf .venv .links build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
