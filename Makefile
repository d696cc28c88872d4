# Each target makes .venv and installs the project into it on first use, and again when the requirements change.

PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
NOTEBOOKS ?= off
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test check docs torture mutants clean

help:
	@echo "make demo   measure a small network on crossbars with stuck cells; results in demo/"
	@echo "make test   run the tests and the examples in the documentation"
	@echo "make check  lint, formatting, types, and the documentation site"
	@echo "make docs   the documentation site, in build/site; with NOTEBOOKS=cache the notebooks are run, too"
	@echo "make torture  kill, stop, starve and lie to sweeps 200 times: nothing may be lost or changed (20 minutes)"
	@echo "make mutants  change the code here and there, and see which changes no test notices (hours)"
	@echo "make clean  remove .venv and what tools left behind"

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "xbarsim needs Python 3.11 or newer; name one with: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): pyproject.toml constraints.txt | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e '.[demo,test,check]'
	@touch $@

demo: $(INSTALLED)
	$(VENV)/bin/xbarsim demo

test: $(INSTALLED)
	$(VENV)/bin/python -m pytest -n 2 --dist worksteal --doctest-modules xbarsim tests --import-mode=importlib

check: $(INSTALLED)
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(MAKE) docs

docs: $(INSTALLED)
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	XBARSIM_NOTEBOOKS=$(NOTEBOOKS) $(VENV)/bin/sphinx-build -W --keep-going -q -c docs -d build/doctrees . build/site

torture: $(INSTALLED)
	$(VENV)/bin/python -m xbarsim.experiments.studies.torture

mutants: $(INSTALLED)
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e '.[mutants]'
	$(VENV)/bin/python -m xbarsim.experiments.studies.mutants

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build
