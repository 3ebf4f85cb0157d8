# Needs python3 (3.11 or newer), pip and make; everything else goes into .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
ARGS   ?=

.PHONY: demo run test test-slow lint format bench check clean

$(READY): pyproject.toml constraints.txt $(wildcard plugins/*/pyproject.toml)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "otel-moesif needs Python 3.11 or newer; found " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--editable '.[dev]' $(foreach plugin,$(wildcard plugins/*/pyproject.toml),--editable $(dir $(plugin)))
	@touch $@

demo: $(READY)  ## the main job, to be watched: collector, sandbox, sample traffic; ARGS="--seconds 10" ends by itself
	@$(BIN)/otel-moesif demo $(ARGS)

run: $(READY)  ## the collector on collector.yaml, in the foreground
	@$(BIN)/otel-moesif run --config collector.yaml $(ARGS)

test: $(READY)  ## every test but those marked slow
	@$(BIN)/pytest -m "not slow" $(ARGS)

test-slow: $(READY)  ## the slow ones
	@$(BIN)/pytest -m slow $(ARGS)

lint: $(READY)  ## ruff and mypy --strict
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

format: $(READY)
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

check: lint test

bench: $(READY)  ## calls per second, CPU per call, acknowledgement latency, memory
	@$(BIN)/python benchmarks/bench.py $(ARGS)

clean:
	rm -rf $(VENV) data .pytest_cache .mypy_cache .ruff_cache
