#!/usr/bin/env bash
# Builds .venv from the hash-checked requirements. Packages are hard-linked from uv's cache, so
# a second clone costs seconds, and needs no network.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${LOAM_CACHE:-$HOME/.cache/loam}

find_python() {
  for candidate in python3 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  echo "Loam needs Python 3.11 or newer; none was found. On Debian or Ubuntu: apt-get install python3" >&2
  exit 1
}

find_uv() {
  local home="$cache/uv"
  if [ ! -x "$home/bin/uv" ]; then
    install_uv "$home" >&2
  fi
  echo "$home/bin/uv"
}

install_uv() {
  # Debian splits venv off python3; root can have it at once, others are told.
  if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
      apt-get update -qq && apt-get install -y -qq python3-venv
    else
      echo "Python's venv module is missing. On Debian or Ubuntu: sudo apt-get install python3-venv" >&2
      exit 1
    fi
  fi
  rm -rf "$1" && "$python" -m venv "$1"
  "$1/bin/python" -m pip install -q --require-hashes -r requirements-uv.txt
}

python=$(find_python)
uv=$(find_uv)
[ -x .venv/bin/python ] || "$uv" venv -q --python "$python" .venv
# Compiled here, half a minute once, every later start saves ten seconds, also where Python must
# not write bytecode.
sync() {
  "$uv" pip sync -q "$@" --compile-bytecode --python .venv/bin/python --require-hashes requirements.txt
}
sync --offline 2>/dev/null || { echo "Installing Loam's packages (about 7 GB with CUDA, once)..."; sync; }
"$uv" pip install -q --offline --python .venv/bin/python --no-deps --no-build-isolation -e .
