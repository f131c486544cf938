# make setup | programs | test | versions | check | docs | demo: each sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2

.PHONY: setup programs test versions check docs demo clean

setup: $(VENV)/ready

# pip ≥ 25.1 knows dependency groups. The CPU build of PaddlePaddle is the extra `cpu`.
$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable ".[cpu,export,inspect,serve]" --group dev
	touch $@

# Tests that lack a program skip and say so; with CI=true such a skip fails the run (tests/needs.py).
programs:
	tools/programs.sh

test: setup
	$(BIN)/python -m pytest -n $(JOBS)
	$(BIN)/python -m pytest -n $(JOBS) -rs --plain

# The oldest and the newest Paddle and Python, where such interpreters are found.
versions:
	JOBS=$(JOBS) tools/versions.sh

check: docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

# Run as a module, so that mkdocs.yml can name an extension of this repository.
docs: setup
	$(BIN)/python -m zensical build --clean --strict

demo: setup
	$(BIN)/clan demo

clean:
	rm -rf $(VENV) .versions .cache site demo build dist
