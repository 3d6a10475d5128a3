# Loam. The two commands a newcomer needs: `make demo` and `make test`.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

export LOAM_CACHE ?= $(HOME)/.cache/loam
PYTHON := .venv/bin/python
MODEL := examples/models/gemma-3-270m-q4_k_m.gguf

.PHONY: help setup demo test test-full e2e test-gpu test-vllm lint crds bench lock clean

help:
	@echo "make demo   from seed examples to a measured adapter, on this machine (Python 3.11+ only)"
	@echo "make test   every test that needs no root (Go builds its S3 server and its Kubernetes)"
	@echo "make test-full   the same with twenty times as many drawn cases (hours)"
	@echo "make e2e    on a Kubernetes node of its own: as root, on Debian"
	@echo "make lint   ruff and mypy          make crds   CRD, references and tables, from the code"
	@echo "make bench  what docs/benchmarks.md reports      make lock   renew requirements.txt"

# --- setting up: everything lands in .venv, hard-linked from a cache outside the clone -------
setup: .venv/installed

.venv/installed: requirements.txt requirements-uv.txt pyproject.toml tools/setup.sh
	bash tools/setup.sh
	touch $@

$(MODEL): | setup
	$(PYTHON) examples/fetch_model.py $@

# --- the demo --------------------------------------------------------------------------------
demo: setup $(MODEL)
	.venv/bin/loam run examples/support-tickets/job.yaml
	@echo "Try the adapter:  .venv/bin/loam predict examples/support-tickets/job.yaml \"where is my parcel?\""

# --- tests -----------------------------------------------------------------------------------
# Two at a time, each file's in one process: they wait more than they compute. Slow files first.
PYTEST := $(PYTHON) -m pytest -q --durations=15
SIDE_BY_SIDE := -n 2 --dist loadfile --no-loadscope-reorder

test: find-go setup $(MODEL) test-tools
	$(PYTEST) $(SIDE_BY_SIDE) --ignore=tests/e2e

# The same with twenty times as many cases wherever they are drawn from a large space: hours.
test-full: find-go setup $(MODEL) test-tools
	LOAM_TEST_SCALE=20 $(PYTEST) $(SIDE_BY_SIDE) -o timeout=7200 --ignore=tests/e2e

SERVERS := versitygw kubernetes kubectl helm

.PHONY: test-tools
test-tools: setup
	bash tools/browser.sh
	bash tools/prometheus.sh
	$(PYTHON) tests/tools/build_tools.py $(SERVERS)
	$(PYTHON) -c "from tests.tools.build_tools import find_kuberay_crds as find; find()"

# Before gigabytes are installed for tests that cannot run; needs no Python.
.PHONY: find-go
find-go:
	@bash tools/find_go.sh $(SERVERS)

# A whole node: as root, on Debian. Slow the first time, when it builds servers and images.
e2e: setup $(MODEL)
	bash tools/node_packages.sh
	$(PYTHON) tests/tools/build_tools.py
	$(PYTEST) -o timeout=1200 tests/e2e

test-gpu: setup
	$(PYTHON) -m pytest -q tests/gpu

# With LOAM_VLLM_PYTHON, the interpreter of an environment that has vLLM for CPUs: docs/teacher.md.
test-vllm: setup
	$(PYTHON) -m pytest -q tests/vllm

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

crds: setup
	$(PYTHON) crds/write_crds.py
	$(PYTHON) operator/write_docs.py

bench: find-go setup $(MODEL) test-tools
	for script in benchmarks/startup.py benchmarks/transfer.py benchmarks/training.py; do \
	  $(PYTHON) $$script; done

# --- upkeep ----------------------------------------------------------------------------------
COMPILE := .venv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes \
  --custom-compile-command "make lock" pyproject.toml

lock: setup
	$(COMPILE) --all-extras -o requirements.txt
	$(COMPILE) --extra operator -c requirements.txt -o requirements-operator.txt
	$(COMPILE) --extra runtime -c requirements.txt -o requirements-runtime.txt
	grep -A 40 '^uv==' requirements.txt | awk 'NR > 1 && /^[a-z]/ {exit} !/#/' > requirements-uv.txt

clean:
	rm -rf .venv examples/models examples/*/output
