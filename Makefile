# `make test` needs only Python 3.10 or newer: it creates .venv (or uses the active environment), installs the package
# with everything the tests need, and runs them.
#   VENV=DIR     another environment
#   PYTHON=...   the interpreter that creates the environment
#   TORCH=...    what pip installs as torch; on Linux, PyPI's wheels include CUDA (several GB), the CPU wheels of
#                PyTorch's own index do not
#   ARGS=...     more arguments for pytest or benchmarks/run.py

VENV   ?= $(or $(VIRTUAL_ENV),.venv)
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3.10 python3,$(shell command -v $(name))))
TORCH  ?= torch==2.13.0
BIN    := $(VENV)/bin
READY  := $(VENV)/.lwasr-edge-ready

.PHONY: test test-long fuzz test-arm64 lint types format bench wheel wheel-check clean
# One process for each core; the tests of a file stay together, as they share what is slow to make.
test: $(READY)
	$(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

# Ten hours of audio; LWASR_SOAK_HOURS=1 for less.
test-long: $(READY)
	$(BIN)/python -m pytest -m long -s $(ARGS)

# Damaged files of every kind, some minutes; both programs have options, see --help.
fuzz: $(READY)
	$(BIN)/python tests/fuzz_files.py --count 5000 --seed $$$$ --keep build/fuzz
	$(BIN)/python tests/audio_fuzz.py $(ARGS)

# Style, format and types; `make format` applies what ruff can change.
lint: $(READY)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

types: $(READY)
	$(BIN)/python -m mypy $(ARGS)

format: $(READY)
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

# Measures the figures of benchmarks/RESULTS.md: about ten minutes on a quiet machine. ARGS="--only peers" for one.
bench: $(READY)
	$(BIN)/python -m pip install --quiet --requirement benchmarks/peers/requirements.txt
	$(BIN)/python benchmarks/run.py $(ARGS)

# Compares the words on emulated Arm processors; needs Debian on x86-64. ARGS="--model NAME" for another model.
test-arm64: $(READY)
	tests/arm64/prepare.sh build/arm64 $(BIN)/python
	$(BIN)/python tests/arm64/compare.py build/arm64 $(ARGS)

wheel: $(READY)
	rm -rf dist
	$(BIN)/python -m build --outdir dist .

# Tests the built wheel without torch and without the checkout, with the newest, then the oldest dependencies (which
# have wheels for Python 3.10 and 3.11 only).
wheel-check: wheel
	PYTHON=$(BIN)/python tests/packaging/wheel_check.sh dist/*.whl newest
	PYTHON=$(BIN)/python tests/packaging/wheel_check.sh dist/*.whl oldest

$(READY): pyproject.toml
	@test -n "$(PYTHON)" || { echo "no Python found: install Python 3.10 or newer, or run make PYTHON=..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c "import torch" 2>/dev/null || $(BIN)/python -m pip install $(TORCH)
	$(BIN)/python -m pip install --editable '.[dev]'
	touch $@

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
