PYTHON ?= python3
PYTEST_ARGS ?=
BENCH_ARGS ?=
BIN := .venv/bin
BENCH_BIN := .bench/venv/bin
PIP := -m pip --disable-pip-version-check --no-cache-dir

.DEFAULT_GOAL := help
.PHONY: help demo test test-containers lint type bench soak fuzz compare up down system-deps

help: ## show what each target does
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/ready ## load 100,000 market orders from XML into demo/orders.db
	$(BIN)/adaptive demo

test: .venv/ready .labs/mongodb/ready ## run the tests, with servers of their own
	$(BIN)/python -m pytest -n auto --dist loadfile $(PYTEST_ARGS)

test-containers: .venv/ready ## the same on the databases of docker-compose.yml, in containers of their own
	ADAPTIVE_TEST_CONTAINERS=1 $(BIN)/python -m pytest tests/conformance tests/sinks $(PYTEST_ARGS)

lint: .venv/ready ## check style, formatting and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

type: .venv/ready ## check types with mypy --strict
	$(BIN)/mypy --strict adaptive benchmarks reliability fuzz performance_test.py samples/*.py

bench: .venv/ready .bench/venv/ready ## compare with other loaders; BENCH_ARGS=--quick or --only mssql
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

soak: .venv/ready .labs/mongodb/ready ## kill, cut and race loads; SOAK_ARGS="--minutes 30" adds the long run
	$(BIN)/python -m reliability all --out docs $(SOAK_ARGS)

fuzz: .venv/ready ## damage files in 20,000 ways and read them; FUZZ_ARGS="--cases 1000 --format csv"
	$(BIN)/python -m fuzz $(FUZZ_ARGS)

compare: .venv/ready ## compare batch sizes on every database that answers; COMPARE_ARGS=--quick
	$(BIN)/python performance_test.py compare $(COMPARE_ARGS)

up: .env ## start PostgreSQL, MongoDB and SQL Server in containers, on ports of 127.0.0.1
	docker compose up --detach --wait

down: ## stop them and remove what they hold
	docker compose down --volumes

system-deps: ## as root on Debian: install PostgreSQL's server, unixODBC, the sqlite3 command and venv
	@.ci/system-deps $(PYTHON)

.venv/ready: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python $(PIP) install --quiet -r requirements.txt
	$(BIN)/python $(PIP) install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# The stand-in for MongoDB pins another pymongo than ours: it lives apart.
.labs/mongodb/ready: tests/labs/mongodb-requirements.txt
	$(PYTHON) -m venv .labs/mongodb
	.labs/mongodb/bin/python $(PIP) install --quiet -r $<
	touch $@

.env:
	install -m 600 .env.example .env

# Peers live apart from the package: what they pin must not decide what the package runs with. One by one,
# so that a peer without a wheel for this machine is missing alone; the benchmark then lists it as missing.
.bench/venv/ready: benchmarks/requirements.txt
	$(PYTHON) -m venv .bench/venv
	-grep -v '^#' benchmarks/requirements.txt | xargs -n 1 $(BENCH_BIN)/python $(PIP) install --quiet --no-deps
	touch $@
