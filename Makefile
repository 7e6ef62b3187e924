# make repro: the pipeline, from data to figures, and those beside the committed ones. make test: the fast tests, with a
# tiny run of it. make slow: the other tests. They set up .venv first if it is missing or older than what it is made
# from.

SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
PYTHON ?= python3
# how many stages make repro runs side by side; each computes on one thread (params.yaml: threads)
LANES ?= 2
# takes the stages of one command a line; not on a terminal they write lines, where bars would overwrite each other
SIDE_BY_SIDE = xargs -P $(LANES) -L 1 dvc --wait-for-lock repro --single-item 2>&1 | cat
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export VIRTUAL_ENV := $(CURDIR)/.venv

.PHONY: repro test slow clean

repro: .venv/made
	@python -m kaod.figures.notebooks check
	dvc repro download vertices warp
	dvc stage list --name-only | sed -n 's/^train@\(.*\)/& evaluate@\1/p' | $(SIDE_BY_SIDE)
	dvc stage list --name-only | grep -E '^(pictures|notebooks|grid)@' | $(SIDE_BY_SIDE)
	dvc repro
	@python -m kaod.evaluation.compare

# two tests at a time, each on one thread; threads that have nothing to do shall sleep, not spin
test slow: export OMP_NUM_THREADS = 1
test slow: export OMP_WAIT_POLICY = passive
test: .venv/made
	pytest -n 2 --dist worksteal

slow: .venv/made
	pytest -n 2 --dist worksteal -m slow

# made last, so that an interrupted installation is done again
.venv/made: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "kaod needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch .venv/made

clean:
	rm -rf .venv datasets runs scratch
