# One command each; `make` alone lists them. Everything is installed into .venv, .cache and .ansible of this folder, but
# for what the steps that name Docker need of the distribution's packages: they say so.

SHELL := /bin/bash
MAKEFLAGS += --no-print-directory
export PATH := $(CURDIR)/.venv/bin:$(PATH)

# The steps of `make test`, in its order.
STEPS := unit types lint docs-lint sanity artifact molecule faults e2e

.PHONY: help demo demo-stop test $(STEPS) reliability real-failures bench bench-fleet format pins venv clean

help: ## show this list
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/make \1@\2/p' Makefile | column -t -s @

demo: venv ## serve a small gpt-oss model on this machine and ask it something
	@demo/run

demo-stop: venv ## remove what `make demo` deployed
	@demo/stop

test: ## run every check below; the last line counts them
	@tests/gate/test $(STEPS)

unit: venv ## unit tests
	@tests/gate/unit

types: venv ## mypy, strict
	@tests/gate/types

lint: venv ## ansible-lint, ruff, shellcheck
	@tests/gate/lint

docs-lint: venv ## documentation of modules, filters and roles
	@tests/gate/docs-lint

sanity: venv ## ansible-test sanity
	@tests/gate/sanity

artifact: venv ## build the collection, install it elsewhere, use it by its full names
	@tests/gate/artifact

molecule: venv ## every scenario of molecule/, on simulated GPU hosts (Docker)
	@tests/gate/molecule

faults: venv ## a fault at each of some steps of a switch, on simulated GPU hosts (Docker)
	@tests/gate/faults -k "(stop or start) and (fails or killed) and not back"

reliability: venv ## every fault at every step; writes the table of docs/reliability.md (Docker, 20 minutes and more)
	@tests/gate/faults

e2e: venv ## from nothing to a chat completion of a real vLLM, and back (Docker)
	@tests/e2e/run

real-failures: venv ## failures of a real vLLM, made on purpose and named within two seconds (Docker, 5 minutes)
	@tests/real_failures/run

bench: venv ## measure what docs/benchmarks.md reports
	@tests/bench/run

bench-fleet: venv ## a run without changes over 20 light hosts, against stock tasks (Docker, 15 minutes)
	@tests/bench/fleet

format: venv ## format the Python files
	@ruff format --config .config/ruff.toml . && ruff check --config .config/ruff.toml --fix .

pins: venv ## take newer versions of the tools into .config/requirements.txt
	@tests/gate/pins

venv: ## install the tools that .config/requirements.txt pins
	@tests/gate/venv

clean: ## remove .venv, .cache and .ansible
	rm -rf .venv .cache .ansible
