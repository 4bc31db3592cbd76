# `make demo` and `make test` work on a machine that has only Python >= 3.10 and make.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.installed

.PHONY: demo test test-slow lint clean

demo: $(READY)
	$(PY) demo.py

test: $(READY) lint
	$(PY) -m pytest

test-slow: $(READY)
	$(PY) -m pytest -m slow

lint: $(READY)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

# Installed again only when a requirements file changes.
$(READY): requirements.txt requirements-dev.txt
	$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) || $(PYTHON) -m venv --clear $(VENV)
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install --quiet -r requirements-dev.txt
	touch $@

clean:
	rm -rf results/demo .pytest_cache .ruff_cache
