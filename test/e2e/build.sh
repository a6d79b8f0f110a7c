#!/usr/bin/env bash
# Builds what the end-to-end tests run beside our server, once; see README.md here. Arguments name single parts.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
exec go run ./build "$@"
