#!/usr/bin/env bash
# Prometheus and promtool for the tests of dashboards and alerts: Debian's package, unpacked into the
# cache, where nothing starts it as a service. Nothing is fetched a second time.
set -euo pipefail
home="${LOAM_CACHE:-$HOME/.cache/loam}/tools/prometheus"
[ -x "$home/usr/bin/promtool" ] && exit 0
command -v prometheus >/dev/null && command -v promtool >/dev/null && exit 0
if ! command -v apt-get >/dev/null; then
  echo "The tests of dashboards and alerts need prometheus and promtool in the PATH." >&2
  exit 1
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
[ "$(id -u)" != 0 ] || apt-get update -qq
(cd "$folder" && apt-get download -qq -o APT::Sandbox::User=root prometheus)
dpkg -x "$folder"/prometheus_*.deb "$folder/unpacked"
mkdir -p "$(dirname "$home")" && rm -rf "$home" && mv "$folder/unpacked" "$home"
