# One word for each thing a developer does; continuous integration runs the same words.
# Everything lives in .venv and build/, nothing needs root, nothing outside this directory is written.

PYTHON ?= python3
JOBS ?= $(shell nproc)
# Processes that are waited for leave the processors to other tests.
E2E_JOBS ?= $(shell expr 2 \* $(JOBS))
N ?= 100

VENV := .venv
BIN := $(VENV)/bin
RUN_DIR := build/run
PACKAGES := emperorctl.models emperorctl.monitors emperorctl.reconciler emperorctl.cli
SOURCE_FILES := $(sort $(shell find models monitors reconciler cli -name '*.py' -o -name py.typed))

# A strict editable install holds one link for each file, in build/: it has to be made again when a file comes or goes.
PIP := PYTHONWARNINGS=ignore $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --no-build-isolation --config-settings editable_mode=strict -e
INPUTS := pyproject.toml build/sources.txt

.NOTPARALLEL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help env docs fmt lint types imports unit e2e test bench scale budgets isolation conformance run clean compiled FORCE

help:  ## show this list
	@sed -n 's/^\([a-z0-9]*\):[^#]*## */  \1\t/p' $(MAKEFILE_LIST) | expand -t 12

env: $(VENV)/.test compiled  ## create or refresh .venv with everything the tests need

docs: $(VENV)/.test  ## write docs/options.md anew from the settings
	@$(BIN)/python -m emperorctl.cli.options_table > build/options.md && mv build/options.md docs/options.md

fmt: $(VENV)/.test  ## format the code and mend what can be mended without thinking
	$(BIN)/ruff check --fix --extend-exclude build .
	$(BIN)/ruff format --extend-exclude build .

lint: $(VENV)/.test  ## style and suspicious code
	@echo "== lint"
	@$(BIN)/ruff check --extend-exclude build .
	@$(BIN)/ruff format --check --extend-exclude build .

imports: $(VENV)/.test  ## the import contracts of pyproject.toml
	@echo "== import contracts"
	@$(BIN)/lint-imports --no-cache

types: $(VENV)/.test  ## strict type checking
	@echo "== types"
	@$(BIN)/mypy $(addprefix -p ,$(PACKAGES))
	@$(BIN)/mypy -p benchmarks -m e2e.harness -m e2e.real_uwsgi -m e2e.conftest -p e2e.conformance

unit: $(VENV)/.test  ## tests without processes and without waiting
	@echo "== unit tests"
	@$(BIN)/python -m pytest tests -q -n $(JOBS) $(ARGS)

e2e: $(VENV)/.test compiled  ## tests of the installed command, with real processes and real uWSGI
	@echo "== end-to-end tests"
	@$(BIN)/python -m pytest e2e -q -n $(E2E_JOBS) --timeout 120 $(ARGS)

test: lint imports types unit e2e  ## all of the above; what continuous integration runs
	@echo "== all good"

bench: $(VENV)/.bench compiled  ## compare with uWSGI and supervisord: make bench N=1000
	@$(BIN)/python -m benchmarks $(N) $(ARGS)

scale: $(VENV)/.bench compiled  ## the cost of one event at 100, 1,000 and 5,000 vassals
	@$(BIN)/python -m benchmarks --scale $(ARGS)

budgets: $(VENV)/.bench compiled  ## throttle, blacklist and heartbeats under stress: make budgets N=1000
	@$(BIN)/python -m benchmarks $(N) --budgets $(ARGS)

isolation: $(VENV)/.bench compiled  ## as root: what a launch into namespaces costs, 200 in a row
	@$(BIN)/python -m benchmarks 200 --isolation $(ARGS)

conformance: $(VENV)/.test  ## write docs/conformance.md anew from what its scenarios declare
	@$(BIN)/python -m e2e.conformance

run: $(VENV)/.run compiled  ## an Emperor on examples/vassals, in the foreground
	@mkdir -p $(RUN_DIR)
	@cat examples/try.txt
	@test -x $(BIN)/uwsgi || printf '%s\n\n' "uwsgi is not installed here, so hello.ini will say so; 'make env' installs it."
	@PATH="$(CURDIR)/$(BIN):$$PATH" exec $(BIN)/emperorctl run examples/vassals \
		--socket $(RUN_DIR)/emperor.sock --state-dir $(RUN_DIR)/state --log-dir $(RUN_DIR)/logs

clean:  ## remove everything that these commands made
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find models monitors reconciler cli tests e2e benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "error: $(PYTHON) is missing or older than Python 3.11; name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "error: $(PYTHON) has no venv module; on Debian: apt install python3-venv" >&2; exit 1; }
	@echo "== creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --quiet --upgrade pip 'setuptools>=77'

build/sources.txt: FORCE
	@mkdir -p build
	@printf '%s\n' $(SOURCE_FILES) | cmp -s - $@ || printf '%s\n' $(SOURCE_FILES) > $@

$(VENV)/.run: $(INPUTS) | $(BIN)/python
	@echo "== installing emperorctl into $(VENV)"
	@$(INSTALL) .
	@touch $@

# uWSGI is built from source. Without Python's headers it is built without its Python plugin.
define install_with_uwsgi
@test -x $(BIN)/uwsgi || echo 'int main(void) { return 0; }' | gcc -x c -include stdio.h -o /dev/null - 2>/dev/null || \
	{ echo "error: uwsgi has to be built, and gcc can't compile a program here; on Debian: apt install gcc libc6-dev" >&2; exit 1; }
@echo "== installing emperorctl[$(1)] into $(VENV)"
@$(BIN)/python -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null || \
	export UWSGI_PROFILE=$${UWSGI_PROFILE:-nolang}; $(INSTALL) '.[$(1)]'
@touch $(VENV)/.run $@
endef

$(VENV)/.test: $(INPUTS) | $(BIN)/python
	$(call install_with_uwsgi,test)

$(VENV)/.bench: $(INPUTS) | $(BIN)/python
	$(call install_with_uwsgi,bench)

# What pip does for an ordinary install and not for an editable one. Without it, and where the environment keeps Python from
# writing bytecode (PYTHONDONTWRITEBYTECODE), every start of the command would compile all of it again.
compiled:
	@$(BIN)/python -m compileall -q build/__editable__.*

FORCE:
