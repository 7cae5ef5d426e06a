# Two commands do everything on a fresh machine that has python3 (3.11 or newer) and make: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
PYTEST_WORKERS ?= 2

.PHONY: help demo test compiled test-compiled live check format bench lock clean

help:
	@echo "make demo    three clusters on this machine, a region taken away, a table of what happened"
	@echo "make test    the tests"
	@echo "make compiled       build/compiled: the same with its codecs translated to C (wants a C compiler); a wheel of it is in build/wheel"
	@echo "make test-compiled  the codecs' and the engine's tests with that"
	@echo "make live    the tests against real Consul, Kubernetes, Nomad and OpenStack, which are built and fetched the first time"
	@echo "make check   format, lint, types, import contracts, all tests"
	@echo "make bench   the benchmarks against Envoy, HAProxy and nginx (most of an hour; wants a quiet machine with 2 cores)"
	@echo "make lock    resolve requirements.lock again from pyproject.toml"

$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fedgate needs Python 3.11 or newer; this is " + sys.version.split()[0])'
	@$(PYTHON) -m venv $(VENV) || { echo "python3 has no venv module (on Debian: apt-get install python3-venv)"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(STAMP)
	$(BIN)/fedgate demo

test: $(STAMP)
	$(BIN)/pytest --numprocesses $(PYTEST_WORKERS) --dist loadfile --ignore-glob='tests/live/*/*'

compiled: $(STAMP)
	rm -rf build/wheel build/compiled
	HATCH_BUILD_HOOK_ENABLE_CUSTOM=true $(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir build/wheel .
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --target build/compiled build/wheel/*.whl
	PYTHONPATH=$(CURDIR)/build/compiled $(BIN)/fedgate version | grep 'codecs compiled'

test-compiled: compiled
	PYTHONPATH=$(CURDIR)/build/compiled $(BIN)/pytest --numprocesses $(PYTEST_WORKERS) --dist loadfile tests/gateway/native tests/differential

live: $(STAMP)
	$(BIN)/python tests/live/prepare.py
	$(BIN)/pytest --numprocesses $(PYTEST_WORKERS) --dist loadfile $(wildcard tests/live/*/)

check: $(STAMP)
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test
	@if command -v cc >/dev/null; then $(MAKE) test-compiled; else echo "compiled codecs: not tested, there is no C compiler (cc)"; fi
	$(MAKE) live

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)
	$(BIN)/python -m bench all

lock: $(STAMP)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --universal --generate-hashes --no-emit-index-url --no-header --all-extras --python-version 3.11 --upgrade --quiet pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .hypothesis .import_linter_cache
