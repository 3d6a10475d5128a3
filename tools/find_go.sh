#!/usr/bin/env bash
# Fails where the named servers of tests/tools are neither built already nor could be built.
#
#   bash tools/find_go.sh NAME ...
set -euo pipefail
shopt -s nullglob
export LC_ALL=C  # files in the order in which build_tools.py reads them
command -v go >/dev/null && exit 0
for name in "$@"; do
  sources=(tests/tools/"$name"/go.sum tests/tools/"$name"/*.go)
  digest=$(cat "${sources[@]}" | sha256sum | cut -c 1-16)
  [ -e "${LOAM_CACHE:-$HOME/.cache/loam}/tools/$name-$digest/$name" ] && continue
  echo "The tests run against real servers (S3, Kubernetes), which are built from source once, and" \
    "there is no \`go\` on the PATH. Install Go 1.26 or later and try again." >&2
  exit 1
done
