#!/usr/bin/env bash
# Test a built wheel: a new environment with the wheel and without torch, the runtime tests, no checkout on sys.path.
#
#   tests/packaging/wheel_check.sh WHEEL [oldest|newest]
#
#   PYTHON=python3.10    the interpreter of the environment
#   ARGS="-m 'not slow'" more arguments for pytest
#
# `oldest` installs exactly the lower bounds of pyproject.toml (wheels for Python 3.10 and 3.11), `newest` (the default)
# the newest releases. onnx is needed by the tests alone: they build a tiny model with it.
set -euo pipefail

[ $# -ge 1 ] && [ -f "$1" ] || { echo "usage: $0 WHEEL [oldest|newest]" >&2; exit 2; }
wheel=$(realpath "$1")
versions=${2:-newest}
checkout=$(realpath "$(dirname "$0")/../..")
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

case $versions in
  oldest) # the same numbers as `dependencies` in pyproject.toml: test_packaging.py compares
    printf '%s\n' numpy==1.24 onnxruntime==1.18.1 soundfile==0.12.1 soxr==0.3.7 onnx==1.16.2 ;;
  newest) : ;;
  *) echo "versions must be oldest or newest, got $versions" >&2; exit 2 ;;
esac >"$work/constraints.txt"

"$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --only-binary :all: --constraint "$work/constraints.txt" \
  "$wheel" onnx pytest pytest-timeout hypothesis
"$work/venv/bin/python" -c 'import importlib.util as util; assert util.find_spec("torch") is None, "torch is installed"'

# The tests are copied without the rest of the checkout: whatever they import is then what the wheel installed.
mkdir "$work/copy"
cp -r "$checkout/tests" "$work/copy/tests"
cd "$work/copy"
"$work/venv/bin/python" -c 'import sys, lwasr_edge; print(sys.version.split()[0], lwasr_edge.__version__, lwasr_edge.__file__)'
"$work/venv/bin/python" -m pip list --format=freeze | grep -iE '^(numpy|onnx|onnxruntime|soundfile|soxr)=='
eval "set -- ${ARGS:-}"
"$work/venv/bin/python" -m pytest -c "$checkout/pyproject.toml" --rootdir "$work/copy" -p no:cacheprovider -q \
  tests/runtime tests/packaging/test_imports.py "$@"
