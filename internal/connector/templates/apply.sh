#!/bin/sh
# Does the steps of README.md in their order, and stops where a check fails. It can be run again.
set -eu
cd "$(dirname "$0")"
{{- range $i, $s := .Steps }}

echo "==> {{ inc $i }}. {{ $s.Title }}"
{{ range $s.Commands }}{{ . }}
{{ end }}{{ range $s.Checks }}{{ . }}
{{ end }}{{ end -}}
