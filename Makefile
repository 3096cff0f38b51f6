# Every command a person needs; `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The first that is new enough, runs (what a version manager puts on PATH need not), and can make environments and
# build extensions. A distribution's own comes first: it is built with profile-guided and link-time optimization, which
# a version manager leaves out, and takes an order in nine tenths of the time.
usable := import ensurepip, os, sys, sysconfig; \
    sys.exit(sys.version_info < (3, 11) or not os.path.exists(sysconfig.get_path("include") + "/Python.h"))
ifndef PYTHON
PYTHON := $(shell for python in /usr/bin/python3.11 python3.11 python3.12 python3.13 python3; do \
    $$python -c '$(usable)' 2>/dev/null && echo $$python && break; done)
endif
BIN := .venv/bin

# meinheld, of the profile `baseline`, builds without greenlet only.
export MEINHELD_NOGREEN := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Packages without a pyproject.toml are built in the way that stays, whichever pip is asked.
export PIP_USE_PEP517 := 1

# The environment is keyed on what it was made from, with the interpreter: a changed lock brings it up to date, another
# interpreter makes it anew, and what is unchanged costs nothing.
interpreter := import sys; print(sys.base_prefix, sys.version)
key = $(shell (cat $(1); $(PYTHON) -c '$(interpreter)') 2>/dev/null | sha256sum | cut -c1-16)
# The messages of gRPC are made from app/proto with it, and are not in git.
made_from := app/requirements.lock app/pyproject.toml app/setup.py $(shell find app/proto -name "*.proto")
RUN_ENV := .venv/.run-$(call key,$(made_from))
DEV_ENV := .venv/.dev-$(call key,$(made_from) operator/pyproject.toml tests/requirements.lock)

STAGE = STAGES=build/stages/$@ .ci/stage

.PHONY: help
help: ## List these commands.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- run ----------------------------------------------------------------------

# If make is killed, the venue must not stay behind.
with_make := $(if $(shell command -v setpriv),setpriv --pdeathsig TERM --)

.PHONY: run
run: $(RUN_ENV) ## Start the venue on this machine (DATA_DIR=./data, TRADSYS_PORT=8000, …); Ctrl-C ends it.
	@exec $(with_make) $(BIN)/tradsys run

