#!/usr/bin/env bash
# Fuzzes every parser of bytes from outside, each for FUZZTIME (default 3s). What it finds is kept by Go in the
# package's testdata/fuzz, to be committed with the fix.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/lib.sh

fuzztime=${FUZZTIME:-3s}

# When the time ends while an input is under way, go test may report "context deadline exceeded" as a failure
# (golang.org/issue/75804 and others before it). A finding always names the file that it has written.
fuzz() {
  local log status=0
  log=$(mktemp)
  go test -mod=readonly -run '^$' -fuzz "^$1\$" -fuzztime "$fuzztime" "$2" >"$log" 2>&1 || status=$?
  cat "$log"
  if [ "$status" -ne 0 ] && grep -q '^ *context deadline exceeded$' "$log" && ! grep -q -e 'Failing input written' -e 'panic' "$log"; then
    echo "the time ended while an input was under way: no finding"
    status=0
  fi
  rm -f "$log"
  return "$status"
}

found=0
while IFS=: read -r file target; do
  found=$((found + 1))
  say "fuzz $target for $fuzztime"
  fuzz "$target" "./$(dirname "$file")"
done < <(git ls-files -co --exclude-standard -- 'cmd/*_test.go' 'internal/*_test.go' |
  xargs grep -oHE '^func Fuzz[A-Za-z0-9_]*' | sed 's/func //' | sort)
[ "$found" -gt 0 ] || { echo "fuzz.sh: found no fuzz target" >&2; exit 1; }
