# qpud: set up, run, test, build. Needs python3 (3.11 or newer, with venv) and make, nothing else.
PYTHON ?= python3

DEV := .venv/dev/bin/python
# Folders too, so that a deleted file is noticed.
SOURCES := $(shell find qpud etc packaging/zipapp packaging/systemd $(wildcard packaging/slurm) -not -path '*/__pycache__*')
SCRIPTS := $(wildcard packaging/*.py packaging/*/*.py sdk_shims/*/qpud_*.py)
LINTED := qpud tests packaging sdk_shims
# Unit tests: those that start nothing and take no fuzzer's time.
UNIT := --ignore tests/api/test_bodies.py --ignore tests/api/test_server.py --ignore tests/simulate/test_oracles.py \
	--ignore tests/core/test_compare_oracles.py \
	-m 'not worker and not pyz and not munge and not slurm and not prometheus and not client'

.DEFAULT_GOAL := help
.PHONY: run test cudaq check lint unit unit-core unit-rest bench pyz spank setup clean help

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

run: setup pyz ## set everything up, then the main job end to end: two queues share a simulated QPU
	@$(DEV) packaging/demo/run.py

test: setup lint pyz ## set everything up, then format, lint, types, walls and every test
	@$(DEV) -m pytest

cudaq: setup pyz ## CUDA-Q from PyPI (0.5 GB) against the zipapp; `make test` does it too
	@$(DEV) -m pytest tests/conformance/test_cudaq.py

check: .venv/dev/.ready ## the fast part, for every save: format, lint, types, walls, unit tests
	@$(MAKE) --no-print-directory --jobs 3 --output-sync=target lint unit

unit: unit-core unit-rest

unit-core: .venv/dev/.ready
	@$(DEV) -m pytest --quiet $(UNIT) tests/core

unit-rest: .venv/dev/.ready
	@$(DEV) -m pytest --quiet $(UNIT) $(addprefix tests/,config store site api simulate test_readmes.py)

lint: .venv/dev/.ready
	@$(DEV) -m ruff format --quiet --check $(LINTED)
	@$(DEV) -m ruff check --quiet $(LINTED)
	@$(DEV) -m mypy --no-error-summary
	@$(DEV) -m mypy --no-error-summary --scripts-are-modules $(SCRIPTS)
	@.venv/dev/bin/lint-imports --config pyproject.toml >.venv/lint-imports.log || { cat .venv/lint-imports.log; exit 1; }

bench: setup pyz ## the figures of README.md, each as a ratio within one run
	@for one in submit busy scale mind crowd; do echo "== $$one"; PYTHONPATH=. $(DEV) tests/bench/$$one.py || failed=1; done; exit $$failed

pyz: dist/.built ## dist/qpud-VERSION-cpXY-PLATFORM.pyz, the one file that a site copies

spank: dist/qpud_spank.so ## dist/qpud_spank.so, Slurm's options --qpu, --qpu-hint, --qpu-share; needs gcc and Slurm's headers

setup: .venv/dev/.ready .venv/worker/.ready ## the environments of daemon and worker, in .venv

clean: ## remove what was built; the environments stay (rm -r .venv)
	@rm -rf dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find qpud tests packaging sdk_shims -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/%/.ready: pyproject.toml packaging/constraints.txt packaging/venv.py
	@$(PYTHON) packaging/venv.py $*

dist/.built: $(SOURCES) pyproject.toml packaging/constraints.txt | .venv/dev/.ready
	@$(DEV) packaging/zipapp/build.py dist
	@touch $@

# SLURM_CFLAGS=-I/opt/slurm/include for a Slurm that is not where the compiler looks.
dist/qpud_spank.so: packaging/slurm/qpud_spank.c
	@mkdir -p dist
	@$(CC) -std=c11 -O2 -Wall -Wextra -Werror -fPIC -shared $(SLURM_CFLAGS) -o $@ $<
