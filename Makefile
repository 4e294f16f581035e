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
OUTCOMES := build/outcomes
# What failed is run once more when nothing else is running: now, or (by `test`) later, for which a mark is left.
AGAIN ?= now
# $(call tests,NAME,OPTIONS,TESTS)
tests = $(PYTHON) -m pytest -q -o cache_dir=build/pytest-$(1) $(2) $(3) || \
	{ [ $$? = 1 ] && if [ $(AGAIN) = later ]; then touch $(OUTCOMES)/$(1)-again; else $(call again,$(1),$(3)); fi; }
# $(call again,NAME,TESTS)
again = $(PYTHON) -m pytest -q -o cache_dir=build/pytest-$(1) --lf --lfnf none $(2)

# Which tests: `make test UNIT=tests/test_cli.py` runs fewer.
UNIT := --ignore=tests/integration
UNIT_313 := tests plugins_contrib
INTEGRATION := tests/integration

.PHONY: help setup payload testbed demo demo-triton test lint unit unit-again unit-313 integration built-integration \
	integration-again chaos bench bench-factory bench-frontend clean

help: ## show this
	@awk -F':.*## ' '/^[a-z0-9%-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## install what the project needs (Debian packages with apt, Python packages with pip)

$(STAMP): pyproject.toml packaging/setup.sh
	bash packaging/setup.sh
	@mkdir -p build && touch $@

payload: $(STAMP) ## build/pilot.pyz, build/pilot.sh and build/pilot-aarch64.sh
	$(PYTHON) packaging/build_payload.py --output build --aarch64

testbed: $(STAMP) ## build the testbed's trees and images
	$(PYTHON) -m tests.testbed build

demo: payload testbed ## two pilots, eight user jobs, one readable account
	$(PYTHON) -m tests.testbed.demo

demo-triton: payload testbed ## eight jobs, and the Triton server beside them that is killed once
	$(PYTHON) -m tests.testbed.triton_demo

lint: $(STAMP) ## format, lint, types
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy

unit: $(STAMP) ## unit tests on this Python (3.11)
	$(PYTHON) -m compileall -q pilot_agent server_stub
	$(call tests,unit,-n $(WORKERS),$(UNIT))

unit-again: $(STAMP)
	$(call again,unit,$(UNIT))

unit-313: testbed ## unit tests on Python 3.13, inside the Debian 13 tree
	$(PYTHON) -m tests.testbed unit $(UNIT_313) -n $(WORKERS)

integration: payload ## real HTCondor and Apptainer in the testbed
	$(MAKE) built-integration

built-integration: testbed
	$(call tests,integration,-n $(GRIDS) --reruns 1,$(INTEGRATION))

integration-again: $(STAMP)
	$(call again,integration,$(INTEGRATION))

# Unit tests work and integration tests wait: beside each other they fill the machine. Who needs the testbed waits for
# whoever builds it. The lines of integration tests come as they happen, those of the others when they have ended.
test: $(STAMP) ## everything, whatever fails, beside each other; what failed once more alone; all of that named at the end
	rm -rf $(OUTCOMES); mkdir -p $(OUTCOMES); export PILOT_TEST_OUTCOMES=$(OUTCOMES); failed=0; \
	$(MAKE) -O testbed & building=$$!; \
	$(MAKE) -k -j2 -O payload lint || failed=1; \
	$(MAKE) -k -j2 -O AGAIN=later unit unit-313 & beside=$$!; \
	$(MAKE) AGAIN=later built-integration || failed=1; \
	wait $$building $$beside || failed=1; \
	for mark in $(OUTCOMES)/*-again; do \
		[ ! -e $$mark ] || $(MAKE) $${mark##*/} || failed=1; \
	done; \
	$(PYTHON) -m tests.outcomes $(OUTCOMES); exit $$failed

chaos: payload testbed ## pilots broken at 60 points of their lives (CHAOS_SEED, CHAOS_POINTS), build/chaos/*.json
	$(PYTHON) -m tests.chaos

bench: payload testbed ## the project's own measurements, build/bench/*.json
	$(PYTHON) benchmarks/run.py

bench-factory: $(STAMP) ## what a factory bears: reports, downloads beside nginx, pages: needs neither payload nor testbed
	$(PYTHON) benchmarks/run.py factory

bench-frontend: $(STAMP) ## a frontend's decision over a million jobs: needs neither payload nor testbed
	$(PYTHON) benchmarks/run.py frontend

bench-%: payload testbed ## one of them: make bench-probes
	$(PYTHON) benchmarks/run.py $*

clean: ## remove everything that was built
	rm -rf build .venv
