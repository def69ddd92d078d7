# `make demo` runs the whole mission on one machine, `make test` is the gate. Both set up .venv from the lock first.
SHELL := bash
PY := .venv/bin/python
ENV := env PYTHONUNBUFFERED=1 RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=0 TOKENIZERS_PARALLELISM=false
PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3 python,$(if $(shell $(p) -c \
	'import sys,venv,ensurepip; sys.exit(not (3,11)<=sys.version_info[:2]<(3,13))' 2>/dev/null && echo y),$(p))))

.PHONY: setup demo serve test soak footage clean

setup: .venv/.ready

.venv/.ready: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or 3.12 with venv found; install it (Debian: apt install python3 python3-venv)"; exit 1; }
	@command -v git >/dev/null || { echo "error: git not found; install it (Debian: apt install git)"; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv .venv
	@$(PY) -m pip install --quiet --disable-pip-version-check uv==0.13.8
	.venv/bin/uv pip install --python $(PY) --compile-bytecode -r requirements.lock
	@.venv/bin/uv pip install --quiet --python $(PY) --no-deps -e .
	@touch $@

demo: setup
	@$(ENV) $(PY) jobs/demo.py

serve: setup
	@$(ENV) $(PY) jobs/serve.py

test: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	$(ENV) $(PY) -m pytest

soak: setup
	$(ENV) $(PY) -m pytest -m soak

footage: setup
	@$(PY) jobs/footage.py footage

clean:
	rm -rf runs
