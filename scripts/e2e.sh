#!/usr/bin/env bash
# Runs the end-to-end tests: the real binary against a real Kubernetes API with cert-manager, and against other ACME
# clients. test/e2e is a module of its own, because its dependencies are many; what it builds is kept by Go's cache.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/lib.sh

command -v openssl >/dev/null || install_packages "the tests verify revocation lists with openssl" openssl
command -v vfychain >/dev/null && command -v ocsptool >/dev/null ||
  install_packages "the tests verify revocation lists with NSS and GnuTLS" libnss3-tools gnutls-bin
command -v jq >/dev/null && command -v curl >/dev/null || install_packages "the tests run the requests of docs/reference/api.md" curl jq
command -v npm >/dev/null || install_packages "the tests get a validator and a generator for OpenAPI from npm" npm
have_browser
start_postgres
say "go test ./... in test/e2e"
cd test/e2e
go test -mod=readonly -count=1 -timeout 45m ./... "$@"
