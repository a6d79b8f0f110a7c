#!/usr/bin/env bash
# Fuzzes every parser of bytes from outside, each for FUZZTIME (default 3s). What it finds is kept by Go in the
# package's testdata/fuzz, to be committed with the fix.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/lib.sh

fuzztime=${FUZZTIME:-3s}
found=0
while IFS=: read -r file target; do
  found=$((found + 1))
  say "fuzz $target for $fuzztime"
  go test -mod=readonly -run '^$' -fuzz "^$target\$" -fuzztime "$fuzztime" "./$(dirname "$file")"
done < <(git ls-files -co --exclude-standard -- 'cmd/*_test.go' 'internal/*_test.go' |
  xargs grep -oHE '^func Fuzz[A-Za-z0-9_]*' | sed 's/func //' | sort)
[ "$found" -gt 0 ] || { echo "fuzz.sh: found no fuzz target" >&2; exit 1; }
