# Needs Python 3.11 or newer and the package registries; everything else is installed below .venv first.
# `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

ARGS ?=
DB_URL ?=
PYTHON ?=
IMAGE ?= b25/analytics:0.1.0
BIN := .venv/bin
CODE := analytics_pipeline api tests
IN_TWO := -n 2 --dist loadscope --no-loadscope-reorder

.PHONY: screenshots dashboards chaos soak bench-ingest bench-post bench-api bench-rollup bench-dagster bench-finality bench-page bench-start docs site site-serve lock help up down clean test test-all test-browser test-coverage fmt lint build run dev migrate-up docker-build docker-run

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: .venv/.local ## Start everything on this machine; flags: make up ARGS='--no-simulator'
	@$(BIN)/analytics up $(ARGS)

down: .venv/.local ## Stop what `make up` started, also in the background
	@$(BIN)/analytics down $(ARGS)

clean: .venv/.local ## Stop it and delete its data, .analytics/
	@$(BIN)/analytics clean $(ARGS)

run: .venv/.local ## Start everything without the simulator, with the servers that config.yaml names
	@$(BIN)/analytics up --no-simulator $(ARGS)

dev: .venv/.dev ## Like up; processes restart when their source changes
	@$(BIN)/analytics up --reload $(ARGS)

migrate-up: .venv/.local ## Bring a database to this version: make migrate-up DB_URL=postgres://user:password@host/name
	@$(BIN)/analytics migrate $(if $(DB_URL),--url '$(DB_URL)') $(ARGS)

test: lint ## Check style, types, imports and SQL, then run the tests but slow ones, two at a time
	@$(BIN)/pytest $(IN_TWO) $(ARGS)

test-all: lint ## The same with slow ones: half an hour
	@$(BIN)/pytest $(IN_TWO) -m 'not long' $(ARGS)

test-browser: .venv/.dev ## Open the dashboard in a real Chromium; skipped where there is none; make test-browser ARGS='-k events'
	@$(BIN)/pytest tests/browser -m 'not long' $(ARGS)

test-coverage: .venv/.dev ## Run all tests and show which lines they reach
	@$(BIN)/pytest -m 'not long' --cov --cov-report=term --cov-report=html $(ARGS)

bench-ingest: .venv/.dev ## Measure landing against Postgres' own ceiling; make bench-ingest ARGS='--quick'
	@$(BIN)/python -m benchmarks.ingest $(ARGS)

bench-post: .venv/.dev ## Measure POST, single events and NDJSON; make bench-post ARGS='--seconds 20'
	@$(BIN)/python -m benchmarks.post $(ARGS)

bench-api: .venv/.dev ## Measure the API with 90 days behind it; make bench-api ARGS='--quick'
	@$(BIN)/python -m benchmarks.api $(ARGS)

bench-rollup: .venv/.dev ## Measure recompute, merges and days; make bench-rollup ARGS='--quick'
	@$(BIN)/python -m benchmarks.rollup $(ARGS)

bench-dagster: .venv/.dev ## Measure how fast the Dagster UI loads with years of partitions; make bench-dagster ARGS='--repeat 3'
	@$(BIN)/python -m benchmarks.dagster_ui $(ARGS)

bench-finality: .venv/.dev ## How soon buckets are final and a late event is seen, at every level; ARGS='--minutes 4 --rate 100'
	@$(BIN)/python -m benchmarks.finality $(ARGS)

bench-page: .venv/.dev ## How far the dashboard is behind and what it keeps while events land; ARGS='--minutes 60 --rate 10000'
	@$(BIN)/python -m benchmarks.dashboard_page $(ARGS)

bench-start: .venv/.dev ## How long it takes from a clone to the first chart; ARGS='--cold' downloads everything
	@$(BIN)/python -m benchmarks.first_chart $(ARGS)

soak: .venv/.dev ## Run the whole stack under load and check the books; make soak ARGS='--minutes 1 --rate 1000'
	@$(BIN)/python -m benchmarks.soak $(ARGS)

chaos: .venv/.dev ## Kill, freeze, cut and fill everything while events land, and compare; make chaos ARGS='-k broker'
	@$(BIN)/pytest tests/chaos -m long -rP --durations=0 $(ARGS)

lint: .venv/.dev ## Check style, types, imports and SQL
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/sqlfluff lint --disable-progress-bar sql dbt_models

fmt: .venv/.dev ## Format the source
	@$(BIN)/ruff check --fix-only --quiet
	@$(BIN)/ruff format

