# Everything a checkout needs, from Python 3.11 or newer, git and make: `make demo`, `make test`.
# The set-up is a virtual environment in .venv, stamped by a hash of pyproject.toml: a change there redoes it.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$python"; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
HASH := $(shell sha256sum pyproject.toml | cut -c 1-16)
RUN := $(VENV)/.run-$(HASH)
TEST := $(VENV)/.test-$(HASH)
FUZZ := $(VENV)/.fuzz-$(HASH)
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet

# Programs and data that come from Debian and not from PyPI (.ci/debian-packages). Where one is missing, `make test` leaves
# out the tests marked `debian` and says so; `.ci/run` installs them all and leaves out nothing.
PROGRAMS := curl faketime haproxy ip mount nginx nsenter openssl prometheus promtool psql systemd-analyze taskset \
	unshare wrk \
	/usr/lib/nginx/modules/ngx_stream_module.so /usr/share/tor/geoip
MISSING = $(shell PATH="$$PATH:/usr/sbin:/sbin"; for program in $(PROGRAMS); do \
	[ -e $$program ] || command -v $$program >/dev/null || echo $$program; done)

.PHONY: help demo test check bench fuzz soak build packages clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

demo: $(RUN) ## real traffic through the proxy, with a table of who went where (ONCE=1: then exit)
	$(BIN)/domicile demo $(if $(filter-out 0 no false,$(ONCE)),--once)

# Four at a time, for most of the suite waits; each starts its own servers. TOGETHER=0 for one at a time, as a debugger wants.
TOGETHER ?= 4
TOGETHER_ARGS = $(if $(filter-out 0 1,$(TOGETHER)),--numprocesses=$(TOGETHER) --dist=worksteal)

test: $(TEST) ## every test (ARGS='-k name' and the like go to pytest)
	@if [ -n "$(strip $(MISSING))" ]; then \
	echo "Not installed: $(strip $(MISSING)). Leaving out the tests marked 'debian'; 'make packages' installs them." >&2; \
	exec $(BIN)/python -m pytest -m 'not debian' $(TOGETHER_ARGS) $(ARGS); else exec $(BIN)/python -m pytest $(TOGETHER_ARGS) $(ARGS); fi

check: $(TEST) ## lint, format, types, and the floors that imports must keep to
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/floors

bench: $(TEST) ## processor time against nginx, HAProxy, Envoy and aiohttp, memory, workers (ARGS='--quick')
	$(BIN)/python -m benchmarks $(ARGS)

fuzz: $(FUZZ) ## the readers of a connection's first bytes, each for a while (SECONDS=600); needs x86-64
	$(BIN)/python -m fuzz $(or $(SECONDS),60)

soak: $(TEST) ## random faults, reloads and load together, for an hour (SECONDS=3600)
	$(BIN)/python -m tests.faults.soak $(or $(SECONDS),3600)

build: $(TEST) ## wheel and sdist in dist/
	$(BIN)/python -m build --outdir dist .

packages: ## Debian packages that the tests and benchmarks use (root, or through sudo)
	.ci/packages

clean: ## what building and testing left behind, the virtual environment too
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@[ -n "$(PYTHON)" ] || { echo 'Domicile needs Python 3.11 or newer.' >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); echo 'No venv module: on Debian, install python3-venv.' >&2; exit 1; }

# pip 25.1 is the first that knows dependency groups; what venv brings is often older.
$(RUN): | $(BIN)/python
	$(PIP) install --upgrade 'pip>=25.1'
	$(PIP) install -e .
	@rm -f $(VENV)/.run-* && touch $@

$(TEST): $(RUN)
	$(PIP) install -e . --group test
	@rm -f $(VENV)/.test-* && touch $@

$(FUZZ): $(RUN)
	$(PIP) install -e . --group fuzz
	@rm -f $(VENV)/.fuzz-* && touch $@
