#!/usr/bin/env bash
# Measures Certloom on this machine and prints one table; the peer (step-ca) is built from its module and measured in
# the same run. test/bench is a module of its own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cd test/bench
exec go run -mod=readonly . "$@"
