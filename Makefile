# Every target sets up what it needs: a virtual environment, the packages of constraints.txt, system libraries.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV ?= .venv
JOBS ?= 2
ARGS ?=
BIN := $(VENV)/bin
READY := $(VENV)/.medssl-ready
# One thread a process: workers share the processors instead of fighting for them.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

.PHONY: help setup demo test test-all mutants coverage lowest lint format site bench fuzz golden constraints clean

help: ## Say what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null || \
		sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1: \2/p' $(MAKEFILE_LIST)

setup: $(READY) ## Make .venv and install everything, once

$(READY): pyproject.toml constraints.txt .ci/setup
	@bash .ci/setup $(VENV)
	@touch $@

demo: $(READY) ## From scans to report in minutes; made-up patients, or the folder that MEDSSL_DATA names
	@$(BIN)/medssl demo $(ARGS)

test: $(READY) ## The fast tests; those on real data need MEDSSL_DATA
	@$(ONE_THREAD) $(BIN)/python -m pytest -n $(JOBS) $(ARGS)

test-all: $(READY) ## All tests, the slow ones too
	@$(ONE_THREAD) $(BIN)/python -m pytest -n $(JOBS) -m "slow or not slow" $(ARGS)

mutants: $(READY) ## Change the code in a copy, a hundred ways, and see that the tests notice each; ARGS=WORD picks some
	@$(BIN)/python tests/mutants/run.py --jobs $(JOBS) $(ARGS)

coverage: $(READY) ## Run the fast tests and hold the lines that ran in each room to its floor; ARGS=--write raises floors
	@$(BIN)/python tests/coverage/hold.py --jobs $(JOBS) $(ARGS)

lowest: $(READY) ## Install the lowest versions that pyproject.toml allows aside, and test with them
	@VENV=$(VENV) JOBS=$(JOBS) bash .ci/lowest $(ARGS)

lint: $(READY) ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(READY) ## Write all files in the house's format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

site: $(READY) ## The documentation as build/site, made from docs/ and the code; ends on a link that leads nowhere
	@NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --quiet --config-file mkdocs.yml
	@echo "wrote build/site/index.html"

N ?= 300
SEED ?= 1
FORMATS ?=
KEEP ?= build/fuzz
fuzz: $(READY) ## Damaged files of every format to all readers: N=300 of each, SEED=1, FORMATS=laz,ply KEEP=build/fuzz
	@$(ONE_THREAD) $(BIN)/python -m tests.fuzz --n $(N) --seed $(SEED) --formats "$(FORMATS)" --keep $(KEEP)

bench: $(READY) ## Every measurement of benchmarks/, one after another
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python "$$script"; done

golden: $(READY) ## Write the command line's surface anew, after a change that is meant
	@$(BIN)/python -c "from pipelines.cli import surface; print(surface(), end='')" > tests/golden/cli.txt

constraints: $(READY) ## Write constraints.txt anew from the index: the newest versions that fit
	@{ sed -n '1,2p' constraints.txt; \
	  { $(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 -q \
	      --no-header --no-annotate --no-emit-index-url; \
	    printf 'hatchling\neditables\nuv\n' | $(BIN)/uv pip compile - --universal --python-version 3.11 -q \
	      --no-header --no-annotate --no-emit-index-url; } | sort -u; } > constraints.new
	@mv constraints.new constraints.txt

clean: ## Remove what tools left; never runs, stores or the virtual environment
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find medssl pointcloud pipelines tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
