# Set-up only: what is deployed stands in __main__.py, and `pulumi up` by hand does the same.
STACK ?= dev
PYTHON := .venv/bin/python

.PHONY: up preview destroy record drift recover test lint lab lab-down bench format

# The dev stack has the lab: a Swarm on this machine. No other stack does.
DEPLOY = $(PYTHON) -m $(if $(filter dev,$(STACK)),lab.dev,tools.deploy --stack $(STACK))

up destroy record drift recover: .venv/installed
	@$(DEPLOY) $@

# OFFLINE=1: with neither a Docker engine nor the Swarm, from what `make record` has kept.
preview: .venv/installed
	@$(DEPLOY) preview $(if $(filter 1,$(OFFLINE)),--offline)

lab: .venv/installed
	@$(PYTHON) -m lab up

lab-down: .venv/installed
	@$(PYTHON) -m lab down

test: .venv/installed
	@$(PYTHON) -m pytest

lint: .venv/installed
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/shellcheck .ci/run $(wildcard */*.sh .github/*.sh)
	@$(PYTHON) -m lab.actionlint
	@.venv/bin/zizmor --offline --quiet --pedantic --no-ignores --strict-collection .github

format: .venv/installed
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

bench: .venv/installed
	@$(PYTHON) -m lab up
	@$(PYTHON) -m bench

.venv/installed: requirements.txt requirements-dev.txt constraints.txt
	@echo "Setting up .venv with the packages of requirements-dev.txt" >&2
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; python3 is $$(python3 --version)" >&2; exit 2; }
	@# Debian's Python comes without the module that makes environments with pip.
	@python3 -c 'import ensurepip' 2>/dev/null || apt-get install --yes --quiet python3-venv
	@python3 -m venv .venv
	@.venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -r requirements-dev.txt
	@touch $@
