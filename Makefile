# `make demo` and `make test` need Python 3.11 or newer and nothing else; both make .venv first
# and reuse it afterwards.

PYTHON ?= python3
BIN := .venv/bin
# What is imported is compiled once, whatever the environment says: thousands of modules, in each of
# many processes. Installing compiles nothing: most of it is never imported.
unexport PYTHONDONTWRITEBYTECODE
# A process for each core, a thread for each process.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile
# Shapes and types are checked at run time where parts are tested one by one, and commands on small
# models. Whole systems, which are made of these, are tested without: that takes a third of the time
# away.
CHECKED := --jaxtyping-packages=ziggurat,beartype.beartype
PARTS := $(CHECKED) tests/unit tests/property tests/repo
COMMANDS := $(CHECKED) tests/integration
WHOLE := tests/contract tests/golden tests/end_to_end

.PHONY: demo test test-all check format benchmark-real-data benchmark-backbones

demo: .venv/ready
	$(BIN)/ziggurat demo

# What the continuous integration runs.
test: check
	$(PYTEST) $(PARTS)
	$(PYTEST) $(COMMANDS)
	$(PYTEST) $(WHOLE)

# The slow tests too.
test-all: check
	$(PYTEST) $(PARTS) -m "slow or not slow"
	$(PYTEST) $(COMMANDS) -m "slow or not slow"
	$(PYTEST) $(WHOLE) -m "slow or not slow"

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers 2

format: .venv/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# An hour on two cores: a detector and a classifier, from scratch, on real photos.
benchmark-real-data: .venv/ready
	$(BIN)/python benchmarks/real_data.py

# An hour or two on two cores that do nothing else.
benchmark-backbones: .venv/ready
	$(BIN)/python -m pip install --disable-pip-version-check --quiet transformers
	$(BIN)/python benchmarks/backbones.py

.venv/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "ziggurat needs Python 3.11 or newer, got $$($(PYTHON) --version); set PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-compile --progress-bar on \
		--editable ".[dev]"
	touch $@
