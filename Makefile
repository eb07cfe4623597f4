# Two commands: `make demo` runs the main job on real data, `make test` passes the gate.
# Each does its own set-up on a machine with python3 (3.11 or newer), make and the package index.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# Test files run side by side, those that start Airflow first; the tests of one file run one after
# the other, since they share services.
WORKERS ?= 2

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

test: $(READY) lint types layers sql  ## the gate: lint, types, layers, SQL, tests
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile \
		--no-loadscope-reorder --durations=15

unit: $(READY)   ## the tests that need no service, in seconds
	$(BIN)/python -m pytest tests/unit src

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
	$(BIN)/python -m pytest -v -s -m "prove or not prove" tests/unit/test_histories.py \
		tests/unit/test_calendar_walks.py \
		tests/faults/test_killed_runs.py tests/faults/test_races.py \
		tests/faults/test_databases_away.py \
		tests/integration/test_ledger_tail.py tests/airflow/test_real_airflow.py \
		tests/airflow/test_beside_airflow.py tests/integration/test_review.py \
		tests/airflow/test_benchmarks.py

bench: $(READY)  ## every performance figure beside its peer; ONLY=p2 for one
	@$(BIN)/python benchmarks/_all.py $(ONLY)
