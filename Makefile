PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests and benchmarks share few cores: one thread per process beats spinning ones.
# Without torch, and without what only development needs.
CORE_TESTS := tests/imaging tests/release tests/analysis/test_analyzer.py tests/server/test_settings.py \
  tests/server/test_app.py tests/cli/test_serve.py tests/test_errors.py
LOCKED := --python-version 3.12 --generate-hashes --no-emit-index-url --no-header --quiet
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: demo demo-train serve browser bench test check lint types layers format docs minima lock sbom clean help

demo: $(VENV)/.core  ## set up, then analyse three drawn images with the networks that ship
	rm -rf runs/demo
	$(BIN)/dermfuse demo --out runs/demo

demo-train: $(VENV)/.train  ## set up, then run the whole line on drawn images: train, fuse, evaluate
	rm -rf runs/demo-train
	$(BIN)/dermfuse demo --train --out runs/demo-train

serve: $(VENV)/.serve runs/app  ## set up, then serve analyses and the app at http://127.0.0.1:8000 (Node.js)
	$(BIN)/dermfuse serve --app runs/app

runs/app: $(VENV)/.core $(shell find web/src web/public) web/index.html src/dermfuse/shipped/release.json
	rm -rf $@
	$(BIN)/dermfuse web build --out $@

test: $(VENV)/.dev  ## set up, then run the tests with coverage
	$(TEST_ENV) $(BIN)/pytest -q -n $$(nproc) --dist worksteal --cov --cov-report=term

bench: $(VENV)/.dev  ## speed on this machine, beside eager PyTorch; python -m benchmarks --help has more
	$(BIN)/python -m benchmarks analyze

browser: $(VENV)/.dev  ## the browser app: its units, then real Chromium (Node.js, npm, chromium)
	cd web && npm ci --ignore-scripts && npm run check && npm test
	$(TEST_ENV) $(BIN)/pytest -q -m browser tests/web tests/benchmarks

check: lint types layers test  ## lint, types, layers, tests: what CI runs

lint: $(VENV)/.dev  ## format and lint
	$(BIN)/ruff format --check . && $(BIN)/ruff check .

types: $(VENV)/.dev  ## mypy, strict
	$(BIN)/mypy

layers: $(VENV)/.dev  ## imports run one way; the core runs without torch
	$(BIN)/lint-imports

format: $(VENV)/.dev  ## format and fix what can be fixed
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

minima:  ## the least versions that are allowed, in an environment of its own: the core's tests
	rm -rf build/minima && $(PYTHON) -m venv build/minima
	build/minima/bin/python deploy/minima.py > build/minima/least.txt
	build/minima/bin/python -m pip install --quiet --disable-pip-version-check \
	  -c build/minima/least.txt '.[dicom,serve]' pytest hypothesis httpx2 jsonschema onnx
	$(TEST_ENV) build/minima/bin/python -m pytest -q -p no:cacheprovider $(CORE_TESTS)

lock:  ## write anew what the container installs, with hashes
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	echo 'setuptools>=77' | build/lock/bin/uv pip compile pyproject.toml - --extra serve --extra dicom \
	  $(LOCKED) -o deploy/requirements.txt
	printf 'cyclonedx-bom\npip-licenses\n' | build/lock/bin/uv pip compile - \
	  $(LOCKED) -o deploy/inventory-requirements.txt

sbom: $(VENV)/.serve  ## what ships, as CycloneDX, and the licences that it came under (build/sbom)
	deploy/inventory $(BIN)/python build/sbom/python
	mkdir -p build/sbom/app && cd web && npm ci --ignore-scripts && \
	  npm run build -- --outDir ../build/sbom/site --emptyOutDir && cp ../build/sbom/site/licences.txt ../build/sbom/app/ && \
	  npm sbom --sbom-format cyclonedx --omit dev > ../build/sbom/app/sbom.cdx.json

clean:  ## remove what can be made again (runs/ is kept)
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .coverage*

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.core: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.serve: $(VENV)/.core
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[serve]'
	touch $@

$(VENV)/.train: $(VENV)/.core
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[train,figures]'
	touch $@

$(VENV)/.dev: $(VENV)/.train
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[train,dev]'
	touch $@
