# Needs python3 (3.11 or newer), pip and make; everything else goes into .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
AUDIT  := .venv-audit
ARGS   ?=
# Processes that tests are spread over; most of the time they wait.
JOBS   ?= 2

.PHONY: demo run test test-slow torture soak fuzz lint format bench check audit clean

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
	@$(BIN)/pytest -m "not slow" --numprocesses $(JOBS) --dist loadfile $(ARGS)

test-slow: $(READY)  ## the slow ones
	@$(BIN)/pytest -m slow $(ARGS)

torture: $(READY)  ## kills, stops and restarts a collector under load; ARGS="--seed 1 --kills 50 --terms 20 --report FILE"
	@$(BIN)/python -m tests.torture $(ARGS)

soak: $(READY)  ## minutes of traffic to a Moesif that misbehaves at random; ARGS="--minutes 10 --share 0.3 --seed 1"
	@$(BIN)/python -m tests.soak $(ARGS)

fuzz: $(READY)  ## mutated and structured payloads over the check and the decoder; ARGS="--payloads 200000 --seed 1"
	@$(BIN)/python -m tests.fuzz $(ARGS)

lint: $(READY)  ## ruff and mypy --strict
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

format: $(READY)
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

check: lint test audit

audit: $(READY)  ## known vulnerabilities in the pinned versions; says so where no source of advisories can be reached
	@test -x $(AUDIT)/bin/pip-audit || { $(PYTHON) -m venv $(AUDIT) && \
		$(AUDIT)/bin/pip install --quiet --disable-pip-version-check pip-audit; } || true
	@$(BIN)/python -m tests.audit $(AUDIT)/bin/pip-audit

bench: $(READY)  ## calls per second, CPU per call, acknowledgement latency, memory
	@$(BIN)/python benchmarks/bench.py $(ARGS)

clean:
	rm -rf $(VENV) $(AUDIT) data .pytest_cache .mypy_cache .ruff_cache
