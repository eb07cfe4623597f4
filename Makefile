# Two commands: `make demo` runs the main job on real data, `make test` passes the gate.
# Each does its own set-up on a machine with python3 (3.11 or newer), make and the package index.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# Test files run side by side, those that start Airflow first; the tests of one file run one after
# the other, since they share services. They wait for processes and clocks more than they work, so more of
# them run than there are cores.
WORKERS ?= 4
# Of the long suites fewer: with four Airflows on two cores their tasks are tried twice.
PROVERS ?= 2
# Every file with a test that the gate leaves out, and the rest of the crash matrix.
PROOFS  = $(sort $(shell grep -rlE --include='test_*.py' 'mark\.prove' tests) \
	tests/faults/test_races.py tests/integration/test_ledger_tail.py)

export PYTHONDONTWRITEBYTECODE := 1
export GX_ANALYTICS_ENABLED := false
export DBT_SEND_ANONYMOUS_USAGE_STATS := false
export DATAHUB_TELEMETRY_ENABLED := false
export AIRFLOW__USAGE_DATA_COLLECTION__ENABLED := false
export SQLFLUFF_DISABLE_PROGRESS_BAR := true

.PHONY: help setup test unit lint types layers sql demo prove bench clean

help:            ## this list
	@grep -hE '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/: .*## /\t/' | sort | expand -t 12

setup: $(READY)  ## the virtual environment, with pinned versions

$(READY): pyproject.toml constraints.txt
	@echo "set-up: $(VENV) (about 80 s the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

test: $(READY)   ## the gate: lint, types, layers, SQL, and beside them the tests
	@$(MAKE) --no-print-directory --jobs=2 checks tests

.PHONY: checks tests
checks: lint layers sql types

tests: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile \
		--no-loadscope-reorder --durations=15

unit: $(READY)   ## the tests that need no service and take no second each, side by side
	$(BIN)/python -m pytest -n 2 -m "not prove and not thorough" tests/unit src

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

layers: $(READY)
	$(BIN)/lint-imports

sql: $(READY)  # Levada's rules among them: see .sqlfluff
	$(BIN)/sqlfluff lint models --disable-progress-bar

clean:           ## stop what runs, remove what was made
	-@test -x $(BIN)/levada && $(BIN)/levada down
	rm -rf .levada landing

demo: $(READY)   ## history by `levada run`, two live days in real Airflow; KEEP=1 leaves it up
	$(BIN)/python demo/demo.py

prove: $(READY)  ## the long suites whole: the crash matrix, histories; seeds and counts
	@git log -1 --format="commit %h of %cs"
	$(BIN)/python -m pytest -n $(PROVERS) --dist loadfile --no-loadscope-reorder -v -rfEsP \
		-m "prove or not prove" $(PROOFS)

bench: $(READY)  ## every performance figure beside its peer; ONLY=p2 for one
	@$(BIN)/python benchmarks/_all.py $(ONLY)
