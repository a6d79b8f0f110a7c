#!/usr/bin/env bash
# What CI asks of a change before its tests. All steps run, whatever fails; the last lines say which did.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/lib.sh

failed=()
step() {
  local name=$1 started=$SECONDS
  shift
  say "$name"
  if "$@"; then
    echo "ok, $((SECONDS - started)) s"
  else
    echo "FAILED: $name"
    failed+=("$name")
  fi
}

# A module that other modules build on is never tidied by a build, so ask here.
tidy() { (cd "$1" && GOFLAGS=-mod=mod go mod tidy -diff); }

lint_e2e() { (cd test/e2e && ../../scripts/tool.sh golangci-lint run --config ../../.golangci.yml ./...); }

generated() {
  local before after
  before=$(zz_gen_sums)
  go generate ./... || return 1
  after=$(zz_gen_sums)
  [ "$before" = "$after" ] && return
  diff <(echo "$before") <(echo "$after")
  echo "generated files were out of date: they have been written again, commit them"
  return 1
}
zz_gen_sums() { git ls-files -co --exclude-standard -- '*zz_gen_*' | sort | xargs -r sha256sum; }

# govulncheck asks a database that is not reachable from everywhere.
vulnerabilities() {
  local url=${GOVULNDB:-https://vuln.go.dev}
  if ! curl -fsS --max-time 10 -o /dev/null "$url/index/db.json" 2>/dev/null; then
    echo "skipped: the vulnerability database at $url is not reachable from here (or there is no curl)"
    return
  fi
  scripts/tool.sh govulncheck -db "$url" ./...
}

step "go vet" go vet -mod=readonly ./...
step "format (gofumpt)" scripts/tool.sh golangci-lint fmt --diff
step "lint (golangci-lint, with staticcheck)" scripts/tool.sh golangci-lint run ./...
step "lint of the end-to-end tests" lint_e2e
for module in . tools test/e2e; do
  step "go.mod in $module is tidy" tidy "$module"
done
step "generated files are up to date" generated
step "known vulnerabilities (govulncheck)" vulnerabilities

if [ ${#failed[@]} -gt 0 ]; then
  say "check failed: $(IFS=';'; echo "${failed[*]}")"
  exit 1
fi
say "check passed in $SECONDS s"
