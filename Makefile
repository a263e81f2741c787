# Everything runs in .venv, which is made here on first use and again when pyproject.toml or constraints.txt change.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Which Python makes .venv. Empty: the first one that is new enough and can make environments.
PYTHON ?=
# More options for pip, such as --index-url; more words for the command that a target runs.
PIP_FLAGS ?=
ARGS ?=

# One thread per process: idle OpenMP threads spin and slow their neighbours (docs/concepts.md).
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help run test check format docs docs-site bench install clean

help:
	@echo "make run      install what is needed, then run the demo     (ARGS='--quick' for the short one)"
	@echo "make test     the whole test suite on two cores, no GPU     (ARGS='tests/unit -k maths' for a part)"
	@echo "make check    format, lint, types, import direction, structure"
	@echo "make format   rewrite the source as make check wants it"
	@echo "make docs     write the generated pages of docs/ again"
	@echo "make docs-site  the documentation as a site, in build/docs-site/site"
	@echo "make bench    measure the speed beside transformers and TRL (ARGS='--only rollouts --repeats 5', '--quick')"
	@echo "make install  only make .venv                               (PYTHON=python3.12 to choose)"
	@echo "make clean    remove .venv and the caches; runs/ stays"

run: $(STAMP)
	@$(BIN)/understudy demo $(ARGS)

test: $(STAMP)
	@$(BIN)/python -m pytest -n 2 --dist loadgroup $(ARGS)

check: $(STAMP)
	@echo "format"; $(BIN)/ruff format --check --quiet --output-format concise . || { echo "to fix: make format"; exit 1; }
	@echo "lint"; $(BIN)/ruff check --quiet --output-format concise .
	@echo "types"; $(BIN)/mypy --no-error-summary
	@echo "imports"; $(BIN)/lint-imports --no-logo
	@echo "structure"; $(BIN)/python -m tools.structure

format: $(STAMP)
	@$(BIN)/ruff check --fix-only --quiet . && $(BIN)/ruff format .

docs: $(STAMP)
	@$(BIN)/python -m tools.docs

docs-site: $(STAMP)
	@$(BIN)/python -c 'import importlib.util as i; raise SystemExit(i.find_spec("zensical") is None)' || \
	  $(BIN)/python -m pip install -qq $(PIP_FLAGS) -c constraints.txt -e '.[site]'
	@$(BIN)/python -m tools.docs_site

# TRL is needed by nothing else.
bench: $(STAMP)
	@$(BIN)/python -c 'import importlib.util as i; raise SystemExit(i.find_spec("trl") is None)' || \
	  $(BIN)/python -m pip install -qq $(PIP_FLAGS) -c constraints.txt -e '.[bench]'
	@$(BIN)/python -m benchmarks.speed $(ARGS)

install: $(STAMP)

clean:
	rm -rf $(VENV) *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# Torch goes first and alone: it is by far the largest, and a build of it that is already there is kept.
$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || { \
	  python=; \
	  for p in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python); do \
	    if $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	    then python=$$p; break; fi; \
	  done; \
	  test -n "$$python" || { \
	    p=$(or $(PYTHON),python3); \
	    echo "Understudy needs Python 3.11 or newer with venv and pip;" \
	      "$$p here is $$($$p --version 2>/dev/null || echo absent)."; \
	    echo "Install one (on Debian and Ubuntu also its package python3-venv)," \
	      "or name one: make $(or $(MAKECMDGOALS),install) PYTHON=/path/to/python3"; \
	    exit 1; }; \
	  echo "making .venv with $$($$python --version)"; \
	  rm -rf $(VENV) && $$python -m venv $(VENV); }
	@echo "installing torch into .venv (the largest download, once)"
	@$(BIN)/python -m pip install -qq $(PIP_FLAGS) -c constraints.txt torch
	@echo "installing understudy and its tools into .venv"
	@$(BIN)/python -m pip install -qq $(PIP_FLAGS) -c constraints.txt -e '.[dev]'
	@touch $@
