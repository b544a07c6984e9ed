# SPDX-License-Identifier: Apache-2.0
# The commands for contributors and CI. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
target ?= cloudrun
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help demo down clean venv venv-dev lock test lint unit client-test sandbox-test conformance integration molecule docs build measure endurance

help:  ## print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo:  ## deploy MLflow into the sandbox and verify it (target=cloudrun or target=appengine)
	@$(PYTHON) scripts/demo.py --target '$(target)'

down: ## stop the sandbox; its data is kept
	@if [ -x $(BIN)/gcp-sandbox ]; then $(BIN)/gcp-sandbox down; fi

clean:  ## delete the sandbox, the virtual environment and all build results; print the caches that are kept
	@if [ -x $(BIN)/gcp-sandbox ]; then $(BIN)/gcp-sandbox reset; fi
	rm -rf .sandbox $(VENV) build .cache tests/output .pytest_cache .ruff_cache .coverage .ansible collections
	@scripts/caches.sh

venv: $(VENV)/.demo  ## create the virtual environment of the demonstration, .venv
venv-dev: $(VENV)/.dev  ## add the packages that the checks need

$(VENV)/.demo: requirements/demo.txt sandbox/pyproject.toml clients/python/pyproject.toml scripts/venv.sh
	@scripts/venv.sh $(VENV) requirements/demo.txt
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.demo
	@scripts/venv.sh $(VENV) requirements/dev.txt
	@touch $@

lock: venv  ## resolve requirements/*.in to exact versions in requirements/*.txt
	cd requirements && uv pip compile -q --upgrade --universal --python-version 3.11 --no-annotate --no-header demo.in -o demo.txt
	cd requirements && uv pip compile -q --upgrade --universal --python-version 3.11 --no-annotate --no-header -c demo.txt dev.in -o dev.txt

test: venv-dev  ## run all checks and print the duration of each
	@$(BIN)/python scripts/check.py all

lint unit client-test sandbox-test conformance integration molecule docs build: venv-dev
	@$(BIN)/python scripts/check.py $@

lint:  ## ruff, yamllint, ansible-lint, ansible-test sanity, language, documentation and changelog lint
unit:  ## unit tests of the collection, with coverage
client-test:  ## tests of the Python package mlflow-google-auth
sandbox-test:  ## the sandbox's own tests
conformance:  ## recorded traffic of the real services, replayed against the sandbox
integration:  ## tests of modules, roles and playbooks against a sandbox
molecule:  ## the Molecule scenarios
docs:  ## the documentation pages, in build/site
build:  ## the collection's artifact, checked by galaxy-importer; the wheel of mlflow-google-auth

endurance: venv-dev  ## kills, faults and inputs that `make test` only samples, which takes hours (ENDURANCE_SEED)
	@$(BIN)/python scripts/check.py $@

measure: venv  ## time, processor time and requests of runs that change nothing and of --check (against=COMMIT compares)
	@$(BIN)/python scripts/measure.py $(if $(against),--against $(against))
