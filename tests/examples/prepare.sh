#!/usr/bin/env bash
# Fetch what the tests of the examples in other languages need into DIR: npm packages, and onnxruntime's C header.
#
#   tests/examples/prepare.sh DIR
#   export LWASR_NODE_MODULES=DIR/node_modules ONNXRUNTIME_INCLUDE=DIR/include
#
# What cannot be had is left out, and its tests are skipped. Chromium (Debian: chromium) is used if it is installed.
set -uo pipefail
folder=$(mkdir -p "${1:?give a folder}" && cd "$1" && pwd)
cd "$(dirname "$0")/../.." || exit 1
work=$(mktemp -d "$folder/work.XXXXXX")
trap 'rm -rf "$work"' EXIT

if command -v npm >/dev/null && [ ! -d "$folder/node_modules" ]; then
  packages=$(sed -n 's/.*"dependencies": { "\(.*\)": "\(.*\)" }.*/\1@\2/p' examples/{node,web}/package.json)
  # shellcheck disable=SC2086 # a list
  npm install --prefix "$work" --ignore-scripts --no-audit --no-fund --silent $packages \
    && mv "$work/node_modules" "$folder/" || echo "no npm packages: the tests of JavaScript will be skipped"
fi

# Debian 13 has the header; any newer library works with it.
if [ ! -f "$folder/include/onnxruntime_c_api.h" ] && command -v apt-get >/dev/null; then
  keys=/usr/share/keyrings/debian-archive-keyring.gpg
  echo "deb [signed-by=$keys] http://deb.debian.org/debian trixie main" >"$work/sources.list"
  mkdir -p "$work/lists/partial"
  options=(-qq -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=- -o "Dir::State::Lists=$work/lists"
    -o APT::Sandbox::User=root)
  (cd "$work" && apt-get "${options[@]}" update && apt-get "${options[@]}" download libonnxruntime-dev \
    && dpkg-deb -x libonnxruntime-dev_*.deb . && mv usr/include/onnxruntime "$folder/include") >/dev/null 2>&1 \
    || echo "no header of onnxruntime: the tests of C will be skipped"
fi
