#!/usr/bin/env bash
# Runs all tests: installs what they need, starts a PostgreSQL of its own in a temporary folder, runs every package
# with the race detector, fuzzes each parser for FUZZTIME (default 3s), and ends the PostgreSQL whatever happened.
#
#   scripts/test.sh                      everything
#   scripts/test.sh ./internal/acme/...  these packages, without fuzzing
#
# Works as root and as an ordinary user, who is asked for sudo only where a package is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/lib.sh

packages=("$@")
[ $# -gt 0 ] || packages=(./...)

race=(-race)
if ! have_compiler; then
  install_packages "the race detector needs a C compiler" gcc libc6-dev || true
fi
if ! have_compiler; then
  say "no C compiler to be had: running without the race detector"
  race=()
fi

start_postgres
say "go test ${race[*]-} ${packages[*]}"
go test -mod=readonly ${race[@]+"${race[@]}"} -timeout 20m "${packages[@]}"
if [ $# -eq 0 ]; then
  FUZZTIME=${FUZZTIME:-3s} scripts/fuzz.sh
fi
