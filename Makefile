# `make demo` and `make test` set up the environment first.
# An active virtual or conda environment is used; otherwise .venv is made in this folder.

ifneq ($(CONDA_DEFAULT_ENV),base)
ACTIVE := $(or $(VIRTUAL_ENV),$(CONDA_PREFIX))
else
ACTIVE := $(VIRTUAL_ENV)
endif
VENV := $(or $(ACTIVE),.venv)
PYTHON ?= $(shell command -v python3.11 || command -v python3)
RUN := $(VENV)/bin/python
READY := $(VENV)/.mmca-ready
# Tests run on all cores, but no more than eight: every process has a torch of its own in memory.
PYTEST := $(RUN) -m pytest -n auto --maxprocesses 8 --dist worksteal
DOCS := .venv-docs
UPSTREAM := .venv-upstream
UPSTREAM_PYTHON ?= python3.10
EXTRAS := app export notebook pretrain

.PHONY: help env $(EXTRAS:=-env) demo test test-slow test-upstream stress lint format docs docs-serve clean

help:
	@echo 'make demo          train and test on a synthetic data set: box / mask AP, mIoU, images'
	@echo 'make test          run the tests (under 5 minutes on 2 cores)'
	@echo 'make test-slow     run the longer tests'
	@echo 'make test-upstream run the tests with OpenMMLab'"'"'s own libraries, torch 2.1 and Python 3.10'
	@echo 'make stress        run thousands of random cases, hostile files and kills: hours'
	@echo 'make lint          run ruff as in CI'
	@echo 'make format        fix the files with ruff'
	@echo 'make docs          build the site in site/; make docs-serve shows it while you write'
	@echo 'make env           install the environment in $(VENV)'
	@echo 'make app-env       also install packages for mmca app'
	@echo 'make export-env    also install packages for mmca export --to onnx'
	@echo 'make pretrain-env  also install packages for configs/imagenet'
	@echo 'make notebook-env  also install packages for docs/afternoon.ipynb'
	@echo 'make clean         remove .venv, .venv-docs, .venv-upstream, build, site, data/mini and work_dirs/demo'

env: $(READY)

$(RUN):
	$(PYTHON) -m venv '$(VENV)'

$(READY): requirements.txt requirements-build.txt pyproject.toml | $(RUN)
	@$(RUN) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'error: the pinned versions need Python 3.11 or newer; name one with make PYTHON=...'; exit 1; }
	$(RUN) -m pip install -r requirements-build.txt
	@echo 'Building onedl-mmcv takes about 8 minutes on 2 cores, once: pip keeps the wheel.'
# Python's own flags ask for debug symbols, which take almost half of the compile time.
	CFLAGS="$$CFLAGS -g0" $(RUN) -m pip install --no-build-isolation -r requirements.txt
# mmcv and mmseg bring OpenCV twice; the headless one must win: it needs no graphics libraries.
	$(RUN) -m pip install --no-deps --force-reinstall \
	  "$$(grep ^opencv-python-headless requirements.txt)"
	$(RUN) -m pip install --no-deps --no-build-isolation -e .
	@touch '$(READY)'

$(EXTRAS:=-env): %-env: env
	$(RUN) -m pip install -r requirements-$*.txt

demo: env
	$(RUN) tools/demo.py

test: env
	$(PYTEST)

test-slow: env
	$(PYTEST) -m slow

# OpenMMLab's own libraries, in an environment of their own: they need an older torch and numpy.
$(UPSTREAM)/.ready: requirements-upstream.txt
	$(UPSTREAM_PYTHON) -m venv '$(UPSTREAM)'
	$(UPSTREAM)/bin/python -m pip install $$(grep -E '^(torch|numpy|setuptools|wheel|ninja|psutil)==' $<)
	@echo 'Building mmcv can take an hour on 2 cores, once: pip keeps the wheel.'
	MMCV_WITH_OPS=1 CFLAGS="$$CFLAGS -g0" \
	  $(UPSTREAM)/bin/python -m pip install --no-build-isolation -r $<
	$(UPSTREAM)/bin/python -m pip install --no-deps --force-reinstall \
	  "$$(grep ^opencv-python-headless $<)"
	@touch '$@'

test-upstream: $(UPSTREAM)/.ready
	PYTHONPATH='$(CURDIR)' $(UPSTREAM)/bin/python -m pytest -n auto --maxprocesses 8 --dist worksteal

stress: env
	$(RUN) -m pytest -m stress tests/stress

lint: env
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

format: env
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

# The site needs neither torch nor mmca installed, so it has an environment of its own.
$(DOCS)/.ready: requirements-docs.txt
	$(PYTHON) -m venv '$(DOCS)'
	$(DOCS)/bin/python -m pip install -r requirements-docs.txt
	@touch '$@'

docs: $(DOCS)/.ready
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict

docs-serve: $(DOCS)/.ready
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs serve

clean:
	rm -rf .venv .venv-docs .venv-upstream build site data/mini work_dirs/demo
