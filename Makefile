# Every target sets up first: one second when nothing changed.
PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3.11)
BIN := .venv/bin
CONFIG ?= infra/serve/local.yaml
DATA ?= ../shared/data/routing

.DEFAULT_GOAL := help
.PHONY: setup demo up down test test-fast static check fmt lint types imports bench bench-router bench-learning bench-serving docs docs-check zoo lock clean help

setup: ## Install the locked packages and the encoders into .venv and .cache
	@$(PYTHON) -m infra.environment

demo: ## Set up, start everything, train the first router, route fresh questions, print the table
	@since=$$(date +%s); $(MAKE) --no-print-directory setup && $(BIN)/python -m infra.demo --since $$since

up: setup ## Start Ray, MLflow, the candidates and the router; CONFIG=infra/serve/local.yaml
	$(BIN)/python -m infra.up $(CONFIG)

down: setup ## Stop what `make up` started
	$(BIN)/python -m infra.down

test: setup ## Run every test that needs no accelerator; router/ must be covered to 95 %
	$(BIN)/pytest -m "not gpu" --cov=router --cov-branch --cov-fail-under=95 --cov-report=term:skip-covered --durations=25 --durations-min=5

test-fast: setup ## Run the unit and contract tests: no Ray, no network
	$(BIN)/pytest -q tests/unit tests/contract

static: setup ## Check format, lint, types, import directions, documents, files
	$(BIN)/ruff format --check .
	$(MAKE) --no-print-directory lint types imports docs-check

check: static test-fast ## The same, and the fast tests

fmt: setup ## Format, and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: setup ## Lint; look for secrets, large files and addresses of one machine
	$(BIN)/ruff check .
	$(BIN)/python -m infra.commit_checks

types: setup ## Check types, strictly
	$(BIN)/mypy

imports: setup ## Check the import directions
	$(BIN)/lint-imports

bench: setup ## Measure the main job's figures on the system that `make demo` left up; writes docs/evidence
	$(BIN)/python -m infra.evidence.main_job

bench-router: setup ## Measure the router on published outcomes in DATA (about fifty minutes); writes docs/evidence
	OMP_NUM_THREADS=1 $(BIN)/python -m infra.evidence.router --data $(DATA)

bench-learning: setup ## Measure one PART of learning (loop, newcomer, studies, promotion, kills, replicas, log, scale)
	$(BIN)/python -m infra.evidence.learning --part $(PART)

bench-serving: setup ## Measure one PART of serving (overhead, encoders, proxies, changes, processes, endpoints, soak)
	$(BIN)/python -m infra.evidence.serving --part $(PART)

docs: setup ## Write the generated parts of the documents
	$(BIN)/python -m infra.docs

docs-check: setup ## Check that the documents are current and their links lead somewhere
	$(BIN)/python -m infra.docs --check

zoo: setup ## Train the four local candidates again, from nothing (about half an hour on two cores)
	for candidate in reader charter scene generalist; do $(BIN)/python -m infra.zoo.train $$candidate || exit 1; done

lock: setup ## Resolve pyproject.toml again into infra/locks
	$(BIN)/python -m infra.relock

clean: ## Remove what can be made again; logged outcomes in .run stay
	rm -rf .venv .cache build dist *.egg-info .coverage* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
