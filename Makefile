# Two commands: `make demo` runs the main job, `make test` runs every test. Both set up what they need.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON := .venv/bin/python
# Tests wait as much as they work. Unit tests: so many workers for each of the two Pythons.
WORKERS ?= 2
# Integration tests: so many workers, each with a grid and with one file of tests at a time. What fails on a busy machine
# is tried again at once, and after all others once more alone; each of them is named.
GRIDS ?= 3
STAMP := build/.setup-done
# $(call tests,OPTIONS,TESTS): what failed is run once more when nothing else is running.
tests = $(PYTHON) -m pytest -q $(1) $(2) || \
	{ echo "--- what failed, once more and alone ---"; $(PYTHON) -m pytest -q --lf --lfnf none $(2); }

.PHONY: help setup payload testbed demo test lint unit built-unit unit-313 integration built-integration chaos bench clean

help: ## show this
	@awk -F':.*## ' '/^[a-z0-9%-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## install what the project needs (Debian packages with apt, Python packages with pip)

$(STAMP): pyproject.toml packaging/setup.sh
	bash packaging/setup.sh
	@mkdir -p build && touch $@

payload: $(STAMP) ## build/pilot.pyz and build/pilot.sh
	$(PYTHON) packaging/build_payload.py --output build

testbed: $(STAMP) ## build the testbed's trees and images
	$(PYTHON) -m tests.testbed build

demo: payload testbed ## two pilots, eight user jobs, one readable account
	$(PYTHON) -m tests.testbed.demo

lint: $(STAMP) ## format, lint, types
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy

unit: $(STAMP) ## unit tests on this Python (3.11)
	$(PYTHON) -m compileall -q pilot_agent server_stub
	$(call tests,-n $(WORKERS),--ignore=tests/integration)

built-unit: payload
	$(MAKE) unit

unit-313: testbed ## unit tests on Python 3.13, inside the Debian 13 tree
	$(PYTHON) -m tests.testbed unit tests plugins_contrib -n $(WORKERS)

integration: payload testbed ## real HTCondor and Apptainer in the testbed
	$(MAKE) built-integration

built-integration: $(STAMP)
	$(call tests,-n $(GRIDS) --reruns 1,tests/integration)

test: $(STAMP) ## everything, whatever fails; the testbed is built and used while the unit tests run
	failed=0; $(MAKE) -k -j3 -O lint built-unit unit-313 || failed=1; $(MAKE) built-integration || failed=1; exit $$failed

chaos: payload testbed ## pilots broken at 60 points of their lives (CHAOS_SEED, CHAOS_POINTS), build/chaos/*.json
	$(PYTHON) -m tests.chaos

bench: payload testbed ## the project's own measurements, build/bench/*.json
	$(PYTHON) benchmarks/run.py

bench-%: payload testbed ## one of them: make bench-probes
	$(PYTHON) benchmarks/run.py $*

clean: ## remove everything that was built
	rm -rf build .venv
