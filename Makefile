# `make` lists the targets. `make demo` and `make test` set everything up by themselves, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
READY := $(VENV)/.ready
PIP := $(BIN)/pip install --quiet --constraint constraints.txt
ROOT ?= runs/demo
TEST_PROCESSES ?= 2

.DEFAULT_GOAL := help
.PHONY: help install setup demo bench test long gpu check format docs tree clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-8s %s\n", $$1, $$2}'

install: $(INSTALLED) ## make .venv with Mixscout alone, at pinned versions: all that the demo needs

setup: $(READY) ## the same with every optional part, and the tools of development

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Mixscout needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	@touch $@

$(READY): $(INSTALLED)
	$(PIP) --editable '.[dev]'
	@touch $@

demo: $(INSTALLED) ## the main job end to end on real text, about five minutes on two cores
	$(BIN)/mixscout demo --root $(ROOT)

bench: $(READY) ## what an evaluation costs, as ratios, on the demo's pool (made first where there is none)
	test -f $(ROOT)/study.toml || $(MAKE) demo
	$(BIN)/mixscout bench objective $(ROOT)/study.toml $(BENCH)

test: $(READY) ## the test suite, in TEST_PROCESSES of one thread each
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses $(TEST_PROCESSES) --dist worksteal

long: $(READY) ## the tests that take long: every file damaged, fuzzed inputs, many passwords
	OMP_NUM_THREADS=1 $(BIN)/pytest -m long --numprocesses $(TEST_PROCESSES) --dist worksteal

gpu: $(READY) ## the tests that need a GPU, marked so; all others hide it from themselves
	$(BIN)/pytest -m gpu

check: $(READY) ## format, lint and types; writes nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check --no-cache .
	$(BIN)/mypy --cache-dir=/dev/null

format: $(READY) ## the only target that edits files
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(READY) ## the documentation as pages that open from the disk, site/index.html; warnings are errors
	PYTHONPATH=. $(BIN)/python docs/generated.py
	PYTHONPATH=. NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

tree: ## the rooms of the four packages, with every file and its duty
	@$(PYTHON) docs/tree.py --files

clean: ## remove the virtual environment, caches and the demo's results
	rm -rf $(VENV) $(ROOT) site .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
