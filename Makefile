# `make help` lists what there is. Every path is relative, so that a checkout whose own path
# holds a space works too.

PYTHON      ?= python3
# Where to look for torch first. On Linux without a GPU:
#   make lab TORCH_INDEX=https://download.pytorch.org/whl/cpu
# saves gigabytes of CUDA.
TORCH_INDEX ?=
LESSON      ?= notebooks/00_start_here.ipynb
LAB_ARGS    ?=
NOTEBOOKS   ?= $(wildcard notebooks/*.ipynb)
# Tests that run side by side; they wait for processes and pages as much as they compute.
WORKERS     ?= 2

ifeq ($(OS),Windows_NT)
$(error mpviz runs on Linux and macOS; on Windows, use it inside WSL)
endif

PY      := .venv/bin/python
INSTALL := $(PY) -m pip install --disable-pip-version-check --constraint constraints.txt
ANOTHER := name another: make PYTHON=python3.11 …
HEADING  = @printf '\n== %s ==\n'

AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

# The stages of `make test` stop at the first failure, in their order, under `make -j` too.
.NOTPARALLEL:
.PHONY: help lab test lint unit lessons browser bench pictures notebooks format constraints clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

lab: .venv/.lab  ## open the first lesson in JupyterLab (LESSON=, LAB_ARGS=, TORCH_INDEX=)
	$(PY) -m jupyterlab --LabApp.extension_manager=readonly $(AS_ROOT) '$(LESSON)' $(LAB_ARGS)

test: lint unit lessons browser  ## everything: lint, unit, lessons, browser, in this order

lint: .venv/.test  ## ruff and mypy
	$(HEADING) 'ruff'
	@$(PY) -m ruff check
	@$(PY) -m ruff format --check
	$(HEADING) 'mypy'
	@$(PY) -m mypy

unit: .venv/.test  ## unit tests, doctests, and the comparisons with Megatron and PyTorch
	$(HEADING) 'unit tests, oracles, doctests'
	@$(PY) -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder -p no:nbval \
	    -m 'not browser'

lessons: .venv/.test  ## run every lesson and compare its outputs with the stored ones
	$(HEADING) 'lessons against their stored outputs'
	@MPVIZ_PROGRESS=0 $(PY) -m pytest -q -n $(WORKERS) --dist loadfile --nbval -p tests.notebooks.memory \
	    notebooks/*.ipynb

browser: .venv/.test  ## run every lesson in a real JupyterLab (skipped without Chromium)
	$(HEADING) 'lessons in a browser'
	@$(PY) -m pytest -q -n $(WORKERS) --dist loadgroup -p no:nbval -rs tests/browser

bench: .venv/.test  ## measure (never part of the tests)
	@for script in tests/benchmarks/bench_*.py; do $(PY) "$$script" || exit; done

pictures: .venv/.test  ## save every drawing of every corner case as PNG, to look at
	@$(PY) tests/draw/gallery.py

notebooks: .venv/.test  ## execute the lessons and store their outputs (NOTEBOOKS=)
	@$(PY) tests/notebooks/refresh.py $(NOTEBOOKS)

format: .venv/.test  ## ruff: fix and format
	@$(PY) -m ruff check --fix
	@$(PY) -m ruff format

constraints:  ## resolve pyproject.toml afresh and pin the result (TORCH_INDEX=)
	rm -rf build
	'$(PYTHON)' -m venv build/pins
	build/pins/bin/python -m pip install $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) '.[lab,run,test]'
	{ sed -n '/^#/p' constraints.txt; \
	  build/pins/bin/python -m pip freeze --all --exclude pip --exclude mpviz | sed 's/+cpu$$//'; \
	} > build/constraints.txt
	mv build/constraints.txt constraints.txt
	rm -rf build

clean:  ## remove everything that make made
	rm -rf .venv .screenshots .hypothesis .mypy_cache .pytest_cache .ruff_cache build *.egg-info
	find mpviz tests notebooks -name __pycache__ -prune -exec rm -rf {} +

# torch first and by itself if it has an index of its own, which pip would otherwise
# ask for everything. JupyterLab's announcements would ask the network at run time.
define install
	$(HEADING) 'installing into .venv, this once'
	$(if $(TORCH_INDEX),@$(INSTALL) --extra-index-url '$(TORCH_INDEX)' torch)
	@$(INSTALL) --editable '.[$(EXTRAS)]'
	@$(PY) -m jupyterlab.labextensions disable --level=sys_prefix \
	    @jupyterlab/apputils-extension:announcements
endef

# A stamp is touched only after its install succeeded: one that broke off is done again.
.venv/.lab: EXTRAS := lab,run
.venv/.lab: .venv/.created pyproject.toml constraints.txt
	$(install)
	@touch $@

.venv/.test: EXTRAS := lab,run,test
.venv/.test: .venv/.created pyproject.toml constraints.txt
	$(install)
	@touch .venv/.lab $@

.venv/.created:
	@command -v '$(PYTHON)' >/dev/null || { echo 'There is no $(PYTHON) here; $(ANOTHER)'; exit 1; }
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "mpviz needs Python 3.11 or newer and this is $$('$(PYTHON)' --version 2>&1); $(ANOTHER)"; exit 1; }
	@'$(PYTHON)' -m venv --clear .venv
	@touch $@
