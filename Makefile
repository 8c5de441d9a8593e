# Set-up only: what is deployed stands in __main__.py, and `pulumi up` by hand does the same.
STACK ?= dev
PYTHON := .venv/bin/python

.PHONY: up preview destroy record drift recover backup restore test mutants lint sbom lab lab-down bench chaos format

# The dev stack has the lab: a Swarm on this machine. No other stack does.
DEPLOY = $(PYTHON) -m $(if $(filter dev,$(STACK)),lab.dev,tools.deploy --stack $(STACK))

up destroy record drift recover: .venv/installed
	@$(DEPLOY) $@

# OFFLINE=1: with neither a Docker engine nor the Swarm, from what `make record` has kept.
preview: .venv/installed
	@$(DEPLOY) preview $(if $(filter 1,$(OFFLINE)),--offline)

# BACKUP=folder: where to write to or read from. FROM=stack: the stack that made the backup.
backup restore: .venv/installed
	@$(DEPLOY) $@ $(if $(BACKUP),--backup '$(BACKUP)') $(if $(FROM),--from-stack '$(FROM)')

lab: .venv/installed
	@$(PYTHON) -m lab up

lab-down: .venv/installed
	@$(PYTHON) -m lab down

# Most tests wait, so several share the cores. Each process of the Swarm suites has a lab of its own.
test: .venv/installed
	@$(PYTHON) -m pytest --numprocesses 4 --dist loadfile tests/unit tests/program tests/front
	@$(PYTHON) -m pytest --numprocesses 2 --dist loadfile tests/swarm

# Which faults in the code that guards people no test notices. It stops after MINUTES, goes on there
# the next time, and takes names, such as FAULTS='config.types*'.
MINUTES ?= 30
mutants: .venv/mutmut
	@timeout --foreground --signal KILL $(MINUTES)m .venv/bin/mutmut run $(FAULTS) \
	  || [ $$? -eq 137 ] # it keeps every result at once
	@.venv/bin/mutmut results | grep --invert-match 'not checked' || echo "every tried fault is noticed"

lint: .venv/installed
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/shellcheck .ci/run $(wildcard */*.sh .github/*.sh)
	@$(PYTHON) -m lab.actionlint
	@.venv/bin/zizmor --offline --quiet --pedantic --no-ignores --strict-collection .github
	@$(PYTHON) -m lab.audit

# The packages of both images, in CycloneDX form, beside the locks.
sbom: .venv/installed
	@for image in dask notebook; do .venv/bin/cyclonedx-py requirements --output-reproducible \
	  --output-file images/$$image.cdx.json images/$$image.txt || exit; done

format: .venv/installed
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

bench: .venv/installed
	@$(PYTHON) -m lab up
	@$(PYTHON) -m bench

chaos: .venv/installed
	@$(PYTHON) -m lab up
	@$(PYTHON) -m bench.chaos

.venv/installed: requirements-dev.lock
	@echo "Setting up .venv with the packages of requirements-dev.lock" >&2
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; python3 is $$(python3 --version)" >&2; exit 2; }
	@# Debian's Python comes without the module that makes environments with pip.
	@python3 -c 'import ensurepip' 2>/dev/null || apt-get install --yes --quiet python3-venv
	@python3 -m venv .venv
	@.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

.venv/mutmut: .venv/installed requirements-mutants.txt
	@.venv/bin/pip install --quiet --disable-pip-version-check -r requirements-mutants.txt
	@touch $@
