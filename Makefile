# make setup | test | check | demo: each sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2

.PHONY: setup test check demo clean

setup: $(VENV)/ready

# pip ≥ 25.1 knows dependency groups. The CPU build of PaddlePaddle is the extra `cpu`.
$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable ".[cpu,inspect]" --group dev
	touch $@

test: setup
	$(BIN)/python -m pytest -n $(JOBS)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

demo: setup
	$(BIN)/clan demo

clean:
	rm -rf $(VENV) demo build dist
