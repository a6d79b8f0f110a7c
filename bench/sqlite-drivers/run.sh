#!/usr/bin/env bash
# Measures each driver three times, in turn, so that what else the machine does meets all of them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
drivers=(modernc zombiezen ncruces)
if command -v gcc >/dev/null; then drivers+=(mattn); fi
for driver in "${drivers[@]}"; do
  cgo=0
  [ "$driver" = mattn ] && cgo=1
  CGO_ENABLED=$cgo go build -tags "$driver" -o "$bin/$driver" .
done
for round in 1 2 3; do
  echo "round $round"
  for driver in "${drivers[@]}"; do "$bin/$driver" "$@"; done
done