docs: .venv/.dev docs/tables.md ## Write the pages that follow from the source: catalog, commands, configuration, REST, tables, series, pictures
	@$(BIN)/python -m documentation

docs/tables.md: $(wildcard sql/migrations/*.sql dbt_models/models/marts/*.yml) documentation/tables.py | .venv/.dev
	@$(BIN)/python -m documentation tables
	@touch $@

site: .venv/.dev ## Build the documentation as a site in site/; a link that leads nowhere is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict $(ARGS)

site-serve: .venv/.dev ## Show the documentation on http://127.0.0.1:8000 while you write it
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve $(ARGS)

screenshots: .venv/.dev ## Take the pictures of README and docs from what `make up` runs; ARGS='--every FOLDER': of all views, sizes and themes
	@$(BIN)/python -m documentation.screenshots $(ARGS)

dashboards: .venv/.dev ## Write the dashboards of Grafana, deploy/grafana/dashboards, from deploy/grafana/boards
	@$(BIN)/python -m deploy.grafana

lock: .venv/.dev ## Write the lock files anew from pyproject.toml; versions stay, unless ARGS='--upgrade'
	@$(call compile,runtime,--extra tracing)
	@$(call compile,local,--extra local --extra client --group build)
	@$(call compile,dev,--extra local --group dev --group build)

build: .venv/.dev ## Build wheel and source archive in dist/
	@$(BIN)/python -m build --no-isolation

docker-build: ## Build the image
	@docker build --tag $(IMAGE) .

docker-run: | .env ## Start the product and its servers in containers; the first time it makes their passwords
	@docker compose up --build $(ARGS)

.env:
	@umask 077; while IFS= read -r line; do \
	  case "$$line" in \
	    *_PASSWORD=) printf '%s%s\n' "$$line" "$$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')" ;; \
	    *) printf '%s\n' "$$line" ;; \
	  esac; done < .env.example > $@.new
	@mv $@.new $@; echo "made .env with random passwords"

compile = $(BIN)/uv pip compile pyproject.toml $(2) $(if $(filter-out runtime,$(1)),--constraint requirements/runtime.lock) $(ARGS) --generate-hashes --universal --no-header --no-strip-extras \
  --no-emit-index-url --quiet --output-file requirements/$(1).lock

# --- installing ---------------------------------------------------------------------------------------------------

.venv/.local: requirements/local.lock pyproject.toml | .venv/.made
	@$(call install,requirements/local.lock)
	@touch $@

.venv/.dev: requirements/dev.lock pyproject.toml | .venv/.made
	@$(call install,requirements/dev.lock)
	@touch $@ .venv/.local

.venv/.made:
	@python=''; seen=''; \
	for name in $(or $(PYTHON),python3.11 python3.12 python3.13 python3 python); do \
	  version=$$($$name -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
	  seen="$$seen $$name is $$version;"; \
	  if $$name -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))'; then python=$$name; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "error: Python 3.11 or newer is needed ($${seen:- none was found}): install one, or name it: make PYTHON=/path/to/python" >&2; \
	  exit 1; \
	fi; \
	echo "making .venv with $$($$python --version)"; \
	if ! $$python -m venv .venv; then \
	  rm -rf .venv; \
	  echo "error: $$python cannot make a virtual environment: on Debian or Ubuntu, install python3-venv" >&2; \
	  exit 1; \
	fi
	@touch $@

# Packages with the hashes of the lock file, then this checkout itself. Shows how far it is; tries a bad network again.
define install
count=$$(grep -c '^[A-Za-z0-9]' $(1)); \
echo "installing $$count packages of $(1), once"; \
for attempt in 1 2 3; do \
  if $(BIN)/python -m pip install --disable-pip-version-check --no-input --retries 5 --timeout 60 \
      --require-hashes --requirement $(1) \
    | awk -v total=$$count '/^(Collecting|Requirement already satisfied)/ { if (++n % 10 == 0) { printf "  %d of %d\n", n, total; fflush() } } \
        /^Installing collected/ { print "  writing them to .venv"; fflush() }'; then \
    $(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .; \
    exit 0; \
  fi; \
  if [ $$attempt -lt 3 ]; then echo "a download failed; trying again ($$attempt of 2)" >&2; sleep $$((attempt * 5)); fi; \
done; \
echo "error: the packages of $(1) could not be installed (pip's own message is above): check the network, a proxy or pip's index settings, then run make again" >&2; \
exit 1
endef
