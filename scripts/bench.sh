#!/usr/bin/env bash
# Measures Certloom on this machine and prints tables; the peers (step-ca, istiod) are built from their modules and
# measured in the same run. test/e2e is a module of its own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cd test/e2e
exec go run -mod=readonly ./bench "$@"
