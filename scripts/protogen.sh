#!/usr/bin/env bash
# Makes Go code from a protobuf file, beside it: scripts/protogen.sh FILE.proto. For go generate.
set -euo pipefail
source=$(realpath "${1:?usage: scripts/protogen.sh FILE.proto}")
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
plugins=("$("$root/scripts/tool.sh" protoc-gen-go --path)" "$("$root/scripts/tool.sh" protoc-gen-go-grpc --path)")
cd "$root/tools"
GOFLAGS=-mod=readonly exec go run ./protogen "$source" "$(dirname "$source")" "${plugins[@]}"
