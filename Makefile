# nodens: run it, test it. Each target does its own set-up; `make` alone lists them.
# Needs python3 (3.11 or newer), make and git; a C compiler with Python's headers builds the faster data plane, optional.

PYTHON ?= python3
# make run
PORT ?= 5300
ADMIN ?= 127.0.0.1:9353
SERVICES ?= 200
STATE ?= .run/state
CLUSTER ?= .run/cluster.json
# make test, test-slow, faults, bench: further arguments; COV=1 adds branch coverage; a limit for the whole of test-slow, faults
ARGS ?=
COV ?=
BUDGET_S ?= 2700
# make demo: 2 is twice as fast to read; ARGS=--fast is for CI
SPEED ?= 1
# make faults: its figures as JSON
RECORD ?= build/faults.json
# make fuzz: seconds
FUZZ_S ?= 60

VENV := .venv
BIN := $(VENV)/bin
COVERAGE := $(if $(COV),--cov --cov-branch --cov-report=term-missing:skip-covered)
COMPILE := CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --no-strip-extras --generate-hashes --allow-unsafe \
	--all-build-deps --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options
export PYTHON PORT ADMIN SERVICES STATE CLUSTER FUZZ_S SPEED

.DEFAULT_GOAL := help
.PHONY: help run demo test test-slow faults lint bench fuzz envtest lock clean

help: ## list the targets
	@echo "nodens: node-local DNS that answers from a persisted snapshot"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "Variables: PYTHON, PORT, ADMIN, SERVICES, STATE, CLUSTER (run); ARGS (demo, test, test-slow, faults, bench), SPEED (demo), COV=1, BUDGET_S (test, test-slow, faults), RECORD (faults), FUZZ_S (fuzz)"

run: $(VENV)/.run.stamp ## serve an example cluster on 127.0.0.1:5300 until Ctrl-C
	@packaging/run-example

demo: $(VENV)/.dev.stamp ## the outage as a story: API server killed, everybody restarted, who still answers (2.5 minutes)
	@$(BIN)/python -m benchmarks.demo $(ARGS)

test: $(VENV)/.dev.stamp ## run the tests that take seconds
	@packaging/require-dig
	$(BIN)/python -m pytest -m "not slow and not control_plane" $(COVERAGE) $(ARGS)

test-slow: $(VENV)/.dev.stamp ## run the slow tests but faults, and those against a real control plane (make envtest)
	@packaging/require-dig
	$(BIN)/python -m pytest -m "(slow or control_plane) and not faults" --timeout=900 --session-timeout=$(BUDGET_S) $(ARGS)

faults: $(VENV)/.dev.stamp ## break everything around a real agent and ask it all the time; prints a table, writes RECORD
	@packaging/require-dig
	FAULTS_RECORD=$(RECORD) $(BIN)/python -m pytest -m faults --timeout=900 --session-timeout=$(BUDGET_S) $(ARGS)

lint: $(VENV)/.dev.stamp ## ruff, formatting, mypy --strict, import contracts
	@packaging/lint

fuzz: ## fuzz the compiled data plane under sanitizers for FUZZ_S seconds (needs a C compiler)
	@packaging/fuzz

bench: $(VENV)/.dev.stamp ## nodens beside every other DNS server on this machine, ten minutes (ARGS=--quick: two; ARGS=--help)
	$(BIN)/python -m benchmarks.peers $(ARGS)

envtest: ## build etcd, kube-apiserver, kubectl and CoreDNS for the tests, once (needs Go)
	@tests/control_plane/build-assets

lock: $(VENV)/.dev.stamp ## renew both lock files from pyproject.toml
	$(COMPILE) --upgrade -o requirements.lock pyproject.toml
	$(COMPILE) --upgrade --extra dev --extra uvloop -c requirements.lock -o requirements-dev.lock pyproject.toml

clean: ## remove .venv, the example's state and caches (not what envtest built)
	rm -rf $(VENV) .run build dist *.egg-info .coverage htmlcov .hypothesis \
		.import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find agent tests benchmarks -name __pycache__ -prune -exec rm -rf {} +
	rm -f agent/wire/_fast*.so

NATIVE := setup.py agent/wire/_fast.pyx $(wildcard agent/wire/native/*)
$(VENV)/.run.stamp: requirements.lock pyproject.toml packaging/install-venv $(NATIVE)
	@packaging/install-venv run
	@touch $@

$(VENV)/.dev.stamp: $(VENV)/.run.stamp requirements-dev.lock
	@packaging/install-venv dev
	@touch $@
