# make env | check | test | test-slow | test-oldest | demo | docs | bench
# PYTHON=python3.12 chooses the interpreter of a new environment; ARGS="..." reaches pytest, the demo and the benchmarks.
PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
STAMP := .venv/.stamp
OLDEST := .venv-oldest
PINS := pyproject.toml requirements-oracles.txt
PIP := -m pip install --quiet --disable-pip-version-check

export SCIPY_ARRAY_API = 1

.PHONY: env check test test-slow test-oldest demo docs bench

env: $(STAMP)

$(STAMP): $(PINS) constraints.txt
	$(require-python)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python $(PIP) -c constraints.txt -e ".[plot,test,docs,check]"
	$(BIN)/python $(PIP) --no-deps -r requirements-oracles.txt
	touch $@

$(OLDEST)/.stamp: $(PINS) constraints-oldest.txt
	$(require-python)
	test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python $(PIP) -c constraints-oldest.txt -e ".[plot,test]"
	$(OLDEST)/bin/python $(PIP) --no-deps -r requirements-oracles.txt
	touch $@

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layers.py tests/test_docstrings.py

test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow and not gpu" $(ARGS)

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m "slow and not gpu" $(ARGS)

test-oldest: $(OLDEST)/.stamp
	$(OLDEST)/bin/python -m pytest -m "not slow and not gpu" $(ARGS)

demo: $(STAMP)
	$(BIN)/python examples/demo.py $(ARGS)

docs: $(STAMP)
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

bench: $(STAMP)
	$(BIN)/python -m benchmarks $(ARGS)

define require-python
@$(PYTHON) -c "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))" 2>/dev/null || { \
	echo "sknfk needs Python 3.11 or newer with its venv module. '$(PYTHON)' has not got both;" \
	"install them (on Debian: python3-venv) or name another interpreter with PYTHON=..." >&2; exit 1; }
endef
