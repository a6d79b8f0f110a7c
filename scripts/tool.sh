#!/usr/bin/env bash
# Runs one of the tools that tools/go.mod pins: scripts/tool.sh NAME [ARGS...]; with --path instead of arguments it
# only builds the tool and prints where it is.
#
# A tool is built once for each version of it and of Go, into a cache outside the tree. Without cgo, so that a machine
# with nothing but Go can build it.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
name=${1:?usage: scripts/tool.sh NAME [ARGS...]}
shift

key=$({ (cd "$root/tools" && go version); cat "$root/tools/go.mod" "$root/tools/go.sum"; } | sha256sum | cut -c1-16)
bin="${XDG_CACHE_HOME:-$HOME/.cache}/certloom/tools/$key"
if [ ! -x "$bin/$name" ]; then
  package=$(cd "$root/tools" && go list -f '{{.ImportPath}}' tool | grep "/$name\$") || {
    echo "tool.sh: tools/go.mod has no tool named $name" >&2
    exit 2
  }
  echo "tool.sh: building $name (once; kept in $bin)" >&2
  mkdir -p "$bin"
  staging=$(mktemp -d "$bin/.build.XXXXXX")
  trap 'rm -rf "$staging"' EXIT
  (cd "$root/tools" && GOFLAGS=-mod=readonly CGO_ENABLED=0 go build -o "$staging/$name" "$package")
  mv "$staging/$name" "$bin/$name" # a rename, so that two builds at once do no harm
  rm -rf "$staging"
  trap - EXIT
fi
if [ "${1-}" = --path ]; then
  echo "$bin/$name"
  exit
fi
exec "$bin/$name" "$@"
