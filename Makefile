# `make test` alone is enough on a machine with Python 3.10 or newer: it makes .venv (or uses the active environment),
# installs the package with what its tests need, and runs them.
#   VENV=DIR     another environment
#   PYTHON=...   the interpreter that makes the environment
#   TORCH=...    what pip installs as torch; on Linux, PyPI's wheels bring CUDA (several GB), those of PyTorch's own
#                index for the processor do not
#   ARGS=...     more arguments for pytest, ruff or benchmarks/run.py

VENV   ?= $(or $(VIRTUAL_ENV),.venv)
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3.10 python3,$(shell command -v $(name))))
TORCH  ?= torch==2.13.0
BIN    := $(VENV)/bin
READY  := $(VENV)/.lwasr-edge-ready

.PHONY: test test-long test-arm64 lint types bench wheel clean
test: $(READY)
	$(BIN)/python -m pytest $(ARGS)

# Ten hours of audio; LWASR_SOAK_HOURS=1 for less.
test-long: $(READY)
	$(BIN)/python -m pytest -m long -s $(ARGS)

lint: $(READY)
	$(BIN)/python -m ruff check $(ARGS) .

types: $(READY)
	$(BIN)/python -m mypy $(ARGS)

# Takes the figures of benchmarks/RESULTS.md again: about ten minutes on a quiet machine. ARGS="--only peers" for one.
bench: $(READY)
	$(BIN)/python -m pip install --quiet --requirement benchmarks/peers/requirements.txt
	$(BIN)/python benchmarks/run.py $(ARGS)

# The same words on emulated Arm processors; needs Debian on x86-64. ARGS="--model NAME" for another model.
test-arm64: $(READY)
	tests/arm64/prepare.sh build/arm64 $(BIN)/python
	$(BIN)/python tests/arm64/compare.py build/arm64 $(ARGS)

wheel: $(READY)
	$(BIN)/python -m build --outdir dist .

$(READY): pyproject.toml
	@test -n "$(PYTHON)" || { echo "no Python found: install Python 3.10 or newer, or say make PYTHON=..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c "import torch" 2>/dev/null || $(BIN)/python -m pip install $(TORCH)
	$(BIN)/python -m pip install --editable '.[dev]'
	touch $@

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
