# ComputeHub: `make help` lists what can be made. Needs Python 3.11+, git and make; the rest is installed into .venv.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	if command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then echo $$p; break; fi; done)
ifeq ($(PYTHON),)
$(error ComputeHub needs Python 3.11 or newer, and none was found. Name one: make PYTHON=/path/to/python3.11)
endif
RUN := .venv/bin/python
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-backends lint format bench soak mutants docs translations lock clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## Set everything up and open JupyterLab on the demo notebook (PORT=8888, NO_BROWSER=1, CONFIG=docs/examples/docker.py)
	@$(PYTHON) scripts/setup.py demo
	@exec $(RUN) -m computehub_ext.cli demo $(if $(PORT),--port $(PORT)) $(if $(NO_BROWSER),--no-browser) $(if $(CONFIG),--config '$(CONFIG)')

test: .venv/test ## Lint and run every test, installing what they need (ARGS="tests/unit -k hold" for a few)
	@$(RUN) scripts/debian.py
	@$(RUN) scripts/test.py $(ARGS)

test-backends: .venv/test ## Run the contract and the rest about places on real engines alone: Docker, Slurm, this machine
	@$(RUN) scripts/debian.py
	@$(RUN) scripts/test.py --backends $(ARGS)

lint: .venv/test ## Format, lint and types, as pre-commit runs them
	@$(RUN) scripts/lint.py

format: .venv/test ## Format the code in place
	@$(RUN) scripts/lint.py --fix

bench: .venv/test ## Measure every promised figure beside its yardstick; writes results.json, docs/figures.md and README.md
	@$(RUN) -m benchmarks $(ARGS)

soak: .venv/test ## Long runs: fuzz, kills, oldest, newest dependencies (ARGS=fuzz for one); writes docs/soak.md
	@$(RUN) scripts/soak.py $(ARGS)

mutants: .venv/test ## Show that each safety test fails once with its guard removed
	@$(RUN) -m tests.mutants $(ARGS)

docs: .venv/test ## Write docs/reference/ anew from the code
	@$(RUN) scripts/reference.py

translations: .venv/test ## Bring the panel's catalogues up to its words, and say what is not translated
	@$(RUN) scripts/translations.py $(ARGS)

lock: .venv/test ## Bring requirements/*.txt up to pyproject.toml (ARGS=--upgrade for newer versions)
	@$(RUN) scripts/lock.py $(ARGS)

clean: ## Remove what was built, measured or installed
	rm -rf .venv .test .demo dist build htmlcov .pytest_cache .mypy_cache .ruff_cache .hypothesis \
		computehub_ext/labextension labextension/lib labextension/node_modules labextension/.yarn labextension/*.tsbuildinfo

.PHONY: .venv/test
.venv/test:
	@$(PYTHON) scripts/setup.py test
