# SPDX-License-Identifier: Apache-2.0
# Everything a contributor or CI runs. `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
target ?= cloudrun
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help demo down clean venv venv-dev lock test lint unit client-test sandbox-test conformance integration molecule docs build measure

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: venv  ## deploy MLflow into the sandbox, verify it, say how to use it (target=cloudrun)
	@$(BIN)/python scripts/demo.py --target $(target)

down: ## stop the sandbox; its data stay
	@if [ -x $(BIN)/gcp-sandbox ]; then $(BIN)/gcp-sandbox down; fi

clean:  ## stop the sandbox and remove it, the virtual environment and what was built
	@if [ -x $(BIN)/gcp-sandbox ]; then $(BIN)/gcp-sandbox reset; fi
	rm -rf .sandbox $(VENV) build .cache tests/output .pytest_cache .ruff_cache .coverage .ansible collections

venv: $(VENV)/.demo  ## the virtual environment of the demonstration, .venv
venv-dev: $(VENV)/.dev  ## the same with everything that the checks need

$(VENV)/.demo: requirements/demo.txt sandbox/pyproject.toml clients/python/pyproject.toml scripts/venv.sh
	@scripts/venv.sh $(VENV) requirements/demo.txt
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.demo
	@scripts/venv.sh $(VENV) requirements/dev.txt
	@touch $@

lock: venv  ## resolve requirements/*.in into the exact versions of requirements/*.txt
	cd requirements && uv pip compile -q --upgrade --universal --python-version 3.11 --no-annotate --no-header demo.in -o demo.txt
	cd requirements && uv pip compile -q --upgrade --universal --python-version 3.11 --no-annotate --no-header -c demo.txt dev.in -o dev.txt

test: venv-dev  ## every check below, with the time that each part took
	@$(BIN)/python scripts/check.py all

lint unit client-test sandbox-test conformance integration molecule docs build: venv-dev
	@$(BIN)/python scripts/check.py $@

lint:  ## ruff, yamllint, ansible-lint, ansible-test sanity, language, documentation and changelog lint
unit:  ## unit tests of the collection, with coverage
client-test:  ## tests of the Python package mlflow-google-auth
sandbox-test:  ## the sandbox's own tests
conformance:  ## recorded traffic of the real services, replayed against the sandbox
integration:  ## modules and roles against a sandbox of their own
molecule:  ## the scenarios of the roles and of the target
docs:  ## the documentation pages, in build/site
build:  ## the collection's artifact, checked by galaxy-importer; the wheel of mlflow-google-auth

measure: venv  ## time, processor time and requests of runs that change nothing and of --check (against=COMMIT compares)
	@$(BIN)/python scripts/measure.py $(if $(against),--against $(against))
