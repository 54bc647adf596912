# The two commands a newcomer needs: `make run` and `make test`. Both set everything up themselves.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' && echo $$p && break; done)
BIN := .venv/bin
# In CI nothing is skipped: the compiled kernel has to be there.
ifeq ($(CI),true)
export KNHK_REQUIRE_EXTENSION := 1
endif
.DEFAULT_GOAL := help

.PHONY: help run test lint proto browser bench peers mutants docs clean
help:
	@echo "make run    the main job: a thousand orders on an SQLite file, killed halfway and resumed"
	@echo "make test   linters, type checker, all tests, coverage gate"
	@echo "make lint   linters and type checker alone"
	@echo "make proto  the code that is made from descriptions of gRPC, of knhk/rpc and of the store on etcd"
	@echo "make browser  the console in a headless Chromium, which has to be installed"
	@echo "make bench  what KNHK costs, beside what is promised; two minutes"
	@echo "make peers  other engines doing the same work, each installed in .peers; half an hour"
	@echo "make mutants  change the token game in small ways and see whether a test notices; takes an hour or more"
	@echo "make docs   the documentation, in docs/_build"
	@echo "make clean  remove what was built"

.venv/.run: pyproject.toml setup.py $(wildcard knhk/_hot/*.pyx knhk/_hot/*.pxd knhk/_hot/*.h)
	@echo "== setting up .venv"
	@PYTHON="$(PYTHON)" tools/make_venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@$(BIN)/python -c 'from knhk._hot import COMPILED; print("== kernel:", "compiled" if COMPILED else "reference, as none could be compiled; pip install -v . says why")'
	@touch $@

.venv/.test: pyproject.toml .venv/.run
	@echo "== installing what the tests need"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

.venv/.docs: pyproject.toml .venv/.run
	@echo "== installing what the documentation needs"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

run: .venv/.run
	@$(BIN)/python examples/order_to_cash/run.py

lint: .venv/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

proto: .venv/.test
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. knhk/rpc/workflow_engine.proto
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. knhk/stores/_etcd_api.proto

test: lint
	@tools/install_servers
	@rm -f .coverage .coverage.*
	$(BIN)/python -m pytest -n 4 --cov --cov-report=json:.coverage.json --cov-report=
	$(BIN)/python tools/coverage_gate.py .coverage.json

browser: .venv/.test
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check playwright
	$(BIN)/python -m pytest tests/browser -n 0 -rs

bench: .venv/.run
	$(BIN)/python -m benchmarks

peers: .venv/.run
	$(BIN)/python -m benchmarks peers

mutants: .venv/.test
	-$(BIN)/mutmut run
	$(BIN)/mutmut results

docs: .venv/.docs
	$(BIN)/python -m sphinx -b html -W --keep-going -n -q -d docs/_build/.doctrees docs docs/_build

clean:
	rm -rf .venv build dist *.egg-info knhk/_hot/*.so .coverage* .hypothesis .mypy_cache .ruff_cache .pytest_cache mutants
