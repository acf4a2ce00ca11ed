PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests and benchmarks share few cores: one thread per process beats spinning ones.
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: demo test browser check lint types layers format docs clean help

demo: $(VENV)/.train  ## set up, then run the whole line on synthetic dermoscopy (no data needed)
	rm -rf runs/demo
	$(BIN)/dermfuse demo --train --out runs/demo

test: $(VENV)/.dev  ## set up, then run the tests with coverage
	$(TEST_ENV) $(BIN)/pytest -q -n $$(nproc) --dist worksteal --cov --cov-report=term

browser: $(VENV)/.dev  ## the browser app: its units, then real Chromium (Node.js, npm, chromium)
	cd web && npm ci --ignore-scripts && npm run check && npm test
	$(TEST_ENV) $(BIN)/pytest -q -m browser tests/web

check: lint types layers test  ## lint, types, layers, tests: what CI runs

lint: $(VENV)/.dev  ## format and lint
	$(BIN)/ruff format --check . && $(BIN)/ruff check .

types: $(VENV)/.dev  ## mypy, strict
	$(BIN)/mypy

layers: $(VENV)/.dev  ## imports run one way; the core runs without torch
	$(BIN)/lint-imports

format: $(VENV)/.dev  ## format and mend what can be mended
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

clean:  ## remove what can be made again (runs/ is kept)
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .coverage*

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(VENV)/.train: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[train]'
	touch $@

$(VENV)/.dev: $(VENV)/.train
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[train,dev]'
	touch $@