$(RUN_ENV):
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed, with venv and the headers (on Debian: python3-venv, python3-dev), and none was found (set PYTHON=…)" >&2; exit 1; }
	@echo "Making .venv with $(PYTHON) …"
	@test "$$($(BIN)/python -c '$(interpreter)' 2>&1)" = "$$($(PYTHON) -c '$(interpreter)')" || $(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --require-hashes -r app/requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable app
	@rm -f .venv/.run-* && touch $@

# --- test ---------------------------------------------------------------------

.PHONY: dev
dev: $(DEV_ENV) ## Make .venv with everything the tests need.

$(DEV_ENV): $(RUN_ENV)
	@echo "Adding the tools of the tests to .venv …"
	@$(BIN)/python -m pip install --quiet --require-hashes --no-build-isolation -r tests/requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable operator
	@rm -f .venv/.dev-* && touch $@

test_packages := curl wrk strace faketime chromium
missing_packages = $(foreach package,$(test_packages),$(if $(shell command -v $(package)),,$(package)))

.PHONY: packages
packages: ## Install the system packages that the tests need (wrk, strace, chromium, …); Debian, as root.
	@missing="$(strip $(missing_packages))"; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing $$missing …"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes apt-get install -qq -y --no-install-recommends $$missing >/dev/null; \
	else \
	    echo "The tests need these system packages: $$missing (on Debian: sudo apt-get install $$missing)" >&2; exit 1; \
	fi

.PHONY: test
test: $(DEV_ENV) packages ## Check everything: style, types, layers, tests with coverage, planted bugs (≤ 15 minutes).
	@rm -f build/stages/$@
	@$(PYTHON) tools/build.py measure
	@$(STAGE) 200 style $(BIN)/ruff check .
	@$(STAGE) 200 format $(BIN)/ruff format --check .
	@$(STAGE) 400 types $(BIN)/mypy
	@$(STAGE) 200 layers $(BIN)/lint-imports
	@rm -rf build/coverage && mkdir -p build/coverage
	@$(STAGE) 2400 tests .ci/once-more $(BIN)/coverage run -m pytest -q -- $(beside) --durations 25
	@$(STAGE) 200 coverage $(BIN)/python tests/coverage_gate.py
	@$(STAGE) 900 planted $(BIN)/python tests/planted/run.py
	@STAGES=build/stages/$@ .ci/stage table

.PHONY: planted
planted: $(DEV_ENV) ## Put known bugs into copies of the tree; the tests that they name must catch them.
	@$(BIN)/python tests/planted/run.py

compiled_modules := $(shell cat app/compiled.txt)

.PHONY: compile
compile: $(DEV_ENV) ## Make a copy of the app in build/compiled whose order path is compiled (mypyc, one minute).
	@rm -rf build/compiled && mkdir -p build/compiled
	@cp -r app/tradsys build/compiled/
	@cd build/compiled && $(CURDIR)/$(BIN)/mypyc $(compiled_modules) >mypyc.log 2>&1 || { cat mypyc.log >&2; exit 1; }
	@# What is lazy in Python must not become a list of everything.
	@if grep "Treating generator" build/compiled/mypyc.log; then exit 1; fi
	@rm -rf build/compiled/build
	@PYTHONPATH=build/compiled $(BIN)/python -c 'import tradsys.core.book as book; print(book.__file__); assert book.__file__.endswith(".so")'

core_tests := tests/core $(wildcard tests/stories)

.PHONY: test-compiled
test-compiled: compile ## Run the tests of the core and some of the API against the compiled form.
	@PYTHONPATH=build/compiled $(BIN)/pytest -q -n 2 --dist worksteal -p no:cacheprovider $(core_tests) \
	    tests/api/test_orders.py tests/api/test_batches.py tests/api/test_restart.py tests/api/test_counted.py \
	    tests/api/test_direct.py tests/api/test_idempotency.py tests/api/test_large_numbers.py \
	    tests/security/test_tokens.py tests/security/test_tokens_over_time.py tests/adapters/test_log_writer.py \
	    tests/adapters/test_readmodel.py tests/adapters/test_history.py tests/adapters/test_rebuild.py \
	    tests/adapters/test_server.py tests/security/test_http_vectors.py tests/security/test_http_forms.py

.PHONY: test-baseline
test-baseline: $(DEV_ENV) ## Run the tests of the API against the profile baseline (gunicorn, meinheld, ujson).
	@PROFILE=baseline $(BIN)/pytest -q -n 2 --dist worksteal -p no:cacheprovider tests/api

# Beside the core, one file that starts real processes: what they import has to load there, too.
pythons_tests := $(core_tests) tests/api/test_orders.py

.PHONY: test-pythons
test-pythons: $(RUN_ENV) ## Run the tests of the core and an API file on Python 3.12 and 3.13, where they are installed.
	@for version in 3.12 3.13; do \
	    python=; \
	    for candidate in python$$version "$$HOME"/.pyenv/versions/$$version.*/bin/python; do \
	        "$$candidate" -c "import sys; sys.exit(sys.version_info[:2] != tuple(map(int, '$$version'.split('.'))))" 2>/dev/null \
	            && python=$$candidate && break; \
	    done; \
	    if [ -z "$$python" ]; then echo "Python $$version is not installed here: skipped"; continue; fi; \
	    env=build/python-$$version; \
	    [ -x $$env/bin/python ] || $$python -m venv $$env; \
	    echo "Python $$version: making its environment …"; \
	    $$env/bin/python -m pip install --quiet --require-hashes -r app/requirements.lock; \
	    $$env/bin/python -m pip install --quiet --require-hashes --no-build-isolation -r tests/requirements.lock; \
	    PYTHONPATH=$(CURDIR)/app $$env/bin/python -m pytest -q -n 2 --dist worksteal -p no:cacheprovider $(pythons_tests); \
	done

# The counts of a release. Tests have small ones by default, so that `make test` runs all of them quickly.
# Seconds of each alone, on two cores that did other work, too (load average 13): W1 36, W3 42, W4 27, PINGS 28, GRPC_KILLS 39.
reliability_counts := COUNT_D1=100 COUNT_D2=3000 COUNT_D3=1000 COUNT_D5=500 COUNT_D6=200 COUNT_D7=100 \
    COUNT_R1=1000000 COUNT_C1=50 COUNT_N3=10 COUNT_RM=12 COUNT_B1=20 COUNT_F2=240 COUNT_F3=65000 COUNT_CROSS=10000 \
    COUNT_W1=50 COUNT_W2=10000 COUNT_W3=1000 COUNT_W4=94 COUNT_SOAK=60 COUNT_GRPC_KILLS=20 COUNT_PINGS=32 \
    COUNT_L1=250000 COUNT_E1=30000
reliability_long_counts := COUNT_D1=300 COUNT_D2=10000 COUNT_D3=1000 COUNT_D4=50 COUNT_D5=2000 COUNT_D6=1000 COUNT_D7=500 \
    COUNT_R1=5000000 COUNT_C1=200 COUNT_N3=100 COUNT_RM=200 COUNT_B1=100 COUNT_F2=5000 COUNT_F3=300000 COUNT_CROSS=50000 \
    COUNT_W1=200 COUNT_W2=10000 COUNT_W3=10000 COUNT_W4=470 COUNT_L1=1000000 COUNT_E1=300000 \
    COUNT_SOAK=900 COUNT_GRPC_KILLS=200 COUNT_PINGS=60
reliability_tests := tests/reliability tests/security/test_fuzz_api.py tests/security/test_fuzz_decoders.py \
    tests/security/test_fuzz_json.py tests/security/test_cross_account.py \
    tests/gateway/test_failures.py tests/gateway/test_hostile_clients.py
all_counts = $(BIN)/pytest -q --durations 25 $(reliability_tests)
beside = -n 3 --dist worksteal

.PHONY: reliability
reliability: $(DEV_ENV) packages ## Kill, cut, flip, tear, fill the disk, fuzz, at full counts (≤ 12 minutes).
	@export $(reliability_counts); .ci/once-more $(all_counts) --timeout 700 -- $(beside)

.PHONY: reliability-long
reliability-long: $(DEV_ENV) packages ## The same with the counts of a long evening (≤ 60 minutes).
	@$(reliability_long_counts) $(all_counts) $(beside) --timeout 3500

# --- tools --------------------------------------------------------------------

.PHONY: tools
tools: ## Build k6, helm, prometheus, kubernetes … from their pinned sources, once (GROUP=measure, cluster, loop, or names).
	@$(PYTHON) tools/build.py $(GROUP)

# --- Kubernetes ---------------------------------------------------------------

# PACKAGE:what it brings.
cluster_packages := busybox-static:busybox conntrack:conntrack containerd:containerd debootstrap:debootstrap \
    docker.io:dockerd iproute2:ip iptables:iptables runc:runc containernetworking-plugins:/usr/lib/cni/bridge
in_sbin := PATH=$$PATH:/usr/sbin:/sbin
missing_cluster_packages = $(foreach each,$(cluster_packages),$(if \
    $(shell $(in_sbin) command -v $(lastword $(subst :, ,$(each)))),,$(firstword $(subst :, ,$(each)))))
cluster := $(BIN)/python -m tests.kube.cluster

.PHONY: cluster-packages
cluster-packages: ## Install the system packages of the cluster (containerd, Docker, debootstrap, …); Debian, as root.
	@missing="$(strip $(missing_cluster_packages))"; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing $$missing …"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes apt-get install -qq -y --no-install-recommends $$missing >/dev/null; \
	else \
	    echo "A cluster needs these system packages: $$missing (on Debian: sudo apt-get install $$missing)" >&2; exit 1; \
	fi

.PHONY: image
image: $(DEV_ENV) cluster-packages ## Build the images of app and operator as archives in build/cluster, without a registry; as root.
	@$(cluster) images

.PHONY: cluster-up
cluster-up: $(DEV_ENV) cluster-packages ## Start real Kubernetes on this machine, with the images; as root (see tests/kube/README.md).
	@$(MAKE) tools GROUP="etcd k6 cluster"
	@$(cluster) up

.PHONY: cluster-down
cluster-down: $(DEV_ENV) ## Stop it, and leave nothing behind.
	@$(cluster) down

.PHONY: e2e
e2e: $(DEV_ENV) cluster-packages ## Test the image, the charts and the operator on a real node (≤ 15 minutes); as root.
	@$(MAKE) tools GROUP="etcd helm k6 prometheus cluster"
	@E2E=1 COUNT_O1=50 COUNT_O2=60 $(BIN)/pytest -q -p no:cacheprovider -n 3 --dist worksteal --durations 10 --timeout 600 tests/kube/control/test_process.py tests/kube/control/test_[!p]*.py
	@E2E=1 $(BIN)/pytest -q -p no:cacheprovider --durations 10 --timeout 600 tests/kube/e2e

# --- measure ------------------------------------------------------------------

.PHONY: bench
bench: $(if $(SMOKE),$(DEV_ENV),compile) packages ## Print what is promised of speed beside what is measured, into build/bench (ONLY=orders,core,…; SMOKE=1: tiny).
	@exec env $(if $(SMOKE),,PYTHONPATH=$(CURDIR)/build/compiled) $(BIN)/python -m tests.bench $(if $(ONLY),--only $(ONLY)) $(if $(SMOKE),--smoke)

# --- charts -------------------------------------------------------------------

.PHONY: charts
charts: $(DEV_ENV) ## Write CRDs, schemas, tables of values and the field reference from their sources.
	@$(BIN)/python charts/write.py

# --- dashboards ---------------------------------------------------------------

.PHONY: dashboards
dashboards: $(DEV_ENV) ## Write dashboards/*.json and the rules of the objectives from their sources.
	@$(BIN)/python -m dashboards.source.write

.PHONY: dashboards-preview
dashboards-preview: $(DEV_ENV) ## Show every panel in build/dashboards/index.html: a venue under load, a real Prometheus (SECONDS=60).
	@$(MAKE) tools GROUP="prometheus k6"
	@$(BIN)/python -m dashboards.source.preview --seconds $(or $(SECONDS),60)

.PHONY: compare
compare: $(DEV_ENV) packages ## Measure this venue beside a Go service that does less (ROUNDS=5, SECONDS_EACH=5, CONNECTIONS=16).
	@PYTHONPATH=. $(BIN)/python tests/bench/compare.py --rounds $(or $(ROUNDS),5) --seconds $(or $(SECONDS_EACH),5) \
	    --connections $(or $(CONNECTIONS),16)

.PHONY: ab
ab: $(if $(SMOKE),$(DEV_ENV),compile) packages ## What is each knob of profile hft worth? (ONLY=codec,gc; ROUNDS=5; SMOKE=1); into build/ab.
	@PYTHONPATH=. $(BIN)/python tests/bench/ab.py $(if $(ONLY),--only $(ONLY)) $(if $(SMOKE),--smoke) --rounds $(or $(ROUNDS),5)

.PHONY: bench-compare
bench-compare: $(DEV_ENV) packages ## Is this tree slower than BASE (a git ref; default: the last tag)? 0 no, 1 yes, 2 too noisy to tell.
	@PYTHONPATH=. $(BIN)/python tests/bench/regression.py $(if $(BASE),--base $(BASE)) --rounds $(or $(ROUNDS),5) \
	    --seconds $(or $(SECONDS_EACH),4) $(if $(KEEP),--keep)

.PHONY: slo
slo: $(DEV_ENV) ## Does this build hold its objectives? (PROFILE=target, phase1, phase2, ci; APP=another build; K6=docker.)
	@$(if $(K6),,$(PYTHON) tools/build.py k6)
	@exec $(BIN)/python -m loadtests.slo --profile $(or $(PROFILE),target) $(if $(APP),--app $(APP))

# --- keep up ------------------------------------------------------------------

.PHONY: format
format: $(DEV_ENV) ## Put the code into its form.
	@$(BIN)/ruff check --fix --quiet . && $(BIN)/ruff format .

compile_lock := $(BIN)/uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --no-emit-index-url --no-header
.PHONY: lock
lock: $(if $(wildcard $(BIN)/uv),,$(DEV_ENV)) ## Bring the lock files up to app/pyproject.toml; what is locked stays (UPGRADE=1: the newest).
	@$(compile_lock) $(if $(UPGRADE),--upgrade) --extra build --extra tracing app/pyproject.toml -o app/requirements.lock
	@$(compile_lock) $(if $(UPGRADE),--upgrade) --extra build --constraint app/requirements.lock \
	    operator/pyproject.toml -o operator/requirements.lock
	@$(compile_lock) $(if $(UPGRADE),--upgrade) --extra build --extra baseline --extra tracing --extra dev \
	    --constraint app/requirements.lock --constraint operator/requirements.lock \
	    app/pyproject.toml operator/pyproject.toml -o tests/requirements.lock
	@$(compile_lock) $(if $(UPGRADE),--upgrade) --group app/pyproject.toml:image \
	    --constraint tests/requirements.lock -o app/image.lock

.PHONY: clean
clean: ## Remove what was built; .venv and data stay.
	@rm -rf build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis app/build
	@find app tests -name __pycache__ -type d -prune -exec rm -rf {} +
