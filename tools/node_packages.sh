#!/usr/bin/env bash
# What a Kubernetes node of the e2e tests is made of, installed where this may be done.
set -euo pipefail
packages=(buildah conntrack containerd containernetworking-plugins gcc iproute2 iptables
  libc6-dev mmdebstrap runc)
if [ "$(id -u)" != 0 ]; then
  echo "The e2e tests start a Kubernetes node (containers, a bridge): run 'make e2e' as root." >&2
  exit 1
fi
missing=()
for package in "${packages[@]}"; do
  dpkg -s "$package" 2>/dev/null | grep -q '^Status: .* installed$' || missing+=("$package")
done
[ ${#missing[@]} = 0 ] && exit 0
if command -v apt-get >/dev/null; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
  echo "The e2e tests need a node. What Debian calls ${missing[*]} is missing here." >&2
  exit 1
fi
