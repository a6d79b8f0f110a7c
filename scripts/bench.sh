#!/usr/bin/env bash
# Measures Certloom on this machine and prints one table; the peer (step-ca) is built from its module and measured in
# the same run. test/e2e is a module of its own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cd test/e2e
exec go run -mod=readonly ./bench "$@"
