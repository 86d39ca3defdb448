# One command each; `make` alone lists them. Everything is installed into .venv, .cache and .ansible of this folder, but
# for what the steps that name Docker need of the distribution's packages: they say so.

SHELL := /bin/bash
MAKEFLAGS += --no-print-directory
export PATH := $(CURDIR)/.venv/bin:$(PATH)

# The scenarios of `make test`: one a backend and one a role, a rollout, and the hostile host; the longest come first.
# `make molecule-all` has all.
SCENARIOS := rollout h100_service switch hostile default vllm_venv

.PHONY: help demo demo-stop test unit unit-oldest rig types lint docs-lint sanity artifact integration molecule molecule-all \
	faults docs release reliability rollout-fleet e2e e2e-service e2e-grpo e2e-watchdog e2e-models real-failures bench bench-fleet mutants \
	format pins venv clean

help: ## show this list
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/make \1@\2/p' Makefile | column -t -s @

demo: venv ## serve a small gpt-oss model on this machine and ask it something
	@tools/demo/run

demo-stop: venv ## remove what `make demo` deployed
	@tools/demo/stop

test: ## run every check below; the last line counts them
	@tools/gate/test

unit: venv ## unit tests; need no Docker
	@tools/gate/unit

unit-oldest: venv ## those of what managed hosts execute, on the oldest Python that these have
	@tools/gate/unit-oldest

rig: venv ## the tests of what simulated hosts run: the stand-in for vLLM, and the watchdog as a program
	@tools/gate/rig

types: venv ## mypy, strict
	@tools/gate/types

lint: venv ## ansible-lint, ruff, shellcheck
	@tools/gate/lint

docs-lint: venv ## documentation of modules, filters and roles
	@tools/gate/docs-lint

sanity: venv ## ansible-test sanity
	@tools/gate/sanity

artifact: venv ## build the collection, install it elsewhere, use it by its full names
	@tools/gate/artifact

integration: venv ## the modules against a real engine (Docker), and environments that pip and uv build
	@tools/gate/integration

molecule: venv ## the scenarios of `make test`, on simulated GPU hosts (Docker)
	@tools/gate/molecule $(SCENARIOS)

molecule-all: venv ## every scenario of molecule/ (Docker)
	@tools/gate/molecule

faults: venv ## a fault at each of some steps of a switch, on simulated GPU hosts (Docker)
	@tools/gate/faults -k "(stop or start) and (fails or killed) and not (back or service)"

reliability: venv ## every fault at every step; writes the table of docs/reliability.md (Docker, an hour and more)
	@tools/gate/faults

rollout-fleet: venv ## rollouts over twelve simulated hosts that go wrong; a table of docs/reliability.md (Docker, half an hour)
	@tests/fleet/run

e2e: venv ## from nothing to a chat completion of a real vLLM, and back (Docker)
	@tests/real/e2e/run

e2e-service: venv ## a real vLLM as a service, from a bare host over two switches that fail to a teardown (Docker, 10 minutes)
	@tests/real/service/run

e2e-grpo: venv ## TRL's own client against a real vLLM, by what role grpo_trainer wrote (Docker, package index, 10 minutes)
	@tests/real/grpo/run

e2e-models: venv ## a real vLLM serves three small models by their directories alone (Docker, 5 minutes)
	@tests/real/directories/run

e2e-watchdog: venv ## the engine of a real vLLM is stopped and killed under the watchdog (Docker for its Python, 15 minutes)
	@tests/real/watchdog/run

real-failures: venv ## failures of a real vLLM, made on purpose and named within two seconds (Docker, 5 minutes)
	@tests/real/failures/run

bench: venv ## measure what docs/benchmarks.md reports
	@tests/bench/run

bench-fleet: venv ## a run without changes over 20 light hosts, against stock tasks (Docker, 15 minutes); --help: rollouts
	@tests/bench/fleet

mutants: venv ## plant small mistakes in the deciding code, and count those that tests notice (an hour)
	@tools/mutants/run

docs: venv ## the documentation as one site, with a page for each module, role, filter and failure
	@tools/gate/docs

release: venv ## the changelog, the artifact and the checks of Ansible Galaxy for the version of galaxy.yml
	@tools/gate/release

format: venv ## format the Python files
	@ruff format --config .config/ruff.toml . && ruff check --config .config/ruff.toml --fix .

pins: venv ## take newer versions of the tools into .config/requirements.txt
	@tools/gate/pins

venv: ## install the tools that .config/requirements.txt pins
	@tools/gate/venv

clean: ## remove .venv, .cache and .ansible
	rm -rf .venv .cache .ansible
