#!/usr/bin/env bash
# Unpack an aarch64 Python with our base install into a folder, and an emulator beside it. Nothing is installed: apt keeps
# a state of its own inside the folder, and packages are unpacked, not configured. Needs Debian on x86-64, no root.
#
#   tests/arm64/prepare.sh FOLDER [PYTHON_WITH_PIP]
set -euo pipefail
folder=$(mkdir -p "$1" && cd "$1" && pwd)
python=${2:-python3}
ready="$folder/.ready"
[ -e "$ready" ] && exit 0
rm -rf "$folder"/{arm64,native,rootfs,qemu,site}

unpack() { # ARCHITECTURE TARGET PACKAGE...: the packages and all that they need
  local state="$folder/$1" target="$2"
  mkdir -p "$target" "$state"/{lists/partial,cache,debs/partial}
  touch "$state/status"
  local architecture=$1
  [ "$architecture" = native ] && architecture=$(dpkg --print-architecture)
  local apt=(apt-get -qq -o APT::Architecture="$architecture" -o APT::Architectures="$architecture"
    -o Debug::NoLocking=1 -o APT::Sandbox::User="$(id -un)" -o Dir::State="$state" -o Dir::State::lists="$state/lists"
    -o Dir::State::status="$state/status" -o Dir::Cache="$state/cache" -o Dir::Cache::archives="$state/debs")
  "${apt[@]}" update
  "${apt[@]}" -y --download-only --no-install-recommends install "${@:3}" >/dev/null
  for package in "$state"/debs/*.deb; do dpkg-deb -x "$package" "$target"; done
}

echo "Debian's packages for arm64"
unpack arm64 "$folder/rootfs" python3 libstdc++6
echo "the emulator, static for the tests, dynamic for the plugin that counts instructions"
unpack native "$folder/qemu" qemu-user-static qemu-user
echo "wheels for aarch64"
version=$(basename "$(ls -d "$folder"/rootfs/usr/bin/python3.[0-9]*)")
platforms=()
for glibc in 17 26 27 28 31 34; do platforms+=(--platform "manylinux_2_${glibc}_aarch64"); done
# From 1.28 on, onnxruntime crashes at import under QEMU 7.2.
"$python" -m pip install --quiet --disable-pip-version-check --target "$folder/site" --only-binary=:all: \
  --implementation cp --python-version "${version#python}" "${platforms[@]}" --platform manylinux2014_aarch64 \
  'onnxruntime<1.28' 'numpy>=1.24' soundfile soxr
touch "$ready"
