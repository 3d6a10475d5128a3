#!/usr/bin/env bash
# A browser for the report's tests: installed where this may be done, asked for elsewhere.
set -euo pipefail
for name in chromium chromium-browser google-chrome; do
  command -v "$name" >/dev/null && exit 0
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null
else
  echo "The report's tests need Chromium. On Debian: sudo apt-get install chromium" >&2
  exit 1
fi
