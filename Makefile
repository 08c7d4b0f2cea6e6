# Every target is one line that also works without make. `make check` is what a change must pass.
export OMP_NUM_THREADS ?= 1
UV ?= uv
RUN = $(UV) run --frozen --extra sim
CHECKOUT := $(shell mktemp -u -d)/pericard

.PHONY: help setup format check lint types test test-all e2e package simulate audit-self
.DEFAULT_GOAL := help

help: ## what there is
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):[^#]*## ?(.*)/  \1\t\2/' | expand -t 14

setup: ## install everything that is locked, and the hooks of git where pre-commit is installed
	$(UV) sync --frozen --extra sim
	@! command -v pre-commit >/dev/null || pre-commit install

format: ## write the code as ruff would
	$(RUN) ruff format
	$(RUN) ruff check --fix

check: lint types test package ## all that a change must pass

lint: ## formatting and rules
	$(RUN) ruff format --check
	$(RUN) ruff check

types: ## mypy, strict
	$(RUN) mypy

test: ## the tests, without the slow ones
	$(RUN) pytest

test-all: ## the tests, slow ones too (they guard the claims)
	$(RUN) pytest -m "not gpu"

e2e: ## three hospitals and a coordinator over TLS with the real programs: whole campaigns, and who must not get in
	$(RUN) pytest -m "not gpu" tests/e2e --ignore tests/e2e/test_chaos.py

package: ## build the wheel and Flower's bundle from what is committed, and list them
	git clone --quiet --no-hardlinks . $(CHECKOUT)
	cd $(CHECKOUT) && $(CURDIR)/.venv/bin/python -m hatchling build -t wheel && $(CURDIR)/.venv/bin/flwr build
	$(RUN) python -m zipfile -l $(CHECKOUT)/dist/*.whl
	$(RUN) python -m zipfile -l $(CHECKOUT)/*.fab
	rm -rf $(dir $(CHECKOUT))

audit-self: ## do canaries refute our own epsilon, and that of every known way to break it?
	$(RUN) python -m benchmarks.audit_self --write

simulate: ## the whole federation on phantoms, into out/
	$(RUN) pericard simulate --out out
