# Understudy: everything that a person does with the tree. Needs python3 (3.11 or newer), make and git; the rest is
# installed in .venv from requirements.lock by the first command that needs it.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
CHECK ?=

BIN := $(VENV)/bin
PIP_TOOLS := pip-tools==7.6.2
EXTRAS := flask starlette fastapi quart django litestar aiohttp pyramid cachelib uvloop demo test bench lock
TIDY := tests/test_tidy.py tests/unit/test_tidy_rules.py

.DEFAULT_GOAL := help
.PHONY: help venv demo test frameworks soak check format bench bench-page bench-failover bench-growth bench-million races lock clean
.NOTPARALLEL:

help: ## show this list
	@echo "Understudy: make TARGET [PYTHON=python3.12] [VENV=.venv] [ARGS=...]"
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -e 's/:.*## /|/' | awk -F '|' '{ printf "  %-14s %s\n", $$1, $$2 }'

venv: ## make .venv from requirements.lock, if it is missing or stale
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
	  echo "understudy: there is no '$(PYTHON)' here. Debian, Ubuntu: sudo apt-get install python3 python3-venv" >&2; \
	  exit 1; }
	@$(PYTHON) .ci/venv.py $(VENV)

demo: venv ## three members on this machine and a shop to click in; CHECK=1 does it without a person
	@echo "demo: starting three members on loopback$(if $(filter-out 0 no,$(CHECK)),; killing one under load and counting what is lost, until Ctrl-C)"
	@exec $(BIN)/understudy demo $(if $(filter-out 0 no,$(CHECK)),--check) $(ARGS)

test: venv ## all tests: unit, property, commands, conformance, history, tidy, system; ARGS goes to pytest
	@echo "test: running $(if $(ARGS),pytest $(ARGS),all tests; the system tests start real processes and come last)"
	@exec $(BIN)/python -m pytest $(ARGS)

soak: venv ## random faults from a seed on real members for 20 minutes, with an account; ARGS="--seconds 300 --seed 7"
	@exec $(BIN)/python -m tests.system.soak $(ARGS)

frameworks: venv ## the test suites of frameworks and session libraries on our backends (fetches them once); ARGS names some of Django's suites
	@$(if $(ARGS),,$(BIN)/python -m tests.frameworks.pytest_suites)
	@exec $(BIN)/python -m tests.frameworks.django_suites $(ARGS)

check: venv ## format, lint, types (strict) and the house rules
	@failed=; \
	echo "check: the format of every file (ruff format)"; $(BIN)/ruff format --check . || failed="$$failed format"; \
	echo "check: lint (ruff check)"; $(BIN)/ruff check . || failed="$$failed lint"; \
	echo "check: types (mypy --strict src)"; $(BIN)/python -m mypy --strict src || failed="$$failed types"; \
	echo "check: the house rules ($(TIDY))"; $(BIN)/python -m pytest --quiet $(TIDY) || failed="$$failed house-rules"; \
	if [ -n "$$failed" ]; then echo "check: FAILED:$$failed (make format mends the first, and some of the second)" >&2; exit 1; fi

format: venv ## put every file in its format and mend what the linter can mend
	@echo "format: rewriting files (ruff check --fix, ruff format)"
	@$(BIN)/ruff check --fix --exit-zero .
	@$(BIN)/ruff format .

bench: venv ## all benchmarks, short, in less than 15 minutes, and docs/benchmarks.md anew; ARGS names some of them
	@exec $(BIN)/python bench/suite.py $(ARGS)

bench-page: venv ## docs/benchmarks.md and its pictures from the results in bench/results
	@exec $(BIN)/python bench/page.py $(ARGS)

bench-failover: venv ## from a member's loss to the first answer elsewhere: killed, silent and cut off, 30 times each
	@$(BIN)/python bench/failover.py --json bench/results/failover.json $(ARGS); code=$$?; $(BIN)/python bench/page.py && exit $$code

bench-growth: venv ## simulated clusters of up to 300 members, whose counts are kept for the page (ten minutes or so)
	@$(BIN)/python bench/growth.py --large --json bench/results/growth.json $(ARGS); code=$$?; $(BIN)/python bench/page.py && exit $$code

bench-million: venv ## a store with a million sessions, filled, expired and filled again (five minutes, 3 GB below /tmp)
	@$(BIN)/python bench/million.py --json bench/results/million.json $(ARGS); code=$$?; $(BIN)/python bench/page.py && exit $$code

races: venv ## requests that overlap: what this and other session libraries do, as a table; ARGS=--ours needs no redis
	@exec $(BIN)/python bench/races.py $(ARGS)

lock: ## write requirements.lock anew from pyproject.toml (oldest supported Python); ARGS=--upgrade for newer versions
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
	  echo "lock: the lock is made with the oldest supported Python, so that it covers them all: make PYTHON=python3.11 lock" >&2; \
	  exit 1; }
	@echo "lock: resolving pyproject.toml with $(PIP_TOOLS) in a temporary environment (some minutes)"
	@set -e; tools=$$(mktemp -d); trap 'rm -rf "$$tools"' EXIT INT TERM; \
	  $(PYTHON) -m venv "$$tools"; \
	  "$$tools/bin/python" -m pip install --quiet "$(PIP_TOOLS)"; \
	  CUSTOM_COMPILE_COMMAND="make lock" "$$tools/bin/pip-compile" --quiet --generate-hashes --allow-unsafe \
	    --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --strip-extras \
	    $(addprefix --extra=,$(EXTRAS)) --output-file=requirements.lock $(ARGS) pyproject.toml
	@if grep -nE '^ *(-|[a-z0-9-]+ *@)|://' requirements.lock | grep -v -- '--hash='; then \
	  echo "lock: the lines above name an index or a place; mend that before committing" >&2; exit 1; fi

clean: ## remove .venv, caches and build products
	@echo "clean: removing $(VENV), caches and build products"
	@rm -rf $(VENV) $(VENV).old-* build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .frameworks
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
