# What a newcomer types; `make` alone lists it.
.DEFAULT_GOAL := help
.PHONY: help setup demo up test check bench soak faults clocks distributed schemas lock kafka
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

# What Python compiled is kept: a test run starts some hundred processes of ours.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
# embedded: PostgreSQL only; all: Kafka too.
ENGINE ?= all
# Files of tests that run at the same time.
WORKERS ?= 3
# Handed on to pytest, to `casewalk up` or to `casewalk demo`.
ARGS ?=

help: ## Lists these targets.
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/.done ## Makes .venv with the pinned dependencies and Casewalk itself.

demo: setup $(if $(KAFKA),kafka) ## Plays a busy day on all five services (ONCE=1 ends after it, KAFKA=1 runs it on a real broker).
	@$(BIN)/casewalk demo $(if $(ONCE),--once) $(if $(KAFKA),--kafka) $(ARGS)

up: setup ## Starts all five services with embedded PostgreSQL at http://127.0.0.1:8080.
	@$(BIN)/casewalk up $(ARGS)

test: setup $(if $(filter embedded,$(ENGINE))$(CASEWALK_TEST_KAFKA),,kafka) ## Runs every test on real PostgreSQL and Kafka (ENGINE=embedded leaves Kafka out, ARGS= goes to pytest).
	@deploy/setup.sh curl
	@deploy/setup.sh nginx
	@CASEWALK_TEST_ENGINE=$(ENGINE) $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: setup ## Checks format, lint, strict types and that published schemas still fit.
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m events.schemas --check

schemas: setup ## Generates the JSON Schemas, the AsyncAPI document and docs/events.md again.
	@$(BIN)/python -m events.schemas --write
	@$(BIN)/python -m tests.wire

distributed: setup kafka ## Runs the story and the import on separate processes: a broker, PostgreSQL, five services and a second router.
	@$(BIN)/python -m tests.distributed $(ARGS)

bench: .venv-bench/.done kafka ## Measures speed as ratios, side by side in one run, under 45 minutes (ARGS="--quick" takes 3).
	@.venv-bench/bin/python -m bench $(ARGS)

soak: .venv-bench/.done ## Runs at half the measured rate for 30 minutes and looks for drift and leaks (ARGS="--minutes 2").
	@.venv-bench/bin/python -m bench.soak $(ARGS)

BROKEN = CASEWALK_TEST_ENGINE=$(ENGINE) $(BIN)/python -m pytest --faults $(if $(REPORT),--report $(REPORT))

faults: setup $(if $(filter embedded,$(ENGINE)),,kafka) ## Kills, cuts and confuses everything under load, and counts what is lost (REPORT=docs/faults.md keeps the tables).
	@deploy/setup.sh faketime
	@$(BROKEN) --numprocesses 2 --dist worksteal tests/faults --ignore tests/faults/clocks $(ARGS)

clocks: setup $(if $(filter embedded,$(ENGINE)),,kafka) ## Lets 100,000 clocks run at once, and judges 100,000 cases made by chance (REPORT=docs/faults.md).
	@$(BROKEN) tests/faults/clocks $(ARGS)

lock: setup ## Pins the newest allowed versions of all dependencies again.
	@$(BIN)/python -m pip install --quiet uv
	@compile="$(BIN)/uv pip compile pyproject.toml --upgrade --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header --quiet --group build"; \
	$$compile --output-file requirements.txt; \
	$$compile --group dev --constraints requirements.txt --output-file requirements-dev.txt

kafka: deploy/kafka/lib/classes.jsa
	@deploy/setup.sh java

# Written last: a set-up that broke off is done again, and so is one whose lock has changed since.
.venv/.done: requirements-dev.txt pyproject.toml
	@python=$$(deploy/setup.sh python); $$python -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# The product's own dependencies, and beside them the libraries it is measured against.
.venv-bench/.done: requirements.txt bench/requirements.txt pyproject.toml
	@python=$$(deploy/setup.sh python); $$python -m venv .venv-bench
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		--requirement requirements.txt --requirement bench/requirements.txt
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

deploy/kafka/lib/.done: deploy/kafka/pom.xml
	@deploy/setup.sh kafka
	@rm -rf $(@D)
	@mvn --quiet --batch-mode --file $< dependency:copy-dependencies
	@touch $@

deploy/kafka/lib/classes.jsa: deploy/kafka/lib/.done | .venv/.done
	@deploy/setup.sh java
	@$(BIN)/python -m services.runtime.broker
	@touch $@
